//! TLS on TCP: the handshake and what is particular to it. All the rest is the same as everywhere.

use std::time::Duration;

use gateway_client::{Client, ConnectOptions, TrustedCa};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::harness::TestGateway;
use crate::support::identity::{self, ALPN, CERTIFICATES};
use crate::support::raw::Kind::{self, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::soon;

/// Fatal: internal_error, in clear.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// Reads until the gateway has ended the connection, however it does.
async fn ended(socket: &mut TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    let _reset_or_not = soon("the end", socket.read_to_end(&mut told)).await;
    told
}

#[rstest]
#[case::http(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n".as_slice())]
#[case::a_frame(b"\x02\0\0\0\x04abcd")]
#[case::proxy(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n")]
#[tokio::test]
async fn d7_plain_bytes_on_the_tls_port_are_closed_at_once_and_counted(#[case] hello: &[u8]) {
    let harness = TestGateway::start().await;
    let mut client = TcpStream::connect(harness.target.tls).await.unwrap();
    client.write_all(hello).await.unwrap();
    let told = ended(&mut client).await;
    assert_eq!(told.first(), Some(&0x15), "a TLS alert: {told:?}");
    harness.metric_is("gateway_reject_total", &["handshake_failed"], 1.0).await;
    harness.metric_is("gateway_connections", &["\"tls\""], 0.0).await;
    harness.metric_is("gateway_closes_total", &["\"tls\"", "peer_lost"], 1.0).await;
}

#[tokio::test]
async fn d7_a_tls_handshake_on_the_plain_port_is_closed_at_once_and_counted() {
    let harness = TestGateway::start().await;
    let socket = TcpStream::connect(harness.target.tcp).await.unwrap();
    identity::tls_connect(socket, &[ALPN]).await.expect_err("it is no TLS port");
    harness.metric_is("gateway_reject_total", &["bad_opcode"], 1.0).await;
    harness.metric_is("gateway_connections", &["\"tcp\""], 0.0).await;
}

#[rstest]
#[tokio::test]
async fn d7_a_handshake_that_does_not_come_is_closed_at_its_deadline(#[values(0, 1, 100)] sent: usize) {
    let harness = TestGateway::with_limits(|limits| {
        limits.handshake_deadline = Duration::from_millis(300);
        limits.login_deadline = Duration::from_secs(60);
    })
    .await;
    let since = Instant::now();
    let mut client = TcpStream::connect(harness.target.tls).await.unwrap();
    // The beginning of a ClientHello of 512 bytes.
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(512, 7);
    client.write_all(&hello[..sent]).await.unwrap();
    // Others are accepted meanwhile: nobody waits for it.
    let _alice = harness.client(Tls, "alice").await;
    assert!(ended(&mut client).await.is_empty());
    assert!(since.elapsed() >= Duration::from_millis(300));
    harness.metric_is("gateway_reject_total", &["handshake_failed"], 1.0).await;
    harness.metric_is("gateway_connections", &["\"tls\""], 1.0).await;
}

#[tokio::test]
async fn b8_the_login_deadline_runs_from_the_accept_not_from_the_handshake() {
    let harness = TestGateway::with_limits(|limits| limits.login_deadline = Duration::from_secs(3)).await;
    let since = Instant::now();
    let socket = TcpStream::connect(harness.target.tls).await.unwrap();
    // The passing of time itself is what this is about.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut stream = identity::tls_connect(socket, &[ALPN]).await.unwrap();
    let shaken = Instant::now();
    let mut told = Vec::new();
    soon("the close", stream.read_to_end(&mut told)).await.unwrap();
    assert_eq!(told, b"\x08\0\0\0\x0f\x0b\xbflogin_timeout");
    assert!(since.elapsed() >= Duration::from_secs(3));
    // One second is left; from the handshake on it would be three.
    assert!(shaken.elapsed() < Duration::from_millis(2500), "{:?}", shaken.elapsed());
}

#[tokio::test]
async fn c20_no_alpn_is_fine_ours_is_chosen_and_another_is_refused() {
    let harness = TestGateway::start().await;
    let connect = async |alpn: &[&[u8]]| {
        let socket = TcpStream::connect(harness.target.tls).await.unwrap();
        identity::tls_connect(socket, alpn).await
    };
    assert_eq!(connect(&[]).await.unwrap().get_ref().1.alpn_protocol(), None);
    assert_eq!(connect(&[b"h2", ALPN]).await.unwrap().get_ref().1.alpn_protocol(), Some(ALPN));
    let stream = connect(&[ALPN]).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let refused = connect(&[b"h2"]).await.expect_err("another protocol");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "the alert arrives: {refused}");
    harness.metric_is("gateway_reject_total", &["\"alpn\""], 1.0).await;
    assert_eq!(harness.metric("gateway_reject_total", &["handshake_failed"]).await, 0.0);
}

/// A ClientHello of TLS 1.2, without the extension that would offer more.
#[tokio::test]
async fn d8_older_versions_of_tls_are_refused_with_an_alert() {
    let harness = TestGateway::start().await;
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Groups and signatures, without which it would be refused for another reason.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 0x17, 0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![0x16, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut client = TcpStream::connect(harness.target.tls).await.unwrap();
    client.write_all(&record).await.unwrap();
    let told = ended(&mut client).await;
    assert_eq!(told, [0x15, 3, 3, 0, 2, 2, 70], "fatal: protocol_version");
    harness.metric_is("gateway_reject_total", &["handshake_failed"], 1.0).await;
}

#[tokio::test]
async fn g6_a_full_gateway_turns_tls_clients_away_with_an_alert_before_any_handshake() {
    let harness = TestGateway::with_limits(|limits| limits.max_connections = 1).await;
    let _one = harness.client(Tcp, "one").await;
    for n in 1..=20 {
        let socket = TcpStream::connect(harness.target.tls).await.unwrap();
        if n % 2 == 0 {
            // It is refused before it has said anything, and what it says then must not make a reset of it.
            socket.readable().await.unwrap();
        }
        let error = identity::tls_connect(socket, &[ALPN]).await.expect_err("it is full");
        let told = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::InternalError);
        assert_eq!(told, Some(&alert), "{error:?}");
        harness.metric_is("gateway_reject_total", &["\"connections\""], f64::from(n)).await;
    }
}

#[tokio::test]
async fn f1_a_tls_client_whose_handshake_has_not_begun_gets_an_alert_when_the_gateway_goes_away() {
    let mut harness = TestGateway::start().await;
    let mut silent = TcpStream::connect(harness.target.tls).await.unwrap();
    harness.metric_is("gateway_connections", &["\"tls\""], 1.0).await;
    harness.drain();
    assert_eq!(ended(&mut silent).await, ALERT, "fatal: internal_error");
    harness.ended().await;
}

/// A reset would destroy the words on many systems, and shows here as an error of a later write.
#[rstest]
#[tokio::test]
async fn d9_who_is_turned_away_and_goes_on_sending_is_read_from(#[values(Tcp, Tls, Ws, Wss)] kind: Kind) {
    let harness = TestGateway::with_limits(|limits| limits.max_connections = 1).await;
    let _one = harness.client(Tcp, "one").await;
    let (address, words) = match kind {
        Tcp => (harness.target.tcp, b"\x08\0\0\0\x0c\x0b\xbboverloaded".as_slice()),
        Ws => (harness.target.ws, b"HTTP/1.1 503 Service Unavailable\r\n".as_slice()),
        Wss => (harness.target.wss, ALERT),
        _ => (harness.target.tls, ALERT),
    };
    let mut client = TcpStream::connect(address).await.unwrap();
    let told = ended(&mut client).await;
    let since = Instant::now();
    // For a round trip of a slow network; that it passes is what this is about.
    while since.elapsed() < Duration::from_millis(300) {
        client.write_all(&[0x16; 100]).await.expect("no reset");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(told.starts_with(words), "{told:?}");
}

#[tokio::test]
async fn h10_handshakes_of_tls_have_places_and_less_time_when_many_are_taken() {
    let harness = TestGateway::with_limits(|limits| {
        limits.max_handshakes = 4;
        limits.handshake_deadline = Duration::from_secs(60);
        limits.handshake_deadline_crowded = Duration::from_millis(700);
        limits.login_deadline = Duration::from_secs(60);
    })
    .await;
    let since = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(harness.target.tls).await.unwrap());
    }
    harness.metric_is("gateway_connections", &["\"tls\""], 4.0).await;
    let mut fifth = TcpStream::connect(harness.target.tls).await.unwrap();
    assert_eq!(ended(&mut fifth).await, ALERT, "fatal: internal_error");
    harness.metric_is("gateway_reject_total", &["\"handshakes\""], 1.0).await;
    // Those of QUIC and clients on plain TCP are others.
    let _alice = harness.client(QuicOne, "alice").await;
    let _bob = harness.client(Tcp, "bob").await;
    harness.metric_is("gateway_connections", &["\"tls\""], 2.0).await;
    assert!(since.elapsed() >= Duration::from_millis(700));
    let _carol = harness.client(Tls, "carol").await;
    assert_eq!(
        harness.metric("gateway_connections", &["\"tls\""]).await,
        3.0,
        "half of them have their time"
    );
}

#[tokio::test]
async fn the_end_of_the_certificate_is_in_the_metrics() {
    let harness = TestGateway::start().await;
    // What rcgen gives a certificate that asks for nothing: the first of January 4096.
    harness.metric_is("gateway_cert_not_after_seconds", &[], 67_090_118_400.0).await;
}

#[tokio::test]
async fn the_client_library_signs_in_and_talks_over_tls() {
    let harness = TestGateway::start().await;
    let ca = TrustedCa::from_der([CERTIFICATES.ca.clone()]).unwrap();
    let options = ConnectOptions::tls(harness.target.tls.to_string(), ca);
    let (client, mut pushes) = soon("a connection", Client::connect(options)).await.unwrap();
    client.login(&identity::token("alice")).await.unwrap();
    client.ping(gateway_client::Heartbeat::Frame).await.unwrap();
    let signin = harness.login.signin("alice").await;
    harness.chat.push(&[&signin.header.channel_id], 9, b"not a talk").await;
    assert_eq!(soon("the push", pushes.recv()).await.unwrap().header.sequence, 9);
    client.close().await;
    let signout = harness.login.signout(&signin.header.channel_id).await;
    assert_eq!(signout.meta("reason"), "bye");
    harness.metric_is("gateway_closes_total", &["\"tls\"", "\"bye\""], 1.0).await;
}
