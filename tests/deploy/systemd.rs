//! The unit, what lies beside it, and the Debian package: paths, limits and times are those of the configuration it installs.

use std::path::Path;
use std::time::Duration;

use gateway::config::Config;
use gateway::limits::RESERVED_FILES;

use super::files::{self, Files, root};

const UNIT: &str = "deploy/systemd/gateway.service";
const SYSCTL: &str = "deploy/systemd/sysctl.d/60-gateway.conf";
const CONFIG: &str = "deploy/debian/gateway.toml";
const POSTINST: &str = "deploy/debian/postinst";

/// What the gateway asks for of a UDP socket (`src/gateway/sockets.rs`).
const UDP_BUFFER: u64 = 4 * 1024 * 1024;

/// The exit code for a configuration that is refused.
const REFUSED: &str = "64";

pub fn check(files: &Files, found: &mut Vec<String>) {
    let package = Package::read(files, found);
    let config = installed(files);
    let mut fail = |problem: String| found.push(format!("{UNIT}: {problem}"));
    let unit = Unit(files.text(UNIT));
    service(&unit, &config, &mut fail);
    commands(&unit, &package, &mut fail);
    paths(&unit, files, &package, &mut fail);
    made_before(&unit, files.text(POSTINST), &mut fail);
    if !files::keeps_bans(&config) {
        fail(format!("bans end with the process: {CONFIG}"));
    }
    if !files.text("deploy/systemd/sysusers.d/gateway.conf").contains(&format!("\nu {} ", unit.get("User"))) {
        fail(format!("User={} is not the one that is made", unit.get("User")));
    }
    for key in ["net.core.rmem_max", "net.core.wmem_max"] {
        let value = files
            .text(SYSCTL)
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")?.parse().ok());
        if value != Some(UDP_BUFFER) {
            found.push(format!("{SYSCTL}: {key} is {value:?}, the gateway asks for {UDP_BUFFER}"));
        }
    }
}

/// The lines of the unit.
struct Unit<'a>(&'a str);

impl<'a> Unit<'a> {
    /// The one value of a key; empty if it has none.
    fn get(&self, key: &str) -> &'a str {
        self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    }
}

fn service(unit: &Unit<'_>, config: &Config, fail: &mut impl FnMut(String)) {
    for (key, wanted) in [
        ("Type", "notify-reload"),
        ("ReloadSignal", "SIGHUP"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", REFUSED),
        ("StartLimitIntervalSec", "0"),
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
    ] {
        if unit.get(key) != wanted {
            fail(format!("{key}={}, {wanted:?} is wanted", unit.get(key)));
        }
    }
    let files: u64 = unit.get("LimitNOFILE").parse().unwrap_or_default();
    let needed = config.limits.max_connections as u64 + RESERVED_FILES;
    if files < needed {
        fail(format!("LimitNOFILE={files} is below limits.max_connections and {RESERVED_FILES}: {needed}"));
    }
    let stop = humantime::parse_duration(unit.get("TimeoutStopSec")).unwrap_or(Duration::ZERO);
    if stop < config.drain_hard_stop {
        fail(format!("TimeoutStopSec {stop:?} is below drain.hard_stop {:?}", config.drain_hard_stop));
    }
}

/// Programs, subcommands, options and files are there.
fn commands(unit: &Unit<'_>, package: &Package, fail: &mut impl FnMut(String)) {
    let known = ["certs --quic-keys --dir /var/lib/gateway", "serve --config /etc/gateway/gateway.toml"];
    for key in ["ExecStartPre", "ExecStart"] {
        let (program, arguments) = unit.get(key).split_once(' ').unwrap_or_default();
        if !package.brings(program) {
            fail(format!("{key} runs {program}, which the package does not bring"));
        }
        if !known.contains(&arguments) {
            fail(format!("{key} runs {arguments:?}, which tests/tools/try-package does not know"));
        }
        let config = arguments.split_once("--config ").map(|(_, path)| path);
        if let Some(path) = config.filter(|path| !package.brings(path)) {
            fail(format!("{key} reads {path}, which the package does not bring"));
        }
    }
}

/// What the unit makes is there before its first start, for `gateway check`.
fn made_before(unit: &Unit<'_>, postinst: &str, fail: &mut impl FnMut(String)) {
    let directory =
        format!("-m {} /var/lib/{}\n", unit.get("StateDirectoryMode"), unit.get("StateDirectory"));
    for made in [directory.as_str(), unit.get("ExecStartPre")] {
        if !postinst.contains(made) {
            fail(format!("{made:?} is not in {POSTINST}"));
        }
    }
}

/// What the configuration names is brought, or the administrator's, or in the directory that the unit makes and keeps.
fn paths(unit: &Unit<'_>, files: &Files, package: &Package, fail: &mut impl FnMut(String)) {
    for line in files.text(CONFIG).lines().filter(|line| !line.starts_with('#')) {
        let Some(path) = line.split('"').nth(1).filter(|value| value.starts_with('/')) else { continue };
        if path.starts_with("/var/lib/") || path.starts_with("/run/") {
            if !path.starts_with(&format!("/var/lib/{}/", unit.get("StateDirectory"))) {
                fail(format!("{path} is in no directory that the unit keeps"));
            }
        } else if !path.starts_with("/etc/gateway/tls/") && !package.brings(path) {
            fail(format!("{path} is read, which the package does not bring"));
        }
    }
}

/// What the gateway makes of the installed configuration.
fn installed(files: &Files) -> Config {
    let system = files::system("package", files.text("config/route.json"));
    // A socket's path may not be as long as that of a test's directory.
    let text = files.text(CONFIG).replace("\nsocket = ", "\n# socket = ");
    let text = ["/etc/", "/var/"].iter().fold(text, |text, above| {
        text.replace(&format!("\"{above}"), &format!("\"{}{above}", system.display()))
    });
    files::config(&text, CONFIG, &[])
}

/// `[package.metadata.deb]`.
struct Package {
    /// Where its files go.
    files: Vec<String>,
}

impl Package {
    fn read(files: &Files, found: &mut Vec<String>) -> Self {
        let manifest = files.toml("Cargo.toml");
        let deb = &manifest["package"]["metadata"]["deb"];
        let list = |key: &str| deb[key].as_array().cloned().unwrap_or_default();
        let conf_files: Vec<String> =
            list("conf-files").iter().filter_map(|path| path.as_str().map(str::to_owned)).collect();
        let mut brought = Vec::new();
        for asset in list("assets") {
            let text = |at: usize| asset.get(at).and_then(toml::Value::as_str).unwrap_or_default();
            let (from, to) = (text(0), text(1));
            let name = Path::new(from).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let path = if to.ends_with('/') { format!("/{to}{name}") } else { format!("/{to}") };
            // What has a star is a number of files.
            let is_there = from.starts_with("target/") || from.contains('*') || root().join(from).exists();
            if !is_there {
                found.push(format!("Cargo.toml: {from} is put into the package and is not there"));
            }
            if path.starts_with("/etc/") && !conf_files.contains(&path) {
                found.push(format!("Cargo.toml: {path} is no conf-file, so an update would overwrite it"));
            }
            brought.push(path);
        }
        for path in conf_files.iter().filter(|path| !brought.contains(path)) {
            found.push(format!("Cargo.toml: the conf-file {path} is not in the package"));
        }
        Self { files: brought }
    }

    fn brings(&self, path: &str) -> bool {
        self.files.iter().any(|file| file == path)
    }
}

#[cfg(test)]
mod with_systemd {
    use std::process::Command;

    use super::*;

    /// Worst exposure that `systemd-analyze security` may find, in tenths: below 2 it calls it OK.
    const EXPOSURE: &str = "15";

    /// systemd 257 of `SYSTEMD_ROOT` reads the unit, as a script that is given to it.
    fn analyze(unit: &str, arguments: &[&str]) -> Option<(bool, String)> {
        let Some(system) = std::env::var_os("SYSTEMD_ROOT").filter(|root| !root.is_empty()) else {
            eprintln!(
                "skipped: no systemd; set SYSTEMD_ROOT to what tests/tools/get-systemd prints, as root"
            );
            return None;
        };
        let place = Path::new(&system).join("tmp").join(format!("{:?}", std::thread::current().id()));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::create_dir_all(Path::new(&system).join("run")).unwrap();
        // verify asks whether the program is there.
        std::fs::write(
            place.join("gateway.service"),
            unit.replace("/usr/bin/gateway", "/usr/bin/systemd-analyze"),
        )
        .unwrap();
        let inside = format!("/tmp/{}/gateway.service", place.file_name().unwrap().to_string_lossy());
        let output = Command::new("chroot")
            .arg(&system)
            .arg("systemd-analyze")
            .args(arguments)
            .arg(inside)
            .output()
            .unwrap();
        std::fs::remove_dir_all(place).unwrap();
        let said = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    #[test]
    fn systemd_finds_nothing_to_say_against_the_unit() {
        let files = Files::read();
        let unit = files.text(UNIT);
        let Some(verdict) = analyze(unit, &["verify", "--man=no"]) else { return };
        assert_eq!(verdict, (true, String::new()));
        let planted = unit.replace("ReloadSignal=SIGHUP", "ReloadSignal=SIGHUPP");
        let (_, said) = analyze(&planted, &["verify", "--man=no"]).unwrap();
        assert!(said.contains("Failed to parse ReloadSignal=SIGHUPP"), "{said}");
    }

    #[test]
    fn systemd_finds_the_service_shut_in() {
        let files = Files::read();
        let unit = files.text(UNIT);
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE];
        let Some((is_below, said)) = analyze(unit, &arguments) else { return };
        assert!(is_below, "{said}");
        println!("{}", said.lines().last().unwrap_or_default());
        let planted = unit.replace("SystemCallFilter=", "#").replace("ProtectSystem=strict", "");
        assert!(!analyze(&planted, &arguments).unwrap().0);
    }
}
