//! Names and their addresses, as everything meets them that the gateway connects to (rows H14 and E10), and the one
//! clock of a drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gateway::config::{Advertise, Config, Consul, HttpTarget, Instance, Register};
use gateway::wire::dialect::Dialect;
use gateway_net::resolve::Resolver;
use rstest::rstest;
use tokio::sync::mpsc;

use crate::support::fake_consul::{ConsulMood, FakeConsul};
use crate::support::fake_logic::FakeLogic;
use crate::support::harness::{TestGateway, instance};
use crate::support::raw::Kind::Tcp;
use crate::support::soon;
use crate::support::webhook::Webhook;
use gateway_net::resolve::testing::{Barrier, Silent, both, silent_and_listening};

/// A service under a name of two addresses, of which the first is silent.
struct Named {
    _silent: Silent,
    /// Where the service is.
    address: SocketAddr,
}

impl Named {
    fn new() -> Self {
        let (silent, second) = silent_and_listening();
        let address = second.local_addr().unwrap();
        assert_eq!(silent.listener.local_addr().unwrap().port(), address.port(), "one name, one port");
        Self { _silent: silent, address }
    }

    fn instance(&self, service: &str) -> Instance {
        let named = format!("{service}.example.org:{}", self.address.port());
        Instance { address: named, ..instance(service, &format!("{service}01"), self.address, Dialect::XIm) }
    }
}

fn consul_at(host: &str, port: u16) -> Consul {
    Consul {
        services: vec!["chat".into(), "login".into()],
        dialect: Dialect::XIm,
        agent: HttpTarget::plain(host, port),
        wait: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        shrink_hold: Duration::from_secs(3),
        last_resort: true,
        register: None,
    }
}

fn registering(consul: &mut Consul) {
    let advertise = Advertise { host: "gate.example.org".into(), port: None };
    let (tags, domain) = (Vec::new(), None);
    consul.register = Some(Register { name: "tgateway".into(), check_url: None, advertise, tags, domain });
}

#[tokio::test]
async fn h14_services_and_the_webhook_are_reached_over_their_second_address_when_the_first_is_silent() {
    let (login, chat, hook) = (Named::new(), Named::new(), Named::new());
    let webhook = Webhook::start_at(hook.address);
    let mut told = webhook.config();
    told.target.host = "hook.example.org".into();
    let instances = vec![login.instance("login"), chat.instance("chat")];
    let harness = TestGateway::resolving(
        FakeLogic::start_at(Dialect::XIm, login.address),
        FakeLogic::start_at(Dialect::XIm, chat.address),
        Dialect::XIm,
        Resolver::new(|_: &str| Ok(both())),
        |config| {
            config.instances = instances;
            config.webhook = Some(told);
        },
    );
    harness.ready().await;
    harness.client(Tcp, "alice").await;
    harness.chat.reset_link();
    webhook.event("instance_lost", "raised").await;
    webhook.event("instance_lost", "cleared").await;
    assert_eq!(harness.metric("gateway_dns_errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn h14_consul_is_asked_at_its_second_address_when_the_first_is_silent() {
    let agent = Named::new();
    let consul = FakeConsul::start_on(agent.address, None).await;
    let login = FakeLogic::start(Dialect::XIm);
    let chat = FakeLogic::start(Dialect::XIm);
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let port = agent.address.port();
    let resolver = Resolver::new(|_: &str| Ok(both()));
    let harness = TestGateway::resolving(login, chat, Dialect::XIm, resolver, |config| {
        config.instances.clear();
        config.consul = Some(consul_at("consul.example.org", port));
    });
    harness.ready().await;
    assert_eq!(harness.metric("gateway_discovery_errors_total", &[]).await, 0.0);
}

/// A service, Consul and a webhook whose names nobody resolves.
fn unresolved(config: &mut Config, webhook: &Webhook, consul: bool) {
    for instance in &mut config.instances {
        instance.address = format!("{}.example.org:1", instance.service);
    }
    let mut told = webhook.config();
    told.target.host = "hook.example.org".into();
    config.webhook = Some(told);
    if consul {
        let mut agent = consul_at("consul.example.org", 1);
        registering(&mut agent);
        config.consul = Some(agent);
    }
    config.limits.backend_dial = Duration::from_millis(100);
    config.limits.backoff_first = Duration::from_millis(10);
    config.limits.backoff_max = Duration::from_millis(10);
    config.workers = 2;
    config.drain_hard_stop = Duration::from_secs(4);
}

#[rstest]
#[tokio::test]
async fn h14_while_the_resolver_hangs_each_name_has_one_look_up_and_a_drain_ends_in_time_with_0(
    #[values(false, true)] consul: bool,
) {
    let (_never, barrier) = Barrier::new();
    let (asked, mut names) = mpsc::unbounded_channel();
    let resolver = Resolver::new(move |host: &str| {
        asked.send(host.to_owned()).unwrap();
        barrier.pass();
        Ok(Vec::new())
    });
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let webhook = Webhook::start();
    let mut harness = TestGateway::resolving(login, chat, Dialect::XIm, resolver, |config| {
        unresolved(config, &webhook, consul);
    });
    let expected = if consul { vec!["consul", "hook"] } else { vec!["chat", "hook", "login"] };
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.push(soon("a look-up", names.recv()).await.unwrap());
    }
    seen.sort();
    assert_eq!(seen, expected.iter().map(|name| format!("{name}.example.org")).collect::<Vec<_>>());
    // Every one of them has given up several times, and asked again.
    while harness.metric("gateway_dns_errors_total", &["late"]).await < 8.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(names.try_recv().is_err(), "one look-up of each name");
    assert_eq!(harness.metric("gateway_dns_lookups", &[]).await, expected.len() as f64);
    let began = Instant::now();
    harness.drain();
    assert!(harness.end().await, "orderly");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(names.try_recv().is_err(), "nor one for the goodbye");
}

#[tokio::test]
async fn e10_a_name_that_fails_is_counted_tried_again_and_linked_once_it_is_there() {
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let known = Arc::new(AtomicBool::new(false));
    let is_known = Arc::clone(&known);
    let resolver = Resolver::new(move |host: &str| match (host, is_known.load(Relaxed)) {
        ("login.example.org", _) | (_, true) => Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
        _ => Err(std::io::Error::other("no such luck")),
    });
    let ports = [&login, &chat].map(|service| service.address.port());
    let harness = TestGateway::resolving(login, chat, Dialect::XIm, resolver, |config| {
        for (instance, port) in config.instances.iter_mut().zip(ports) {
            instance.address = format!("{}.example.org:{port}", instance.service);
        }
        config.limits.backoff_max = Duration::from_millis(300);
    });
    harness.login.handshake(0).await;
    harness.metric_is("gateway_dns_errors_total", &["failed"], 2.0).await;
    known.store(true, Relaxed);
    harness.ready().await;
    let failed = harness.metric("gateway_dns_errors_total", &["failed"]).await;
    assert!(failed <= 4.0, "{failed} look-ups failed, although one a second is enough");
}

/// What Consul takes of the time, and what a sign-out that nobody takes may take, must not add up.
#[rstest]
#[tokio::test]
async fn f1_the_hard_stop_is_one_clock_whatever_consul_does(
    #[values(ConsulMood::Hanging, ConsulMood::Well)] mood: ConsulMood,
) {
    let hard_stop = Duration::from_secs(3);
    let consul = FakeConsul::start().await;
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let address = consul.address;
    let mut harness = TestGateway::unready(login, chat, Dialect::XIm, |config| {
        config.instances.clear();
        let mut agent = consul_at("127.0.0.1", address.port());
        registering(&mut agent);
        config.consul = Some(agent);
        config.drain_hard_stop = hard_stop;
    });
    harness.ready().await;
    consul.request("PUT /v1/agent/service/register", 0).await;
    let (_alice, _) = harness.client(Tcp, "alice").await;
    harness.login.stop().await;
    consul.mood_for("/agent/", mood);
    let began = Instant::now();
    harness.drain();
    assert!(harness.end().await, "orderly");
    let took = began.elapsed();
    assert!(took < hard_stop, "{took:?}");
    assert!(took > hard_stop / 2, "the sign-out had its time: {took:?}");
}
