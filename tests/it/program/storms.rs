//! Storms of connections (rows C24, D2): who is there is served, and nothing of the storm is left.
#![cfg(target_os = "linux")]

use std::time::Instant;

use gateway::wire::frame::{Opcode, head};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::pressure::Asking;
use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::soon;

/// Between two looks at what shows itself only when asked.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The sum of all series that begin like this, as the monitor says.
pub(super) async fn sum(monitor: SocketAddr, series: &str) -> f64 {
    let mut stream = TcpStream::connect(monitor).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with(series));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Open connections.
async fn connections(monitor: SocketAddr) -> f64 {
    sum(monitor, "gateway_connections{").await
}

pub(super) async fn connections_are(monitor: SocketAddr, count: f64) {
    soon("the connections to end", async {
        while connections(monitor).await != count {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    })
    .await;
}

pub(super) fn open_files(serve: &Serve) -> usize {
    fs::read_dir(format!("/proc/{}/fd", serve.child.id())).unwrap().count()
}

/// Waits until it has no more files open than this.
pub(super) async fn files_are(serve: &Serve, count: usize) {
    soon("the files to be closed", async {
        while open_files(serve) > count {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    })
    .await;
}

/// The end of a connection by a reset.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Connects, gets so far, and is gone.
async fn visit(n: usize, target: Target) {
    let account = format!("visitor{n}");
    let address = [target.tcp, target.tls, target.ws, target.wss][n % 4];
    match n / 4 % 8 {
        0 => drop(TcpStream::connect(address).await.unwrap()),
        1 => reset(TcpStream::connect(address).await.unwrap()),
        step @ (2 | 3) => {
            // A part of a frame, or what is no TLS and no HTTP.
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _reset_already = stream.write_all(&head(Opcode::Binary, 4096)).await;
            if step == 2 { drop(stream) } else { reset(stream) }
        }
        step => {
            let kind = match n % 64 {
                16 | 28 => Kind::QuicOne,
                n => [Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss][n % 4],
            };
            let mut client = Raw::connect(kind, &target).await;
            if step >= 6 {
                client.login(&account).await;
            } else {
                client.signin(&identity::token(&account)).await;
            }
            match step % 2 {
                _ if kind == Kind::QuicOne => client.bye().await,
                0 => client.reset().await,
                _ => drop(client),
            }
        }
    }
}

/// So many visits, from a thread of their own.
fn come_and_go(target: Target, count: usize) {
    const AT_ONCE: usize = 32;
    alone(async move {
        let mut visits = JoinSet::new();
        for n in 0..count {
            if visits.len() >= AT_ONCE {
                visits.join_next().await.unwrap().unwrap();
            }
            visits.spawn(visit(n, target));
        }
        visits.join_all().await;
    });
}

/// In a runtime of its own: those who measure have another.
fn alone<T>(storm: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(storm)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_storms_of_connections_that_end_at_once_leave_nothing_behind() {
    connect_storm().await;
}

/// `just flood`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges latency, and runs alone"]
async fn d2_beside_a_storm_of_connections_answers_come_within_a_second() {
    let p99 = connect_storm().await;
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

/// Returns the 99th percentile of the time that answers took meanwhile, of the slower client.
async fn connect_storm() -> Duration {
    const VISITS: usize = 3000;
    let overrides = [("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0")];
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &overrides).await;
    let (monitor, target) = (serve.monitor, serve.target());
    let (alice, _) = sign_in(Kind::Tcp, &target, "alice", &login).await;
    let (bob, _) = sign_in(Kind::QuicOne, &target, "bob", &login).await;
    // What it opens once and keeps.
    for n in 0..64 {
        visit(n, target).await;
    }
    connections_are(monitor, 2.0).await;
    let files = open_files(&serve);

    let asking = [Asking::start(alice, "chat.user.talk"), Asking::start(bob, "chat.user.talk")];
    let begun = Instant::now();
    tokio::task::spawn_blocking(move || come_and_go(target, VISITS)).await.unwrap();
    let took = begun.elapsed();
    let mut p99 = Duration::ZERO;
    for asking in asking {
        p99 = p99.max(asking.served(&format!("{VISITS} visits in {took:?}")).await);
    }
    // Both have gone with what asked for them.
    connections_are(monitor, 0.0).await;
    // One of the two was a socket, and one question to the monitor may have been closing when they were counted first.
    files_are(&serve, files - 1).await;
    let signins = login.packets("login.signin");
    for signin in &signins {
        login.signout(&signin.header.channel_id).await;
    }
    assert_eq!(login.packets("login.signout").len(), signins.len(), "one for each");
    p99
}

/// Handshakes, as many at once as this, from a thread of their own: how many were made, and how many refused.
fn shake_hands(target: Target, at_once: usize) -> (usize, usize) {
    alone(async move {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut handshakes = JoinSet::new();
        for _ in 0..at_once {
            let config = identity::quic_client(&[identity::ALPN], quinn::TransportConfig::default());
            handshakes.spawn(endpoint.connect_with(config, target.quic, "localhost").unwrap().into_future());
        }
        let (mut made, mut refused) = (0, 0);
        while let Some(done) = handshakes.join_next().await {
            match done.unwrap() {
                Ok(connection) => {
                    made += 1;
                    connection.close(0u32.into(), b"bye");
                }
                Err(quinn::ConnectionError::ConnectionClosed(_)) => refused += 1,
                Err(error) => panic!("neither made nor refused: {error}"),
            }
        }
        endpoint.wait_idle().await;
        (made, refused)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c24_a_storm_of_handshakes_does_not_starve_those_who_are_there() {
    handshake_storm().await;
}

/// `just flood`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges latency, and runs alone"]
async fn c24_beside_a_storm_of_handshakes_answers_come_within_a_second() {
    let p99 = handshake_storm().await;
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

/// Returns the 99th percentile of the time that answers took meanwhile, of the slower client.
async fn handshake_storm() -> Duration {
    const WAVES: usize = 3;
    const AT_ONCE: usize = 600;
    let overrides = [
        ("GATEWAY__LIMITS__MAX_HANDSHAKES", "32"),
        ("GATEWAY__LIMITS__RETRY_FROM", "10000"),
        ("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0"),
    ];
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &overrides).await;
    let target = serve.target();
    let (alice, _) = sign_in(Kind::Tcp, &target, "alice", &login).await;
    let (bob, _) = sign_in(Kind::QuicOne, &target, "bob", &login).await;
    let asking = [Asking::start(alice, "chat.user.talk"), Asking::start(bob, "chat.user.talk")];
    for _ in 0..WAVES {
        let wave = tokio::task::spawn_blocking(move || shake_hands(target, AT_ONCE));
        let (made, refused) = soon("a wave of handshakes", wave).await.unwrap();
        println!("{made} made, {refused} refused");
        assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
    }
    let mut p99 = Duration::ZERO;
    for asking in asking {
        p99 = p99.max(asking.served(&format!("{WAVES} waves of {AT_ONCE} handshakes")).await);
    }
    p99
}
