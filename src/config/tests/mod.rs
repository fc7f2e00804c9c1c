//! The configuration as an operator meets it: the shipped files, overrides, and what every refusal says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::limits::{DRAIN_HARD_STOP, DRAIN_WINDOW, Limits};
use crate::wire::dialect::Dialect;

mod consul;
mod events;
mod files;
mod identity;
mod proxy;
mod public_keys;
mod quic_lb;
mod token_keys;

/// A directory of its own with everything a configuration names, removed at the end.
struct Home(PathBuf);

impl Home {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gateway-config-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        crate::certs::generate(&dir.join("certs/dev"), &[], false).unwrap();
        fs::create_dir_all(dir.join("config")).unwrap();
        fs::write(dir.join("config/route.json"), shipped("route.json")).unwrap();
        Self(dir)
    }

    fn options(&self, environment: &[(&str, &str)]) -> Options {
        let environment = environment.iter().map(|(key, value)| (key.into(), value.into()));
        Options { base: self.0.clone(), ..Options::with_environment(environment) }
    }

    fn parse(&self, text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        parse(text, "gateway.toml", &self.options(environment))
    }

    fn refused(&self, text: &str, environment: &[(&str, &str)]) -> String {
        let message = self.parse(text, environment).unwrap_err().to_string();
        assert!(!message.contains('\n'), "not one line: {message}");
        message
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The key of a configuration that has one.
fn only_key(loaded: Loaded) -> VerifyingKey {
    let [key] = <[_; 1]>::try_from(loaded.config.token_keys).unwrap();
    key.key
}

fn only_secret(loaded: Loaded) -> Secret {
    let VerifyingKey::Hs256(secret) = only_key(loaded) else { panic!("HS256") };
    secret
}

fn shipped_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn shipped(name: &str) -> String {
    fs::read_to_string(shipped_dir().join(name)).unwrap()
}

/// The shortest text that is accepted, with more lines behind it.
fn minimal(more: &str) -> String {
    format!(
        "[gateway]\nid = \"g1\"\n[auth]\nsecret_file = \"certs/dev/jwt.secret\"\n\
         [route]\nfile = \"config/route.json\"\n[tcp]\nlisten = \"127.0.0.1:0\"\n{more}"
    )
}

/// Its example is a configuration, and the keys it names exist.
#[test]
fn the_page_about_migrating_is_true_of_the_configuration() {
    let page = fs::read_to_string(shipped_dir().join("../docs/migrating.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let home = Home::new("migrating");
    let example = example.replace("\"jwt.secret\"", "\"certs/dev/jwt.secret\"");
    let loaded = home.parse(&example.replace("\"route.json\"", "\"config/route.json\""), &[]).unwrap();
    assert_eq!(loaded.config.consul.unwrap().register.unwrap().tags, ["IDC:SH_ALI"]);
    let every_key = shipped("gateway.toml");
    let sections = every_key.lines().filter_map(|line| line.strip_prefix('[')?.split(']').next());
    let sections: Vec<&str> = sections.chain(["discovery.consul", "discovery.register"]).collect();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let word = word.split(' ').next().unwrap();
        let Some((section, key)) = word.rsplit_once('.').filter(|(section, _)| sections.contains(section))
        else {
            continue;
        };
        if matches!(key, "toml" | "json" | "yaml") {
            continue;
        }
        let stands = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert!(every_key.lines().any(stands), "{section}.{key}");
        named += 1;
    }
    assert!(named > 30, "{named} keys");
}

#[test]
fn every_shipped_file_is_accepted() {
    let home = Home::new("shipped");
    let mut opened = 0;
    for entry in fs::read_dir(shipped_dir()).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => {
                home.parse(&text, &[]).unwrap();
            }
            Some("json") => {
                Route::from_json(&text).unwrap();
            }
            _ => panic!("{} is neither a configuration nor a route file", path.display()),
        }
        opened += 1;
    }
    assert!(opened >= 2, "no shipped configuration was found");
}

#[test]
fn the_shipped_configuration_is_the_default_in_every_limit_and_names_every_key() {
    let home = Home::new("defaults");
    let loaded = home.parse(&shipped("gateway.toml"), &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.id.as_str(), config.workers, config.dialect), ("gate01", 1, Dialect::XIm));
    assert_eq!(config.tcp, ["[::]:8000".parse().unwrap()]);
    assert_eq!(config.quic.as_ref().unwrap().listen, ["[::]:8000".parse().unwrap()]);
    assert_eq!(config.monitor, Some("127.0.0.1:8001".parse().unwrap()));
    assert_eq!((config.login_service.as_str(), config.instances.len()), ("login", 3));
    assert_eq!(config.log, Log { format: LogFormat::Text, level: tracing::Level::INFO });
    assert_eq!((config.drain_window, config.drain_hard_stop), (DRAIN_WINDOW, DRAIN_HARD_STOP));
    let in_clear = ["tcp.listen: on [::]:8000", "websocket.listen: on [::]:8002"];
    assert_eq!(loaded.warnings, in_clear.map(|listener| format!("{listener} tokens travel in clear")));
    let unset: Vec<_> = loaded
        .effective
        .settings()
        .iter()
        .filter(|setting| setting.origin == ConfigOrigin::Default)
        .map(|setting| format!("{}.{}", setting.section, setting.key))
        .collect();
    assert_eq!(unset, ["login.service"]);
}

#[test]
fn f1_closes_are_spread_over_a_window_except_in_dev() {
    let home = Home::new("drain");
    let window = |dev: bool, more: &str| {
        let options = Options { dev, ..home.options(&[]) };
        let loaded = parse(&minimal(more), "gateway.toml", &options).unwrap();
        let shown = loaded.effective.settings().iter().find(|setting| setting.key == "window").cloned();
        (loaded.config.drain_window, shown.unwrap().value)
    };
    assert_eq!(window(false, ""), (Duration::from_secs(20), "\"20s\"".to_owned()));
    assert_eq!(window(true, ""), (Duration::ZERO, "\"0s\"".to_owned()));
    assert_eq!(window(true, "[drain]\nwindow = \"3s\"\n").0, Duration::from_secs(3));
}

#[test]
fn alice_and_bob_land_in_different_zones_of_the_shipped_route() {
    let route = Route::from_json(&shipped("route.json")).unwrap();
    let selector = crate::dispatch::selector::RouteSelector::new(&route);
    assert_eq!(selector.zone_name(selector.route_key("x_im", "alice").zone), "zone_b");
    assert_eq!(selector.zone_name(selector.route_key("x_im", "bob").zone), "zone_a");
    assert!(route.whitelist().is_empty());
}

#[test]
fn f6_a_bogus_key_is_refused_in_every_table_of_every_shipped_file() {
    let home = Home::new("bogus");
    let text = shipped("gateway.toml");
    let mut planted = 0;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let mut lines: Vec<_> = text.lines().collect();
        lines.insert(at + 1, "bogus = 1");
        let message = home.refused(&lines.join("\n"), &[]);
        assert!(message.contains("bogus: is not a known key; allowed are "), "{line}: {message}");
        assert!(message.ends_with("(from gateway.toml)"), "{message}");
        planted += 1;
    }
    assert_eq!(planted, 20);
    let message = home.refused(&format!("{text}\n[bogus]\na = 1\n"), &[]);
    assert!(message.starts_with("bogus: is not a known key; allowed are gateway, quic,"), "{message}");
    let message = home.refused(&format!("{text}\n[\"bo\\ngus\"]\na = 1\n"), &[]);
    assert!(message.starts_with("bo?gus: is not a known key"), "{message}");
    let message = home.refused(&format!("\"\" = 1\n{text}"), &[]);
    assert!(message.starts_with("\"\": is not a known key"), "{message}");

    let route = shipped("route.json");
    let mut planted = 0;
    for (at, _) in route.match_indices('{') {
        let mut bogus = route.clone();
        bogus.insert_str(at + 1, r#""bogus": 1, "#);
        assert!(Route::from_json(&bogus).unwrap_err().to_string().contains("bogus"), "{bogus}");
        planted += 1;
    }
    assert_eq!(planted, 3);
}

#[test]
fn the_environment_overrides_the_file() {
    let home = Home::new("environment");
    let environment = [
        ("GATEWAY__GATEWAY__ID", "007"),
        ("GATEWAY__GATEWAY__DIALECT", "kim"),
        ("GATEWAY__TCP__LISTEN", "[::1]:0"),
        ("GATEWAY__QUIC__LISTEN", r#"["127.0.0.1:0", "[::1]:0"]"#),
        ("GATEWAY__MONITOR__LISTEN", ""),
        ("GATEWAY__LOGIN__SIGNOUT_AFTER_KICK", "true"),
        ("GATEWAY__QUIC__MIGRATION", "false"),
        ("GATEWAY__MONITOR__READY_WHEN_FULL", "true"),
        ("GATEWAY__LIMITS__MAX_FRAME", "131072"),
        ("GATEWAY__LIMITS__READ_IDLE", "1h"),
        ("GATEWAY__AUTH__SECRET_FILE", "certs/dev/jwt.secret"),
        ("GATEWAY__LOG__FORMAT", "json"),
        ("GATEWAY__DISCOVERY__INSTANCES", "[]"),
        ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let loaded = home.parse(&shipped("gateway.toml"), &environment).unwrap();
    let config = &loaded.config;
    assert_eq!((config.id.as_str(), config.dialect), ("007", Dialect::Kim));
    assert_eq!(config.tcp, ["[::1]:0".parse().unwrap()]);
    assert_eq!(config.quic.as_ref().unwrap().listen.len(), 2);
    assert_eq!(config.monitor, None);
    assert!(config.signout_after_kick && config.ready_when_full);
    assert!(!config.quic.as_ref().unwrap().migration);
    assert_eq!(config.limits.max_frame, 131_072);
    assert_eq!(config.limits.read_idle, Duration::from_secs(3600));
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(config.instances.is_empty());
    assert_eq!(config.login_service, "chat", "the default follows the dialect");
    let id = loaded.effective.settings().iter().find(|setting| setting.key == "id").unwrap();
    assert_eq!(id.value, "\"007\"");
    assert_eq!(id.origin, ConfigOrigin::Variable("GATEWAY__GATEWAY__ID".to_owned()));
}

#[rstest]
#[case::json(r#"[{"service": "login", "id": "9", "address": "h:1", "zone": "zone_b", "dialect": "kim"}]"#)]
#[case::toml(r#"[{service = "login", id = "9", address = "h:1", zone = "zone_b", dialect = "kim"}]"#)]
#[case::json_number(
    r#"[{"service": "login", "id": 9, "address": "h:1", "zone": "zone_b", "dialect": "kim"}]"#
)]
#[case::toml_number(r#"[{service = "login", id = 9, address = "h:1", zone = "zone_b", dialect = "kim"}]"#)]
fn the_instance_list_is_replaced_whole(#[case] list: &str) {
    let home = Home::new(&format!("instances-{:x}", crc32fast::hash(list.as_bytes())));
    let environment = [("GATEWAY__DISCOVERY__INSTANCES", list)];
    let loaded = home.parse(&shipped("gateway.toml"), &environment).unwrap();
    let expected = Instance {
        service: "login".into(),
        id: "9".into(),
        address: "h:1".into(),
        zone: "zone_b".into(),
        dialect: Dialect::Kim,
    };
    assert_eq!(loaded.config.instances, [expected]);
}

#[rstest]
#[case("GATEWAY__GATEWAY", "x", "GATEWAY__GATEWAY: names no setting; allowed is GATEWAY__SECTION__KEY")]
#[case("GATEWAY__A__B__C", "x", "names no setting")]
#[case("GATEWAY____ID", "x", "names no setting")]
#[case("GATEWAY__TCP__", "x", "names no setting")]
#[case(
    "GATEWAY__GATEWAY__IDS",
    "x",
    "gateway.ids: is not a known key; allowed are id, workers, dialect, advertise"
)]
#[case("GATEWAY__NOWHERE__ID", "x", "nowhere: is not a known key")]
#[case("GATEWAY__GATEWAY__WORKERS", "many", "gateway.workers: is \"many\"; allowed is a whole number")]
#[case("GATEWAY__GATEWAY__WORKERS", "-1", "gateway.workers: is \"-1\"; allowed is a whole number")]
#[case("GATEWAY__LOGIN__SIGNOUT_AFTER_KICK", "yes", "is \"yes\"; allowed is true or false")]
#[case("GATEWAY__LIMITS__READ_IDLE", "10", "limits.read_idle: is \"10\"; allowed is a duration such as")]
#[case(
    "GATEWAY__DISCOVERY__INSTANCES",
    "login01",
    "is no list; allowed is a JSON array or a TOML inline array"
)]
#[case("GATEWAY__DISCOVERY__INSTANCES", r#"[{"id": "a"}]"#, "discovery.instances[0].service: is missing")]
#[case(
    "GATEWAY__DISCOVERY__INSTANCES",
    r#"[{"id": 1.50}]"#,
    "discovery.instances[0].id: is 1.5; allowed is a string"
)]
#[case(
    "GATEWAY__DISCOVERY__INSTANCES",
    r#"[{"service": 7, "id": -1, "address": true, "zone": 0}]"#,
    "discovery.instances[0].address: is \"true\"; allowed is host:port"
)]
fn a_bad_override_names_its_variable(#[case] key: &str, #[case] value: &str, #[case] expected: &str) {
    let home = Home::new(&format!("bad-{key}-{}", value.len()));
    let message = home.refused(&shipped("gateway.toml"), &[(key, value)]);
    assert!(message.contains(expected), "{message}");
    assert!(message.contains(&format!("environment variable {key}")), "{message}");
}

#[rstest]
#[case("id = \"g1\"", "id = \"gate 1\"", "gateway.id: is \"gate 1\"; allowed are 1 to 64 of")]
#[case("id = \"g1\"", "id = \"gate%1\"", "gateway.id: is \"gate%1\"; allowed are 1 to 64 of")]
#[case(
    "id = \"g1\"",
    "id = \"a_345678901234567890123456789012345678901234567890123456789012_\"",
    "gateway.id: has 67 bytes, '_' counted as the three it takes in channel ids; allowed are 64"
)]
#[case("id = \"g1\"", "id = \"\"", "gateway.id: is \"\"; allowed")]
#[case("id = \"g1\"", "id = 7", "gateway.id: is 7; allowed is a string")]
#[case("id = \"g1\"", "", "gateway.id: is missing")]
#[case(
    "id = \"g1\"",
    "id = \"g1\"\nworkers = 65",
    "gateway.workers: is 65; allowed are 1 to 64, and 0 for one"
)]
#[case(
    "id = \"g1\"",
    "id = \"a23456789012345678901234567890123456789012345678901234567890123\"\nworkers = 2",
    "gateway.id: has 63 bytes; with 2 workers at most 62 are allowed"
)]
#[case("id = \"g1\"", "id = \"g1\"\ndialect = \"xim\"", "gateway.dialect: is \"xim\"; allowed are \"x_im\"")]
#[case("id = \"g1\"", "id = g1", "gateway.toml, line 2: ")]
#[case("127.0.0.1:0", "localhost:1", "tcp.listen: is \"localhost:1\"; allowed is an IP address with a port")]
#[case("127.0.0.1:0", ":8000", "tcp.listen: is \":8000\"; allowed")]
#[case("\"127.0.0.1:0\"", "8000", "tcp.listen: is 8000; allowed is one address such as")]
#[case(
    "\"127.0.0.1:0\"",
    "\"\"",
    "quic.listen: is not set, nor is tcp.listen, tcp.tls_listen, websocket.listen or websocket.tls_listen; allowed is"
)]
#[case(
    "\"127.0.0.1:0\"",
    "[\"[::]:1\", \"127.0.0.1:1\"]",
    "tcp.listen: 127.0.0.1:1 overlaps [::]:1; allowed"
)]
#[case("[tcp]", "[tcp]\ntls_listen = \"a:1\"", "tcp.tls_listen: is \"a:1\"; allowed is an IP address with")]
#[case(
    "listen = \"127.0.0.1:0\"",
    "listen = \"127.0.0.1:1\"\ntls_listen = \"[::]:1\"",
    "tcp.tls_listen: [::]:1 overlaps tcp.listen 127.0.0.1:1; allowed is a port of its own"
)]
#[case(
    "[auth]",
    "[auth]\nalgorithm = \"none\"",
    "auth.algorithm: is \"none\"; allowed are \"HS256\", \"RS256\""
)]
#[case(
    "[auth]",
    "[auth]\nalgorithm = \"rs256\"",
    "auth.algorithm: is \"rs256\"; allowed are \"HS256\", \"RS256\""
)]
#[case("[auth]", "[auth]\nissuer = \"\"", "auth.issuer: is empty; allowed is a text, or to leave it out")]
#[case("[auth]", "[auth]\naudience = \"\"", "auth.audience: is empty; allowed")]
#[case("[auth]", "[auth]\naudience = [\"a\"]", "auth.audience: is sequence; allowed is a string")]
#[case(
    "[auth]",
    "[auth]\nsecret = \"0123456789abcdef\"",
    "auth.secret: stands beside auth.secret_file; allowed"
)]
#[case(
    "secret_file = \"certs/dev/jwt.secret\"",
    "",
    "auth.secret_file: is missing, as is auth.secret; allowed"
)]
#[case("jwt.secret", "none.secret", "none.secret does not exist; allowed is a file with the secret")]
#[case("file = \"config/route.json\"", "", "route.file: is missing; allowed is the path of a route file")]
#[case("config/route.json", "certs", "is no file; allowed is a route file")]
fn f6_a_bad_value_names_key_reason_and_what_is_allowed(
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: &str,
) {
    let home = Home::new(&format!("value-{:x}", crc32fast::hash(format!("{from}{to}").as_bytes())));
    assert!(home.parse(&minimal(""), &[]).is_ok());
    let text = minimal("");
    assert!(text.contains(from), "{from}");
    let message = home.refused(&text.replacen(from, to, 1), &[]);
    assert!(message.contains(expected), "{message}");
}

#[rstest]
#[case("[login]\nservice = \"a.b\"", "login.service: is \"a.b\"; allowed are 1 to 64 of a-z")]
#[case("[monitor]\nlisten = \"x\"", "monitor.listen: is \"x\"; allowed")]
#[case(
    "[drain]\nwindow = \"30s\"",
    "drain.window: is 30s; allowed is less than drain.hard_stop, which is 30s (from gateway.toml)"
)]
#[case(
    "[drain]\nhard_stop = \"5s\"",
    "drain.hard_stop: is 5s; allowed is more than drain.window, which is 20s (from gateway.toml)"
)]
#[case("[drain]\nwindow = \"0s\"\nhard_stop = \"0s\"", "drain.hard_stop: is 0s; allowed is 1ms to")]
#[case("[limits]\ntcp_user_timeout = \"0s\"", "limits.tcp_user_timeout: is 0s; allowed is 1ms to")]
#[case("[discovery]\nkind = \"dns\"", "discovery.kind: is \"dns\"; allowed are \"static\" and \"consul\"")]
#[case("[log]\nformat = \"xml\"", "log.format: is \"xml\"; allowed are \"text\" and \"json\"")]
#[case("[log]\nlevel = \"loud\"", "log.level: is \"loud\"; allowed are \"error\"")]
#[case(
    "[limits]\nmax_frame = 2097152",
    "limits.max_frame: is 2097152; allowed is 1024 to 1048576 (from gateway.toml)"
)]
#[case(
    "[limits]\nlogin_answer = \"5s\"",
    "limits.login_answer: is 5s; allowed is 1ms to 4s 999ms (clients give up"
)]
#[case("[limits]\nbackend_ping = \"0s\"", "limits.backend_ping: is 0s; allowed is 1ms to")]
#[case("[limits]\nbackend_misses = 1", "limits.backend_misses: is 1; allowed")]
#[case("[limits]\nread_idle = \"soon\"", "limits.read_idle: is \"soon\"; allowed is a duration such as")]
#[case("[limits]\nmax_pending = -1", "limits.max_pending: is -1; allowed is a whole number")]
#[case("[limits]\nmax_pending = 1.5", "limits.max_pending: is 1.5; allowed is a whole number")]
fn f6_a_bad_section_is_refused(#[case] section: &str, #[case] expected: &str) {
    let home = Home::new(&format!("section-{:x}", crc32fast::hash(section.as_bytes())));
    let message = home.refused(&minimal(section), &[]);
    assert!(message.contains(expected), "{message}");
}

#[rstest]
#[case("service = \"Login\"", "[1].service: is \"Login\"; allowed")]
#[case("id = \"a b\"", "[1].id: is \"a b\"; allowed")]
#[case("id = \"one\"", "[1].id: \"one\" stands twice; allowed is each id once per service")]
#[case(
    "address = \"127.0.0.1:1\"",
    "[1].address: \"127.0.0.1:1\" stands twice; allowed is each address once"
)]
#[case("address = \"127.0.0.1\"", "[1].address: is \"127.0.0.1\"; allowed is host:port")]
#[case("address = \"host:0\"", "[1].address: is \"host:0\"; allowed is host:port")]
#[case("address = \"::1:80\"", "[1].address: is \"::1:80\"; allowed is host:port")]
#[case("address = \"a/b:80\"", "[1].address: is \"a/b:80\"; allowed is host:port")]
#[case("zone = \"mars\"", "[1].zone: \"mars\" is no zone of the route; allowed are \"zone_a\", \"zone_b\"")]
#[case("dialect = \"go\"", "[1].dialect: is \"go\"; allowed are \"x_im\" and \"kim\"")]
fn a_bad_instance_is_refused_by_its_position(#[case] change: &str, #[case] expected: &str) {
    let home = Home::new(&format!("instance-{:x}", crc32fast::hash(change.as_bytes())));
    let list = |second: [&str; 4]| {
        let first = r#"service = "chat", id = "one", address = "127.0.0.1:1", zone = "zone_a""#;
        minimal(&format!("[discovery]\ninstances = [{{{first}}}, {{{}}}]\n", second.join(", ")))
    };
    let good = ["service = \"chat\"", "id = \"two\"", "address = \"[::1]:2\"", "zone = \"zone_b\""];
    assert!(home.parse(&list(good), &[]).is_ok());
    let key = change.split(' ').next().unwrap();
    let last = format!("{}, {change}", good[3]);
    let mut bad = good;
    match good.iter().position(|field| field.starts_with(key)) {
        Some(position) => bad[position] = change,
        None => bad[3] = &last,
    }
    let message = home.refused(&list(bad), &[]);
    assert!(message.contains(&format!("discovery.instances{expected}")), "{message}");
}

#[test]
fn b14_weak_and_published_secrets_are_refused_but_in_dev() {
    let home = Home::new("b14");
    for (secret, problem) in [
        ("", "holds 0 bytes; allowed are 16 and more"),
        ("fifteen-bytes!!", "holds 15 bytes; allowed are 16 and more"),
        ("fifteen-bytes!!\0\0", "holds 15 bytes; allowed are 16 and more"),
        (&"\0".repeat(32), "holds 0 bytes; allowed are 16 and more"),
        ("jwt-1sNzdiSgnNuxyq2g7xml2JvLArU", "holds a secret that is published; allowed is one of your own"),
        (
            "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU\0\0",
            "holds a secret that is published; allowed is one of your own",
        ),
    ] {
        let inline = minimal("").replace(
            "secret_file = \"certs/dev/jwt.secret\"",
            &format!("secret = {}", toml::Value::from(secret)),
        );
        let message = home.refused(&inline, &[]);
        assert!(message.starts_with(&format!("auth.secret: {problem}")), "{message}");
        assert!(secret.is_empty() || !message.contains(secret), "{message}");

        fs::write(home.0.join("certs/dev/jwt.secret"), format!("{secret}\n")).unwrap();
        let message = home.refused(&minimal(""), &[]);
        assert!(message.starts_with(&format!("auth.secret_file: {problem}")), "{message}");

        let dev = Options { dev: true, ..home.options(&[]) };
        let read = only_secret(parse(&inline, "dev", &dev).unwrap());
        assert_eq!(read.0, secret.as_bytes());
    }
    let long_enough =
        minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", "secret = \"0123456789abcdef\"");
    assert!(home.parse(&long_enough, &[]).is_ok());
}

/// A token made with `gateway token` is good only if both sides take the same bytes.
#[test]
fn a_secret_file_is_the_same_for_the_gateway_and_for_who_makes_tokens() {
    let home = Home::new("secret-file");
    let path = home.0.join("certs/dev/jwt.secret");
    for (written, secret) in [
        ("0123456789abcdef \n", "0123456789abcdef "),
        ("0123456789abcdef\t\r\n", "0123456789abcdef\t"),
        ("0123456789abcdef\n\n", "0123456789abcdef"),
    ] {
        fs::write(&path, written).unwrap();
        let read = only_secret(home.parse(&minimal(""), &[]).unwrap());
        assert_eq!(read.0, secret.as_bytes());
        assert_eq!(Secret::from_file(&path).unwrap(), read);
    }
    let message = Secret::from_file(&home.0).unwrap_err().to_string();
    assert!(message.ends_with("is no file"), "{message}");
}

#[test]
fn b12_b13_the_leeway_is_a_minute_and_can_be_set_or_switched_off() {
    let home = Home::new("leeway");
    let with = |leeway: &str| minimal("").replace("[auth]\n", &format!("[auth]\nleeway = \"{leeway}\"\n"));
    assert_eq!(home.parse(&minimal(""), &[]).unwrap().config.leeway, Duration::from_secs(60));
    for (text, seconds) in [("0s", 0), ("5s", 5), ("10m", 600)] {
        assert_eq!(home.parse(&with(text), &[]).unwrap().config.leeway, Duration::from_secs(seconds));
    }
    for text in ["601s", "1500ms"] {
        let message = home.refused(&with(text), &[]);
        assert!(
            message.contains("; allowed are whole seconds from 0s to 10m (from gateway.toml)"),
            "{message}"
        );
    }
    assert!(home.refused(&with("-1s"), &[]).starts_with("auth.leeway: is \"-1s\"; allowed is a duration"));
    let environment = [("GATEWAY__AUTH__LEEWAY", "7s")];
    assert_eq!(home.parse(&minimal(""), &environment).unwrap().config.leeway, Duration::from_secs(7));
}

#[test]
fn h19_the_state_file_needs_its_directory_only() {
    let home = Home::new("state-file");
    let with =
        |path: &str| minimal("").replace("id = \"g1\"", &format!("id = \"g1\"\nstate_file = \"{path}\""));
    assert_eq!(home.parse(&minimal(""), &[]).unwrap().config.state_file, None);
    let config = home.parse(&with("certs/state"), &[]).unwrap().config;
    assert_eq!(config.state_file, Some(home.0.join("certs/state")));
    for bad in ["none/state", "certs/.."] {
        let message = home.refused(&with(bad), &[]);
        assert!(message.starts_with("gateway.state_file: is "), "{message}");
        assert!(message.contains("allowed is a file in a directory that is there"), "{message}");
    }
}

#[test]
fn a_secret_in_the_environment_replaces_the_file_of_the_configuration() {
    let home = Home::new("secret-override");
    let environment = [("GATEWAY__AUTH__SECRET", "0123456789abcdef")];
    let loaded = home.parse(&minimal(""), &environment).unwrap();
    let shown = loaded.effective.to_string();
    assert_eq!(only_secret(loaded).0, b"0123456789abcdef");
    assert!(!shown.contains("secret_file") && !shown.contains("0123456789abcdef"), "{shown}");
    let both = [environment[0], ("GATEWAY__AUTH__SECRET_FILE", "certs/dev/jwt.secret")];
    assert!(home.refused(&minimal(""), &both).contains("allowed is one of them"));
}

#[test]
fn secrets_are_masked_wherever_a_configuration_is_shown() {
    let home = Home::new("mask");
    let secret = "do-not-show-this-secret";
    let text =
        minimal("").replace("secret_file = \"certs/dev/jwt.secret\"", &format!("secret = \"{secret}\""));
    let loaded = home.parse(&text, &[]).unwrap();
    let shown = loaded.effective.to_string();
    assert!(shown.contains("secret = \"***\""), "{shown}");
    assert!(!shown.contains(secret) && !format!("{loaded:?}").contains(secret));
    let number = text.replace(&format!("\"{secret}\""), "12345678901234567");
    let message = home.refused(&number, &[]);
    assert!(!message.contains("12345678901234567"), "{message}");
}

/// What `gateway check` prints is itself a configuration, with the same outcome.
#[test]
fn the_effective_configuration_is_toml_and_stable() {
    let home = Home::new("effective");
    let shown = home.parse(&shipped("gateway.toml"), &[]).unwrap().effective.to_string();
    assert!(shown.contains("# from gateway.toml"), "{shown}");
    let again = home.parse(&shown, &[]).unwrap();
    assert_eq!(again.config.limits, Limits::default());
    assert_eq!(again.config.instances.len(), 3);
    assert_eq!(again.effective.settings().len(), shown.lines().filter(|line| line.contains(" = ")).count());
}

#[test]
fn quic_needs_a_matching_identity_and_keys() {
    let home = Home::new("quic");
    let text = minimal("[quic]\nlisten = \"127.0.0.1:0\"\n");
    assert!(home.parse(&text, &[]).is_ok());
    let dev = home.0.join("certs/dev");
    fs::copy(dev.join("server.key"), dev.join("kept.key")).unwrap();
    fs::copy(dev.join("ca.key"), dev.join("server.key")).unwrap();
    let message = home.refused(&text, &[]);
    assert!(
        message.starts_with("tls.key: certs/dev/server.key does not belong to tls.cert; allowed"),
        "{message}"
    );
    fs::rename(dev.join("kept.key"), dev.join("server.key")).unwrap();
    for (name, key) in [("quic.keys", "quic.key_file"), ("server.key", "tls.key"), ("server.pem", "tls.cert")]
    {
        let kept = fs::read(dev.join(name)).unwrap();
        fs::write(dev.join(name), "nonsense").unwrap();
        assert!(home.refused(&text, &[]).starts_with(&format!("{key}: ")), "{name}");
        fs::remove_file(dev.join(name)).unwrap();
        let message = home.refused(&text, &[]);
        assert!(message.starts_with(&format!("{key}: ")), "{message}");
        assert!(message.contains("does not exist; `gateway certs` makes it (default)"), "{message}");
        fs::write(dev.join(name), kept).unwrap();
    }
    assert!(home.parse(&minimal(""), &[]).is_ok(), "without QUIC none of it is read");
}

#[test]
fn tls_on_tcp_needs_an_identity_that_is_valid_and_no_quic_keys() {
    let home = Home::new("tls");
    let text = minimal("tls_listen = [\"127.0.0.1:0\"]\n");
    fs::remove_file(home.0.join("certs/dev/quic.keys")).unwrap();
    let config = home.parse(&text, &[]).unwrap().config;
    assert!(config.quic.is_none());
    let tls = config.tls.unwrap();
    assert_eq!(tls.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert!(tls.identity.not_after().unwrap() > 1_700_000_000);
    let only = text.replace("listen = \"127.0.0.1:0\"\n", "");
    assert!(home.parse(&only, &[]).unwrap().config.tcp.is_empty(), "it can be the only listener");

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 2, 3);
    let expired = params.self_signed(&key).unwrap().pem();
    fs::write(home.0.join("certs/dev/server.pem"), expired).unwrap();
    let message = home.refused(&text, &[]);
    assert!(message.starts_with("tls.key: certs/dev/server.key does not belong"), "{message}");
    fs::write(home.0.join("certs/dev/server.key"), key.serialize_pem()).unwrap();
    let message = home.refused(&text, &[]);
    let says =
        "tls.cert: certs/dev/server.pem holds a certificate that expired at 2020-02-03T00:00:00Z; allowed";
    assert!(message.starts_with(says), "{message}");
    assert!(home.parse(&minimal(""), &[]).is_ok(), "without an encrypted listener nobody would see it");
}

#[test]
fn what_is_worth_a_word_is_a_warning() {
    let home = Home::new("warnings");
    let login = r#"[discovery]
instances = [{service = "login", id = "a", address = "h:1", zone = "zone_a"}]"#;
    assert_eq!(home.parse(&minimal(login), &[]).unwrap().warnings, Vec::<String>::new());
    let secret = home.0.join("certs/dev/jwt.secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let text = minimal("").replace("127.0.0.1:0", "0.0.0.0:0");
    let loaded = home.parse(&text, &[]).unwrap();
    for (warning, expected) in
        loaded.warnings.iter().zip(["tcp.listen:", "discovery.instances:", "auth.secret_file:"])
    {
        assert!(warning.starts_with(expected), "{warning}");
    }
    assert_eq!(loaded.warnings.len(), 3);
}

#[test]
fn several_workers_are_gateways_of_their_own_and_kim_does_not_go_with_them() {
    let home = Home::new("workers");
    let with = |workers: &str, dialect: &str| {
        let instances = format!(
            "[discovery]\ninstances = [{{service = \"login\", id = \"a\", address = \"h:1\", zone = \"zone_a\", \
             dialect = \"{dialect}\"}}]"
        );
        let id = format!("id = \"g1\"\nworkers = {workers}");
        home.parse(&minimal(&instances).replace("id = \"g1\"", &id), &[]).unwrap()
    };
    let one = with("1", "kim");
    assert_eq!((one.config.workers, one.config.gate_id(0)), (1, "g1".to_owned()));
    assert_eq!(one.warnings, Vec::<String>::new());
    let cores = std::thread::available_parallelism().unwrap().get();
    if cfg!(target_os = "linux") {
        let two = with("2", "x_im");
        assert_eq!(
            (two.config.workers, two.config.gate_id(0), two.config.gate_id(1)),
            (2, "g1-0".into(), "g1-1".into())
        );
        assert_eq!(two.warnings, Vec::<String>::new());
        assert_eq!(with("0", "x_im").config.workers, cores.min(64));
        let kim = with("2", "kim");
        assert!(kim.warnings[0].starts_with("gateway.workers: is 2, and instance a speaks kim"), "{kim:?}");
    } else {
        let forced = with("2", "x_im");
        assert_eq!(forced.config.workers, 1);
        assert!(forced.warnings[0].starts_with("gateway.workers: several workers need Linux"));
    }
}

#[test]
fn routing_can_be_read_before_there_are_certificates() {
    let home = Home::new("routing");
    fs::remove_dir_all(home.0.join("certs")).unwrap();
    let path = home.0.join("config/gateway.toml");
    fs::write(&path, shipped("gateway.toml")).unwrap();
    let (route, instances) = load_routing(&path, &home.options(&[])).unwrap();
    assert_eq!((route.zones().len(), instances.len()), (2, 3));
    let missing = load(&home.0.join("none.toml"), &home.options(&[])).unwrap_err().to_string();
    assert!(missing.contains("none.toml does not exist"), "{missing}");
    assert!(missing.ends_with("name another file with --config"), "{missing}");
}

#[test]
fn a_configuration_can_be_made_from_text_alone() {
    let home = Home::new("text");
    let config = Config::from_toml(&minimal("[quic]\nlisten = \"127.0.0.1:0\"\n"), &home.0).unwrap();
    assert_eq!(config.quic.unwrap().listen, ["127.0.0.1:0".parse().unwrap()]);
    let route = Arc::new(Route::from_json(r#"{"zones": [{"id": "only", "weight": 1}]}"#).unwrap());
    let options = Options { route: Some(Arc::clone(&route)), ..home.options(&[]) };
    let without_file = minimal("").replace("file = \"config/route.json\"", "");
    assert_eq!(parse(&without_file, "text", &options).unwrap().config.route, route);
}
