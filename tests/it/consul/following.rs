//! From Consul's list to clients that are served: what an outage must not touch, and what a change must reach.

use std::time::Duration;

use gateway::config::Config;
use gateway::wire::dialect::Dialect;
use rstest::rstest;
use tokio::time::sleep;

use super::{agent, known};
use crate::support::fake_consul::{ConsulMood, FakeConsul};
use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, Tcp};
use crate::support::raw::Raw;

/// A gateway whose services come from Consul, and are linked.
async fn served(change: impl FnOnce(&mut Config)) -> (FakeConsul, TestGateway) {
    let consul = FakeConsul::start().await;
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let harness = TestGateway::on(login, chat, Dialect::XIm, |config| {
        config.instances.clear();
        config.limits.backend_warming = Duration::from_millis(100);
        config.consul = Some(agent(consul.address));
        change(config);
    })
    .await;
    (consul, harness)
}

async fn is_served(client: &mut Raw) {
    let sequence = client.talk("bob", "are you there?").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
}

#[rstest]
#[case::closing(ConsulMood::Closing)]
#[case::hanging(ConsulMood::Hanging)]
#[case::garbage(ConsulMood::Garbage)]
#[tokio::test]
async fn e9_an_outage_of_consul_touches_no_client_and_no_readiness(#[case] mood: ConsulMood) {
    let (consul, harness) = served(|_| {}).await;
    let mut clients = Vec::new();
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        clients.push(harness.client(kind, &format!("user{n}")).await.0);
    }
    consul.mood(mood);
    while harness.metric("gateway_discovery_errors_total", &[]).await < 2.0 {
        for client in &mut clients {
            is_served(client).await;
        }
        assert_eq!(harness.get("/ready").await.0, 200);
        sleep(Duration::from_millis(50)).await;
    }
    let (mut newcomer, _) = harness.client(Tcp, "newcomer").await;
    is_served(&mut newcomer).await;
    consul.mood(ConsulMood::Well);
    consul.instances("chat", &[]);
    harness.metric_is("gateway_discovery_errors_total", &["kind=\"empty\""], 1.0).await;
    for client in &mut clients {
        is_served(client).await;
    }
    assert_eq!(harness.metric("gateway_closes_total", &[]).await, 0.0, "nobody was closed");
    assert_eq!(harness.get("/ready").await.0, 200);
}

#[tokio::test]
async fn a_gateway_is_ready_only_when_consul_has_told_of_every_service() {
    let consul = FakeConsul::start().await;
    let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
    let (login_at, chat_at) = (login.address, chat.address);
    consul.instances("login", &[("login01", login_at)]);
    let harness = TestGateway::unready(login, chat, Dialect::XIm, |config| {
        config.instances.clear();
        config.consul = Some(agent(consul.address));
    });
    harness.metric_is("gateway_link_state", &["login01", "state=\"healthy\""], 1.0).await;
    let (status, body) = harness.get("/ready").await;
    assert!(status == 503 && body.contains("no instance of service chat"), "{status} {body}");
    consul.instances("chat", &[("chat01", chat_at)]);
    harness.ready().await;
}

#[tokio::test]
async fn an_instance_that_moves_is_redialled_and_one_that_leaves_is_removed() {
    let (consul, harness) = served(|_| {}).await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    is_served(&mut alice).await;
    let moved = FakeLogic::start(Dialect::XIm);
    consul.instances("chat", &[("chat01", moved.address)]);
    moved.handshake(0).await;
    harness.metric_is("gateway_link_state", &["chat01", "state=\"warming\""], 1.0).await;
    is_served(&mut alice).await;
    assert_eq!(moved.packets("chat.user.talk").len(), 1);
    let second = FakeLogic::start(Dialect::XIm);
    consul.instances("chat", &[("chat01", moved.address), ("chat02", second.address)]);
    harness.metric_is("gateway_link_state", &["chat02", "state=\"warming\""], 1.0).await;
    consul.instances("chat", &[("chat02", second.address)]);
    known(&harness, "chat", 1).await;
    is_served(&mut alice).await;
    assert_eq!(second.packets("chat.user.talk").len(), 1);
}
