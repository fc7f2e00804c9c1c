//! Instances that come, leave and move while the gateway runs (rows E8, E11, E12).

use std::time::Duration;

use gateway::config::{Config, Instance};
use gateway::wire::dialect::Dialect;
use gateway::wire::pb;
use rstest::rstest;

use crate::support::fake_logic::{FakeLogic, LogicEvent};
use crate::support::harness::{TestGateway, instance, route};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Raw;

const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;

/// Redials come quickly, and no ping wakes a link meanwhile.
fn eager(config: &mut Config) {
    config.limits.backoff_first = Duration::from_millis(10);
    config.limits.backoff_max = Duration::from_millis(50);
    config.limits.backend_ping = Duration::from_secs(30);
}

async fn state_is(harness: &TestGateway, id: &str, state: &str) {
    let labels = [&*format!("instance=\"{id}\""), &*format!("state=\"{state}\"")];
    harness.metric_is("gateway_link_state", &labels, 1.0).await;
}

/// Waits until no series names the instance any more: its link has ended.
async fn is_forgotten(harness: &TestGateway, id: &str) {
    let label = format!("instance=\"{id}\"");
    // With a link exactly one of its states is 1.
    harness.metric_is("gateway_link_state", &[&label], 0.0).await;
    let (_, text) = harness.get("/metrics").await;
    assert!(!text.contains(&label), "every series of it is gone");
}

fn first(harness: &TestGateway) -> Vec<Instance> {
    vec![
        instance("login", "login01", harness.login.address, Dialect::XIm),
        instance("chat", "chat01", harness.chat.address, Dialect::XIm),
    ]
}

fn and(mut instances: Vec<Instance>, more: Instance) -> Vec<Instance> {
    instances.push(more);
    instances
}

/// A gateway that knows a login and a chat instance, and one chat instance that discovery may name.
async fn harness(change: impl FnOnce(&mut Config)) -> (TestGateway, FakeLogic, Instance) {
    let second = FakeLogic::start(Dialect::XIm);
    let instance = instance("chat", "chat02", second.address, Dialect::XIm);
    let harness = TestGateway::with(|config| {
        eager(config);
        change(config);
    })
    .await;
    (harness, second, instance)
}

/// The status of the answer to a request that is made now.
async fn ask(client: &mut Raw) -> i32 {
    let sequence = client.talk("bob", "who serves me?").await;
    client.response(sequence).await.header.status
}

#[rstest]
#[tokio::test]
async fn an_instance_that_comes_later_is_warming_and_then_serves(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, second, newcomer) =
        harness(|config| config.limits.backend_warming = Duration::from_secs(1)).await;
    let came = std::time::Instant::now();
    harness.instances_are(and(first(&harness), newcomer));
    second.handshake(0).await;
    state_is(&harness, "chat02", "warming").await;
    state_is(&harness, "chat02", "healthy").await;
    assert!(came.elapsed() >= Duration::from_secs(1));
    // A new client each time: who has an instance may keep it.
    for n in 0.. {
        let (mut client, _) = harness.client(kind, &format!("user{n}")).await;
        assert_eq!(ask(&mut client).await, 0);
        if !second.packets("chat.user.talk").is_empty() {
            break;
        }
        assert!(n < 50, "it is not used");
    }
}

#[tokio::test]
async fn the_first_set_of_a_service_is_healthy_however_late_it_is_named_and_whoever_returns_is_not() {
    let login = FakeLogic::start(Dialect::XIm);
    let chat = FakeLogic::start(Dialect::XIm);
    let harness = TestGateway::unready(login, chat, Dialect::XIm, |config| {
        eager(config);
        config.login_service = "auth".into();
        config.limits.backend_warming = Duration::from_secs(600);
    });
    state_is(&harness, "chat01", "healthy").await;
    let second = FakeLogic::start(Dialect::XIm);
    let late = instance("auth", "auth01", second.address, Dialect::XIm);
    harness.instances_are(vec![late.clone()]);
    state_is(&harness, "auth01", "healthy").await;
    is_forgotten(&harness, "chat01").await;
    harness.instances_are(and(first(&harness), late));
    state_is(&harness, "chat01", "warming").await;
    harness.ready().await;
}

#[rstest]
#[tokio::test]
async fn e11_an_instance_that_leaves_gets_nothing_new_answers_what_it_has_and_is_closed(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, second, other) = harness(|_| {}).await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, _) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "to the one that leaves").await;
    let held = harness.chat.packet("chat.user.talk", 0).await;
    harness.instances_are(and(first(&harness), other.clone()));
    second.handshake(0).await;
    state_is(&harness, "chat02", "warming").await;

    harness.instances_are(vec![first(&harness).remove(0), other]);
    let mut asked = 0;
    while second.packets("chat.user.talk").is_empty() {
        let (mut client, _) = harness.client(kind, &format!("user{asked}")).await;
        asked += 1;
        // Until the gateway has heard of it, requests go to the first and wait there.
        client.talk("bob", "to the one that stays").await;
        client.heartbeat(false).await;
        assert!(asked < 500, "the warming one is not used");
    }
    assert_eq!(ask(&mut harness.client(kind, "carol").await.0).await, 0);
    harness.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0, "its link was kept for the answer");
    for late in harness.chat.packets("chat.user.talk").iter().skip(1) {
        harness.chat.answer_default(late);
    }
    harness.chat.ended(0).await;
    is_forgotten(&harness, "chat01").await;
    assert_eq!(harness.metric("gateway_reject_total", &["backend_down"]).await, 0.0, "nothing was lost");
}

#[rstest]
#[tokio::test]
async fn e11_one_that_left_and_hangs_is_closed_in_its_time_and_what_it_has_is_answered_210(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, _second, other) = harness(|config| {
        config.limits.request_deadline = Duration::from_millis(400);
        config.limits.login_answer = Duration::from_millis(400);
    })
    .await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, _) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "never answered").await;
    harness.chat.packet("chat.user.talk", 0).await;
    harness.instances_are(vec![first(&harness).remove(0), other]);
    assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    harness.chat.ended(0).await;
    is_forgotten(&harness, "chat01").await;
}

#[rstest]
#[tokio::test]
async fn e11_a_service_without_instances_is_answered_300_and_served_again_when_it_has_one(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, second, other) = harness(|_| {}).await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.instances_are(vec![first(&harness).remove(0)]);
    is_forgotten(&harness, "chat01").await;
    assert_eq!(ask(&mut alice).await, SYSTEM_EXCEPTION);
    harness.instances_are(vec![first(&harness).remove(0), other]);
    second.handshake(0).await;
    state_is(&harness, "chat02", "warming").await;
    assert_eq!(ask(&mut alice).await, 0, "warming, and nobody else is there");
}

#[rstest]
#[tokio::test]
async fn an_instance_that_moves_is_dialled_at_its_new_address_and_the_old_link_is_closed(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, second, mut moved) = harness(|_| {}).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    assert_eq!(ask(&mut alice).await, 0);
    moved.id = "chat01".into();
    harness.instances_are(vec![first(&harness).remove(0), moved]);
    harness.chat.ended(0).await;
    second.handshake(0).await;
    state_is(&harness, "chat01", "warming").await;
    assert_eq!(ask(&mut alice).await, 0);
    assert_eq!(
        (harness.chat.packets("chat.user.talk").len(), second.packets("chat.user.talk").len()),
        (1, 1)
    );
    second.push(&[&channel], 7, b"from there").await;
    assert_eq!(alice.push().await.body, "from there");
}

/// Two links of one gateway id to one process would have it refuse the second.
#[rstest]
#[tokio::test]
async fn e12_a_change_of_zone_or_dialect_never_makes_two_links_to_one_process(
    #[values("zone", "dialect", "id")] what: &str,
) {
    let (harness, _second, _) = harness(|config| {
        config.route = std::sync::Arc::new(route(&["zone_a", "zone_b"]));
    })
    .await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let sequence = alice.talk("bob", "keeps the old link").await;
    let held = harness.chat.packet("chat.user.talk", 0).await;
    let mut changed = first(&harness);
    match what {
        "zone" => changed[1].zone = "zone_b".into(),
        "dialect" => changed[1].dialect = Dialect::Kim,
        _ => changed[1].id = "chat09".into(),
    }
    harness.instances_are(changed);
    harness.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    harness.chat.handshake(1).await;
    let order: Vec<_> = harness
        .chat
        .events()
        .iter()
        .filter_map(|event| match event {
            LogicEvent::Ended { link } => Some(("ended", *link)),
            LogicEvent::Handshake { link, .. } => Some(("begun", *link)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("begun", 0), ("ended", 0), ("begun", 1)]);
}

#[tokio::test]
async fn e11_an_instance_back_before_its_link_was_closed_keeps_it() {
    let (harness, _second, other) = harness(|_| {}).await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let sequence = alice.talk("bob", "keeps the link").await;
    let held = harness.chat.packet("chat.user.talk", 0).await;
    harness.instances_are(vec![first(&harness).remove(0)]);
    while ask(&mut harness.client(Tcp, "bob").await.0).await != SYSTEM_EXCEPTION {}
    harness.instances_are(and(first(&harness), other));
    state_is(&harness, "chat02", "warming").await;
    harness.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    harness.chat.unhold("chat.user.talk");
    assert_eq!(ask(&mut alice).await, 0);
    let links = harness.chat.packets("chat.user.talk").iter().map(|packet| packet.link).max();
    assert_eq!(links, Some(0), "the only link there ever was, and healthy as before");
}

#[tokio::test]
async fn e8_an_instance_that_leaves_while_it_is_dialled_or_waited_for_is_forgotten() {
    let (harness, _second, _) = harness(|config| {
        config.limits.backoff_first = Duration::from_secs(600);
        config.limits.backoff_max = Duration::from_secs(600);
    })
    .await;
    // Nobody listens at a port that is only bound; and one that listens and never speaks.
    let (dormant, _waker) = FakeLogic::dormant(Dialect::XIm);
    let silent = FakeLogic::start(Dialect::XIm);
    silent.stop_reading();
    let mut instances = and(first(&harness), instance("chat", "chat02", dormant.address, Dialect::XIm));
    instances.push(instance("chat", "chat03", silent.address, Dialect::XIm));
    harness.instances_are(instances);
    state_is(&harness, "chat02", "broken").await;
    state_is(&harness, "chat03", "dialling").await;
    harness.instances_are(first(&harness));
    is_forgotten(&harness, "chat02").await;
    is_forgotten(&harness, "chat03").await;
    assert_eq!(ask(&mut harness.client(Tcp, "alice").await.0).await, 0);
}

#[tokio::test]
async fn an_instance_of_a_service_that_is_not_known_gets_nothing() {
    let (harness, second, mut stranger) = harness(|_| {}).await;
    stranger.service = "game".into();
    harness.instances_are(and(first(&harness), stranger));
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let sequence = alice.request("game.move", "", b"").await;
    assert_eq!(alice.response(sequence).await.header.status, pb::Status::InvalidCommand as i32);
    assert!(second.events().is_empty());
}

#[rstest]
#[tokio::test]
async fn g5_e11_sign_outs_of_a_login_instance_that_left_go_to_another(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, second, mut other) = harness(|_| {}).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    (other.service, other.id) = ("login".into(), "login02".into());
    let chat = first(&harness).remove(1);
    harness.instances_are(vec![other, chat]);
    harness.login.ended(0).await;
    second.handshake(0).await;
    alice.bye().await;
    let signout = second.signout(&channel).await;
    assert_eq!(signout.meta("reason"), "bye");
    assert!(harness.login.packets("login.signout").is_empty());
}
