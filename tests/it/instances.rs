//! Instances that come, leave and move while the gateway runs (rows E8, E11, E12).

use std::time::Duration;

use gateway::config::{Config, Instance};
use gateway::wire::dialect::Dialect;
use gateway::wire::pb;
use rstest::rstest;

use crate::support::fake_logic::{Event, FakeLogic};
use crate::support::harness::{Bench, instance, route};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls};
use crate::support::raw::Raw;

const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;

/// Redials come quickly, and no ping wakes a link meanwhile.
fn eager(config: &mut Config) {
    config.limits.backoff_first = Duration::from_millis(10);
    config.limits.backoff_max = Duration::from_millis(50);
    config.limits.backend_ping = Duration::from_secs(30);
}

async fn state_is(bench: &Bench, id: &str, state: &str) {
    let labels = [&*format!("instance=\"{id}\""), &*format!("state=\"{state}\"")];
    bench.metric_is("gateway_link_state", &labels, 1.0).await;
}

/// Waits until no series names the instance any more: its link has ended.
async fn is_forgotten(bench: &Bench, id: &str) {
    let label = format!("instance=\"{id}\"");
    // With a link exactly one of its states is 1.
    bench.metric_is("gateway_link_state", &[&label], 0.0).await;
    let (_, text) = bench.get("/metrics").await;
    assert!(!text.contains(&label), "every series of it is gone");
}

fn first(bench: &Bench) -> Vec<Instance> {
    vec![
        instance("login", "login01", bench.login.address, Dialect::XIm),
        instance("chat", "chat01", bench.chat.address, Dialect::XIm),
    ]
}

fn and(mut instances: Vec<Instance>, more: Instance) -> Vec<Instance> {
    instances.push(more);
    instances
}

/// A gateway that knows a login and a chat instance, and one chat instance that discovery may name.
async fn bench(change: impl FnOnce(&mut Config)) -> (Bench, FakeLogic, Instance) {
    let second = FakeLogic::start(Dialect::XIm);
    let instance = instance("chat", "chat02", second.address, Dialect::XIm);
    let bench = Bench::with(|config| {
        eager(config);
        change(config);
    })
    .await;
    (bench, second, instance)
}

/// The status of the answer to a request that is made now.
async fn ask(client: &mut Raw) -> i32 {
    let sequence = client.talk("bob", "who serves me?").await;
    client.response(sequence).await.header.status
}

#[rstest]
#[tokio::test]
async fn an_instance_that_comes_later_is_young_and_then_serves(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let (bench, second, newcomer) =
        bench(|config| config.limits.backend_young = Duration::from_secs(1)).await;
    let came = std::time::Instant::now();
    bench.instances_are(and(first(&bench), newcomer));
    second.handshake(0).await;
    state_is(&bench, "chat02", "young").await;
    state_is(&bench, "chat02", "adult").await;
    assert!(came.elapsed() >= Duration::from_secs(1));
    // A new client each time: who has an instance may keep it.
    for n in 0.. {
        let (mut client, _) = bench.client(kind, &format!("user{n}")).await;
        assert_eq!(ask(&mut client).await, 0);
        if !second.packets("chat.user.talk").is_empty() {
            break;
        }
        assert!(n < 50, "it is not used");
    }
}

#[tokio::test]
async fn the_first_set_of_a_service_is_adult_however_late_it_is_named_and_whoever_returns_is_not() {
    let login = FakeLogic::start(Dialect::XIm);
    let chat = FakeLogic::start(Dialect::XIm);
    let bench = Bench::unready(login, chat, Dialect::XIm, |config| {
        eager(config);
        config.login_service = "auth".into();
        config.limits.backend_young = Duration::from_secs(600);
    });
    state_is(&bench, "chat01", "adult").await;
    let second = FakeLogic::start(Dialect::XIm);
    let late = instance("auth", "auth01", second.address, Dialect::XIm);
    bench.instances_are(vec![late.clone()]);
    state_is(&bench, "auth01", "adult").await;
    is_forgotten(&bench, "chat01").await;
    bench.instances_are(and(first(&bench), late));
    state_is(&bench, "chat01", "young").await;
    bench.ready().await;
}

#[rstest]
#[tokio::test]
async fn e11_an_instance_that_leaves_gets_nothing_new_answers_what_it_has_and_is_closed(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let (bench, second, other) = bench(|_| {}).await;
    bench.chat.hold("chat.user.talk");
    let (mut alice, _) = bench.client(kind, "alice").await;
    let sequence = alice.talk("bob", "to the one that leaves").await;
    let held = bench.chat.packet("chat.user.talk", 0).await;
    bench.instances_are(and(first(&bench), other.clone()));
    second.handshake(0).await;
    state_is(&bench, "chat02", "young").await;

    bench.instances_are(vec![first(&bench).remove(0), other]);
    let mut asked = 0;
    while second.packets("chat.user.talk").is_empty() {
        let (mut client, _) = bench.client(kind, &format!("user{asked}")).await;
        asked += 1;
        // Until the gateway has heard of it, requests go to the first and wait there.
        client.talk("bob", "to the one that stays").await;
        client.heartbeat(false).await;
        assert!(asked < 500, "the young one is not used");
    }
    assert_eq!(ask(&mut bench.client(kind, "carol").await.0).await, 0);
    bench.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0, "its link was kept for the answer");
    for late in bench.chat.packets("chat.user.talk").iter().skip(1) {
        bench.chat.answer_default(late);
    }
    bench.chat.ended(0).await;
    is_forgotten(&bench, "chat01").await;
    assert_eq!(bench.metric("gateway_reject_total", &["backend_down"]).await, 0.0, "nothing was lost");
}

#[rstest]
#[tokio::test]
async fn e11_one_that_left_and_hangs_is_closed_in_its_time_and_what_it_has_is_answered_210(
    #[values(Tcp, Tls, QuicMany)] kind: Kind,
) {
    let (bench, _second, other) = bench(|config| {
        config.limits.request_deadline = Duration::from_millis(400);
        config.limits.login_answer = Duration::from_millis(400);
    })
    .await;
    bench.chat.hold("chat.user.talk");
    let (mut alice, _) = bench.client(kind, "alice").await;
    let sequence = alice.talk("bob", "never answered").await;
    bench.chat.packet("chat.user.talk", 0).await;
    bench.instances_are(vec![first(&bench).remove(0), other]);
    assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    bench.chat.ended(0).await;
    is_forgotten(&bench, "chat01").await;
}

#[rstest]
#[tokio::test]
async fn e11_a_service_without_instances_is_answered_300_and_served_again_when_it_has_one(
    #[values(Tcp, Tls, QuicOne)] kind: Kind,
) {
    let (bench, second, other) = bench(|_| {}).await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.instances_are(vec![first(&bench).remove(0)]);
    is_forgotten(&bench, "chat01").await;
    assert_eq!(ask(&mut alice).await, SYSTEM_EXCEPTION);
    bench.instances_are(vec![first(&bench).remove(0), other]);
    second.handshake(0).await;
    state_is(&bench, "chat02", "young").await;
    assert_eq!(ask(&mut alice).await, 0, "young, and nobody else is there");
}

#[rstest]
#[tokio::test]
async fn an_instance_that_moves_is_dialled_at_its_new_address_and_the_old_link_is_closed(
    #[values(Tcp, Tls, QuicOne)] kind: Kind,
) {
    let (bench, second, mut moved) = bench(|_| {}).await;
    let (mut alice, channel) = bench.client(kind, "alice").await;
    assert_eq!(ask(&mut alice).await, 0);
    moved.id = "chat01".into();
    bench.instances_are(vec![first(&bench).remove(0), moved]);
    bench.chat.ended(0).await;
    second.handshake(0).await;
    state_is(&bench, "chat01", "young").await;
    assert_eq!(ask(&mut alice).await, 0);
    assert_eq!((bench.chat.packets("chat.user.talk").len(), second.packets("chat.user.talk").len()), (1, 1));
    second.push(&[&channel], 7, b"from there").await;
    assert_eq!(alice.push().await.body, "from there");
}

/// Two links of one gateway id to one process would have it refuse the second.
#[rstest]
#[tokio::test]
async fn e12_a_change_of_zone_or_dialect_never_makes_two_links_to_one_process(
    #[values("zone", "dialect", "id")] what: &str,
) {
    let (bench, _second, _) = bench(|config| {
        config.route = std::sync::Arc::new(route(&["zone_a", "zone_b"]));
    })
    .await;
    bench.chat.hold("chat.user.talk");
    let (mut alice, _) = bench.client(Tcp, "alice").await;
    let sequence = alice.talk("bob", "keeps the old link").await;
    let held = bench.chat.packet("chat.user.talk", 0).await;
    let mut changed = first(&bench);
    match what {
        "zone" => changed[1].zone = "zone_b".into(),
        "dialect" => changed[1].dialect = Dialect::Kim,
        _ => changed[1].id = "chat09".into(),
    }
    bench.instances_are(changed);
    bench.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    bench.chat.handshake(1).await;
    let order: Vec<_> = bench
        .chat
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Ended { link } => Some(("ended", *link)),
            Event::Handshake { link, .. } => Some(("begun", *link)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("begun", 0), ("ended", 0), ("begun", 1)]);
}

#[tokio::test]
async fn e11_an_instance_back_before_its_link_was_closed_keeps_it() {
    let (bench, _second, other) = bench(|_| {}).await;
    bench.chat.hold("chat.user.talk");
    let (mut alice, _) = bench.client(Tcp, "alice").await;
    let sequence = alice.talk("bob", "keeps the link").await;
    let held = bench.chat.packet("chat.user.talk", 0).await;
    bench.instances_are(vec![first(&bench).remove(0)]);
    while ask(&mut bench.client(Tcp, "bob").await.0).await != SYSTEM_EXCEPTION {}
    bench.instances_are(and(first(&bench), other));
    state_is(&bench, "chat02", "young").await;
    bench.chat.answer_default(&held);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    bench.chat.unhold("chat.user.talk");
    assert_eq!(ask(&mut alice).await, 0);
    let links = bench.chat.packets("chat.user.talk").iter().map(|packet| packet.link).max();
    assert_eq!(links, Some(0), "the only link there ever was, and adult as before");
}

#[tokio::test]
async fn e8_an_instance_that_leaves_while_it_is_dialled_or_waited_for_is_forgotten() {
    let (bench, _second, _) = bench(|config| {
        config.limits.backoff_first = Duration::from_secs(600);
        config.limits.backoff_max = Duration::from_secs(600);
    })
    .await;
    // Nobody listens at a port that is only bound; and one that listens and never speaks.
    let (dormant, _waker) = FakeLogic::dormant(Dialect::XIm);
    let silent = FakeLogic::start(Dialect::XIm);
    silent.stop_reading();
    let mut instances = and(first(&bench), instance("chat", "chat02", dormant.address, Dialect::XIm));
    instances.push(instance("chat", "chat03", silent.address, Dialect::XIm));
    bench.instances_are(instances);
    state_is(&bench, "chat02", "broken").await;
    state_is(&bench, "chat03", "dialling").await;
    bench.instances_are(first(&bench));
    is_forgotten(&bench, "chat02").await;
    is_forgotten(&bench, "chat03").await;
    assert_eq!(ask(&mut bench.client(Tcp, "alice").await.0).await, 0);
}

#[tokio::test]
async fn an_instance_of_a_service_that_is_not_known_gets_nothing() {
    let (bench, second, mut stranger) = bench(|_| {}).await;
    stranger.service = "game".into();
    bench.instances_are(and(first(&bench), stranger));
    let (mut alice, _) = bench.client(Tcp, "alice").await;
    let sequence = alice.request("game.move", "", b"").await;
    assert_eq!(alice.response(sequence).await.header.status, pb::Status::InvalidCommand as i32);
    assert!(second.events().is_empty());
}

#[rstest]
#[tokio::test]
async fn g5_e11_sign_outs_of_a_login_instance_that_left_go_to_another(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let (bench, second, mut other) = bench(|_| {}).await;
    let (mut alice, channel) = bench.client(kind, "alice").await;
    (other.service, other.id) = ("login".into(), "login02".into());
    let chat = first(&bench).remove(1);
    bench.instances_are(vec![other, chat]);
    bench.login.ended(0).await;
    second.handshake(0).await;
    alice.bye().await;
    let signout = second.signout(&channel).await;
    assert_eq!(signout.meta("reason"), "bye");
    assert!(bench.login.packets("login.signout").is_empty());
}
