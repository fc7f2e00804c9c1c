//! Draining, and what the monitor says meanwhile.

use std::time::Duration;
use tokio::io::AsyncReadExt as _;

use gateway::wire::dialect::Dialect;
use gateway::wire::pb;
use quinn::ConnectionError;
use rstest::rstest;

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::soon;

#[rstest]
#[tokio::test]
async fn f1_draining_closes_every_channel_3000_and_signs_it_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut harness = TestGateway::start().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        let (mut client, channel) = harness.client(kind, &format!("user{n}")).await;
        let sequence = client.talk("bob", "x").await;
        client.response(sequence).await;
        clients.push((client, channel));
    }
    harness.drain();
    for (client, channel) in &mut clients {
        client.closed_with(3000).await;
        assert_eq!(harness.login.signout(channel).await.meta("reason"), "draining");
    }
    harness.ended().await;
    assert_eq!(harness.login.packets("login.signout").len(), 5, "one each");
}

#[rstest]
#[tokio::test]
async fn f1_answers_that_are_there_are_flushed_before_the_close(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let mut sequences = Vec::new();
    for _ in 0..50 {
        sequences.push(alice.talk("bob", "x").await);
    }
    harness.chat.packet("chat.user.talk", 49).await;
    harness.chat.push(&[&channel], 7, b"behind the answers").await;
    // The push was written, and the answers were queued ahead of it.
    assert_eq!(alice.push().await.header.sequence, 7);
    harness.drain();
    let farewell = alice.closed_with(3000).await;
    for sequence in sequences {
        assert_eq!(farewell.response(sequence).header.status, 0);
    }
}

#[tokio::test]
async fn f1_a_draining_gateway_is_not_ready_and_takes_nobody_new() {
    let mut harness = TestGateway::start().await;
    // A request without an answer holds the end of the drain back.
    let (mut alice, channel) = harness.client(Tcp, "alice").await;
    let _bob = harness.client(QuicOne, "bob").await;
    let mut stranger = harness.connect(Tcp).await;
    harness.chat.hold("chat.user.talk");
    let sequence = alice.talk("bob", "the last one").await;
    let last = harness.chat.packet("chat.user.talk", 0).await;
    assert_eq!(harness.get("/health").await.0, 200);
    harness.drain();
    harness.ready_is(503).await;
    assert_eq!(harness.get("/health").await.0, 200);

    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = identity::quic_client(&[identity::ALPN], quinn::TransportConfig::default());
    let connecting = endpoint.connect_with(config, harness.target.quic, "localhost").unwrap();
    let error = soon("the refusal", connecting).await.expect_err("refused");
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "refused at once: {error:?}");

    // Who has connected is told; then nobody listens any more.
    stranger.closed_with(3000).await;
    soon("the closed listener", async {
        while let Ok(mut late) = tokio::net::TcpStream::connect(harness.target.tcp).await {
            let mut told = Vec::new();
            late.read_to_end(&mut told).await.unwrap();
            assert_eq!(told, b"\x08\0\0\0\x0a\x0b\xb8draining");
        }
    })
    .await;

    harness.chat.answer_default(&last);
    let farewell = alice.closed_with(3000).await;
    assert_eq!(farewell.response(sequence).header.status, 0, "its answer was waited for");
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "draining");
    harness.ended().await;
    assert_eq!(harness.login.packets("login.signin").len(), 2);
    assert_eq!(harness.login.packets("login.signout").len(), 2);
}

#[tokio::test]
async fn readiness_waits_for_one_link_of_every_service() {
    let (chat, waker) = FakeLogic::dormant(Dialect::XIm);
    let harness = TestGateway::unready(FakeLogic::start(Dialect::XIm), chat, Dialect::XIm, |config| {
        config.limits.backoff_first = Duration::from_millis(20);
        config.limits.backoff_max = Duration::from_millis(50);
    });
    harness.login.handshake(0).await;
    let (status, body) = harness.get("/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("chat"), "the reason is named: {body}");
    assert_eq!(harness.get("/health").await.0, 200);
    waker.wake();
    harness.ready().await;

    // One link was enough for good: a lost chat service does not take the gateway out of rotation.
    harness.chat.refuse(1000);
    harness.chat.reset_link();
    harness.chat.ended(0).await;
    assert_eq!(harness.get("/ready").await.0, 200);
    assert_eq!(harness.get("/no/such/path").await.0, 404);
}

#[rstest]
#[tokio::test]
async fn the_monitor_counts_what_happens(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let transport = match kind {
        Tcp => "transport=\"tcp\"",
        Tls => "transport=\"tls\"",
        Ws => "transport=\"ws\"",
        Wss => "transport=\"wss\"",
        QuicOne | QuicMany => "transport=\"quic\"",
    };
    let (mut alice, channel) = harness.client(kind, "alice").await;
    assert_eq!(harness.metric("gateway_connections", &[transport]).await, 1.0);
    let sequence = alice.talk("bob", "x").await;
    alice.response(sequence).await;
    let unknown = alice.request("chat.no.such.command", "", b"").await;
    assert_eq!(alice.response(unknown).await.header.status, pb::Status::Success as i32);
    let talks = ["direction=\"in\"", "command=\"chat.user.talk\""];
    assert_eq!(harness.metric("gateway_packets_total", &talks).await, 1.0);
    assert_eq!(harness.metric("gateway_packets_total", &["direction=\"in\"", "\"other\""]).await, 1.0);
    assert!(harness.metric("gateway_request_seconds_count", &[]).await >= 2.0);
    alice.bye().await;
    harness.login.signout(&channel).await;
    drop(alice);
    harness.metric_is("gateway_connections", &[transport], 0.0).await;
    harness.metric_is("gateway_closes_total", &[transport, "reason=\"bye\""], 1.0).await;
}

#[test]
fn a_port_that_is_taken_is_named_with_its_setting() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = |change: &dyn Fn(&mut gateway::config::Config)| {
        let mut config = crate::support::harness::config();
        change(&mut config);
        gateway::gateway::Gateway::start(config).expect_err("the port is taken").to_string()
    };
    let address = tcp.local_addr().unwrap();
    let error = taken(&|config| config.tcp = vec![address]);
    assert!(error.contains("tcp.listen") && error.contains(&address.to_string()), "{error}");
    let error = taken(&|config| config.tls.as_mut().unwrap().listen = vec![address]);
    assert!(error.contains("tcp.tls_listen") && error.contains(&address.to_string()), "{error}");
    let error = taken(&|config| config.monitor = Some(address));
    assert!(error.contains("monitor.listen") && error.contains(&address.to_string()), "{error}");
    let address = udp.local_addr().unwrap();
    let error = taken(&|config| config.quic.as_mut().unwrap().listen = vec![address]);
    assert!(error.contains("quic.listen") && error.contains(&address.to_string()), "{error}");
}

#[rstest]
#[tokio::test]
async fn a_gateway_that_is_dropped_ends_its_connections_at_once(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    drop(harness);
    alice.farewell().await;
}
