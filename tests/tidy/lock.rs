//! Cargo.lock against known advisories, and the dependency tree against crates that have no place in it.

use std::process::Command;

use super::source::{Report, root};

/// Crate, the first good version of each release series, and what was wrong before.
const FLOORS: &[(&str, &[&str], &str)] = &[
    ("quinn", &["0.11.12"], "the connection API this gateway is written for"),
    ("quinn-proto", &["0.11.15"], "RUSTSEC-2026-0185, -0037, RUSTSEC-2024-0373"),
    ("rustls", &["0.23.18"], "RUSTSEC-2024-0399, -0336"),
    ("rustls-webpki", &["0.103.13"], "RUSTSEC-2026-0104, -0099, -0098, -0049"),
    ("ring", &["0.17.12"], "RUSTSEC-2025-0009"),
    ("aws-lc-sys", &["0.39.0"], "RUSTSEC-2026-0044 to -0048"),
    ("tokio", &["1.44.2"], "RUSTSEC-2025-0023"),
    ("tokio-rustls", &["0.13.1"], "RUSTSEC-2020-0019"),
    ("bytes", &["1.11.1"], "RUSTSEC-2026-0007"),
    ("protobuf", &["3.7.2"], "RUSTSEC-2024-0437"),
    ("prost", &["0.6.1"], "RUSTSEC-2020-0002"),
    ("jsonwebtoken", &["10.3.0"], "CVE-2026-25537"),
    ("tracing-subscriber", &["0.3.20"], "RUSTSEC-2025-0055"),
    ("crossbeam-channel", &["0.5.15"], "RUSTSEC-2025-0024"),
    ("slab", &["0.4.11"], "RUSTSEC-2025-0047"),
    ("h2", &["0.4.16"], "RUSTSEC-2026-0258"),
    ("time", &["0.3.47"], "RUSTSEC-2026-0009"),
    ("rand", &["0.8.6", "0.9.3", "0.10.1"], "RUSTSEC-2026-0097"),
    ("mio", &["0.8.11"], "RUSTSEC-2024-0019"),
    ("hashbrown", &["0.15.1"], "RUSTSEC-2024-0402"),
    ("idna", &["1.0.0"], "RUSTSEC-2024-0421"),
    ("dashmap", &["5.1.0"], "RUSTSEC-2022-0002"),
    ("smallvec", &["1.6.1"], "RUSTSEC-2021-0003"),
    ("lru", &["0.16.3"], "RUSTSEC-2026-0002"),
    ("socket2", &["0.3.16"], "RUSTSEC-2020-0079"),
];

/// Crates of [`FLOORS`] without which the check would be looking at another project's lock file.
const EXPECTED: &[&str] = &["quinn", "quinn-proto", "rustls", "tokio", "bytes", "jsonwebtoken", "aws-lc-sys"];

/// Crates that must not be compiled in, on any path.
const BANNED: &[(&str, &str)] = &[
    ("ring", "everything is on aws-lc-rs"),
    ("rsa", "RUSTSEC-2023-0071 has no fix"),
    ("rustls-pemfile", "RUSTSEC-2025-0134, unmaintained; rustls-pki-types reads PEM"),
    ("serde_yml", "RUSTSEC-2025-0068, unsound"),
    ("openssl", "everything is on rustls"),
    ("openssl-sys", "everything is on rustls"),
    ("native-tls", "everything is on rustls"),
];

type Version = [u64; 3];

/// The lock file that is checked in.
pub fn lock_file() -> String {
    std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed")
}

/// Names of every crate that is compiled for this machine: normal, build and test dependencies.
///
/// Cargo.lock cannot say this: it also lists crates that only a feature which is off would bring.
pub fn compiled_crates() -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "--edges", "normal,build,dev", "--prefix", "none"])
        .args(["--format", "{p}"])
        .output()
        .expect("cargo runs the tests, so it can be run");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("crate names are plain");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

pub fn check_floors(lock: &str) -> Report {
    let lock: toml::Table = lock.parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().expect("Cargo.lock lists packages");
    let mut report = Report::default();
    let mut seen = Vec::new();
    for package in packages {
        let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str()) else {
            continue;
        };
        let Some((_, floors, why)) = FLOORS.iter().find(|(known, ..)| *known == name) else { continue };
        report.examined += 1;
        seen.push(name);
        if !reaches(parse(version), floors) {
            report.violations.push(format!("{name} {version} is below {}: {why}", floors.join(" / ")));
        }
    }
    for missing in EXPECTED.iter().filter(|name| !seen.contains(name)) {
        report
            .violations
            .push(format!("{missing} is not in Cargo.lock; is the table still about this project?"));
    }
    report
}

pub fn check_banned(compiled: &[String]) -> Report {
    let mut report = Report { examined: compiled.len(), ..Report::default() };
    for (name, why) in BANNED.iter().filter(|(name, _)| compiled.iter().any(|crate_| crate_ == name)) {
        report.violations.push(format!("{name} is compiled in: {why}"));
    }
    report
}

/// At or above the floor of its own series, or in a series later than every floor.
fn reaches(version: Version, floors: &[&str]) -> bool {
    let floors: Vec<Version> = floors.iter().map(|floor| parse(floor)).collect();
    match floors.iter().find(|floor| series(**floor) == series(version)) {
        Some(floor) => version >= *floor,
        None => floors.iter().all(|floor| version > *floor),
    }
}

/// Versions of one series replace each other: the same major, or the same minor where the major is 0.
fn series(version: Version) -> (u64, u64) {
    if version[0] == 0 { (0, version[1]) } else { (version[0], 0) }
}

fn parse(version: &str) -> Version {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let mut parts = release.split('.').map(|part| part.parse().expect("versions are numbers"));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
