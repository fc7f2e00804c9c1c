//! What a reload changes about Consul: whom the gateway asks, for what, and how it stands there itself.

use gateway::wire::dialect::Dialect;
use serde_json::json;

use super::home::{ALL_IN_A, GatewayHome};
use super::{INVALID_COMMAND, ask, reloaded, talks};
use crate::support::fake_consul::FakeConsul;
use crate::support::fake_logic::{FakeLogic, LogicEvent};
use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Kind::{QuicMany, Tcp};

const REGISTER: &str = "PUT /v1/agent/service/register";

/// What a configuration says of Consul.
struct ConsulLines<'a> {
    agent: &'a FakeConsul,
    services: &'a str,
    /// Lines of `[discovery.register]`.
    register: &'a str,
}

impl GatewayHome {
    fn discovering(&self, lines: &ConsulLines<'_>) {
        let ConsulLines { agent, services, register } = lines;
        self.write(
            "gateway.toml",
            format!(
                "[gateway]\nid = \"{GATE}\"\nadvertise = \"gate.example.org\"\n\
                 [quic]\nlisten = \"127.0.0.1:0\"\nkey_file = \"quic.keys\"\n\
                 [tcp]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\n\
                 [websocket]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\n\
                 [tls]\ncert = \"server.pem\"\nkey = \"server.key\"\n[auth]\nsecret_file = \"jwt.secret\"\n\
                 [route]\nfile = \"route.json\"\n[monitor]\nlisten = \"127.0.0.1:0\"\n[drain]\nwindow = \"0s\"\n\
                 [discovery]\nkind = \"consul\"\nservices = [{services}]\n\
                 [discovery.consul]\naddress = \"{}\"\nwait = \"2s\"\n[discovery.register]\n{register}\n",
                agent.address
            ),
        );
    }
}

const BOTH: &str = "\"login\", \"chat\"";

/// A gateway whose services come from an agent, where it is registered.
async fn discovered() -> (FakeConsul, GatewayHome, TestGateway) {
    let consul = FakeConsul::start().await;
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let lines = ConsulLines { agent: &consul, services: BOTH, register: "" };
    let configure = |home: &GatewayHome, _: (&FakeLogic, &FakeLogic)| home.discovering(&lines);
    let (home, harness) = GatewayHome::with(login, chat, ALL_IN_A, configure).await;
    consul.request(REGISTER, 0).await;
    (consul, home, harness)
}

#[tokio::test]
async fn f17_the_entry_in_consul_is_replaced_taken_out_and_made_again() {
    let (consul, home, harness) = discovered().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    let lines =
        ConsulLines { agent: &consul, services: BOTH, register: "name = \"wgateway\"\ntags = [\"blue\"]" };
    home.discovering(&lines);
    let changed = reloaded(&harness);
    let expected = [
        "discovery.register.name: \"tgateway\" → \"wgateway\"",
        "discovery.register.tags: not set → [\"blue\"]",
    ];
    assert_eq!(changed, expected);
    let asked = consul.request(REGISTER, 1).await;
    assert_eq!(["Name", "Tags"].map(|key| &asked.body[key]), [&json!("wgateway"), &json!(["blue"])]);
    let deregister = format!("PUT /v1/agent/service/deregister/{GATE}");
    assert!(consul.asked().iter().all(|asked| asked.what != deregister), "it was never out of it");
    home.discovering(&ConsulLines { register: "enabled = false", ..lines });
    reloaded(&harness);
    consul.request(&deregister, 0).await;
    assert_eq!(consul.registered(GATE), None);
    home.discovering(&ConsulLines { register: "", ..lines });
    reloaded(&harness);
    consul.request(REGISTER, 2).await;
    talks(&mut alice).await;
}

#[tokio::test]
async fn f17_services_that_are_watched_come_and_go() {
    let (consul, home, harness) = discovered().await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    assert_eq!(ask(&mut alice, "game.start").await, INVALID_COMMAND);
    let game = FakeLogic::start(Dialect::XIm);
    consul.instances("game", &[("game01", game.address)]);
    let lines = ConsulLines { agent: &consul, services: "\"login\", \"chat\", \"game\"", register: "" };
    home.discovering(&lines);
    reloaded(&harness);
    harness.metric_is("gateway_link_state", &["game01", "state=\"healthy\""], 1.0).await;
    assert_eq!(ask(&mut alice, "game.start").await, 0);
    home.discovering(&ConsulLines { services: BOTH, ..lines });
    reloaded(&harness);
    game.ended(0).await;
    assert_eq!(ask(&mut alice, "game.start").await, INVALID_COMMAND);
    talks(&mut alice).await;
    assert_eq!(consul.asked().iter().filter(|asked| asked.what.starts_with(REGISTER)).count(), 1);
}

#[tokio::test]
async fn f17_another_agent_is_asked_and_the_entry_moves_there() {
    let (consul, home, harness) = discovered().await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let other = FakeConsul::start().await;
    other.instances("login", &[("login01", harness.login.address)]);
    other.instances("chat", &[("chat01", harness.chat.address)]);
    home.discovering(&ConsulLines { agent: &other, services: BOTH, register: "" });
    reloaded(&harness);
    other.request(REGISTER, 0).await;
    other.request("GET /v1/health/service/chat", 0).await;
    consul.request(&format!("PUT /v1/agent/service/deregister/{GATE}"), 0).await;
    assert_eq!(consul.registered(GATE), None);
    talks(&mut alice).await;
    let lost = harness.chat.events().into_iter().find(|event| matches!(event, LogicEvent::Ended { .. }));
    assert!(lost.is_none(), "its links live: {lost:?}");
}
