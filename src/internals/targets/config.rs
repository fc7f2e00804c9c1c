//! The configuration: a refusal is one line that names the key, the variable or the line, and shows no secret; what is
//! taken is shown as TOML.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use super::input::{halves, text};
use crate::config::{self, ConfigError, Loaded, Options};
use crate::route::Route;

/// A value that is shown nowhere.
const SECRET: &str = "cD3-kept-to-itself-by-whoever-has-it";

/// Settings that hold it.
const SECRETS: [&str; 3] =
    ["GATEWAY__AUTH__SECRET", "GATEWAY__DISCOVERY__CONSUL__TOKEN", "GATEWAY__EVENTS__WEBHOOK_TOKEN"];

/// Stands in for the route file, so that more than its absence is met.
static ROUTE: LazyLock<Arc<Route>> = LazyLock::new(|| {
    let zones = r#"{"zones": [{"id": "zone_a", "weight": 1}, {"id": "zone_b", "weight": 2}]}"#;
    Arc::new(Route::from_json(zones).expect("it is a route"))
});

/// The text of a configuration file; behind a line of dashes, `NAME=value` lines of the environment.
pub fn target(data: &[u8]) {
    let (file, environment) = halves(data);
    let (Some(file), Some(environment)) = (text(file), text(environment)) else { return };
    if leads_elsewhere(file) || leads_elsewhere(environment) {
        return;
    }
    let overrides: Vec<(OsString, OsString)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    check(file, config::parse(file, "gateway.toml", &options(overrides.clone())));
    if !data.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        let secrets = SECRETS.map(|name| (name.into(), SECRET.into()));
        let overrides = overrides.into_iter().chain(secrets).collect();
        let shown = check(file, config::parse(file, "gateway.toml", &options(overrides)));
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

/// Files are looked for in a directory that holds a route and nothing else of use.
fn options(environment: Vec<(OsString, OsString)>) -> Options {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    Options { base, dev: true, route: Some(Arc::clone(&ROUTE)), ..Options::with_environment(environment) }
}

/// Returns `true` if a path of the text may lead out of that directory: whatever lies on this machine must neither be read
/// nor waited for.
fn leads_elsewhere(text: &str) -> bool {
    ["\"/", "'/", "\n/", "=/", "..", "\\u", "\\U", "\\x", "\\\n"].iter().any(|sign| text.contains(sign))
}

/// Returns all that would be shown to a person.
fn check(file: &str, parsed: Result<Loaded, ConfigError>) -> String {
    match parsed {
        Ok(loaded) => {
            let shown = loaded.effective.to_string();
            assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");
            assert!(
                !loaded.warnings.iter().any(|line| line.contains(char::is_control)),
                "{:?}",
                loaded.warnings
            );
            shown + &loaded.warnings.concat()
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.contains(char::is_control), "not one line: {shown:?}");
            match &error {
                ConfigError::Unreadable(_) => panic!("there is no file: {shown}"),
                ConfigError::Syntax { line, .. } => assert!((1..=file.lines().count() + 1).contains(line)),
                ConfigError::Variable { name, .. } => assert!(name.starts_with("GATEWAY__")),
                ConfigError::Kept { .. } => panic!("nothing runs: {shown}"),
                ConfigError::Value { key, .. } => assert!(!key.is_empty(), "{shown}"),
            }
            shown
        }
    }
}
