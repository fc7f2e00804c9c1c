//! What the environment says instead of the file.

use super::*;

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
