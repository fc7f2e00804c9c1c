//! Bytes that are not this protocol: every `bad` vector before and after the login, and a few more.

use std::time::Duration;

use gateway::limits::Limits;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode, head};
use gateway::wire::pb;
use rstest::rstest;
use tokio::time::{Instant, sleep_until};

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Purpose, Raw, request};
use crate::support::soon;
use crate::support::stream::{Seen, StreamEnd, StreamOf};
use crate::vectors::bad;

/// Short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

fn token_of(code: u16) -> &'static str {
    CloseReason::from_code(code.into()).unwrap().token()
}

#[rstest]
#[tokio::test]
async fn a1_a2_a4_a6_a7_a8_a9_a11_bad_vectors_before_the_login(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.login_deadline = SHORT).await;
    for case in bad() {
        let mut client = harness.connect(kind).await;
        client.write(&case.bytes).await;
        let farewell = client.farewell().await;
        assert_eq!(farewell.code, Some(case.before_login.unwrap_or(3007)), "{}", case.name);
        assert!(farewell.messages.is_empty(), "{}", case.name);
    }
    let _good = harness.client(kind, "good").await;
}

#[rstest]
#[tokio::test]
async fn a1_a2_a4_a6_a7_a8_a9_a11_bad_vectors_after_the_login(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.frame_deadline = SHORT).await;
    for case in bad() {
        let (mut client, channel) = harness.client(kind, "alice").await;
        // On a stream of its own a stalled frame ends only that stream: tested in `streams.rs`.
        let stream = if case.after_login.is_some() { client.stream_for(Purpose::Messages) } else { 0 };
        client.write_on(stream, &case.bytes).await;
        let farewell = client.farewell().await;
        let code = case.after_login.unwrap_or(3008);
        assert_eq!(farewell.code, Some(code), "{}", case.name);
        assert!(farewell.messages.is_empty(), "{}", case.name);
        assert_eq!(harness.login.signout(&channel).await.meta("reason"), token_of(code), "{}", case.name);
    }
}

#[rstest]
#[tokio::test]
async fn a6_a7_more_that_is_closed_3503_after_the_login(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("text", "continuation", "other dialect", "other heartbeat", "no payload of a packet")]
    what: &str,
) {
    let harness = TestGateway::start().await;
    let (mut client, channel) = harness.client(kind, "alice").await;
    let other = Dialect::Kim;
    let bytes = match what {
        "text" => encode(Opcode::Text, b"hello"),
        "continuation" => encode(Opcode::Continuation, b""),
        "other dialect" => {
            client.dialect = other;
            client.encode(&request("chat.user.talk", 9, "bob"), b"")
        }
        "other heartbeat" => gateway::wire::packet::encode_basic(other, 1),
        _ => encode(Opcode::Binary, b"abc"),
    };
    client.write_on(client.stream_for(Purpose::Messages), bytes).await;
    assert!(client.closed_with(3503).await.messages.is_empty());
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "protocol_error");
    assert!(harness.chat.packets("chat.user.talk").is_empty(), "nothing of it was forwarded");
}

#[rstest]
#[tokio::test]
async fn a3_a10_empty_frames_pongs_and_unknown_codes_are_ignored(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut client, _) = harness.client(kind, "alice").await;
    let stream = client.stream_for(Purpose::Messages);
    for _ in 0..50 {
        client.write_on(stream, encode(Opcode::Binary, b"")).await;
        client.write_on(stream, encode(Opcode::Pong, b"unsolicited")).await;
        client.write_on(stream, gateway::wire::packet::encode_basic(Dialect::XIm, 2)).await;
        client.write_on(stream, gateway::wire::packet::encode_basic(Dialect::XIm, 999)).await;
    }
    let sequence = client.talk("bob", "still here").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    assert!(client.leftovers().is_empty(), "none of it was answered");
}

async fn frame_of(client: &mut Raw, payload: usize) -> Vec<u8> {
    // Header and lengths around the body are what an empty body's frame has.
    let header = request("chat.user.talk", 5, "bob");
    let around = client.encode(&header, b"").len() - 5;
    let frame = client.encode(&header, &vec![b'x'; payload - around]).to_vec();
    assert_eq!(frame[..5], head(Opcode::Binary, payload));
    frame
}

#[rstest]
#[tokio::test]
async fn a1_a15_the_largest_frame_passes_and_one_byte_more_does_not(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut client, _) = harness.client(kind, "alice").await;
    let max = Limits::default().max_frame;
    let largest = frame_of(&mut client, max).await;
    let stream = client.stream_for(Purpose::Messages);
    client.write_on(stream, &largest).await;
    assert_eq!(client.response(5).await.header.status, 0);
    let packet = harness.chat.packet("chat.user.talk", 0).await;
    assert!(packet.body.len() > max - 100 && packet.body.iter().all(|byte| *byte == b'x'));

    let too_big = frame_of(&mut client, max + 1).await;
    client.write_on(stream, &too_big).await;
    client.closed_with(3504).await;
}

#[rstest]
#[tokio::test]
async fn a5_half_a_frame_and_then_the_end_is_a_plain_disconnect(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut client, channel) = harness.client(kind, "alice").await;
    let frame = client.encode(&request("chat.user.talk", 9, "bob"), b"never complete");
    client.write(&frame[..frame.len() - 1]).await;
    client.finish(0).await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "peer_closed");
    assert!(harness.chat.packets("chat.user.talk").is_empty(), "partial data is discarded");
}

#[rstest]
#[tokio::test]
async fn d6_d7_what_other_protocols_send_is_closed(
    #[values("GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "\u{16}\u{3}\u{1}")] hello: &str,
) {
    let harness = TestGateway::start().await;
    let mut client = harness.connect(Tcp).await;
    client.write(hello).await;
    client.closed_with(3503).await;
}

#[rstest]
#[tokio::test]
async fn d10_a_session_delivered_byte_by_byte(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect,
) {
    let harness = TestGateway::start().await;
    let mut alice = harness.connect(kind).await;
    alice.dialect = dialect;
    let login = pb::LoginReq { token: crate::support::identity::token("alice"), ..Default::default() };
    let signin = alice.signin_frame(1, &login);
    alice.drip(0, &signin).await;
    assert_eq!(alice.response(1).await.header.status, 0);

    let stream = alice.stream_for(Purpose::Heartbeat);
    alice.drip(stream, encode(Opcode::Ping, &[])).await;
    let is_pong = |seen: &Seen| matches!(seen, Seen::Frame(_, f) if f.opcode == Opcode::Pong).then_some(());
    alice.take("a pong", is_pong).await;

    let talk = alice.encode(&request("chat.user.talk", 2, "bob"), b"drip");
    alice.drip(alice.stream_for(Purpose::Messages), &talk).await;
    assert_eq!(alice.response(2).await.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 0).await.body, "drip");
}

/// A small generator, so that a failure can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[rstest]
#[tokio::test]
async fn a_hundred_sessions_of_damaged_bytes_harm_nobody_and_leave_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(1, 2)] seed: u64,
) {
    let harness = TestGateway::with_limits(|limits| {
        limits.login_deadline = Duration::from_millis(300);
        limits.frame_deadline = Duration::from_millis(300);
        limits.request_deadline = Duration::from_millis(300);
    })
    .await;
    let (mut alice, alice_channel) = harness.client(kind, "alice").await;
    let mut dice = Dice(seed);
    let mut damaged = Vec::new();
    for n in 0..100u32 {
        let mut client = harness.connect(kind).await;
        let login = pb::LoginReq {
            token: crate::support::identity::token(&format!("mallory{n}")),
            ..Default::default()
        };
        let mut bytes = client.signin_frame(1, &login).to_vec();
        for sequence in 2..6 {
            bytes.extend(client.encode(&request("chat.user.talk", sequence, "bob"), b"some text"));
            bytes.extend(encode(Opcode::Ping, b""));
        }
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        bytes.truncate(bytes.len() - dice.below(40));
        client.write(&bytes).await;
        match dice.below(4) {
            0 => client.finish(0).await,
            1 => client.reset().await,
            2 => client.bye().await,
            _ => {}
        }
        damaged.push(client);
        if n % 10 == 0 {
            let sequence = alice.talk("bob", "not impressed").await;
            assert_eq!(alice.response(sequence).await.header.status, 0);
        }
    }
    drop(damaged);
    harness.metric_is("gateway_connections", &[], 1.0).await;
    harness.metric_is("gateway_pending_requests", &[], 0.0).await;
    harness.metric_is("gateway_signouts_waiting", &[], 0.0).await;
    let mut open: Vec<_> =
        harness.login.packets("login.signin").into_iter().map(|packet| packet.header.channel_id).collect();
    for signout in harness.login.packets("login.signout") {
        let at = open.iter().position(|channel| *channel == signout.header.channel_id);
        open.swap_remove(at.expect("one sign-out for one sign-in"));
    }
    assert_eq!(open, [alice_channel], "all but alice were signed out");
}

/// Drips a frame, evenly over this time.
async fn drip_over(client: &mut Raw, stream: usize, frame: &[u8], over: Duration) {
    const DROPS: usize = 100;
    let begun = Instant::now();
    for (n, drop) in (1..).zip(frame.chunks(frame.len().div_ceil(DROPS))) {
        client.write_on(stream, drop).await;
        sleep_until(begun + over * n / DROPS as u32).await;
    }
}

/// There is no silence in it: what ends is the time of the whole frame, which is a floor for the rate of large ones.
#[rstest]
#[tokio::test]
async fn d11_a_large_frame_that_drips_is_ended_at_its_deadline_and_one_in_time_passes(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let deadline = Duration::from_secs(2);
    let harness = TestGateway::with_limits(|limits| limits.frame_deadline = deadline).await;
    let (mut bob, _) = harness.client(kind, "bob").await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let stream = alice.stream_for(Purpose::Messages);
    let frame = frame_of(&mut alice, 60_000).await;
    drip_over(&mut alice, stream, &frame, deadline / 2).await;
    assert_eq!(alice.response(5).await.header.status, 0);

    let begun = Instant::now();
    let ended = async {
        tokio::select! {
            // Writing goes on after the end, as it would from a client that does not look.
            () = async { loop { bob.heartbeat(true).await } } => {}
            () = drip_over(&mut alice, stream, &frame, deadline * 4) => {}
            () = harness.metric_is("gateway_reject_total", &["\"slow_frame\""], 1.0) => {}
        }
    };
    soon("the end of the frame", ended).await;
    let took = begun.elapsed();
    assert!(took >= deadline * 9 / 10 && took < deadline * 2, "{took:?}");
    if kind == QuicMany {
        let end = |seen: &Seen| if let Seen::End(stream, end) = seen { Some((*stream, *end)) } else { None };
        assert_eq!(
            alice.take("the end of the stream", end).await,
            (StreamOf::Own(stream), StreamEnd::Broken)
        );
        alice.heartbeat(true).await;
        assert!(harness.login.packets("login.signout").is_empty());
    } else {
        alice.closed_with(3008).await;
        assert_eq!(harness.login.signout(&channel).await.meta("reason"), "read_timeout");
    }
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 1, "no part of it was forwarded");
}
