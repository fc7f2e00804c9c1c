//! What only QUIC has: streams beside each other, limits on them, and a client that changes its address.

use std::time::Duration;

use gateway::wire::frame::{Opcode, head};
use quinn::{ConnectionError, VarInt};
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::identity;
use crate::support::raw::Kind::{self, QuicMany, QuicOne};
use crate::support::raw::{Options, request};
use crate::support::soon;
use crate::support::stream::{Seen, StreamEnd, StreamOf};

fn end_of(seen: &Seen) -> Option<(StreamOf, StreamEnd)> {
    if let Seen::End(stream, end) = seen { Some((*stream, *end)) } else { None }
}

#[tokio::test]
async fn g8_a4_a_stalled_frame_on_one_stream_delays_no_other_and_ends_only_its_stream() {
    let harness = TestGateway::with_limits(|limits| limits.frame_deadline = Duration::from_millis(600)).await;
    let (mut alice, channel) = harness.client(QuicMany, "alice").await;
    // A large frame that never ends.
    alice.write_on(3, head(Opcode::Binary, 60_000)).await;
    alice.write_on(3, vec![b'x'; 30_000]).await;
    for _ in 0..20 {
        let sequence = alice.talk("bob", "passes").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
    }
    assert_eq!(
        alice.take("the end of the stalled stream", end_of).await,
        (StreamOf::Own(3), StreamEnd::Broken)
    );
    let stopped = soon("STOP_SENDING", alice.quic_stream(3).stopped()).await.unwrap();
    assert!(stopped.is_some(), "the gateway stopped the stream");

    let sequence = alice.talk("bob", "lives on").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    harness.chat.push(&[&channel], 1, b"pushes too").await;
    assert_eq!(alice.push().await.body, "pushes too");
    assert!(harness.login.packets("login.signout").is_empty());
}

#[tokio::test]
async fn g8_an_answer_a_client_does_not_read_delays_no_other_stream() {
    let harness = TestGateway::start().await;
    let options = Options { receive_buffer: Some(8 * 1024), ..Options::default() };
    let mut alice = harness.connect_with(QuicMany, options).await;
    let channel = alice.login("alice").await;
    alice.stop_reading_stream(3);
    harness.chat.answer_with("chat.large", 0, vec![b'x'; 150_000]);
    alice.send_on(3, &request("chat.large", 60, ""), b"").await;
    harness.chat.packet("chat.large", 0).await;
    for n in 0..20 {
        let sequence = alice.talk("bob", "passes").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
        harness.chat.push(&[&channel], n, b"passes too").await;
        assert_eq!(alice.push().await.header.sequence, n);
    }
    alice.read_on();
    let large = alice.response(60).await;
    assert_eq!((large.stream, large.body.len()), (StreamOf::Own(3), 150_000));
}

#[tokio::test]
async fn finishing_a_stream_leaves_it_open_for_its_answers_and_ends_only_it() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    harness.chat.hold("chat.user.talk");
    alice.send_on(3, &request("chat.user.talk", 50, "bob"), b"one").await;
    alice.send_on(3, &request("chat.user.talk", 51, "bob"), b"two").await;
    alice.finish(3).await;
    for n in 0..2 {
        let packet = harness.chat.packet("chat.user.talk", n).await;
        let sequence = packet.header.sequence;
        harness.chat.answer_default(&packet);
        assert_eq!(alice.response(sequence).await.stream, StreamOf::Own(3));
    }
    assert_eq!(alice.take("the end of the stream", end_of).await, (StreamOf::Own(3), StreamEnd::Finished));
    harness.chat.unhold("chat.user.talk");
    let sequence = alice.talk("bob", "on another").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn g1_a_finished_stream_gets_the_answers_the_gateway_makes(#[values(true, false)] link_lost: bool) {
    let harness =
        TestGateway::with_limits(|limits| limits.request_deadline = Duration::from_millis(700)).await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    harness.chat.hold("chat.user.talk");
    alice.send_on(3, &request("chat.user.talk", 50, "bob"), b"one").await;
    alice.finish(3).await;
    harness.chat.packet("chat.user.talk", 0).await;
    if link_lost {
        harness.chat.reset_link();
    }
    let answer = alice.response(50).await;
    assert_eq!((answer.stream, answer.header.status), (StreamOf::Own(3), 210));
    assert_eq!(alice.take("the end of the stream", end_of).await, (StreamOf::Own(3), StreamEnd::Finished));
}

#[tokio::test]
async fn c7_a_reset_stream_drops_its_answers_and_starts_no_work_for_half_a_frame() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    harness.chat.hold("chat.user.talk");
    alice.send_on(3, &request("chat.user.talk", 50, "bob"), b"one").await;
    let packet = harness.chat.packet("chat.user.talk", 0).await;
    let half = alice.encode(&request("chat.user.talk", 51, "bob"), b"never complete");
    alice.write_on(4, &half[..half.len() - 2]).await;
    for stream in [3, 4] {
        alice.quic_stream(stream).reset(VarInt::from_u32(7)).unwrap();
    }
    harness.chat.answer_default(&packet);
    harness.chat.unhold("chat.user.talk");
    let sequence = alice.talk("bob", "lives on").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.packets("chat.user.talk").len(), 2, "the half frame was not forwarded");
}

#[rstest]
#[tokio::test]
async fn c15_a_change_of_address_keeps_session_channel_and_streams(#[values(QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "from the old address").await;
    alice.response(sequence).await;
    for n in 0..3 {
        let (endpoint, _) = alice.quic();
        let before = endpoint.local_addr().unwrap();
        endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        assert_ne!(endpoint.local_addr().unwrap(), before);

        let sequence = alice.talk("bob", "from the new address").await;
        assert_eq!(alice.response(sequence).await.header.status, 0);
        let packets = harness.chat.packets("chat.user.talk");
        assert_eq!(packets.last().unwrap().header.channel_id, channel);
        harness.chat.push(&[&channel], n, b"found you").await;
        assert_eq!(alice.push().await.header.sequence, n);
        alice.heartbeat(true).await;
    }
    assert_eq!(harness.login.packets("login.signin").len(), 1, "no second login");
    assert!(harness.login.packets("login.signout").is_empty());
}

#[rstest]
#[tokio::test]
async fn pushes_come_on_the_login_stream_of_a_client_that_grants_no_other(
    #[values(QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let options = Options { refuses_push_stream: true, ..Options::default() };
    let mut alice = harness.connect_with(kind, options).await;
    let channel = alice.login("alice").await;
    for n in 0..20 {
        harness.chat.push(&[&channel], n, b"on stream 0").await;
    }
    for n in 0..20 {
        // push() asserts the stream.
        assert_eq!(alice.push().await.header.sequence, n);
    }
    let sequence = alice.talk("bob", "and answers still come").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[tokio::test]
async fn c12_unidirectional_streams_of_a_client_are_not_allowed() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(QuicOne, "alice").await;
    alice.heartbeat(true).await;
    let connection = alice.quic().1.clone();
    tokio::select! {
        biased;
        stream = connection.open_uni() => panic!("granted: {stream:?}"),
        () = alice.heartbeat(false) => {}
    }
    assert!(connection.send_datagram(bytes::Bytes::from_static(b"x")).is_err(), "no datagrams either");
}

#[tokio::test]
async fn c6_eight_streams_are_granted_and_more_when_some_ended() {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(QuicMany, "alice").await;
    for stream in 1..8 {
        alice.send_on(stream, &request("chat.user.talk", stream as u32 + 100, "bob"), b"x").await;
        assert_eq!(alice.response(stream as u32 + 100).await.stream, StreamOf::Own(stream));
    }
    let connection = alice.quic().1.clone();
    tokio::select! {
        biased;
        stream = connection.open_bi() => panic!("a ninth was granted: {stream:?}"),
        () = alice.heartbeat(false) => {}
    }
    // quinn announces new room when more than an eighth of it is free: two streams of eight.
    for stream in [5, 6] {
        alice.finish(stream).await;
        assert_eq!(
            alice.take("the end of the stream", end_of).await,
            (StreamOf::Own(stream), StreamEnd::Finished)
        );
    }
    alice.send_on(8, &request("chat.user.talk", 200, "bob"), b"x").await;
    assert_eq!(alice.response(200).await.stream, StreamOf::Own(8));
}

#[tokio::test]
async fn c7_more_streams_in_a_minute_than_allowed_close_the_connection_3506() {
    let harness = TestGateway::with_limits(|limits| limits.quic_streams_per_minute = 20).await;
    let (mut alice, channel) = harness.client(QuicMany, "alice").await;
    let connection = alice.quic().1.clone();
    let churn = async {
        while let Ok((mut send, mut recv)) = connection.open_bi().await {
            let _ = send.write_all(&[9, 0, 0, 0, 0]).await;
            let _ = send.finish();
            let _ = recv.read_to_end(16).await;
        }
    };
    soon("the end of the churn", churn).await;
    alice.closed_with(3506).await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "abuse");
}

#[tokio::test]
async fn the_login_stream_is_stream_zero_whatever_arrives_first() {
    let harness = TestGateway::start().await;
    let mut alice = harness.connect(QuicMany).await;
    // Streams 1 and 2 speak first, with heartbeats; nothing is read of them before the login is answered.
    alice.open(2).await;
    alice.write_on(1, [9, 0, 0, 0, 0]).await;
    alice.write_on(2, alice.encode(&request("chat.user.talk", 70, "bob"), b"early")).await;
    alice.login("alice").await;
    assert_eq!(alice.response(70).await.stream, StreamOf::Own(2));
    let stream = alice
        .take("a pong", |seen| match seen {
            Seen::Frame(stream, frame) if frame.opcode == Opcode::Pong => Some(*stream),
            _ => None,
        })
        .await;
    assert_eq!(stream, StreamOf::Own(1));
}

#[rstest]
#[tokio::test]
async fn c20_another_alpn_is_refused_in_the_handshake(#[values(&[], &[b"h3".as_ref()])] alpn: &[&[u8]]) {
    let harness = TestGateway::start().await;
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = identity::quic_client(alpn, quinn::TransportConfig::default());
    let connecting = endpoint.connect_with(config, harness.target.quic, "localhost").unwrap();
    let error = soon("the refusal", connecting).await.expect_err("refused");
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "{error:?}");
}

#[tokio::test]
async fn c2_clients_whose_address_is_validated_first_get_in() {
    let harness = TestGateway::with_limits(|limits| limits.retry_from = 0).await;
    for n in 0..3 {
        let (mut client, _) = harness.client(QuicMany, &format!("user{n}")).await;
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
    }
    assert!(harness.metric("gateway_reject_total", &["quic_retry"]).await >= 3.0);
}
