//! Links to services that behave as those of the two Go systems do (rows H12, H13).

use std::time::Duration;

use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use rstest::rstest;
use tokio::time::{Instant, interval};

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::Tcp;
use crate::support::unlocked::{Unlocked, begun_frame};

const PING: Duration = Duration::from_secs(1);

/// Chat is a service that corrupts what it sends when it is pinged at work.
async fn beside(chat: &Unlocked) -> TestGateway {
    TestGateway::with(|config| {
        config.limits.backend_ping = PING;
        config.instances[1].address = chat.address.to_string();
    })
    .await
}

/// Before pings waited for silence this lost its link with nearly every one of them.
#[tokio::test]
async fn h12_a_service_that_writes_pongs_without_a_lock_is_not_pinged_while_it_speaks() {
    let chat = Unlocked::start(true).await;
    let harness = beside(&chat).await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let pings = chat.pings();
    let end = Instant::now() + PING * 5;
    while Instant::now() < end {
        let sequence = alice.talk("bob", "under load").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
    }
    assert_eq!((chat.links(), chat.pings()), (1, pings), "links, pings");
    assert!(harness.metric("gateway_link_pushes_received_total", &["chat01"]).await > 1000.0);
    for reason in ["backend_down", "backend_bad_frame", "backend_bad_packet"] {
        assert_eq!(harness.metric("gateway_reject_total", &[reason]).await, 0.0, "{reason}");
    }
}

/// Without its pings nobody would learn that a silent service is gone.
#[tokio::test]
async fn h12_a_service_that_says_nothing_is_pinged_once_per_interval() {
    let chat = Unlocked::start(false).await;
    let harness = beside(&chat).await;
    let start = Instant::now();
    let mut looks = interval(PING / 10);
    while chat.pings() < 5 {
        looks.tick().await;
        assert!(start.elapsed() < PING * 20, "{} pings", chat.pings());
    }
    // The first came with the handshake, and the second may be due at once.
    assert!(start.elapsed() > PING * 5 / 2, "{:?}", start.elapsed());
    assert_eq!(chat.links(), 1);
    drop(harness);
}

/// Whatever is written within a frame is a part of it, pongs included: the instance looks alive and says nothing.
#[tokio::test]
async fn h13_a_frame_that_begins_and_never_ends_ends_its_link_although_pongs_come() {
    const FRAME: Duration = Duration::from_secs(2);
    let harness = TestGateway::with(|config| {
        config.limits.backend_ping = Duration::from_millis(100);
        config.limits.backend_frame_deadline = FRAME;
        config.limits.backoff_first = Duration::from_millis(10);
    })
    .await;
    let (mut alice, _) = harness.client(Tcp, "alice").await;
    let begun = Instant::now();
    harness.chat.send(begun_frame(1 << 20, b"and then"));
    let mut ticks = interval(Duration::from_millis(50));
    let pongs = async {
        loop {
            ticks.tick().await;
            harness.chat.send(encode(Opcode::Pong, &[]));
        }
    };
    tokio::select! {
        () = harness.chat.ended(0) => {}
        () = pongs => {}
    }
    let lived = begun.elapsed();
    assert!((FRAME..FRAME * 2).contains(&lived), "{lived:?}");
    harness.metric_is("gateway_reject_total", &["backend_slow_frame"], 1.0).await;
    harness.chat.handshake(1).await;
    harness.metric_is("gateway_link_state", &["chat01", "ejected"], 1.0).await;
    let sequence = alice.talk("bob", "again").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 0).await.link, 1);
}

/// Large frames may take their time, up to the deadline, and each has its own.
#[tokio::test]
async fn h13_frames_that_come_slowly_and_end_in_time_harm_nobody() {
    let harness = TestGateway::with(|config| {
        config.limits.backend_frame_deadline = Duration::from_millis(900);
    })
    .await;
    let (mut alice, channel) = harness.client(Tcp, "alice").await;
    let frame = {
        let gate = harness.chat.handshake(0).await;
        let header = crate::support::fake_logic::push_header("chat.user.talk", 1);
        harness.chat.push_frame(&gate, &[&channel], header, b"slow")
    };
    // Never a moment without a frame that has begun: the end of one comes with the head of the next.
    let (head, tail) = (frame.slice(..7), frame.slice(7..));
    harness.chat.send(head.clone());
    let mut ticks = interval(Duration::from_millis(300));
    ticks.tick().await;
    for _ in 0..5 {
        ticks.tick().await;
        harness.chat.send([&tail[..], &head[..]].concat());
        assert_eq!(&alice.push().await.body[..], b"slow");
    }
    harness.chat.send(tail);
    let sequence = alice.talk("bob", "x").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 0).await.link, 0, "still the first link");
}

/// Neither dialect's login service lets a sign-out go without an answer.
#[rstest]
#[tokio::test]
async fn g9_answers_to_sign_outs_match_something(#[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect) {
    let harness = TestGateway::of_dialect(dialect, |_| {}).await;
    for (account, status) in [("alice", 0), ("bob", 404)] {
        let (mut client, channel) = harness.client(Tcp, account).await;
        client.bye().await;
        let signout = harness.login.signout(&channel).await;
        harness.login.answer(&signout, status, b"");
        harness.metric_is("gateway_signout_answers_total", &[&format!("status=\"{status}\"")], 1.0).await;
    }
    assert_eq!(harness.metric("gateway_reject_total", &["response_unmatched"]).await, 0.0);
    harness.metric_is("gateway_signouts_total", &["written"], 2.0).await;
}

/// kim's own default is `gate_` and an address.
#[rstest]
#[tokio::test]
async fn a_gateway_id_with_an_underscore_is_the_same_for_services_and_escaped_in_channel_ids(
    #[values(1, 2)] workers: usize,
) {
    let harness = TestGateway::with(|config| {
        config.id = "gate_1721604".to_owned();
        config.workers = workers;
    })
    .await;
    let (mut alice, channel) = harness.client(Tcp, "al_ice").await;
    let session = harness.login.signin("al_ice").await.session();
    let (gate, rest) = channel.split_once('_').unwrap();
    assert!(session.gate_id.starts_with("gate_1721604"), "{}", session.gate_id);
    assert_eq!((gate, session.channel_id.as_str()), (&*session.gate_id.replace('_', "%5F"), &*channel));
    assert!(rest.starts_with("al%5Fice_") && rest.matches('_').count() == 1, "{channel}");
    harness.chat.push_to(&session.gate_id, &[&channel], 7, b"found");
    assert_eq!(&alice.push().await.body[..], b"found");
}
