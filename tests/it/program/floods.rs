//! Floods of packets that mean nothing (rows C4, C17): the process stays small, and says nothing about them.
#![cfg(target_os = "linux")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::NoneTokenStore;

use super::pressure::Asking;
use super::restart::{Serve, home, sign_in};
use super::storms::{ASK_AGAIN, sum};
use super::*;
use crate::quic_rows::junk;
use crate::support::quic::RawQuic;
use crate::support::soon;

/// Memory of a process, bytes.
fn resident(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Sends a packet as fast as the kernel takes it, each time with another end; how many.
fn send_for(time: Duration, socket: &UdpSocket, gateway: SocketAddr, mut packet: Vec<u8>) -> u64 {
    let end = Instant::now() + time;
    let at = packet.len() - 8;
    let mut sent = 0_u64;
    while Instant::now() < end {
        packet[at..].copy_from_slice(&sent.to_be_bytes());
        sent += u64::from(socket.send_to(&packet, gateway).is_ok());
    }
    sent
}

/// One who saw the id of a connection sends rubbish with it, from an address of his own, as fast as he can. Returns the
/// 99th percentile of the time that answers of another client took.
async fn flood(time: Duration) -> Duration {
    /// What `quinn` lays between its endpoint and a connection has no bound of its own.
    const MORE: u64 = 64 << 20;
    const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &[]).await;
    let (target, process) = (serve.target(), serve.child.id());
    let mut raw = RawQuic::connect(target.quic).await;
    raw.sign_in("mallory").await;
    login.signin("mallory").await;
    let (bob, _) = sign_in(Kind::QuicOne, &target, "bob", &login).await;
    let asking = Asking::start(bob, "chat.user.talk");
    let mut packet = vec![0x4f];
    packet.extend_from_slice(raw.id());
    packet.resize(1200, 0x77);

    let before = resident(process);
    let flood = tokio::task::spawn_blocking(move || {
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        send_for(time, &stranger, target.quic, packet)
    });
    let mut peak = before;
    while !flood.is_finished() {
        peak = peak.max(resident(process));
        // Its own idle timeout is shorter than the longer flood.
        raw.ping_from_here().await;
        raw.turn_for(BETWEEN_LOOKS).await;
    }
    let sent = flood.await.unwrap();
    let arrived = sum(serve.monitor, "gateway_unproven_bytes_total{direction=\"in\"").await / 1200.0;
    assert!(arrived > 1000.0, "{arrived} of {sent} packets were read");
    let load =
        format!("{sent} packets in {time:?}, {arrived:.0} read; resident {before} before, {peak} at most");
    let p99 = asking.served(&load).await;
    assert!(peak < before + MORE, "{} bytes more", peak - before);
    raw.is_answered().await;
    p99
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c17_a_flood_with_the_id_of_a_connection_takes_little_memory() {
    flood(Duration::from_secs(2)).await;
}

/// `just flood`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes a minute and a core"]
async fn c17_a_minute_of_a_flood_with_the_id_of_a_connection_takes_little_memory() {
    let p99 = flood(Duration::from_secs(60)).await;
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c4_junk_and_handshakes_that_fail_leave_no_line_in_a_log_of_level_info() {
    const FAILED: &str = "gateway_reject_total{reason=\"handshake_failed\"";
    let (place, login, _chat, config) = home();
    let overrides = [("GATEWAY__LOG__LEVEL", "info"), ("GATEWAY__LIMITS__HANDSHAKE_DEADLINE", "200ms")];
    let mut serve = Serve::start(&place, &config, 1, &overrides).await;
    let target = serve.target();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (_, packet, _) in junk(target.quic).await {
        for _ in 0..20 {
            stranger.send_to(&packet, target.quic).await.unwrap();
        }
    }
    let foreign = RawQuic::offering(target.quic, Arc::new(NoneTokenStore), &[b"h3"]);
    foreign.await.closed().await;
    // Left alone half way, and one more of the junk.
    let mut silent = RawQuic::new(target.quic, Arc::new(NoneTokenStore)).await;
    silent.flush().await;
    soon("the end of the handshakes", async {
        while sum(serve.monitor, FAILED).await < 2.0 {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    })
    .await;
    sign_in(Kind::QuicOne, &target, "alice", &login).await;
    let first = serve.line("").await;
    assert!(first.contains("event=\"login\""), "{first}");
}
