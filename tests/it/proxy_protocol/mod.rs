//! The PROXY protocol: whom the gateway believes, whose address it uses, and what it refuses.

mod forwarded;
mod haproxy;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use gateway::config::{Config, ProxyProtocol, TrustedPeers};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Raw};
use crate::support::soon;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n";

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x01\xbb";

/// With a field of four bytes behind the addresses.
const V2_V6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2b\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x30\x39\x01\xbb\x04\0\x04abcd";

const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const UNSPECIFIED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";

const UNKNOWN: &[u8] = b"PROXY UNKNOWN ::1 ::1 1 2\r\n";

/// The protocol for these balancers; by default this machine, which all clients of the tests are on.
fn proxied(is_required: bool, trusted: &str) -> impl FnOnce(&mut Config) {
    let trusted = TrustedPeers::parse([trusted]).unwrap();
    move |config| {
        let proxy = Arc::new(ProxyProtocol { is_required, trusted });
        config.websocket.as_mut().expect("it is on").proxy = Some(Arc::clone(&proxy));
        config.tcp_proxy = Some(proxy);
    }
}

const HERE: &str = "127.0.0.0/8";

fn preface(preface: &'static [u8]) -> Options {
    Options { preface, ..Options::default() }
}

#[rstest]
#[case::v1(V1, "192.0.2.7")]
#[case::v2(V2, "192.0.2.7")]
#[case::v6(V2_V6, "2001:db8::7")]
#[case::local(LOCAL, "127.0.0.1")]
#[case::unspecified(UNSPECIFIED, "127.0.0.1")]
#[case::unknown(UNKNOWN, "127.0.0.1")]
#[tokio::test]
async fn d6_services_are_told_the_address_of_the_header(
    #[case] header: &'static [u8],
    #[case] address: &str,
    #[values(Tcp, Tls, Ws, Wss)] kind: Kind,
    #[values(false, true)] is_required: bool,
) {
    let harness = TestGateway::with(proxied(is_required, HERE)).await;
    let mut alice = harness.connect_with(kind, preface(header)).await;
    alice.login("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, address);
    let sequence = alice.talk("bob", "hello").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
}

#[tokio::test]
async fn d6_a_header_may_come_byte_by_byte_and_with_the_first_frame() {
    let harness = TestGateway::with(proxied(true, HERE)).await;
    for (number, header) in [V1, V2, V2_V6, LOCAL, UNKNOWN].into_iter().enumerate() {
        let account = format!("slow{number}");
        let mut slow = harness.connect(Tcp).await;
        for byte in header {
            slow.write([*byte]).await;
            // So that each comes in a packet of its own; nothing is proven by it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slow.login(&account).await;
        harness.login.signin(&account).await;
    }
    // Cut in two anywhere, with the sign-in in the packet of the second part.
    for cut in 0..=V1.len() {
        let mut cut_in_two = harness.connect_with(Tcp, preface(&V1[..cut])).await;
        let login = gateway::wire::pb::LoginReq {
            token: crate::support::identity::token(&format!("cut{cut}")),
            ..Default::default()
        };
        let frame = cut_in_two.signin_frame(1, &login);
        tokio::time::sleep(Duration::from_millis(1)).await;
        cut_in_two.write([&V1[cut..], &frame].concat()).await;
        cut_in_two.response(1).await;
        assert_eq!(harness.login.signin(&format!("cut{cut}")).await.session().remote_ip, "192.0.2.7");
    }
}

/// Reads until the gateway has ended the connection.
async fn told(socket: &mut TcpStream) -> Vec<u8> {
    let mut told = Vec::new();
    let _reset_or_not = soon("the end", socket.read_to_end(&mut told)).await;
    told
}

/// The close frame 3503, and what HTTP and TLS have in its place.
fn protocol_error(kind: Kind) -> &'static [u8] {
    match kind {
        Tcp => b"\x08\0\0\0\x10\x0d\xafprotocol_error",
        Ws => b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        _ => &[21, 3, 3, 0, 2, 2, 80],
    }
}

fn listener(harness: &TestGateway, kind: Kind) -> SocketAddr {
    match kind {
        Tcp => harness.target.tcp,
        Ws => harness.target.ws,
        Wss => harness.target.wss,
        _ => harness.target.tls,
    }
}

#[rstest]
#[case::missing(b"\x02\0\0\0\x04abcd")]
#[case::tls(b"\x16\x03\x01\x02\0\x01\0\x01\xfc")]
#[case::no_line(b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443 6\r\n")]
#[case::too_long(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat())]
#[case::version(b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c")]
#[case::oversize(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff")]
#[case::undersize(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b")]
#[case::checksum(
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x07\xc6\x33\x64\x01\x30\x39\x01\xbb\x03\0\x04\0\0\0\0"
)]
#[tokio::test]
async fn d6_a_balancer_that_sends_something_else_is_closed_at_once_and_counted(
    #[case] bytes: &[u8],
    #[values(Tcp, Tls, Ws, Wss)] kind: Kind,
) {
    let harness = TestGateway::with(proxied(true, HERE)).await;
    let mut client = TcpStream::connect(listener(&harness, kind)).await.unwrap();
    client.write_all(bytes).await.unwrap();
    assert_eq!(told(&mut client).await, protocol_error(kind));
    harness.metric_is("gateway_reject_total", &["proxy_header"], 1.0).await;
    harness.metric_is("gateway_reject_total", &[], 1.0).await;
    let mut alice = harness.connect_with(kind, preface(V2)).await;
    alice.login("alice").await;
}

#[rstest]
#[case(b"", Tcp)]
#[case(b"PROXY TCP4 192.0.2.7 ", Tcp)]
#[case(&V2[..20], Tls)]
#[case(b"PROXY", Ws)]
#[case(b"", Wss)]
#[tokio::test]
async fn d6_a_header_that_does_not_come_is_closed_at_its_deadline(#[case] begun: &[u8], #[case] kind: Kind) {
    let harness = TestGateway::with(|config| {
        config.limits.login_deadline = Duration::from_millis(300);
        proxied(true, HERE)(config);
    })
    .await;
    let since = std::time::Instant::now();
    let mut client = TcpStream::connect(listener(&harness, kind)).await.unwrap();
    client.write_all(begun).await.unwrap();
    assert_eq!(told(&mut client).await, protocol_error(kind));
    assert!(since.elapsed() >= Duration::from_millis(300));
    harness.metric_is("gateway_reject_total", &["proxy_header"], 1.0).await;
}

#[tokio::test]
async fn d6_a_header_that_ends_with_the_connection_is_counted() {
    let harness = TestGateway::with(proxied(false, HERE)).await;
    let mut client = TcpStream::connect(harness.target.tcp).await.unwrap();
    client.write_all(&V1[..20]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(told(&mut client).await, protocol_error(Tcp));
    harness.metric_is("gateway_reject_total", &["proxy_header"], 1.0).await;
}

#[rstest]
#[tokio::test]
async fn d6_where_headers_are_required_only_balancers_get_in(#[values(Tcp, Tls, Ws, Wss)] kind: Kind) {
    let harness = TestGateway::with(proxied(true, "192.0.2.0/24")).await;
    for bytes in [V1, b""] {
        let mut client = TcpStream::connect(listener(&harness, kind)).await.unwrap();
        client.write_all(bytes).await.unwrap();
        assert_eq!(told(&mut client).await, protocol_error(kind));
    }
    harness.metric_is("gateway_reject_total", &["proxy_untrusted"], 2.0).await;
    harness.metric_is("gateway_reject_total", &[], 2.0).await;
}

#[rstest]
#[case(V1)]
#[case(V2)]
#[tokio::test]
async fn d6_where_headers_are_optional_anybody_gets_in_and_only_balancers_are_believed(
    #[case] header: &'static [u8],
    #[values(Tcp, Tls, Ws, Wss)] kind: Kind,
) {
    let harness = TestGateway::with(proxied(false, "192.0.2.0/24")).await;
    let mut client = TcpStream::connect(listener(&harness, kind)).await.unwrap();
    client.write_all(header).await.unwrap();
    let said = told(&mut client).await;
    match kind {
        Tcp => assert_eq!(said, protocol_error(Tcp)),
        Ws => assert!(said.starts_with(b"HTTP/1.1 400 "), "{said:?}"),
        _ => assert_eq!(said.first(), Some(&0x15), "an alert: {said:?}"),
    }
    let reason = match kind {
        Tcp => "bad_opcode",
        Ws => "upgrade_refused",
        _ => "handshake_failed",
    };
    harness.metric_is("gateway_reject_total", &[reason], 1.0).await;
    let mut alice = harness.connect(kind).await;
    alice.login("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, "127.0.0.1");
}

#[rstest]
#[tokio::test]
async fn d6_where_headers_are_optional_a_balancer_may_send_none(#[values(Tcp, Tls, Ws, Wss)] kind: Kind) {
    let harness = TestGateway::with(proxied(false, HERE)).await;
    let mut alice = harness.connect(kind).await;
    alice.login("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, "127.0.0.1");
}

/// Connects and ends at once, with a reset as balancers do.
async fn check(to: SocketAddr, header: &[u8], with_reset: bool) {
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(header).await.unwrap();
    if with_reset {
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    } else {
        socket.shutdown().await.unwrap();
        told(&mut socket).await;
    }
}

#[rstest]
#[case::off(None, b"")]
#[case::optional(Some(false), b"")]
#[case::required(Some(true), b"")]
#[case::local(Some(true), LOCAL)]
#[case::unspecified(Some(true), UNSPECIFIED)]
#[case::unknown(Some(true), UNKNOWN)]
#[tokio::test]
async fn d12_checks_of_a_balancer_that_send_nothing_are_no_refusals(
    #[case] is_required: Option<bool>,
    #[case] header: &'static [u8],
    #[values(Tcp, Tls, Ws, Wss)] kind: Kind,
    #[values(false, true)] with_reset: bool,
) {
    const CHECKS: usize = 10;
    let harness = TestGateway::with(|config| {
        if let Some(is_required) = is_required {
            proxied(is_required, HERE)(config);
        }
    })
    .await;
    for _ in 0..CHECKS {
        check(listener(&harness, kind), header, with_reset).await;
    }
    // They have been looked at when one who came later is served.
    let opening = if is_required == Some(true) { V1 } else { b"" };
    let mut alice = harness.connect_with(kind, preface(opening)).await;
    alice.login("alice").await;
    harness.metric_is("gateway_connections", &[], 1.0).await;
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
    if is_required.is_some() && header.is_empty() {
        assert_eq!(harness.metric("gateway_closes_total", &[]).await, 0.0, "nobody was there");
    }
}

#[tokio::test]
async fn d6_limits_by_address_are_the_clients() {
    let harness = TestGateway::with(|config| {
        proxied(true, HERE)(config);
        config.limits.address_connections_per_second = 1;
        config.limits.address_connection_burst = 2;
    })
    .await;
    let mut served = Vec::new();
    for account in ["alice", "bob"] {
        let mut client = harness.connect_with(Tcp, preface(V1)).await;
        client.login(account).await;
        served.push(client);
    }
    let third = harness.connect_with(Tcp, preface(V2)).await;
    assert_eq!(closed(third).await, Some(3003));
    harness.metric_is("gateway_reject_total", &["address_rate"], 1.0).await;
    let mut other = harness.connect_with(Tcp, preface(V2_V6)).await;
    other.login("carol").await;
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 1.0);
}

async fn closed(mut client: Raw) -> Option<u16> {
    client.farewell().await.code
}

/// An address of this machine that is not its loopback; none where it has no network.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}

#[tokio::test]
async fn d12_connections_whose_header_has_not_come_use_up_nothing_of_their_balancer() {
    const WAITING: usize = 40;
    let Some(balancer) = own_address() else {
        return println!("skipped: this machine has only its loopback");
    };
    let harness = TestGateway::with(|config| {
        proxied(true, &balancer.to_string())(config);
        config.tcp = vec!["0.0.0.0:0".parse().unwrap()];
        config.limits.address_connections_per_second = 1;
        config.limits.address_connection_burst = 1;
        config.limits.max_connections = WAITING + 2;
        config.limits.address_connections_share = 2;
    })
    .await;
    let to = SocketAddr::from((balancer, harness.target.tcp.port()));
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        waiting.push(TcpStream::connect(to).await.unwrap());
    }
    // Each client is charged for itself.
    let mut clients = Vec::new();
    for (number, header) in [V1, V2_V6].into_iter().enumerate() {
        let target = crate::support::raw::Target { tcp: to, ..harness.target };
        let mut client = Raw::connect_with(Tcp, &target, preface(header)).await;
        client.login(&format!("client{number}")).await;
        clients.push(client);
    }
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
    // They have their places among all connections, for each holds a file.
    for _ in 0..3 {
        waiting.push(TcpStream::connect(to).await.unwrap());
    }
    harness.metric_is("gateway_reject_total", &["\"connections\""], 3.0).await;
}
