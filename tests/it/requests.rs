//! Requests: identity, routing by command, one answer each, order.

use std::time::Duration;

use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use gateway::wire::packet::{BASIC_PING, encode_basic};
use gateway::wire::pb;
use prost::Message as _;
use rstest::rstest;

use crate::support::fake_logic::{FakeLogic, meta};
use crate::support::harness::{GATE, TestGateway, instance};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Purpose, request};
use crate::support::stream::{Seen, StreamOf};

const INVALID_COMMAND: i32 = pb::Status::InvalidCommand as i32;
const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;

#[rstest]
#[tokio::test]
async fn g1_a_request_is_answered_on_the_stream_it_came_on(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] client: Dialect,
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
) {
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let mut alice = harness.connect_with(kind, Options { dialect: client, ..Options::default() }).await;
    let channel = alice.login("alice").await;
    let sequence = alice.talk("bob", "hello 世界").await;
    let answer = alice.response(sequence).await;
    assert_eq!(answer.stream, StreamOf::Own(alice.stream_for(Purpose::Messages)));
    assert_eq!(answer.dialect, client);
    assert_eq!(answer.header.command, "chat.user.talk");
    assert_eq!(answer.header.meta.iter().filter(|meta| meta.key.starts_with("dest.")).count(), 0);
    assert_eq!(pb::MessageResp::decode(answer.body).unwrap().message_id, 1);

    let packet = harness.chat.packet("chat.user.talk", 0).await;
    assert_eq!((packet.header.channel_id, packet.header.dest.as_str()), (channel, "bob"));
    assert_eq!(pb::MessageReq::decode(packet.body).unwrap().body, "hello 世界");
}

#[rstest]
#[tokio::test]
async fn b1_b2_b3_b4_a16_g7_what_a_client_claims_to_be_is_replaced(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
) {
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let typed = |key: &str, value: &str, kind: i32| pb::Meta { r#type: kind, ..meta(key, value) };
    let forged = pb::Header {
        channel_id: "gate01_mallory_9".into(),
        flag: pb::Flag::Push as i32,
        status: 404,
        meta: vec![
            meta("trace", "t1"),
            meta("app", "admin"),
            typed("account", "root", 0),
            meta("dest.channels", &channel),
            meta("dest.logic", "gate09"),
            meta("dest.server", "gate09"),
            typed("dest.anything", "1.5", 2),
            typed("number", "7", 0),
            meta("app", "admin again"),
        ],
        ..request("chat.user.talk", 5, "bob")
    };
    let stream = alice.stream_for(Purpose::Messages);
    alice.send_on(stream, &forged, b"body").await;
    assert_eq!(alice.response(5).await.header.status, 0, "the connection is kept");

    let packet = harness.chat.packet("chat.user.talk", 0).await;
    let expected = pb::Header {
        channel_id: channel,
        meta: vec![
            meta("trace", "t1"),
            typed("number", "7", 0),
            meta("app", "x_im"),
            meta("account", "alice"),
            meta(service.gateway_key(), GATE),
        ],
        ..request("chat.user.talk", 5, "bob")
    };
    assert_eq!(packet.header, expected);
    assert_eq!(packet.body, "body");
    assert_eq!(harness.metric("gateway_reject_total", &["forged_meta"]).await, 1.0);
    assert_eq!(harness.metric("gateway_reject_total", &["forged_channel"]).await, 1.0);
    assert_eq!(harness.metric("gateway_reject_total", &["normalised"]).await, 1.0);
}

#[rstest]
#[tokio::test]
async fn a14_a_malformed_command_or_an_unknown_service_is_answered_103_and_kept(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let long = "c".repeat(60_000);
    let barely = format!("chat.{}", "x".repeat(60));
    let commands =
        ["", "Chat.user.talk", "chat.user\n", "chat user", "é", &long, &barely, "nobody.home", "nodot"];
    for command in commands {
        let sequence = alice.request(command, "bob", b"x").await;
        let answer = alice.response(sequence).await;
        assert_eq!(answer.header.status, INVALID_COMMAND, "{command:.70}");
        assert!(answer.header.command.len() <= 256 && command.starts_with(&answer.header.command));
        assert_eq!((answer.header.dest.as_str(), answer.header.meta.len()), ("bob", 0));
        assert!(pb::ErrorResp::decode(answer.body).is_ok());
    }
    let sequence = alice.talk("bob", "still here").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.events().len(), 2, "handshake and the good one");
}

#[rstest]
#[tokio::test]
async fn a14_a_command_without_a_dot_belongs_to_the_service_default(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let default = FakeLogic::start(Dialect::XIm);
    let harness = TestGateway::with(|config| {
        config.instances.push(instance("default", "default01", default.address, Dialect::XIm));
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let sequence = alice.request("hello", "", b"x").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(default.packet("hello", 0).await.body, "x");
}

#[rstest]
#[tokio::test]
async fn e14_a_configured_service_without_an_instance_is_answered_300_at_once(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.stop().await;
    // The end of the link is seen when the answer changes from 210 (sent, then lost) to 300.
    let status = loop {
        let sequence = alice.talk("bob", "anyone?").await;
        let status = alice.response(sequence).await.header.status;
        if status != OUTCOME_UNKNOWN {
            break status;
        }
    };
    assert_eq!(status, SYSTEM_EXCEPTION);
    alice.heartbeat(true).await;
}

#[rstest]
#[tokio::test]
async fn e1_g1_requests_sent_on_a_link_that_dies_are_answered_210_and_never_sent_again(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] reset: bool,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let mut sequences = Vec::new();
    for _ in 0..5 {
        sequences.push(alice.talk("bob", "lost?").await);
    }
    harness.chat.packet("chat.user.talk", 4).await;
    harness.chat.unhold("chat.user.talk");
    if reset {
        harness.chat.reset_link()
    } else {
        harness.chat.finish_link()
    }
    for sequence in sequences {
        assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    }
    // The link comes back, and the first thing on it is the next request.
    harness.chat.handshake(1).await;
    harness.ready().await;
    let answer = loop {
        let sequence = alice.talk("bob", "again").await;
        let answer = alice.response(sequence).await;
        if answer.header.status != SYSTEM_EXCEPTION {
            break answer;
        }
    };
    assert_eq!(answer.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 5).await.link, 1);
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 6);
}

#[rstest]
#[tokio::test]
async fn g1_a_request_without_an_answer_is_answered_210_and_the_late_response_dropped(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness =
        TestGateway::with_limits(|limits| limits.request_deadline = Duration::from_millis(200)).await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let late = alice.talk("bob", "slow").await;
    assert_eq!(alice.response(late).await.header.status, OUTCOME_UNKNOWN);

    let request = harness.chat.packet("chat.user.talk", 0).await;
    harness.chat.answer_default(&request);
    harness.chat.unhold("chat.user.talk");
    let next = alice.talk("bob", "fast").await;
    assert_eq!(alice.response(next).await.header.status, 0);
    assert!(alice.leftovers().is_empty(), "the late response was dropped");
    assert_eq!(harness.metric("gateway_reject_total", &["response_unmatched"]).await, 1.0);
}

#[rstest]
#[tokio::test]
async fn a17_equal_pending_sequences_are_all_answered(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(0, 7, u32::MAX)] sequence: u32,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let stream = alice.stream_for(Purpose::Messages);
    for body in [b"first", b"again", b"third"] {
        alice.send_on(stream, &request("chat.user.talk", sequence, "bob"), body).await;
    }
    for n in 0..3 {
        let packet = harness.chat.packet("chat.user.talk", n).await;
        assert_eq!(packet.header.sequence, sequence);
        harness.chat.answer(&packet, 0, &packet.body);
    }
    for body in ["first", "again", "third"] {
        assert_eq!(alice.response(sequence).await.body, body);
    }
    alice.heartbeat(false).await;
    assert!(alice.leftovers().is_empty(), "one answer each");
}

#[tokio::test]
async fn a17_two_streams_may_use_the_same_sequence_and_each_gets_its_answer() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    harness.chat.hold("chat.user.talk");
    for (stream, body) in [(3, b"on three"), (4, b"on four ")] {
        alice.send_on(stream, &request("chat.user.talk", 9, "bob"), body).await;
        let known = usize::from(stream == 4);
        harness.chat.packet("chat.user.talk", known).await;
    }
    for n in 0..2 {
        let packet = harness.chat.packet("chat.user.talk", n).await;
        harness.chat.answer(&packet, 0, &packet.body);
    }
    let (one, two) = (alice.response(9).await, alice.response(9).await);
    let mut seen = [(one.stream, one.body), (two.stream, two.body)];
    seen.sort_by_key(|(stream, _)| format!("{stream:?}"));
    assert_eq!(seen, [(StreamOf::Own(3), "on three".into()), (StreamOf::Own(4), "on four ".into())]);
}

#[rstest]
#[tokio::test]
async fn g6_more_pending_requests_than_allowed_are_answered_300_at_once(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.max_pending = 4).await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let mut sequences = Vec::new();
    for _ in 0..6 {
        sequences.push(alice.talk("bob", "x").await);
    }
    for refused in &sequences[4..] {
        assert_eq!(alice.response(*refused).await.header.status, SYSTEM_EXCEPTION);
    }
    for (n, accepted) in sequences[..4].iter().enumerate() {
        let packet = harness.chat.packet("chat.user.talk", n).await;
        harness.chat.answer_default(&packet);
        assert_eq!(alice.response(*accepted).await.header.status, 0);
    }
    harness.chat.unhold("chat.user.talk");
    let sequence = alice.talk("bob", "room again").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 5, "the refused were not handed over");
}

#[rstest]
#[tokio::test]
async fn g3_d10_many_requests_in_one_write_keep_their_order(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: u32 = 200;
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let frames: Vec<_> = (0..COUNT)
        .map(|n| alice.encode(&request("chat.user.talk", n, "bob"), format!("body {n}").as_bytes()))
        .collect();
    let stream = alice.stream_for(Purpose::Messages);
    alice.write_on(stream, frames.concat()).await;
    for n in 0..COUNT {
        let packet = harness.chat.packet("chat.user.talk", n as usize).await;
        assert_eq!((packet.header.sequence, packet.body), (n, format!("body {n}").into()));
    }
    for n in 0..COUNT {
        let answer = alice
            .take("an answer", |seen| seen.message().filter(|m| m.stream == StreamOf::Own(stream)))
            .await;
        assert_eq!((answer.header.sequence, answer.header.status), (n, 0), "answers keep their order");
    }
}

#[rstest]
#[tokio::test]
async fn e16_a_status_of_the_service_is_passed_through_unchanged(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(100, 101, 301, 404, 9999)] status: i32,
) {
    let harness = TestGateway::start().await;
    harness.chat.answer_with("chat.user.talk", status, b"why".to_vec());
    let (mut alice, _) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "x").await;
    let answer = alice.response(sequence).await;
    assert_eq!((answer.header.status, answer.body.as_ref()), (status, b"why".as_ref()));
    alice.heartbeat(true).await;
}

#[rstest]
#[tokio::test]
async fn a_response_goes_to_the_channel_its_meta_names_whatever_its_header_says(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let sequence = alice.talk("bob", "x").await;
    harness.chat.packet("chat.user.talk", 0).await;
    let header = pb::Header {
        flag: pb::Flag::Response as i32,
        channel_id: "gate01_somebody_1".into(),
        ..request("chat.user.talk", sequence, "bob")
    };
    harness.chat.send(harness.chat.push_frame(GATE, &[&channel], header.clone(), b"yours"));
    assert_eq!(alice.response(sequence).await.body, "yours");

    // One for another command or sequence matches nothing.
    let other = pb::Header { sequence: sequence + 50, ..header.clone() };
    harness.chat.send(harness.chat.push_frame(GATE, &[&channel], other, b"not yours"));
    harness.chat.send(harness.chat.push_frame(GATE, &[&channel], header, b"a second time"));
    harness.chat.push(&[&channel], 1, b"behind it").await;
    assert_eq!(alice.push().await.body, "behind it");
    assert!(alice.leftovers().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_response_of_another_instance_than_the_one_asked_matches_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let sequence = alice.talk("bob", "x").await;
    let asked = harness.chat.packet("chat.user.talk", 0).await;
    let header = pb::Header { flag: pb::Flag::Response as i32, ..request("chat.user.talk", sequence, "bob") };
    harness.login.send(harness.login.push_frame(GATE, &[&channel], header, b"an impostor's"));
    harness.login.push(&[&channel], 1, b"behind it").await;
    assert_eq!(alice.push().await.body, "behind it");
    harness.chat.answer(&asked, 0, b"the right one");
    assert_eq!(alice.response(sequence).await.body, "the right one");
    harness.metric_is("gateway_reject_total", &["response_unmatched"], 1.0).await;
}

#[rstest]
#[tokio::test]
async fn a9_the_limits_of_a_header_hold_on_the_wire(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("metas", "dest", "channel id", "meta value", "header")] what: &str,
) {
    let harness = TestGateway::start().await;
    let header = |extra: usize| {
        let mut header = request("chat.user.talk", 5, "bob");
        match what {
            "metas" => header.meta = vec![meta("", ""); 32 + extra],
            "dest" => header.dest = "d".repeat(256 + extra),
            "channel id" => header.channel_id = "c".repeat(512 + extra),
            "meta value" => header.meta = vec![meta("k", &"v".repeat(256 + extra))],
            _ => header.meta = vec![meta(&"k".repeat(120), &"v".repeat(120)); 31 + extra],
        }
        header
    };
    let (mut alice, _) = harness.client(kind, "alice").await;
    let stream = alice.stream_for(Purpose::Messages);
    alice.send_on(stream, &header(0), b"").await;
    assert_eq!(alice.response(5).await.header.status, 0, "at the limit");
    // 33 metas of 250 bytes are more than 8 KiB together.
    let above = if what == "header" { pb::Header { dest: "d".repeat(256), ..header(1) } } else { header(1) };
    let above = if what == "header" { pb::Header { channel_id: "c".repeat(512), ..above } } else { above };
    alice.send_on(stream, &above, b"").await;
    assert!(alice.closed_with(3503).await.messages.is_empty());
}

#[rstest]
#[tokio::test]
async fn a10_a_flood_of_pings_is_answered_ping_by_ping(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: usize = 5000;
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let pings = [encode(Opcode::Ping, b"").to_vec(), encode_basic(Dialect::XIm, BASIC_PING).to_vec()];
    alice.write_on(alice.stream_for(Purpose::Heartbeat), pings.concat().repeat(COUNT)).await;
    for n in 0..COUNT * 2 {
        let is_frame = alice
            .take("a pong", |seen| match seen {
                Seen::Frame(_, frame) => Some(frame.opcode == Opcode::Pong),
                Seen::End(..) => None,
            })
            .await;
        assert_eq!(is_frame, n % 2 == 0, "in the order of the pings");
    }
    alice.heartbeat(true).await;
    assert!(alice.leftovers().is_empty());
}

#[rstest]
#[tokio::test]
async fn g1_answers_in_one_write_beyond_the_bound_of_a_queue_all_arrive(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: usize = 60;
    let harness = TestGateway::with_limits(|limits| limits.max_queued_messages = 4).await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let mut sequences = Vec::new();
    for _ in 0..COUNT {
        sequences.push(alice.talk("bob", "x").await);
    }
    harness.chat.packet("chat.user.talk", COUNT - 1).await;
    let answers: Vec<_> = harness
        .chat
        .packets("chat.user.talk")
        .iter()
        .map(|packet| harness.chat.answer_frame(packet))
        .collect();
    harness.chat.send(answers.concat());
    for sequence in sequences {
        assert_eq!(alice.response(sequence).await.header.status, 0);
    }
}

#[rstest]
#[tokio::test]
async fn g9_at_a_quiet_moment_the_counters_balance(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    const COUNTERS: [(&str, &[&str]); 5] = [
        ("gateway_requests_received_total", &[]),
        ("gateway_requests_forwarded_total", &[]),
        ("gateway_requests_rejected_total", &[]),
        ("gateway_answers_total", &["origin=\"service\""]),
        ("gateway_answers_total", &["origin=\"gateway\"", "status=\"103\""]),
    ];
    let mut before = Vec::new();
    for (name, labels) in COUNTERS {
        before.push(harness.metric(name, labels).await);
    }
    for command in ["chat.user.talk", "nobody.home", "chat.talk.ack", "BAD", "chat.user.talk"] {
        let sequence = alice.request(command, "bob", b"x").await;
        alice.response(sequence).await;
    }
    let mut grown = Vec::new();
    for (at, (name, labels)) in COUNTERS.into_iter().enumerate() {
        grown.push(harness.metric(name, labels).await - before[at]);
    }
    assert_eq!(grown, [5.0, 3.0, 2.0, 3.0, 2.0]);
    assert_eq!(before[0], before[1] + before[2], "in = forwarded + rejected");
    harness.metric_is("gateway_pending_requests", &[], 0.0).await;
}

#[rstest]
#[tokio::test]
async fn g6_a_client_above_its_rate_is_read_more_slowly_and_loses_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const RATE: u32 = 100;
    let harness = TestGateway::with_limits(|limits| limits.frames_per_second = RATE).await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let (mut bob, _) = harness.client(kind, "bob").await;
    let since = tokio::time::Instant::now();
    // The burst is twice the rate; what is above it takes a second, less the frames of one turn.
    let count = RATE * 3;
    let mut frames = Vec::new();
    for n in 0..count {
        frames.extend(alice.encode(&request("chat.user.talk", n, "bob"), b"x"));
    }
    alice.write_on(alice.stream_for(Purpose::Messages), frames).await;
    let sequence = bob.talk("alice", "not delayed").await;
    bob.response(sequence).await;
    for n in 0..count {
        assert_eq!(alice.response(n).await.header.status, 0);
    }
    assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
}
