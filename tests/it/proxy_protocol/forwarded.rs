//! `X-Forwarded-For`: a WebSocket client behind an HTTP proxy has its own address.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use gateway::config::{Config, TrustedPeers};
use rstest::rstest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{HERE, own_address, told};
use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, Ws, Wss};
use crate::support::raw::{Options, Raw, Target};
use crate::support::websocket::{read_head, upgrade_request};

/// These peers are HTTP proxies.
pub(super) fn behind_http(trusted: &str) -> impl FnOnce(&mut Config) {
    let trusted = TrustedPeers::parse([trusted]).unwrap();
    move |config| {
        let websocket = config.websocket.as_mut().expect("it is on");
        Arc::make_mut(&mut websocket.upgrade).trusted = trusted;
    }
}

fn headers(headers: &'static str) -> Options {
    Options { headers, ..Options::default() }
}

#[rstest]
#[case::named("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7")]
#[case::what_the_client_wrote("X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", "192.0.2.7")]
#[case::two_headers("x-forwarded-for: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7")]
#[case::nobody("", "127.0.0.1")]
#[case::unknown("X-Forwarded-For: unknown\r\n", "127.0.0.1")]
#[tokio::test]
async fn d6_services_are_told_the_address_that_an_http_proxy_names(
    #[case] more: &'static str,
    #[case] address: &str,
    #[values(Ws, Wss)] kind: Kind,
) {
    let harness = TestGateway::with(behind_http(HERE)).await;
    let mut alice = harness.connect_with(kind, headers(more)).await;
    alice.login("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, address);
}

#[rstest]
#[tokio::test]
async fn d6_a_stranger_cannot_name_an_address(#[values(Ws, Wss)] kind: Kind) {
    let harness = TestGateway::with(behind_http("192.0.2.0/24")).await;
    let mut alice = harness.connect_with(kind, headers("X-Forwarded-For: 192.0.2.7\r\n")).await;
    alice.login("alice").await;
    assert_eq!(harness.login.signin("alice").await.session().remote_ip, "127.0.0.1");
}

/// Who asks for what it does not get pays for that, and neither the proxy nor its other clients.
#[tokio::test]
async fn d6_a_refused_request_is_charged_to_the_client_of_the_proxy() {
    let Some(proxy) = own_address() else {
        return println!("skipped: this machine has only its loopback");
    };
    let harness = TestGateway::with(|config| {
        behind_http(&proxy.to_string())(config);
        let websocket = config.websocket.as_mut().unwrap();
        websocket.listen = vec!["0.0.0.0:0".parse().unwrap()];
        Arc::make_mut(&mut websocket.upgrade).paths = vec!["/ws".to_owned()];
        config.limits.address_connections_per_second = 1;
        config.limits.address_connection_burst = 1;
    })
    .await;
    let to = SocketAddr::from((proxy, harness.target.ws.port()));
    let request = upgrade_request("/other", "X-Forwarded-For: 192.0.2.7\r\n");
    let mut statuses = BTreeSet::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(to).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(told(&mut socket).await).unwrap();
        statuses.insert(answer[..12].to_owned());
    }
    assert_eq!(statuses, BTreeSet::from(["HTTP/1.1 404".to_owned(), "HTTP/1.1 503".to_owned()]));
    let mut socket = TcpStream::connect(to).await.unwrap();
    let named = upgrade_request("/ws", "X-Forwarded-For: 198.51.100.7\r\n");
    socket.write_all(named.as_bytes()).await.unwrap();
    assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn f17_a_banned_client_of_an_http_proxy_is_told_so_and_no_other_is() {
    let bans = std::env::temp_dir().join(format!("gateway-it-bans-{}", std::process::id()));
    std::fs::write(&bans, "{\"address\":\"192.0.2.0/24\"}\n").unwrap();
    let harness = TestGateway::with(|config| {
        behind_http(HERE)(config);
        config.admin.bans_file = Some(bans.clone());
    })
    .await;
    std::fs::remove_file(&bans).unwrap();
    for (client, status) in [("192.0.2.7", "403 Forbidden"), ("198.51.100.7", "101 Switching Protocols")] {
        let mut socket = TcpStream::connect(harness.target.ws).await.unwrap();
        let request = upgrade_request("/", &format!("X-Forwarded-For: {client}\r\n"));
        socket.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut socket).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    }
    harness.metric_is("gateway_reject_total", &["banned"], 1.0).await;
    harness.metric_is("gateway_closes_total", &["kicked"], 1.0).await;
}

/// Each is charged to the client it names, although all come from one address that is not its loopback.
#[tokio::test]
async fn d6_limits_by_address_are_those_of_the_clients_of_an_http_proxy() {
    const CLIENTS: u8 = 10;
    let Some(proxy) = own_address() else {
        return println!("skipped: this machine has only its loopback");
    };
    let harness = TestGateway::with(|config| {
        behind_http(&proxy.to_string())(config);
        config.websocket.as_mut().unwrap().listen = vec!["0.0.0.0:0".parse().unwrap()];
        config.limits.address_connections_per_second = 1;
        config.limits.address_connection_burst = 1;
    })
    .await;
    let to = SocketAddr::from((proxy, harness.target.ws.port()));
    let target = Target { ws: to, ..harness.target };
    let mut clients = Vec::new();
    for host in 1..=CLIENTS {
        let named = format!("X-Forwarded-For: {}\r\n", Ipv4Addr::new(198, 51, host, 7));
        let mut client = Raw::connect_with(Ws, &target, headers(named.leak())).await;
        client.login(&format!("client{host}")).await;
        clients.push(client);
    }
    // One more of the last one's network.
    let mut socket = TcpStream::connect(to).await.unwrap();
    let named = format!("X-Forwarded-For: 198.51.{CLIENTS}.8\r\n");
    socket.write_all(upgrade_request("/", &named).as_bytes()).await.unwrap();
    let answer = told(&mut socket).await;
    assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
    harness.metric_is("gateway_reject_total", &["address_rate"], 1.0).await;
    harness.metric_is("gateway_reject_total", &[], 1.0).await;
    harness.metric_is("gateway_connections", &[], f64::from(CLIENTS)).await;
}
