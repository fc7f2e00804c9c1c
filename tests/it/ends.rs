//! However a channel ends: exactly one sign-out, with its reason (protocol §4.9, G5).

use std::time::Duration;

use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use rstest::rstest;

use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Purpose, Raw, request};
use crate::support::soon;

/// Checks the sign-out of a channel, then that no second one follows: another channel's comes first.
async fn signed_out_once(harness: &TestGateway, kind: Kind, channel: &str, reason: &str) {
    let signout = harness.login.signout(channel).await;
    assert_eq!(signout.meta("reason"), reason);
    assert_eq!(signout.meta("app"), "x_im");
    assert_eq!(signout.meta("account"), "alice");
    assert_eq!(signout.meta(signout.dialect.gateway_key()), GATE);
    assert_eq!(signout.header.meta.len(), 4);
    assert!(signout.body.is_empty());

    for n in 0..2 {
        let (mut other, other_channel) = harness.client(kind, &format!("other{n}")).await;
        other.bye().await;
        harness.login.signout(&other_channel).await;
    }
    let signouts = harness.login.packets("login.signout");
    assert_eq!(signouts.len(), 3, "one each: {signouts:?}");
    let signins = harness.login.packets("login.signin");
    assert_eq!(signins.len(), 3);
}

async fn end(alice: &mut Raw, how: &str) {
    match how {
        "bye" => alice.bye().await,
        "finish" => alice.finish(0).await,
        "reset" => alice.reset().await,
        "signout" => {
            alice.request("login.signout", "", b"").await;
        }
        _ => alice.write(encode(Opcode::Text, b"")).await,
    }
}

#[rstest]
#[case::bye("bye", "bye", None)]
#[case::finish("finish", "peer_closed", None)]
#[case::reset("reset", "peer_closed", None)]
#[case::b7_signout("signout", "bye", Some(0))]
#[case::protocol_error("text", "protocol_error", Some(3503))]
#[tokio::test]
async fn g5_every_end_is_signed_out_once_with_its_reason(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
    #[case] how: &str,
    #[case] reason: &str,
    #[case] code: Option<u16>,
) {
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "before the end").await;
    alice.response(sequence).await;
    end(&mut alice, how).await;
    signed_out_once(&harness, kind, &channel, reason).await;
    if let Some(code) = code {
        assert!(alice.closed_with(code).await.messages.is_empty());
    }
    drop(alice);
    let others = if reason == "bye" { 2.0 } else { 0.0 };
    harness.metric_is("gateway_closes_total", &[&format!("\"{reason}\"")], 1.0 + others).await;
}

#[rstest]
#[tokio::test]
async fn a_close_frame_ends_a_quic_session_as_well(#[values(QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    alice.write(alice.encode_bye()).await;
    signed_out_once(&harness, kind, &channel, "bye").await;
}

#[tokio::test]
async fn the_close_frame_of_a_tcp_client_is_not_answered() {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(Tcp, "alice").await;
    let frames = [alice.encode(&request("chat.user.talk", 9, "bob"), b"x"), alice.encode_bye()];
    alice.write(frames.concat()).await;
    let farewell = alice.farewell().await;
    assert_eq!(farewell.code, None, "{farewell:?}");
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
    harness.chat.packet("chat.user.talk", 0).await;
}

/// The answer is made in the same turn in which the goodbye is read: the close must not overtake it.
#[rstest]
#[tokio::test]
async fn g1_an_answer_before_a_goodbye_reaches_the_client(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let frames = [alice.encode(&request("nowhere.at.all", 9, ""), b"x"), alice.encode_bye()];
    alice.write(frames.concat()).await;
    let farewell = alice.farewell().await;
    assert_eq!(farewell.response(9).header.status, 103);
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
}

#[rstest]
#[tokio::test]
async fn g5_clients_that_leave_while_their_requests_are_pending(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("bye", "finish", "reset")] how: &str,
) {
    let harness = TestGateway::start().await;
    harness.chat.hold("chat.user.talk");
    let (mut alice, channel) = harness.client(kind, "alice").await;
    for _ in 0..3 {
        alice.talk("bob", "unanswered").await;
    }
    let last = harness.chat.packet("chat.user.talk", 2).await;
    end(&mut alice, how).await;
    let reason = if how == "bye" { "bye" } else { "peer_closed" };
    signed_out_once(&harness, kind, &channel, reason).await;
    // Its answer comes too late and harms nobody.
    harness.chat.answer_default(&last);
    harness.chat.unhold("chat.user.talk");
    let (mut bob, _) = harness.client(kind, "bob").await;
    let sequence = bob.talk("alice", "x").await;
    assert_eq!(bob.response(sequence).await.header.status, 0);
    harness.metric_is("gateway_pending_requests", &[], 0.0).await;
}

#[rstest]
#[tokio::test]
async fn g4_requests_written_just_before_the_end_are_forwarded_ahead_of_the_signout(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("finish", "bye")] how: &str,
) {
    const COUNT: u32 = 20;
    // kim's one service for both, so that requests and sign-out share a link.
    let harness = TestGateway::of_dialect(Dialect::Kim, |config| {
        config.login_service = "chat".into();
        config.instances.retain(|instance| instance.service == "chat");
    })
    .await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let mut frames = Vec::new();
    for n in 0..COUNT {
        frames.extend(alice.encode(&request("chat.user.talk", n, "bob"), b"x"));
    }
    if how == "bye" {
        frames.extend(alice.encode_bye());
    }
    alice.write(frames).await;
    if how == "finish" {
        alice.finish(0).await;
    }
    harness.chat.signout(&channel).await;
    let talks = harness.chat.packets("chat.user.talk");
    let sequences: Vec<_> = talks.iter().map(|packet| packet.header.sequence).collect();
    assert_eq!(sequences, (0..COUNT).collect::<Vec<_>>(), "all of them, and before the sign-out");
}

#[rstest]
#[tokio::test]
async fn the_end_of_a_client_is_seen_while_it_is_not_read_for_its_rate(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] more_unread: bool,
) {
    // What it sends costs it a pause far longer than a test waits.
    let harness = TestGateway::with_limits(|limits| limits.bytes_per_second = 1000).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.request("chat.user.talk", "bob", &vec![b'x'; 60_000]).await;
    alice.response(sequence).await;
    if more_unread {
        alice.talk("bob", "not read").await;
    }
    let since = tokio::time::Instant::now();
    if kind.is_tcp() {
        alice.finish(0).await
    } else {
        alice.bye().await
    }
    let reason = if kind.is_tcp() { "peer_closed" } else { "bye" };
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), reason);
    assert!(since.elapsed() < Duration::from_secs(3), "seen at once, not at some timer");
}

#[tokio::test]
async fn d1_a_quic_client_that_vanishes_is_signed_out_as_peer_lost() {
    let harness = TestGateway::with_limits(|limits| limits.quic_idle = Duration::from_millis(500)).await;
    let (alice, channel) = harness.client(QuicOne, "alice").await;
    // Nothing is said from here on, and neither side sends keep-alives.
    let (_, connection) = alice.quic();
    assert!(connection.close_reason().is_none());
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "peer_lost");
}

#[rstest]
#[tokio::test]
async fn c8_d4_e17_g8_a_slow_reader_is_closed_3002_and_fast_ones_get_everything(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const BODY: usize = 16 * 1024;
    let harness = TestGateway::with_limits(|limits| limits.write_stall = Duration::from_secs(2)).await;
    let options = Options { receive_buffer: Some(16 * 1024), ..Options::default() };
    let mut slow = harness.connect_with(kind, options).await;
    let slow_channel = slow.login("slow").await;
    let (mut fast_tcp, one) = harness.client(Tcp, "one").await;
    let (mut fast_quic, two) = harness.client(QuicOne, "two").await;
    slow.stop_reading();

    // Every round is read by the fast ones before the next begins, so only the slow one falls behind.
    let rounds = async {
        for round in 0.. {
            let body = vec![b'x'; BODY];
            for n in 0..4 {
                harness.chat.push(&[&one, &slow_channel, &two], round * 4 + n, &body).await;
            }
            for n in 0..4 {
                for fast in [&mut fast_tcp, &mut fast_quic] {
                    let push = fast.push().await;
                    assert_eq!((push.header.sequence, push.body.len()), (round * 4 + n, BODY));
                }
            }
            if let Some(signout) = harness.login.packets("login.signout").first() {
                return signout.clone();
            }
        }
        unreachable!()
    };
    let signout = soon("the slow reader's sign-out", rounds).await;
    assert_eq!(signout.header.channel_id, slow_channel);
    assert_eq!(signout.meta("reason"), "slow_consumer");
    harness.metric_is("gateway_closes_total", &["slow_consumer"], 1.0).await;

    // What it got is a gap-free prefix (G2).
    slow.read_on();
    let farewell = slow.farewell().await;
    for (n, push) in farewell.messages.iter().enumerate() {
        assert_eq!(push.header.sequence as usize, n, "no gap");
    }
    for fast in [&mut fast_tcp, &mut fast_quic] {
        fast.heartbeat(true).await;
    }
}

#[rstest]
#[tokio::test]
async fn c8_d4_a_socket_that_takes_nothing_is_closed_3002_after_the_write_stall(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| {
        limits.write_stall = Duration::from_millis(400);
        limits.max_queued_bytes = 64 * 1024 * 1024;
        limits.max_queued_messages = 100_000;
    })
    .await;
    let options = Options { receive_buffer: Some(16 * 1024), ..Options::default() };
    let mut slow = harness.connect_with(kind, options).await;
    let channel = slow.login("slow").await;
    slow.stop_reading();
    // More than any kernel buffer takes, and less than the queue.
    let body = vec![b'x'; 256 * 1024];
    for n in 0..64 {
        harness.chat.push(&[&channel], n, &body).await;
    }
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "slow_consumer");
}

#[rstest]
#[tokio::test]
async fn b7_g5_nothing_reaches_a_client_or_a_service_after_its_signout(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.request("login.signout", "", b"").await;
    let stream = alice.stream_for(Purpose::Messages);
    alice.write_on(stream, alice.encode(&request("chat.user.talk", sequence + 1, "bob"), b"late")).await;
    harness.login.signout(&channel).await;
    harness.chat.push(&[&channel], 1, b"too late").await;
    assert!(alice.closed_with(0).await.messages.is_empty());
    let (mut bob, _) = harness.client(kind, "bob").await;
    let sequence = bob.talk("alice", "x").await;
    bob.response(sequence).await;
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 1, "bob's alone");
}
