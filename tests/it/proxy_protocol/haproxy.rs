//! Behind the real thing: the `haproxy` of the path. Without one these tests say so and pass.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rstest::rstest;

use super::forwarded::behind_http;
use super::{HERE, own_address, proxied};
use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Raw, Target};
use crate::support::soon;

/// Where HAProxy connects from; its clients come from other addresses of this machine.
const HERE_ALONE: &str = "127.0.0.1";

/// HAProxy in front of a gateway, killed at the end. Clients that come from different addresses are passed on in different
/// ways.
struct Haproxy {
    process: Child,
    directory: PathBuf,
    address: SocketAddr,
}

impl Haproxy {
    /// None where there is no HAProxy.
    fn start(configuration: &str) -> Option<Self> {
        // It has no port to be told: it listens on its standard input.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let directory = std::env::temp_dir().join(format!("gateway-haproxy-{}", address.port()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("haproxy.cfg");
        fs::write(&file, configuration).unwrap();
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match process {
            Ok(process) => Some(Self { process, directory, address }),
            Err(error) => {
                eprintln!("skipped: no HAProxy ({error}); Debian has it as haproxy");
                let _left_behind = fs::remove_dir_all(&directory);
                None
            }
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        let _left_behind = fs::remove_dir_all(&self.directory);
    }
}

/// Checks of every kind go on all the while: with a header, with one that says LOCAL, and without a byte.
fn in_tcp_mode(gateway: SocketAddr) -> String {
    let SocketAddr::V4(gateway) = gateway else { panic!("{gateway} is no IPv4 address") };
    let port = gateway.port();
    format!(
        "global
    maxconn 200
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend clients
    bind fd@0
    use_backend v1 if {{ src 127.0.0.11 }}
    use_backend v2 if {{ src 127.0.0.12 }}
    default_backend v2_with_fields
backend v1
    server gateway {gateway} send-proxy check check-send-proxy inter 50ms fall 1
backend v2
    server gateway {gateway} send-proxy-v2 check check-send-proxy inter 50ms fall 1
backend v2_with_fields
    server gateway {gateway} send-proxy-v2 proxy-v2-options crc32c,unique-id check port {port} inter 50ms fall 1
"
    )
}

/// As browsers are usually served: the proxy speaks HTTP itself, and appends whom it speaks for to what the client wrote.
fn in_http_mode(gateway: SocketAddr) -> String {
    format!(
        "global
    maxconn 200
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend clients
    bind fd@0
    option forwardfor
    default_backend gateways
backend gateways
    server gateway {gateway} check inter 50ms fall 1
"
    )
}

/// Whatever is spoken goes there.
fn everywhere(address: SocketAddr) -> Target {
    Target { tcp: address, tls: address, ws: address, wss: address, quic: address }
}

#[tokio::test]
async fn d6_d12_websocket_clients_behind_haproxy_in_http_mode_have_their_own_addresses() {
    let Some(from) = own_address() else {
        return println!("skipped: this machine has only its loopback, which is no client's address");
    };
    let harness = TestGateway::with(behind_http(HERE_ALONE)).await;
    let Some(haproxy) = Haproxy::start(&in_http_mode(harness.target.ws)) else { return };
    let target = everywhere(haproxy.address);
    for (account, headers) in [("plain", ""), ("forging", "X-Forwarded-For: 203.0.113.9\r\n")] {
        let options = Options { from: Some(from), headers, ..Options::default() };
        let mut client = Raw::connect_with(Ws, &target, options).await;
        client.login(account).await;
        assert_eq!(harness.login.signin(account).await.session().remote_ip, from.to_string());
        let sequence = client.talk("somebody", "hello").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        client.bye().await;
    }
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
}

#[rstest]
#[tokio::test]
async fn d6_d12_clients_behind_haproxy_have_their_own_addresses_and_its_checks_disturb_nobody(
    #[values(Tcp, Tls, Ws, Wss)] kind: Kind,
) {
    let harness = TestGateway::with(proxied(true, HERE)).await;
    let gateway = super::listener(&harness, kind);
    let Some(haproxy) = Haproxy::start(&in_tcp_mode(gateway)) else { return };
    let target = everywhere(haproxy.address);
    let mut clients = Vec::new();
    for host in [11, 12, 13] {
        let from = Ipv4Addr::new(127, 0, 0, host);
        let options = Options { from: Some(from), ..Options::default() };
        let mut client = Raw::connect_with(kind, &target, options).await;
        let account = format!("account{host}");
        client.login(&account).await;
        assert_eq!(harness.login.signin(&account).await.session().remote_ip, from.to_string());
        clients.push(client);
    }
    // Ten checks of each kind at least are over when as many connections with LOCAL have come and gone.
    let checks = async {
        while harness.metric("gateway_closes_total", &["peer_closed"]).await < 20.0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("twenty checks", checks).await;
    assert_eq!(harness.metric("gateway_reject_total", &[]).await, 0.0);
    for client in &mut clients {
        let sequence = client.talk("somebody", "hello").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
    }
    harness.metric_is("gateway_connections", &[], 3.0).await;
}
