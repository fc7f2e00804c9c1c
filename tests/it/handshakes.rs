//! Handshakes whose datagrams are many, come late or not at all, or come from elsewhere half way through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::NoneTokenStore;
use rstest::rstest;
use tokio::net::UdpSocket;

use crate::support::harness::TestGateway;
use crate::support::identity;
use crate::support::quic::{RawQuic, sizes_until_quiet, socket};

/// Longer than any timer of the gateway that answers a packet.
const QUIET: Duration = Duration::from_millis(1500);

/// What the path does to the datagrams of a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    Good,
    Reversed,
    /// The first one arrives last.
    FirstLate,
    /// It never arrives, and is sent again.
    FirstLost,
    LastLost,
}

impl Path {
    fn carry(self, datagrams: &mut Vec<Vec<u8>>) {
        match self {
            Self::Good => {}
            Self::Reversed => datagrams.reverse(),
            Self::FirstLate => datagrams.rotate_left(1),
            Self::FirstLost => drop(datagrams.remove(0)),
            Self::LastLost => drop(datagrams.pop()),
        }
    }
}

/// A client whose ClientHello takes so many datagrams, by protocols that nobody speaks.
async fn large_hello(gateway: SocketAddr, datagrams: usize) -> (RawQuic, Vec<Vec<u8>>) {
    /// Bytes of a protocol's name with its length.
    const OFFER: usize = 101;
    /// Bytes of a ClientHello that a datagram of 1,200 holds, roughly.
    const HELD: usize = 1140;
    let name = [b'x'; OFFER - 1];
    let mut alpn = vec![&name[..]; (datagrams - 1) * HELD / OFFER];
    alpn.push(identity::ALPN);
    let mut raw = RawQuic::offering(gateway, Arc::new(NoneTokenStore), &alpn).await;
    let flight = raw.datagrams();
    assert_eq!(flight.len(), datagrams);
    (raw, flight)
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hello_of_several_datagrams_ends_in_a_session_whatever_the_path_does_to_them(
    #[values(2, 10)] datagrams: usize,
    #[values(Path::Good, Path::Reversed, Path::FirstLate, Path::FirstLost, Path::LastLost)] path: Path,
    #[values(1, 2)] workers: usize,
) {
    let harness = TestGateway::with(|config| config.workers = workers).await;
    let (mut raw, mut flight) = large_hello(harness.target.quic, datagrams).await;
    path.carry(&mut flight);
    for datagram in &flight {
        raw.socket.send_to(datagram, harness.target.quic).await.unwrap();
    }
    raw.until("a handshake", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    assert!(raw.lost.is_none(), "{:?}", raw.lost);
    raw.sign_in("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().account, "alice");
    if path == Path::Good {
        assert_eq!(raw.lost_packets(), 0, "whatever arrives is kept until its turn");
    }
    assert_eq!(harness.metric("gateway_connections_opened_total", &["quic"]).await, 1.0);
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
}

/// Who sent so much from an address gets at most three times that there; how much it got.
async fn brought(from: &UdpSocket, gateway: SocketAddr, packets: &[Vec<u8>]) -> usize {
    let mut sent = 0;
    for packet in packets {
        sent += from.send_to(packet, gateway).await.unwrap();
    }
    let sizes = sizes_until_quiet(from, QUIET).await;
    println!("{sent} bytes from an address that is not proven brought {sizes:?}");
    let received = sizes.iter().sum();
    assert!(received <= 3 * sent, "{received} bytes for {sent}");
    received
}

/// A client that was asked to prove its address, and the Initial in which it does.
async fn asked(harness: &TestGateway) -> (RawQuic, Vec<Vec<u8>>) {
    let mut raw = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await;
    raw.flush().await;
    assert_eq!(raw.receive().await[0] & 0xf0, 0xf0, "a Retry");
    let proof = raw.datagrams();
    (raw, proof)
}

async fn opened(harness: &TestGateway) -> f64 {
    harness.metric("gateway_connections_opened_total", &["quic"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_c3_a_retry_token_proves_no_address_but_the_one_it_was_sent_to() {
    /// Less than any flight of a handshake.
    const A_CLOSE: usize = 100;
    let harness = TestGateway::with_limits(|limits| limits.retry_from = 0).await;
    let (mut raw, proof) = asked(&harness).await;
    let elsewhere = socket().await;
    let received = brought(&elsewhere, harness.target.quic, &proof).await;
    assert!(received < A_CLOSE, "{received} bytes: a handshake began");
    assert_eq!(opened(&harness).await, 0.0);
    let fresh = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await.datagrams();
    brought(&elsewhere, harness.target.quic, &fresh).await;
    assert_eq!(
        harness.metric("gateway_reject_total", &["quic_retry"]).await,
        2.0,
        "it is asked like anybody"
    );

    for packet in &proof {
        raw.socket.send_to(packet, harness.target.quic).await.unwrap();
    }
    raw.until("a handshake", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    assert!(raw.lost.is_none(), "{:?}", raw.lost);
    raw.sign_in("alice").await;
    assert_eq!(opened(&harness).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_client_that_proved_its_address_by_a_retry_proves_no_other_by_it() {
    let harness = TestGateway::with_limits(|limits| limits.retry_from = 0).await;
    let (mut raw, proof) = asked(&harness).await;
    for packet in &proof {
        raw.socket.send_to(packet, harness.target.quic).await.unwrap();
    }
    while raw.is_handshaking() {
        raw.receive().await;
    }
    // Half way through the handshake.
    let finished = raw.datagrams();
    let elsewhere = socket().await;
    brought(&elsewhere, harness.target.quic, &finished).await;
    for packet in &finished {
        raw.socket.send_to(packet, harness.target.quic).await.unwrap();
    }
    raw.until("a handshake", |raw| raw.is_confirmed() || raw.lost.is_some()).await;
    assert!(raw.lost.is_none(), "{:?}", raw.lost);
    raw.flush().await;
    // And behind it.
    let ping = raw.ping();
    let received = brought(&socket().await, harness.target.quic, &[ping]).await;
    assert!(received > 0, "the address is challenged");
    let out = harness.metric("gateway_unproven_bytes_total", &["\"out\""]).await;
    let inward = harness.metric("gateway_unproven_bytes_total", &["\"in\""]).await;
    assert!(out > 0.0 && out <= 3.0 * inward, "{out} of {inward}");
}
