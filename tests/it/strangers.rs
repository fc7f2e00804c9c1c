//! Strangers spend only strangers' budgets (rows H9, H10, H20).

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gateway::limits::KIB;
use gateway::wire::frame::{Opcode, encode};
use gateway_client::{Client, ConnectOptions, TrustedCa};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::harness::TestGateway;
use crate::support::identity::{self, ALPN, CERTIFICATES};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Target;
use crate::support::soon;

/// First datagrams of connection attempts, each with an id of its own, that offer a protocol which the gateway does not
/// speak: it fails them at once.
async fn foreign_initials(count: usize) -> Vec<Vec<u8>> {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let to = sink.local_addr().unwrap();
    let attempts: Vec<_> = (0..count)
        .map(|_| {
            let config = identity::quic_client(&[b"h3"], quinn::TransportConfig::default());
            endpoint.connect_with(config, to, "localhost").unwrap()
        })
        .collect();
    let seen = tokio::task::spawn_blocking(move || {
        let (mut initials, mut ids) = (Vec::new(), HashSet::new());
        let mut buffer = [0; 2048];
        while initials.len() < count {
            let length = sink.recv(&mut buffer).unwrap();
            // The id it is sent to: later datagrams of the same attempt are none of the first.
            if ids.insert(buffer[6..6 + usize::from(buffer[5])].to_vec()) {
                initials.push(buffer[..length].to_vec());
            }
        }
        initials
    });
    let initials = soon("the first datagrams", seen).await.unwrap();
    drop(attempts);
    initials
}

/// Sends datagrams from many addresses at a steady rate until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Flood {
    fn start(to: SocketAddr, datagrams: Vec<Vec<u8>>, per_second: usize) -> Self {
        Self::from((0..64).map(|n| Ipv4Addr::new(127, 7, n, 1)).collect(), to, datagrams, per_second)
    }

    fn from(sources: Vec<Ipv4Addr>, to: SocketAddr, datagrams: Vec<Vec<u8>>, per_second: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sources: Vec<_> = sources.iter().map(|from| UdpSocket::bind((*from, 0)).unwrap()).collect();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * per_second as f64) as usize;
                while sent < due {
                    let _buffers_are_full =
                        sources[sent % sources.len()].send_to(&datagrams[sent % datagrams.len()], to);
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        });
        Self { stop, thread: Some(thread) }
    }

    /// How many datagrams were sent.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Ways in.
const WAYS: [&str; 5] = ["tcp", "tls", "ws", "wss", "quic"];

/// Somebody honest: true if it could sign in.
async fn gets_in(way: &str, target: Target, account: String) -> bool {
    let ca = || TrustedCa::from_der([CERTIFICATES.ca.clone()]).unwrap();
    let mut options = match way {
        "tcp" => ConnectOptions::tcp(target.tcp.to_string()),
        "tls" => ConnectOptions::tls(target.tls.to_string(), ca()),
        "ws" => ConnectOptions::ws(target.ws.to_string()),
        "wss" => ConnectOptions::wss(target.wss.to_string(), ca()),
        _ => ConnectOptions::quic(target.quic.to_string(), ca()),
    };
    options.connect_timeout = Duration::from_secs(10);
    let Ok((client, _pushes)) = Client::connect(options).await else { return false };
    let signed_in = client.login(&identity::token(&account)).await.is_ok();
    client.close().await;
    signed_in
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h9_spoofed_initials_that_fail_at_once_keep_no_honest_client_of_any_transport_out() {
    const PER_SECOND: usize = 5_000;
    /// Of each transport.
    const HONEST: usize = 40;
    const BETWEEN: Duration = Duration::from_millis(75);
    let harness = TestGateway::start().await;
    let mut datagrams = foreign_initials(200).await;
    // Junk: first datagrams of which a bit is not as it was when they were sealed.
    for datagram in datagrams.iter_mut().step_by(2) {
        let last = datagram.len() - 1;
        datagram[last] ^= 1;
    }
    let flood = Flood::start(harness.target.quic, datagrams, PER_SECOND);
    let begun = Instant::now();
    // It is felt: what may come at once is used up, if it is used at all.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut honest = JoinSet::new();
    for n in 0..HONEST {
        for way in WAYS {
            let target = harness.target;
            honest.spawn(async move { (way, gets_in(way, target, format!("{way}{n}")).await) });
        }
        tokio::time::sleep(BETWEEN).await;
    }
    let outcomes = soon("everybody honest", honest.join_all()).await;
    let sent = flood.end();
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    for way in WAYS {
        let got_in = outcomes.iter().filter(|(of, got_in)| *of == way && *got_in).count();
        println!("{way}: {got_in} of {HONEST} got in at {rate:.0} spoofed a second");
    }
    let failed = harness.metric("gateway_reject_total", &["\"alpn\""]).await;
    let retries = harness.metric("gateway_reject_total", &["quic_retry"]).await;
    let others = harness.metric("gateway_reject_total", &["handshake_failed"]).await;
    println!(
        "{sent} sent; {failed} failed for their protocol, {others} for others, {retries} were asked to prove themselves"
    );
    assert!(failed + retries + others > 5_000.0, "the flood was not seen");
    let got_in = outcomes.iter().filter(|(_, got_in)| *got_in).count();
    assert!(got_in * 100 >= outcomes.len() * 99, "{got_in} of {} honest clients got in", outcomes.len());
    assert_eq!(harness.metric("gateway_reject_total", &["connection_rate"]).await, 0.0);
}

/// Runs a test on a thread with a network of its own, whose loopback has these networks beside its own. Skipped where that
/// is not permitted.
#[cfg(target_os = "linux")]
pub(crate) fn in_a_network_with(
    networks: &'static [&'static str],
    test: impl AsyncFnOnce() + Send + 'static,
) {
    let ip = |arguments: &[&str]| {
        let done = std::process::Command::new("ip").args(arguments).status();
        done.is_ok_and(|status| status.success())
    };
    let thread = std::thread::spawn(move || {
        let is_alone = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
        let has_addresses = || networks.iter().all(|network| ip(&["addr", "add", network, "dev", "lo"]));
        if !is_alone || !ip(&["link", "set", "lo", "up"]) || !has_addresses() {
            return println!("skipped: no network of its own can be made here");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn connect_from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Returns `true` if the gateway keeps this plain connection.
async fn is_kept(stream: &mut TcpStream) -> bool {
    let ping = encode(Opcode::Ping, &[]);
    let _it_may_be_closed = stream.write_all(&ping).await;
    let mut head = [0; 5];
    soon("an answer", stream.read_exact(&mut head)).await.unwrap();
    head[0] == encode(Opcode::Pong, &[])[0]
}

/// Shakes hands over QUIC from an address.
async fn quic_from(address: [u8; 4], to: SocketAddr) -> Result<quinn::Connection, quinn::ConnectionError> {
    let endpoint = quinn::Endpoint::client((address, 0).into()).unwrap();
    let config = identity::quic_client(&[ALPN], quinn::TransportConfig::default());
    soon("the handshake", endpoint.connect_with(config, to, "localhost").unwrap()).await
}

#[cfg(target_os = "linux")]
#[test]
fn h10_idle_connections_and_handshakes_of_one_network_leave_places_for_others() {
    in_a_network_with(&["198.51.100.1/24", "203.0.113.1/24", "192.0.2.1/24"], async || {
        let harness = TestGateway::with_limits(|limits| {
            (limits.max_connections, limits.address_connections_share) = (16, 50);
            (limits.max_handshakes, limits.address_handshakes_share) = (8, 50);
            limits.retry_from = 0;
            limits.handshake_deadline = Duration::from_secs(60);
            limits.handshake_deadline_crowded = Duration::from_secs(60);
            limits.login_deadline = Duration::from_secs(60);
        })
        .await;
        let Target { tcp, tls, quic, .. } = harness.target;
        let mut idle = Vec::new();
        for host in 1..=10 {
            idle.push(connect_from([198, 51, 100, host], tcp).await);
        }
        let mut kept = Vec::new();
        for stream in &mut idle {
            kept.push(is_kept(stream).await);
        }
        assert_eq!(kept, [[true; 8].as_slice(), &[false; 2]].concat());
        assert!(is_kept(&mut connect_from([203, 0, 113, 7], tcp).await).await);
        harness.metric_is("gateway_reject_total", &["address_connections"], 2.0).await;
        drop(idle);
        // Their places are free when the gateway has seen their ends.
        harness.metric_is("gateway_connections", &["\"tcp\""], 0.0).await;

        let mut silent = Vec::new();
        for host in 1..=6 {
            silent.push(connect_from([192, 0, 2, host], tls).await);
        }
        harness.metric_is("gateway_reject_total", &["address_handshakes"], 2.0).await;
        quic_from([192, 0, 2, 9], quic).await.expect_err("its network has its share");
        harness.metric_is("gateway_reject_total", &["address_handshakes"], 3.0).await;
        quic_from([203, 0, 113, 9], quic).await.expect("another network has places");
        let other = connect_from([203, 0, 113, 8], tls).await;
        let _other = identity::tls_connect(other, &[ALPN]).await.expect("another network has places");
        // Those of loopback are not counted: a proxy, or this test.
        let _alice = harness.client(Tls, "alice").await;
    });
}

/// Attempts that pretend to come from one network use up nothing of what its honest clients have.
#[cfg(target_os = "linux")]
#[test]
fn h9_initials_from_one_network_that_fail_at_once_do_not_lock_it_out() {
    in_a_network_with(&["198.51.100.1/24"], async || {
        const PER_SECOND: usize = 1_500;
        let harness = TestGateway::with_limits(|limits| limits.address_connection_burst = 500).await;
        let datagrams = foreign_initials(100).await;
        let sources = (1..=64).map(|host| Ipv4Addr::new(198, 51, 100, host)).collect();
        let flood = Flood::from(sources, harness.target.quic, datagrams, PER_SECOND);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (mut kept, tried) = (0, 40);
        for host in 0..tried {
            let from = [198, 51, 100, 100 + host];
            kept += usize::from(is_kept(&mut connect_from(from, harness.target.tcp).await).await);
            kept += usize::from(quic_from(from, harness.target.quic).await.is_ok());
        }
        println!("{kept} of {} got in from the network that {} came from", 2 * tried, flood.end());
        assert_eq!(kept, 2 * usize::from(tried));
        assert_eq!(harness.metric("gateway_reject_total", &["address_rate"]).await, 0.0);
    });
}

#[tokio::test]
async fn h20_a_full_gateway_is_told_about_is_not_ready_and_gets_over_it() {
    let harness = TestGateway::with_limits(|limits| limits.max_connections = 3).await;
    let (_one, _) = harness.client(Tcp, "one").await;
    let (_two, _) = harness.client(QuicOne, "two").await;
    harness.ready().await;
    let (three, _) = harness.client(Tcp, "three").await;
    harness.ready_is(503).await;
    let (_, body) = harness.get("/ready").await;
    assert!(body.contains("max_connections"), "{body}");
    harness.metric_is("gateway_events_active", &["connections_full"], 1.0).await;
    harness.connect(Tcp).await.closed_with(3003).await;
    drop(three);
    harness.ready().await;
    harness.metric_is("gateway_events_active", &["connections_full"], 0.0).await;
    assert_eq!(harness.metric("gateway_events_total", &["connections_full"]).await, 1.0);
}

#[tokio::test]
async fn h20_a_full_gateway_stays_ready_where_that_is_wanted() {
    let harness = TestGateway::with(|config| {
        config.limits.max_connections = 1;
        config.ready_when_full = true;
    })
    .await;
    let (_one, _) = harness.client(Tcp, "one").await;
    harness.metric_is("gateway_events_active", &["connections_full"], 1.0).await;
    assert_eq!(harness.get("/ready").await.0, 200);
}

#[rstest]
#[tokio::test]
async fn h11_the_one_that_waits_longest_for_its_sign_in_is_closed_3003_and_nobody_signed_in(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| {
        limits.before_login_bytes = 256 * KIB;
        limits.login_deadline = Duration::from_secs(60);
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let mut oldest = harness.connect(kind).await;
    let mut others = Vec::new();
    while harness.metric("gateway_reject_total", &["before_login_closed"]).await == 0.0 {
        assert!(others.len() < 100, "they are not counted");
        others.push(harness.connect(kind).await);
        // The kernel accepts before the gateway does: nobody else comes until it knows of this one.
        harness.metric_is("gateway_connections_opened_total", &[], 2.0 + others.len() as f64).await;
    }
    oldest.closed_with(3003).await;
    harness.metric_is("gateway_closes_total", &["\"overloaded\""], 1.0).await;
    harness.metric_is("gateway_events_active", &["\"overload\""], 1.0).await;
    let sequence = alice.talk("bob", "x").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    others.pop().unwrap().login("bob").await;
    drop(others);
    harness.metric_is("gateway_before_login_bytes", &[], 0.0).await;
    harness.metric_is("gateway_events_active", &["\"overload\""], 0.0).await;
    assert_eq!(harness.metric("gateway_reject_total", &["\"before_login\""]).await, 0.0);
}

/// Only the handshake proves its address, so only then can it be charged.
#[tokio::test]
async fn h9_a_quic_client_beyond_the_rate_is_told_3003_behind_its_handshake_or_refused_once_it_is_proven() {
    for (retry_from, behind) in [(100, true), (0, false)] {
        let harness = TestGateway::with_limits(|limits| {
            (limits.connections_per_second, limits.retry_from) = (1, retry_from);
        })
        .await;
        let mut told = Vec::new();
        // Two at once may come.
        for _ in 0..3 {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            let config = identity::quic_client(&[ALPN], quinn::TransportConfig::default());
            let connecting = endpoint.connect_with(config, harness.target.quic, "localhost").unwrap();
            told.push(match soon("the handshake", connecting).await {
                Ok(connection) => (endpoint, Ok(connection)),
                Err(error) => (endpoint, Err(error)),
            });
        }
        let (_endpoint, third) = told.pop().unwrap();
        assert!(
            told.iter().all(|(_, outcome)| outcome.as_ref().is_ok_and(|open| open.close_reason().is_none()))
        );
        let error = match third {
            Ok(connection) => soon("the close", connection.closed()).await,
            Err(error) => error,
        };
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert!(behind && close.error_code == 3003u32.into(), "{close:?}");
            }
            error => assert!(!behind, "{error:?}"),
        }
        harness.metric_is("gateway_reject_total", &["connection_rate"], 1.0).await;
        harness.metric_is("gateway_connections", &["\"quic\""], 2.0).await;
    }
}
