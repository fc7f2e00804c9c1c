//! Dockerfile and .dockerignore.

use super::compose::listeners;
use super::files::Files;

const NAME: &str = "Dockerfile";

pub fn check(files: &Files, found: &mut Vec<String>) {
    // Continued lines are one.
    let text = files.text(NAME).replace("\\\n", " ");
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let all = |word: &str| -> Vec<&str> {
        lines.iter().filter(|(first, _)| *first == word).map(|(_, rest)| rest.trim()).collect()
    };
    let mut fail = |problem: String| found.push(format!("{NAME}: {problem}"));

    stages(&all("FROM"), files, &mut fail);
    match all("USER").last() {
        Some(user) if user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)) => {}
        user => fail(format!("it runs as {user:?}, a user that is not root is wanted, by number")),
    }
    let built = "cargo build --locked --profile dist --bin gateway && deploy/image/assemble target/dist/gateway /image";
    if !text.split_whitespace().collect::<Vec<_>>().join(" ").contains(built) {
        fail("the program is not built and put into /image with what it needs".to_owned());
    }
    let version = files.toml("Cargo.toml")["workspace"]["package"]["version"].as_str().map(str::to_owned);
    let labelled = |key: &str| format!("org.opencontainers.image.{key}=");
    for key in ["title", "description", "version", "revision", "licenses"] {
        if !text.contains(&labelled(key)) {
            fail(format!("it has no label {}", labelled(key)));
        }
    }
    if !text.contains(&format!("{}\"{}\"", labelled("version"), version.unwrap_or_default())) {
        fail("its label version is not that of Cargo.toml".to_owned());
    }
    if !text.contains("cargo build --locked --profile dist") {
        fail("it is not built --locked with the profile dist".to_owned());
    }
    if !all("HEALTHCHECK").iter().any(|check| check.contains(r#"CMD ["gateway", "health"]"#)) {
        fail("HEALTHCHECK does not ask the gateway itself".to_owned());
    }
    let is_served = all("CMD").contains(&r#"["serve"]"#);
    if !all("ENV").contains(&"GATEWAY_CONFIG=config/compose.toml") || !is_served {
        fail("serve and HEALTHCHECK do not have their configuration from GATEWAY_CONFIG".to_owned());
    }
    let config = files.config("config/compose.toml", &[]);
    let mut wanted = listeners(&config);
    wanted.extend(config.monitor.map(|address| format!("{}/tcp", address.port())));
    let mut exposed: Vec<&str> = all("EXPOSE").iter().flat_map(|ports| ports.split_whitespace()).collect();
    wanted.sort();
    exposed.sort_unstable();
    if wanted != exposed {
        fail(format!("EXPOSE says {exposed:?}, config/compose.toml {wanted:?}"));
    }
    ignored(files, &mut fail);
}

/// The second holds nothing but what the first put together, so the C library is the one that was linked, and the toolchain is
/// new enough.
fn stages(from: &[&str], files: &Files, fail: &mut impl FnMut(String)) {
    let [build, run] = from else { return fail(format!("two stages are wanted, there are {}", from.len())) };
    let tag = |image: &str| image.split(' ').next()?.split_once(':').map(|(_, tag)| tag.to_owned());
    let Some(build) = tag(build) else { return fail("an image is not pinned".to_owned()) };
    if *run != "scratch" || !files.text(NAME).contains("COPY --from=build /image /\n") {
        fail(format!("the image is made of {run}, and not of what was put together"));
    }
    let version = |text: &str| -> Vec<u32> {
        text.split(['.', '-']).map_while(|part| part.parse().ok()).take(3).collect()
    };
    let manifest = files.toml("Cargo.toml");
    let wanted =
        manifest["workspace"]["package"]["rust-version"].as_str().expect("rust-version of the workspace");
    if version(&build).len() != 3 || version(&build) < version(wanted) {
        fail(format!("{build} is no exact version of at least rust-version {wanted}"));
    }
}

/// What is copied is sent to the build, and what must stay here is not.
fn ignored(files: &Files, fail: &mut impl FnMut(String)) {
    let rules: Vec<&str> = files
        .text(".dockerignore")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    if rules.first() != Some(&"*") {
        fail(".dockerignore does not begin with *: keys and build output would be sent".to_owned());
    }
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "crates", "src", "config", "deploy/image"] {
        if !rules.contains(&format!("!{needed}").as_str()) {
            fail(format!(".dockerignore keeps {needed} from the build"));
        }
    }
    if rules.iter().any(|rule| ["!certs", "!target", "!.git"].contains(rule)) {
        fail(".dockerignore sends keys, build output or the history".to_owned());
    }
}

/// The bill of materials names what Cargo.lock has, with a licence and a checksum each, and nothing that only tests need.
#[test]
fn the_bill_of_materials_is_that_of_the_program() {
    let script = super::files::root().join("deploy/image/sbom");
    let output = match std::process::Command::new(script).output() {
        Ok(output) => output,
        Err(error) => return eprintln!("skipped: no python3: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bill: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    let components = bill["components"].as_array().expect("components");
    let names: Vec<&str> = components.iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(
        names.contains(&"rustls") && names.contains(&"aws-lc-sys") && !names.contains(&"proptest"),
        "{names:?}"
    );
    for one in components {
        let is_ours = one["name"].as_str().is_some_and(|name| name.starts_with("gateway-"));
        assert!(one["licenses"][0]["expression"].is_string(), "{one}");
        assert!(
            is_ours || one["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64),
            "{one}"
        );
    }
    let refs: Vec<&serde_json::Value> =
        bill["dependencies"].as_array().expect("dependencies").iter().collect();
    assert_eq!(refs.len(), components.len() + 1, "the program, and each of them once");
}
