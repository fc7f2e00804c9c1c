//! Discovery by Consul against a scripted agent (rows E9, E11, E12), and the gateway's own entry there (F1).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway::config::{Advertise, Config, Consul, HttpTarget, Register, Secret};
use gateway::wire::dialect::Dialect;
use rstest::rstest;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::PATIENCE;
use crate::support::fake_consul::{ConsulMood, FakeConsul, entry};
use crate::support::fake_logic::FakeLogic;
use crate::support::harness::{GATE, TestGateway};
use crate::support::identity::{CERTIFICATES, tls_acceptor};
use crate::support::raw::Kind;

mod following;
mod real;

const TOKEN: &str = "a token of the tests";

/// What the two watchers do is looked at for so long.
const OUTAGE: Duration = Duration::from_secs(5);

/// How long a set that shrank is held; long enough for a loaded machine to do something meanwhile.
const HOLD: Duration = Duration::from_secs(3);

/// No two requests of a failing time may be closer; less than a second by what a loaded machine needs to accept.
const CLOSEST: Duration = Duration::from_millis(900);

/// An agent there, with times that tests can wait for.
fn agent(address: SocketAddr) -> Consul {
    Consul {
        services: vec!["chat".into(), "login".into()],
        dialect: Dialect::XIm,
        agent: HttpTarget {
            token: Some(Secret(TOKEN.into())),
            ..HttpTarget::plain(address.ip().to_string(), address.port())
        },
        wait: Duration::from_secs(2),
        answer: Duration::from_millis(300),
        shrink_hold: HOLD,
        last_resort: true,
        register: None,
    }
}

fn register() -> Register {
    let advertise = Advertise { host: "gate.example.org".into(), port: None };
    Register { name: "tgateway".into(), tags: Vec::new(), domain: None, check_url: None, advertise }
}

/// A gateway that asks this agent.
fn harness(address: SocketAddr, change: impl FnOnce(&mut Config)) -> TestGateway {
    let services = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    TestGateway::unready(services.0, services.1, Dialect::XIm, |config| {
        config.instances.clear();
        config.consul = Some(agent(address));
        change(config);
    })
}

fn at(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 20_000 + n))
}

async fn known(harness: &TestGateway, service: &str, count: usize) {
    let label = format!("service=\"{service}\"");
    harness.metric_is("gateway_discovery_instances", &[&label], count as f64).await;
}

async fn errors(harness: &TestGateway, kind: &str) -> f64 {
    harness.metric("gateway_discovery_errors_total", &[&format!("kind=\"{kind}\"")]).await
}

async fn errors_are(harness: &TestGateway, kind: &str, count: f64) {
    harness.metric_is("gateway_discovery_errors_total", &[&format!("kind=\"{kind}\"")], count).await;
}

/// An agent with a login and four chat instances, and a gateway that knows them and has questions open.
async fn settled(change: impl FnOnce(&mut Config)) -> (FakeConsul, TestGateway) {
    let consul = FakeConsul::start().await;
    consul.instances("login", &[("login01", at(1))]);
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3)), ("c3", at(4)), ("c4", at(5))]);
    let harness = harness(consul.address, change);
    known(&harness, "login", 1).await;
    known(&harness, "chat", 4).await;
    for service in ["chat", "login"] {
        consul.request(&format!("GET /v1/health/service/{service}?passing=true&index="), 0).await;
    }
    (consul, harness)
}

#[tokio::test]
async fn instances_come_and_go_with_consuls_and_every_question_shows_the_token() {
    // Longer than the test: whatever it learns is told by open questions, not by asking again.
    let (consul, harness) = settled(|config| config.consul.as_mut().unwrap().wait = 4 * PATIENCE).await;
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3))]);
    known(&harness, "chat", 2).await;
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3)), ("c9", at(9))]);
    known(&harness, "chat", 3).await;
    assert!(harness.metric("gateway_discovery_last_success_timestamp_seconds", &[]).await > 1e9);
    assert_eq!(harness.metric("gateway_discovery_errors_total", &[]).await, 0.0);
    let asked = consul.asked();
    assert!(asked.iter().all(|asked| asked.token.as_deref() == Some(TOKEN)), "{asked:?}");
    let questions: BTreeSet<_> = asked.iter().map(|asked| asked.what.split('&').next().unwrap()).collect();
    let service = |name: &str| format!("GET /v1/health/service/{name}?passing=true");
    assert!(questions.into_iter().eq([service("chat"), service("login")]));
}

#[tokio::test]
async fn e9_while_consul_fails_the_last_good_set_stays_and_it_is_asked_once_a_second_at_most() {
    // At once, because each of them takes its time.
    tokio::join!(
        fails(ConsulMood::Closing, "unreachable"),
        fails(ConsulMood::Status(500), "status"),
        fails(ConsulMood::Status(403), "denied"),
        fails(ConsulMood::Garbage, "bad_answer"),
        fails(ConsulMood::NoIndex, "bad_answer"),
        fails(ConsulMood::Hanging, "timeout"),
    );
}

async fn fails(mood: ConsulMood, kind: &str) {
    let (consul, harness) = settled(|_| {}).await;
    consul.mood(mood);
    if mood == ConsulMood::NoIndex {
        // Told to those who wait only with news.
        consul.instances("chat", &[("c1", at(2))]);
        consul.instances("login", &[]);
    }
    harness.metric_is("gateway_discovery_updates_total", &[], 2.0).await;
    let end =
        Instant::now() + OUTAGE + if mood == ConsulMood::Hanging { 3 * OUTAGE / 5 } else { Duration::ZERO };
    let began = consul.asked().len();
    while Instant::now() < end {
        assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 4.0);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(errors(&harness, kind).await >= 2.0, "{mood:?}: {}", errors(&harness, kind).await);
    let asked = consul.asked();
    let failing: Vec<_> = asked[began..].iter().map(|asked| asked.at).collect();
    assert!(failing.len() >= 2, "{mood:?}: it asks again: {asked:?}");
    let closest = failing.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap();
    assert!(closest >= CLOSEST, "{mood:?}: {closest:?} between two requests");

    consul.mood(ConsulMood::Well);
    consul.instances("login", &[("login01", at(1)), ("login02", at(7))]);
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3))]);
    known(&harness, "login", 2).await;
    known(&harness, "chat", 2).await;
}

#[tokio::test]
async fn e9_an_agent_that_is_not_there_yet_is_found_when_it_comes() {
    let consul = FakeConsul::start().await;
    let address = consul.address;
    drop(consul);
    let harness = harness(address, |_| {});
    harness.metric_is("gateway_discovery_instances", &[], 0.0).await;
    while errors(&harness, "unreachable").await < 2.0 {
        sleep(Duration::from_millis(10)).await;
    }
    let consul = FakeConsul::start_on(address, None).await;
    consul.instances("login", &[("login01", at(1))]);
    known(&harness, "login", 1).await;
}

#[tokio::test]
async fn e9_an_empty_list_is_not_believed() {
    let (consul, harness) = settled(|_| {}).await;
    consul.instances("chat", &[]);
    errors_are(&harness, "empty", 1.0).await;
    // Nor is one of nothing that could be used, which is no new thing.
    consul.entries("chat", vec![entry("chat", "c1", at(2), &json!({ "zone": "mars" }))]);
    errors_are(&harness, "bad_zone", 1.0).await;
    assert_eq!(errors(&harness, "empty").await, 1.0);
    assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 4.0);
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3))]);
    known(&harness, "chat", 2).await;
}

#[tokio::test]
async fn e9_an_index_that_goes_backwards_is_forgotten_and_makes_no_tight_loop() {
    let (consul, harness) = settled(|_| {}).await;
    let began = consul.asked().len();
    consul.index_is(3);
    errors_are(&harness, "index_reset", 2.0).await;
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3))]);
    known(&harness, "chat", 2).await;
    let anew = consul.asked().split_off(began);
    assert!(anew.iter().any(|asked| asked.what.ends_with("chat?passing=true")), "{anew:?}");
    // One that is always 0 is no error that ends, nor a loop.
    consul.index_is(0);
    let began = consul.asked().len();
    sleep(Duration::from_secs(3)).await;
    let asked = consul.asked().len() - began;
    assert!((2..=10).contains(&asked), "{asked} questions in 3 s");
    assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 2.0);
}

#[tokio::test]
async fn e11_a_set_that_loses_more_than_half_at_once_is_held_and_believed_if_it_stands() {
    let (consul, harness) = settled(|_| {}).await;
    let updates = harness.metric("gateway_discovery_updates_total", &[]).await;
    let shrunk = Instant::now();
    consul.instances("chat", &[("c1", at(2))]);
    errors_are(&harness, "shrunk", 1.0).await;
    assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 4.0);
    // It was nothing.
    consul.instances("chat", &[("c1", at(2)), ("c2", at(3)), ("c3", at(4)), ("c4", at(5))]);
    sleep(HOLD.saturating_sub(shrunk.elapsed()) + Duration::from_millis(300)).await;
    assert_eq!(harness.metric("gateway_discovery_updates_total", &[]).await, updates);
    let shrunk = Instant::now();
    consul.instances("chat", &[("c4", at(5))]);
    known(&harness, "chat", 1).await;
    assert!(shrunk.elapsed() >= HOLD, "{:?}", shrunk.elapsed());
}

#[tokio::test]
async fn e11_what_is_held_is_not_believed_while_consul_fails() {
    let (consul, harness) = settled(|_| {}).await;
    consul.instances("chat", &[("c1", at(2))]);
    errors_are(&harness, "shrunk", 1.0).await;
    consul.mood(ConsulMood::Status(500));
    // The fourth failure of each watcher comes when the hold is over.
    let failing = Instant::now();
    while errors(&harness, "status").await < 8.0 {
        assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 4.0);
        sleep(Duration::from_millis(50)).await;
    }
    assert!(failing.elapsed() > HOLD);
    assert_eq!(harness.metric("gateway_discovery_instances", &["chat"]).await, 4.0);
    consul.mood(ConsulMood::Well);
    known(&harness, "chat", 1).await;
}

#[tokio::test]
async fn e12_of_two_entries_with_one_id_one_is_used() {
    let (consul, harness) = settled(|_| {}).await;
    let meta = json!({ "zone": "zone_a" });
    let entries = [("c1", 2), ("c1", 3), ("c2", 4)];
    let entries = entries.map(|(id, port)| entry("chat", id, at(port), &meta));
    consul.entries("chat", entries.to_vec());
    known(&harness, "chat", 2).await;
    assert_eq!(errors(&harness, "duplicate").await, 1.0);
}

/// As with kim and X_IM: who is of no zone of the route is among all, and all serve when a zone has nobody.
#[tokio::test]
async fn an_instance_without_a_known_zone_serves_those_whose_zone_has_nobody_unless_switched_off() {
    for last_resort in [true, false] {
        let consul = FakeConsul::start().await;
        let spare = FakeLogic::start(Dialect::XIm);
        let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
        consul.instances("login", &[("login01", login.address)]);
        let unzoned = entry("chat", "spare", spare.address, &json!({ "zone": "mars" }));
        consul.entries("chat", vec![unzoned.clone()]);
        let harness = TestGateway::unready(login, chat, Dialect::XIm, |config| {
            config.instances.clear();
            config.limits.backend_warming = Duration::from_millis(1);
            config.consul = Some(Consul { last_resort, ..agent(consul.address) });
        });
        harness.metric_is("gateway_link_state", &["login01", "healthy"], 1.0).await;
        errors_are(&harness, "bad_zone", 1.0).await;
        known(&harness, "chat", usize::from(last_resort)).await;
        let (mut alice, _) = harness.client(Kind::Tcp, "alice").await;
        if last_resort {
            harness.metric_is("gateway_link_state", &["spare", "healthy"], 1.0).await;
        }
        let sequence = alice.talk("bob", "is anybody there?").await;
        let status = if last_resort { 0 } else { 300 };
        assert_eq!(alice.response(sequence).await.header.status, status);
        let home = entry("chat", "home", harness.chat.address, &json!({ "zone": "zone_a" }));
        consul.entries("chat", vec![unzoned, home]);
        harness.metric_is("gateway_link_state", &["home", "healthy"], 1.0).await;
        let (mut bob, _) = harness.client(Kind::Tcp, "bob").await;
        let sequence = bob.talk("alice", "at home").await;
        assert_eq!(bob.response(sequence).await.header.status, 0);
        assert_eq!(harness.chat.packets("chat.user.talk").len(), 1, "the zone has somebody");
        assert_eq!(spare.packets("chat.user.talk").len(), usize::from(last_resort));
    }
}

#[tokio::test]
async fn consul_over_tls_is_asked_only_if_its_certificate_is_of_the_given_ca() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let consul = FakeConsul::start_on(any, Some(tls_acceptor())).await;
    consul.instances("login", &[("login01", at(1))]);
    let over_tls = |host: &str, root: &CertificateDer<'static>| {
        harness(consul.address, |config| {
            let agent = &mut config.consul.as_mut().unwrap().agent;
            (agent.tls, agent.host, agent.roots) = (true, host.into(), vec![root.clone()]);
        })
    };
    for host in ["127.0.0.1", "localhost"] {
        known(&over_tls(host, &CERTIFICATES.ca), "login", 1).await;
    }
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let harness = over_tls("127.0.0.1", other.cert.der());
    while errors(&harness, "unreachable").await < 2.0 {
        sleep(Duration::from_millis(10)).await;
    }
    known(&harness, "login", 0).await;
}

#[tokio::test]
async fn the_gateway_is_registered_once_with_its_ports_and_again_when_the_agent_forgot() {
    let (consul, harness) = settled(|config| {
        config.workers = 2;
        config.consul.as_mut().unwrap().register = Some(register());
    })
    .await;
    let asked = consul.request("PUT /v1/agent/service/register", 0).await;
    let target = harness.target;
    let ports =
        [target.tcp, target.tls, target.quic, target.ws, target.wss].map(|bound| bound.port().to_string());
    assert_eq!(asked.token.as_deref(), Some(TOKEN));
    assert_eq!(
        asked.body["Meta"],
        json!({
            "protocol": "tcp", "domain": format!("tcp://gate.example.org:{}", ports[0]), "workers": "2",
            "tls_port": ports[1], "quic_port": ports[2], "ws_port": ports[3], "wss_port": ports[4]
        })
    );
    assert_eq!(asked.body["Tags"], json!([]));
    let entry = [&asked.body["ID"], &asked.body["Name"], &asked.body["Address"], &asked.body["Port"]];
    assert_eq!(
        entry.map(|value| value.clone()),
        [json!(GATE), json!("tgateway"), json!("gate.example.org"), json!(target.tcp.port())]
    );
    let check = asked.body["Check"]["HTTP"].as_str().unwrap().to_owned();
    assert!(check.starts_with("http://127.0.0.1:") && check.ends_with("/ready"), "{check}");
    assert!(consul.registered(GATE).is_some());
    consul.forget_registrations();
    consul.request("PUT /v1/agent/service/register", 1).await;
    let registrations = consul.asked().iter().filter(|asked| asked.what.ends_with("/register")).count();
    assert_eq!(registrations, 2, "one for the process, whatever its workers");
}

/// The routers of kim and X_IM ask for `wgateway` by tag and tell clients what meta domain says.
#[tokio::test]
async fn tags_and_domain_of_the_registration_are_the_operators() {
    let (consul, _bench) = settled(|config| {
        let tags = vec!["IDC:SH_ALI".to_owned(), "blue".to_owned()];
        let domain = Some("ws://im.example.org".to_owned());
        let register = Register { name: "wgateway".into(), tags, domain, ..register() };
        config.id = "gate_1721604".to_owned();
        config.consul.as_mut().unwrap().register = Some(register);
    })
    .await;
    let asked = consul.request("PUT /v1/agent/service/register", 0).await;
    let [id, name, tags] = ["ID", "Name", "Tags"].map(|key| &asked.body[key]);
    assert_eq!((id, name), (&json!("gate_1721604"), &json!("wgateway")));
    assert_eq!(tags, &json!(["IDC:SH_ALI", "blue"]));
    assert_eq!(asked.body["Meta"]["domain"], json!("ws://im.example.org"));
}

#[tokio::test]
async fn to_an_agent_that_cannot_reach_the_monitor_the_gateway_reports_its_readiness_itself() {
    let (consul, _bench) = settled(|config| {
        let consul = config.consul.as_mut().unwrap();
        consul.register = Some(register());
        // This machine, under a name that does not say so.
        consul.agent.host = "127.1".into();
    })
    .await;
    let asked = consul.request("PUT /v1/agent/service/register", 0).await;
    assert_eq!((&asked.body["Check"]["HTTP"], &asked.body["Check"]["TTL"]), (&json!(null), &json!("10s")));
    // It has no links, so it is not ready.
    consul.request("PUT /v1/agent/check/fail/service:gate01", 0).await;
    consul.forget_registrations();
    consul.request("PUT /v1/agent/check/fail/service:gate01", 1).await;
    consul.request("PUT /v1/agent/service/register", 1).await;
}

#[tokio::test]
async fn f1_the_drain_begins_when_consul_has_heard_of_it() {
    let (consul, mut harness) =
        settled(|config| config.consul.as_mut().unwrap().register = Some(register())).await;
    consul.request("PUT /v1/agent/service/register", 0).await;
    consul.mood_for("/deregister/", ConsulMood::Hanging);
    harness.drain();
    consul.request("PUT /v1/agent/service/deregister/gate01", 0).await;
    harness.ready_is(503).await;
    TcpStream::connect(harness.target.tcp).await.expect("it still listens");
    consul.mood(ConsulMood::Well);
    harness.ended().await;
    assert!(consul.registered(GATE).is_none());
    TcpStream::connect(harness.target.tcp).await.expect_err("it no longer listens");
}

#[rstest]
#[tokio::test]
async fn f1_a_consul_that_does_not_answer_delays_the_drain_by_a_second_at_most(
    #[values(ConsulMood::Hanging, ConsulMood::Closing, ConsulMood::Status(500))] mood: ConsulMood,
) {
    let (consul, mut harness) =
        settled(|config| config.consul.as_mut().unwrap().register = Some(register())).await;
    consul.request("PUT /v1/agent/service/register", 0).await;
    consul.mood_for("/agent/", mood);
    let began = Instant::now();
    harness.drain();
    harness.ended().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    consul.request("PUT /v1/agent/service/deregister/gate01", 0).await;
}
