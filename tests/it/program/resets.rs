//! Connections that are reset at once, thousands a second (row D2), and those that never come to be (row D3).
#![cfg(target_os = "linux")]

use std::net::Ipv4Addr;
use std::time::Instant;

use rstest::rstest;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::task::JoinSet;

use super::pressure::Asking;
use super::restart::{Serve, home, sign_in};
use super::storms::{connections_are, files_are, open_files};
use super::*;
use crate::strangers::in_a_network_with;

/// One after the other gets an address of its own, as far as there are any.
fn source(n: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(n % 60_000).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1, high, low.max(1))
}

/// Connects from `source(n)` and resets.
fn connect_and_reset(n: usize, to: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::from((source(n), 0)).into())?;
    socket.connect(&to.into())
}

/// So many a second for so long, from threads of their own, which make up for what they were late. How many there were.
fn connections_that_are_reset(to: SocketAddr, per_second: u32, time: Duration) -> usize {
    const THREADS: usize = 2;
    let pause = Duration::from_secs(1) / per_second;
    let begun = Instant::now();
    let from = |first: usize| {
        let mut n = first;
        while begun.elapsed() < time {
            let due = pause * u32::try_from(n).unwrap();
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            connect_and_reset(n, to).unwrap();
            n += THREADS;
        }
        (n - first) / THREADS
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || from(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// `just flood`: the numbers of the row; a debug build, whose handshakes and turns take ten times as long, has none to keep.
#[rstest]
#[case::tcp(false)]
#[case::tls(true)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it judges latency, and runs alone"]
async fn d2_beside_five_thousand_resets_a_second_answers_come_within_fifty_milliseconds(
    #[case] to_tls: bool,
) {
    const PER_SECOND: u32 = 5000;
    const TIME: Duration = Duration::from_secs(10);
    let overrides = [("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0")];
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &overrides).await;
    let (monitor, target) = (serve.monitor, serve.target());
    let (alice, _) = sign_in(Kind::Tcp, &target, "alice", &login).await;
    let (bob, _) = sign_in(Kind::QuicOne, &target, "bob", &login).await;
    let to = if to_tls { target.tls } else { target.tcp };
    connect_and_reset(0, to).unwrap();
    connections_are(monitor, 2.0).await;
    let files = open_files(&serve);

    let asking = [Asking::start(alice, "chat.user.talk"), Asking::start(bob, "chat.user.talk")];
    let storm = move || connections_that_are_reset(to, PER_SECOND, TIME);
    let count = tokio::task::spawn_blocking(storm).await.unwrap();
    let mut p99 = Duration::ZERO;
    for asking in asking {
        p99 = p99.max(asking.served(&format!("{count} connections in {TIME:?}")).await);
    }
    connections_are(monitor, 0.0).await;
    files_are(&serve, files - 1).await;
    let wanted = u64::from(PER_SECOND) * TIME.as_secs();
    assert!(count as u64 * 100 >= wanted * 98, "{count} of {wanted} connections were made");
    if cfg!(not(debug_assertions)) {
        assert!(p99 < Duration::from_millis(50), "{p99:?}");
    }
}

/// Where nobody is; the kernel's answers go there and are lost.
const NOBODY: [u8; 2] = [100, 64];

fn sum_of_words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum()
}

/// An IPv4 packet with a SYN from somebody who is not there (RFC 9293 §3.1); the kernel fills in what is left at 0.
fn syn(n: u32, to: SocketAddr) -> [u8; 40] {
    let SocketAddr::V4(to) = to else { panic!("{to} is not IPv4") };
    let [_, _, high, low] = n.to_be_bytes();
    let mut packet = [0; 40];
    (packet[0], packet[8], packet[9]) = (0x45, 64, 6);
    packet[12..16].copy_from_slice(&[NOBODY[0], NOBODY[1], high, low.max(1)]);
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&(1024 + (n >> 8) as u16 % 60_000).to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
    (packet[32], packet[33], packet[34]) = (0x50, 0x02, 0xff);
    let mut sum = sum_of_words(&packet[12..]) + 6 + 20;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

/// SYNs as fast as the kernel takes them, on a thread of its own; how many.
fn flood(to: SocketAddr, time: Duration) -> u32 {
    const RAW: i32 = 255;
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW))).unwrap();
    let end = Instant::now() + time;
    let mut sent = 0;
    while Instant::now() < end {
        sent += u32::from(socket.send_to(&syn(sent, to), &SockAddr::from(to)).is_ok());
    }
    sent
}

/// A counter of this thread's network, of those in the group TcpExt.
fn tcp_counter(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.zip(values).find(|(held, _)| *held == name).map_or(0, |(_, value)| value.parse().unwrap())
}

/// Clients of both listeners come one after the other as long as the flood lasts; how long each took to be signed in.
async fn honest_clients(target: Target, until: Instant) -> Vec<Duration> {
    const AT_ONCE: usize = 4;
    let mut clients = JoinSet::new();
    for client in 0..AT_ONCE {
        clients.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let mut raw = Raw::connect([Kind::Tcp, Kind::Tls][client % 2], &target).await;
                raw.login(&format!("honest{client}-{}", took.len())).await;
                took.push(begun.elapsed());
                raw.bye().await;
            }
            took
        });
    }
    let mut took = clients.join_all().await.concat();
    took.sort_unstable();
    took
}

/// `just flood`: it takes a core for two seconds, which other tests would miss.
#[test]
#[ignore = "it floods, and runs alone"]
fn d3_beside_a_flood_of_syns_honest_clients_get_in() {
    const TIME: Duration = Duration::from_secs(2);
    in_a_network_with(&[], async || {
        let route = ["route", "add", "100.64.0.0/16", "dev", "lo"];
        let is_routed = Command::new("ip").args(route).status().is_ok_and(|status| status.success());
        if !is_routed || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).is_err() {
            return println!("skipped: raw sockets or routes are not permitted here");
        }
        let overrides = [("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0")];
        let (place, login, _chat, config) = home();
        let serve = Serve::start(&place, &config, 1, &overrides).await;
        let target = serve.target();
        let (alice, _) = sign_in(Kind::Tcp, &target, "alice", &login).await;
        let asking = Asking::start(alice, "chat.user.talk");
        let before = tcp_counter("SyncookiesSent");
        let floods = [target.tcp, target.tls].map(|to| std::thread::spawn(move || flood(to, TIME)));
        let took = honest_clients(target, Instant::now() + TIME).await;
        let sent: u32 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        let cookies = tcp_counter("SyncookiesSent") - before;
        let median = took[took.len() / 2];
        println!("{} got in, median {median:?}, longest {:?}", took.len(), took.last());
        asking.served(&format!("{sent} SYNs in {TIME:?}, {cookies} answered with a cookie")).await;
        assert!(sent > 5_000 && cookies > 0, "the flood was not felt: {sent} SYNs, {cookies} cookies");
        assert!(took.len() >= 8, "{} honest clients got in", took.len());
    });
}
