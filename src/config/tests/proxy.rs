//! `proxy_protocol` and `trusted` of `[tcp]` and `[websocket]`.

use super::*;

fn tcp(home: &Home, listen: &str, lines: &str) -> Result<Loaded, ConfigError> {
    let text = minimal("").replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{listen}\"\n{lines}"));
    home.parse(&text, &[])
}

#[test]
fn it_is_off_unless_it_is_switched_on() {
    let home = Home::new("proxy-off");
    assert!(home.parse(&minimal(""), &[]).unwrap().config.tcp_proxy.is_none());
    let loaded = tcp(&home, "[::]:0", "trusted = [\"10.0.0.0/8\"]").unwrap();
    assert!(loaded.config.tcp_proxy.is_none());
    let warnings = loaded.warnings.join("\n");
    assert!(warnings.contains("tcp.trusted: is not used while tcp.proxy_protocol is \"off\""), "{warnings}");
}

#[test]
fn who_is_a_balancer_is_said_by_networks_and_on_this_machine_by_nothing() {
    let home = Home::new("proxy-on");
    let lines = "proxy_protocol = \"required\"\ntrusted = [\"10.0.0.0/8\", \"192.0.2.7\", \"fd00::/8\"]";
    let proxy = tcp(&home, "[::]:0", lines).unwrap().config.tcp_proxy.unwrap();
    assert!(proxy.is_required);
    let contains = |address: &str| proxy.trusted.contains(address.parse().unwrap());
    for inside in ["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "192.0.2.7", "fd00::1"] {
        assert!(contains(inside), "{inside}");
    }
    for outside in ["11.0.0.1", "192.0.2.8", "127.0.0.1", "::1", "2001:db8::1", "::ffff:192.0.2.8"] {
        assert!(!contains(outside), "{outside}");
    }
    let proxy = tcp(&home, "127.0.0.1:0", "proxy_protocol = \"optional\"").unwrap().config.tcp_proxy.unwrap();
    let contains = |address: &str| proxy.trusted.contains(address.parse().unwrap());
    assert!(!proxy.is_required && contains("127.0.0.9") && contains("::1") && !contains("10.0.0.1"));
}

#[test]
fn the_environment_has_it_as_a_list_with_commas() {
    let home = Home::new("proxy-env");
    let environment =
        [("GATEWAY__TCP__PROXY_PROTOCOL", "required"), ("GATEWAY__TCP__TRUSTED", "10.0.0.0/8, fd00::/8")];
    let proxy = home.parse(&minimal(""), &environment).unwrap().config.tcp_proxy.unwrap();
    assert!(proxy.trusted.contains("fd00::1".parse().unwrap()));
}

fn websocket(home: &Home, listen: &str, lines: &str) -> Result<Loaded, ConfigError> {
    home.parse(&minimal(&format!("[websocket]\nlisten = \"{listen}\"\n{lines}\n")), &[])
}

#[test]
fn on_websocket_trusted_peers_may_also_be_http_proxies_but_only_those_that_are_listed() {
    let home = Home::new("proxy-websocket");
    let address = "10.0.0.1".parse().unwrap();
    let loaded = websocket(&home, "[::]:0", "trusted = [\"10.0.0.0/8\"]").unwrap();
    assert!(!loaded.warnings.join("\n").contains("trusted"), "{:?}", loaded.warnings);
    let config = loaded.config.websocket.unwrap();
    assert!(config.proxy.is_none() && config.upgrade.trusted.contains(address));
    let lines = "proxy_protocol = \"required\"\ntrusted = [\"10.0.0.0/8\"]";
    let config = websocket(&home, "[::]:0", lines).unwrap().config;
    assert!(config.tcp_proxy.is_none());
    let config = config.websocket.unwrap();
    assert!(!config.upgrade.trusted.contains(address), "a balancer passes on what the client wrote");
    let proxy = config.proxy.unwrap();
    assert!(proxy.is_required && proxy.trusted.contains(address));
    let lines = "proxy_protocol = \"optional\"";
    let config = websocket(&home, "127.0.0.1:0", lines).unwrap().config.websocket.unwrap();
    let here = "127.0.0.1".parse().unwrap();
    assert!(config.proxy.unwrap().trusted.contains(here) && !config.upgrade.trusted.contains(here));
    let message = websocket(&home, "[::]:0", lines).unwrap_err().to_string();
    assert!(
        message.contains("websocket.trusted: is missing; with websocket.proxy_protocol \"optional\""),
        "{message}"
    );
    let message = websocket(&home, "[::]:0", "trusted = [\"proxy\"]").unwrap_err().to_string();
    assert!(message.contains("websocket.trusted: is \"proxy\"; allowed are networks"), "{message}");
}

#[rstest]
#[case(
    "proxy_protocol = \"on\"",
    "tcp.proxy_protocol: is \"on\"; allowed are \"off\", \"optional\" and \"required\""
)]
#[case("proxy_protocol = true", "tcp.proxy_protocol: is true; allowed is a string")]
#[case(
    "proxy_protocol = \"required\"",
    "tcp.trusted: is missing; with tcp.proxy_protocol \"required\" allowed are the networks of the balancers"
)]
#[case("trusted = \"10.0.0.0/8\"", "tcp.trusted: is \"10.0.0.0/8\"; allowed is a sequence")]
#[case("trusted = [\"balancer\"]", "tcp.trusted: is \"balancer\"; allowed are networks and addresses")]
#[case("trusted = [\"10.0.0.0/33\"]", "tcp.trusted: is \"10.0.0.0/33\"; allowed are networks")]
#[case(
    "trusted = [\"10.0.0.1/8\"]",
    "tcp.trusted: is \"10.0.0.1/8\"; allowed is its network, \"10.0.0.0/8\""
)]
fn what_is_wrong_is_refused_by_key(#[case] lines: &str, #[case] expected: &str) {
    let home = Home::new(&format!("proxy-{:x}", crc32fast::hash(lines.as_bytes())));
    let message = tcp(&home, "[::]:0", lines).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}
