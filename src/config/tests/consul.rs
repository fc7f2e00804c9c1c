//! `[discovery]` with kind `consul`.

use super::*;

/// The shortest text that is accepted with Consul, with more lines in its tables.
fn consul(discovery: &str, more: &str) -> String {
    let text = minimal(&format!(
        "[discovery]\nkind = \"consul\"\nservices = [\"login\", \"chat\"]\n{discovery}\n{more}"
    ));
    text.replace("id = \"g1\"", "id = \"g1\"\nadvertise = \"203.0.113.7\"")
}

#[test]
fn the_defaults_of_consul_are_those_of_the_shipped_file() {
    let home = Home::new("consul-defaults");
    let environment = [
        ("GATEWAY__DISCOVERY__KIND", "consul"),
        ("GATEWAY__DISCOVERY__SERVICES", "chat, login"),
        ("GATEWAY__GATEWAY__ADVERTISE", "203.0.113.7:8000"),
    ];
    let shipped = home.parse(&shipped("gateway.toml"), &environment).unwrap();
    let shortest = home.parse(&consul("", ""), &[]).unwrap().config.consul.unwrap();
    assert!(shipped.warnings.iter().any(|text| text.contains("instances: are not looked at")));
    assert!(shipped.config.instances.is_empty());
    assert!(shipped.config.services().iter().eq(["chat", "login"]));
    for consul in [shipped.config.consul.unwrap(), shortest] {
        assert_eq!(consul.services, ["chat", "login"]);
        assert_eq!(consul.agent, HttpTarget::plain("127.0.0.1", 8500));
        assert!(consul.agent.is_local());
        let times = [consul.wait, consul.answer, consul.shrink_hold].map(|time| time.as_secs());
        assert_eq!(times, [60, 5, 10]);
        let register = consul.register.unwrap();
        assert_eq!((register.name.as_str(), register.check_url), ("tgateway", None));
        assert_eq!(register.advertise.host, "203.0.113.7");
    }
}

#[rstest]
#[case("services = [\"login\", \"chat\"]", "", "discovery.services: is empty; allowed with discovery.kind")]
#[case("\"chat\"]", "\"Chat\"]", "discovery.services: is \"Chat\"; allowed are 1 to 64 of a-z")]
#[case("\"chat\"]", "\"login\"]", "discovery.services: \"login\" stands twice; allowed is each service once")]
#[case("\"login\", ", "", "discovery.services: does not have the login service \"login\"")]
#[case("[\"login\", \"chat\"]", "7", "discovery.services: is 7; allowed is")]
#[case("advertise = \"203.0.113.7\"", "", "gateway.advertise: is missing; allowed is the address at which")]
#[case(
    "203.0.113.7",
    "0.0.0.0",
    "gateway.advertise: is \"0.0.0.0\", which is every address and none; allowed"
)]
#[case("203.0.113.7", "[::]:8000", "gateway.advertise: is \"[::]:8000\", which is every address and none")]
#[case("203.0.113.7", "::", "gateway.advertise: is \"::\", which is every address and none")]
#[case("203.0.113.7", "a b", "gateway.advertise: is \"a b\"; allowed is the address at which")]
fn what_consul_needs_is_asked_for(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    let home = Home::new(&format!("consul-{:x}", crc32fast::hash(format!("{from}{to}").as_bytes())));
    assert!(home.parse(&consul("", ""), &[]).is_ok());
    let message = home.refused(&consul("", "").replacen(from, to, 1), &[]);
    assert!(message.starts_with(expected), "{message}");
}

#[rstest]
#[case("consul.address = \"ftp://a:1\"", "consul.address: is \"ftp://a:1\"; allowed is a host with or")]
#[case("consul.address = \"\"", "consul.address: is \"\"; allowed is a host with or")]
#[case("consul.address = \"http://a/b\"", "consul.address: is \"http://a/b\"; allowed is a host with or")]
#[case("consul.address = \"http://u:p@a:1\"", "consul.address: is \"http://u:p@a:1\"; allowed")]
#[case("consul.address = \"https://a\"", "consul.ca_file: is missing; allowed with https:// is a PEM file")]
#[case(
    "consul.ca_file = \"certs/dev/ca.pem\"",
    "consul.ca_file: is set, but discovery.consul.address begins"
)]
#[case("consul = { address = \"https://a\", ca_file = \"nowhere.pem\" }", "consul.ca_file: ")]
#[case("consul = { address = \"https://a\", ca_file = \"config/route.json\" }", "consul.ca_file: ")]
#[case(
    "consul = { token = \"a\", token_file = \"b\" }",
    "consul.token: stands beside discovery.consul.token_file"
)]
#[case("consul.token = \"\"", "consul.token: holds no token; allowed")]
#[case("consul.token = \"a b\"", "consul.token: holds no token; allowed")]
#[case("consul.token_file = \"nowhere\"", "consul.token_file: ")]
#[case("consul.wait = \"11m\"", "consul.wait: is 11m; allowed is 1ms to 10m")]
#[case("consul.wait = \"soon\"", "consul.wait: is \"soon\"; allowed is a duration")]
#[case("consul.answer = \"0s\"", "consul.answer: is 0s; allowed is 1ms to 10m")]
#[case("consul.shrink_hold = \"0s\"", "consul.shrink_hold: is 0s; allowed")]
#[case("register.name = \"a.b\"", "register.name: is \"a.b\"; allowed are 1 to 64")]
#[case(
    "register.check_url = \"10.0.0.7/ready\"",
    "register.check_url: is \"10.0.0.7/ready\"; allowed is a URL"
)]
#[case("register.tags = [\"IDC:A\", \" \"]", "register.tags: is \" \"; allowed are 1 to 512 bytes")]
#[case("register.tags = \"IDC:A\"", "register.tags: is \"IDC:A\"; allowed is")]
#[case("register.domain = \"\"", "register.domain: is \"\"; allowed are 1 to 512 bytes")]
#[case("consul.last_resort = \"no\"", "consul.last_resort: is \"no\"; allowed is true or false")]
#[case("register.enabled = \"no\"", "register.enabled: is \"no\"; allowed is true or false")]
fn a_bad_value_of_a_table_names_its_key(#[case] line: &str, #[case] expected: &str) {
    let home = Home::new(&format!("consul-table-{:x}", crc32fast::hash(line.as_bytes())));
    let message = home.refused(&consul(line, ""), &[]);
    assert!(message.starts_with(&format!("discovery.{expected}")), "{message}");
    assert!(message.contains("allowed") || message.contains("does not exist"), "{message}");
}

/// In kim's and X_IM's files there is `ConsulURL: localhost:8500`.
#[test]
fn consuls_address_may_be_a_bare_host_and_port() {
    let home = Home::new("consul-bare");
    for (text, host, port) in [
        ("localhost:8500", "localhost", 8500),
        ("consul", "consul", 8500),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("[::1]:8501", "::1", 8501),
    ] {
        let consul = consul(&format!("consul.address = \"{text}\""), "");
        let agent = home.parse(&consul, &[]).unwrap().config.consul.unwrap().agent;
        assert_eq!(agent, HttpTarget::plain(host, port), "{text}");
    }
    let by_environment = [("GATEWAY__DISCOVERY__CONSUL__ADDRESS", "consul:8500")];
    let loaded = home.parse(&consul("consul.token = \"a\"", ""), &by_environment).unwrap();
    assert_eq!(loaded.warnings, ["discovery.consul.token: travels in clear to consul:8500"]);
}

#[test]
fn how_the_gateway_stands_in_consul_can_be_said_in_the_environment_as_well() {
    let home = Home::new("consul-register");
    let consul_of = |text: &str, environment: &[(&str, &str)]| {
        home.parse(text, environment).unwrap().config.consul.unwrap()
    };
    let of_file = consul_of(&consul("register = { tags = [\"IDC:SH_ALI\"], domain = \"ws://a\" }", ""), &[]);
    let environment = [
        ("GATEWAY__DISCOVERY__REGISTER__TAGS", "IDC:SH_ALI, blue"),
        ("GATEWAY__DISCOVERY__REGISTER__DOMAIN", "ws://b"),
        ("GATEWAY__DISCOVERY__CONSUL__LAST_RESORT", "false"),
        ("GATEWAY__ROUTE__BOUNDED_LOAD", "false"),
    ];
    let of_environment = consul_of(&consul("", ""), &environment);
    assert_eq!((of_file.last_resort, of_environment.last_resort), (true, false));
    assert!(!home.parse(&consul("", ""), &environment).unwrap().config.bounded_load);
    let [of_file, of_environment] = [of_file, of_environment].map(|consul| consul.register.unwrap());
    assert_eq!((of_file.tags, of_file.domain.as_deref()), (vec!["IDC:SH_ALI".to_owned()], Some("ws://a")));
    assert_eq!(of_environment.tags, ["IDC:SH_ALI", "blue"]);
    assert_eq!(of_environment.domain.as_deref(), Some("ws://b"));
}

#[test]
fn what_does_not_register_needs_no_address_of_its_own() {
    let home = Home::new("consul-silent");
    let text = consul("register.enabled = false", "").replace("advertise = \"203.0.113.7\"", "");
    assert!(home.parse(&text, &[]).unwrap().config.consul.unwrap().register.is_none());
    let environment = [("GATEWAY__DISCOVERY__REGISTER__ENABLED", "true")];
    let message = home.refused(&text, &environment);
    assert!(message.starts_with("gateway.advertise: is missing"), "{message}");
}

#[test]
fn the_token_is_masked_and_one_in_the_environment_replaces_the_file() {
    let home = Home::new("consul-token");
    fs::write(home.0.join("token"), "do-not-show-this-token\n").unwrap();
    let by_file = consul("consul.token_file = \"token\"", "");
    let loaded = home.parse(&by_file, &[]).unwrap();
    assert_eq!(
        loaded.config.consul.as_ref().unwrap().agent.token.as_ref().unwrap().0,
        b"do-not-show-this-token"
    );
    let environment = [("GATEWAY__DISCOVERY__CONSUL__TOKEN", "nor-this-one")];
    let loaded = home.parse(&by_file, &environment).unwrap();
    assert_eq!(loaded.config.consul.as_ref().unwrap().agent.token.as_ref().unwrap().0, b"nor-this-one");
    let shown = loaded.effective.to_string();
    assert!(shown.contains("[discovery.consul]\n") && shown.contains("token = \"***\""), "{shown}");
    assert!(!shown.contains("nor-this-one") && !format!("{loaded:?}").contains("nor-this-one"), "{shown}");
    let number = consul("consul.token = 12345678901234567", "");
    assert!(!home.refused(&number, &[]).contains("12345678901234567"));
    let remote = consul("consul = { address = \"http://10.0.0.1\", token = \"secret\" }", "");
    let warnings = home.parse(&remote, &[]).unwrap().warnings;
    assert_eq!(warnings, ["discovery.consul.token: travels in clear to http://10.0.0.1"]);
}

/// What `gateway check` prints with Consul is itself a configuration, with the same outcome.
#[test]
fn the_effective_configuration_with_consul_is_toml() {
    let home = Home::new("consul-effective");
    let ca = "consul = { address = \"https://consul.example.org\", ca_file = \"certs/dev/ca.pem\" }";
    let loaded = home.parse(&consul(ca, ""), &[]).unwrap();
    let shown = loaded.effective.to_string();
    let again = home.parse(&shown, &[]).unwrap();
    assert_eq!(again.effective.settings().len(), shown.lines().filter(|line| line.contains(" = ")).count());
    let (before, after) = (loaded.config.consul.unwrap(), again.config.consul.unwrap());
    assert_eq!((before.agent.port, before.agent.tls), (8501, true));
    assert_eq!(before.agent.roots.len(), 1);
    assert_eq!((before.agent, before.register), (after.agent, after.register));
}

#[test]
fn consuls_services_with_a_static_list_are_worth_a_word() {
    let home = Home::new("consul-static");
    let loaded = home.parse(&minimal("[discovery]\nservices = [\"login\"]\n"), &[]).unwrap();
    assert!(loaded.warnings[0].starts_with("discovery.services: is not looked at"), "{:?}", loaded.warnings);
    assert!(loaded.config.services().iter().eq(["login"]));
    assert!(loaded.config.consul.is_none());
}
