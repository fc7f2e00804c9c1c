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

/// Both stages are of one Debian, so of one C library, and the toolchain is new enough.
fn stages(from: &[&str], files: &Files, fail: &mut impl FnMut(String)) {
    let [build, run] = from else { return fail(format!("two stages are wanted, there are {}", from.len())) };
    let tag = |image: &str| image.split(' ').next()?.split_once(':').map(|(_, tag)| tag.to_owned());
    let (Some(build), Some(run)) = (tag(build), tag(run)) else {
        return fail("an image is not pinned".to_owned());
    };
    let suite =
        |tag: &str| ["trixie", "bookworm"].into_iter().find(|suite| tag.contains(suite)).map(str::to_owned);
    if suite(&build).is_none() || suite(&build) != suite(&run) {
        fail(format!("{build} and {run} are not of one Debian"));
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
    for needed in ["Cargo.toml", "Cargo.lock", "build.rs", "crates", "src", "config"] {
        if !rules.contains(&format!("!{needed}").as_str()) {
            fail(format!(".dockerignore keeps {needed} from the build"));
        }
    }
    if rules.iter().any(|rule| ["!certs", "!target", "!.git"].contains(rule)) {
        fail(".dockerignore sends keys, build output or the history".to_owned());
    }
}
