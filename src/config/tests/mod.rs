//! The configuration as an operator meets it: the shipped files, overrides, and what every refusal says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::limits::{DRAIN_HARD_STOP, DRAIN_WINDOW, Limits};
use crate::wire::dialect::Dialect;

mod admin;
mod consul;
mod events;
mod files;
mod identity;
mod overrides;
mod proxy;
mod public_keys;
mod quic_lb;
mod reload;
mod secrets;
mod shipped;
mod token_keys;
mod trace_export;
mod transports;

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
