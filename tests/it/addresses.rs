//! What is sent to whom: forged addresses, changed ones, resets and versions, from outside with raw packets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::config::QuicLb;
use quinn_proto::{ConnectionError, NoneTokenStore};
use rstest::rstest;
use tokio::sync::mpsc;

use crate::balanced;
use crate::support::harness::TestGateway;
use crate::support::quic::{RawQuic, bytes_until_quiet, socket};
use crate::support::raw::{Kind, Raw, Target};
use crate::support::soon;

/// Longer than any timer of the gateway that answers a packet, shorter than a test's patience.
const QUIET: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_a_ping_from_a_forged_address_brings_no_more_than_three_times_its_bytes_there() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let victim = socket().await;
    let ping = raw.ping();
    assert!(ping.len() < 100, "{} bytes", ping.len());
    victim.send_to(&ping, harness.target.quic).await.unwrap();
    let received = bytes_until_quiet(&victim, QUIET).await;
    println!("{} bytes from the forged address brought {received} there", ping.len());
    assert!(received > 0, "the address is challenged");
    assert!(received <= 3 * ping.len(), "{received} bytes for {}", ping.len());
    let out = harness.metric("gateway_unproven_bytes_total", &["\"out\""]).await;
    let inward = harness.metric("gateway_unproven_bytes_total", &["\"in\""]).await;
    assert!(out > 0.0 && out <= 3.0 * inward, "{out} of {inward}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_c1_an_initial_and_then_silence_bring_no_more_than_three_times_its_bytes() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::new(harness.target.quic, Arc::new(NoneTokenStore)).await;
    raw.flush().await;
    let received = bytes_until_quiet(&raw.socket, QUIET).await;
    println!("{} bytes of an Initial brought {received}", raw.traffic.0);
    assert!(received > 0 && received <= 3 * raw.traffic.0, "{received} bytes for {}", raw.traffic.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_c15_a_client_behind_another_port_is_proven_there_at_once_even_by_a_ping_alone() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    raw.rebind().await;
    let since = Instant::now();
    let ping = raw.ping();
    raw.socket.send_to(&ping, harness.target.quic).await.unwrap();
    raw.until("a challenge", |raw| raw.challenges() > 0).await;
    raw.flush().await;
    harness.metric_is("gateway_path_changes_total", &["\"proven\""], 1.0).await;
    println!("proven {:?} after a PING of {} bytes", since.elapsed(), ping.len());
    assert_eq!(harness.metric("gateway_path_changes_total", &["\"unproven\""]).await, 0.0);
}

/// The address the client was at still has its connection, and whoever is elsewhere may begin another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c15_without_migration_packets_from_another_address_are_dropped_and_the_connection_stays() {
    let harness = TestGateway::with(|config| config.quic.as_mut().unwrap().migration = false).await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    raw.lives().await;
    let elsewhere = socket().await;
    let ping = raw.ping();
    elsewhere.send_to(&ping, harness.target.quic).await.unwrap();
    assert_eq!(bytes_until_quiet(&elsewhere, QUIET).await, 0, "neither an answer nor a challenge");
    raw.lives().await;
    assert_eq!(harness.metric("gateway_path_changes_total", &[]).await, 0.0);
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h5_more_than_120_changes_of_address_in_a_minute_are_abuse() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    for n in 0..=120 {
        assert!(raw.lost.is_none(), "closed after {n} changes: {:?}", raw.lost);
        raw.rebind().await;
        let before = raw.challenges();
        raw.ping_from_here().await;
        raw.until("a challenge", move |raw| raw.challenges() > before).await;
        // The answer leaves from the address that was asked.
        raw.flush().await;
    }
    raw.until("the end", |raw| raw.lost.is_some()).await;
    match raw.lost {
        Some(ConnectionError::ApplicationClosed(ref close)) => assert_eq!(u64::from(close.error_code), 3506),
        ref other => panic!("{other:?}"),
    }
    harness.metric_is("gateway_path_changes_total", &["\"abuse\""], 1.0).await;
}

#[tokio::test]
async fn h7_version_negotiation_offers_version_1_alone() {
    let harness = TestGateway::start().await;
    let socket = socket().await;
    let mut initial = vec![0; 1200];
    initial[..6].copy_from_slice(&[0xc0, 0xff, 0x00, 0x00, 0x1d, 8]);
    initial[14] = 8;
    socket.send_to(&initial, harness.target.quic).await.unwrap();
    let mut answer = [0; 2048];
    let (length, _) = soon("version negotiation", socket.recv_from(&mut answer)).await.unwrap();
    assert_eq!(answer[1..5], [0; 4], "version negotiation");
    let versions = answer[5 + 1 + 8 + 1 + 8..length].chunks(4);
    // One of the form ?a?a?a?a is reserved, to keep clients honest.
    let spoken: Vec<_> = versions.filter(|version| version.iter().any(|byte| byte & 0x0f != 0x0a)).collect();
    assert_eq!(spoken, [[0, 0, 0, 1]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_no_other_address_of_the_gateway_answers_for_a_live_connection() {
    let harness = TestGateway::with(|config| {
        let quic = config.quic.as_mut().unwrap();
        quic.listen.push(quic.listen[0]);
    })
    .await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let packet = raw.sealed(&[0x01]);
    let second = harness.quic_addresses()[1];
    let stranger = socket().await;
    stranger.send_to(&packet, second).await.unwrap();
    // Whatever the second address says, the first would say to an id it does not know: the same key, were there one.
    assert_eq!(bytes_until_quiet(&stranger, QUIET).await, 0);
}

/// A gateway of this id, with the keys of all benches, at this address. Behind a balancer, all have one server id.
async fn gateway_at(address: SocketAddr, id: &str, lb: Option<QuicLb>) -> TestGateway {
    TestGateway::with(|config| {
        config.id = id.into();
        let quic = config.quic.as_mut().unwrap();
        (quic.listen, quic.lb) = (vec![address], lb);
    })
    .await
}

async fn end(mut harness: TestGateway) {
    harness.drain();
    harness.ended().await;
}

/// On two machines both would listen on the same address, say `[::]:8000`; here they do so one after the other. To the
/// second the connection is one it never had, whether or not it still lives with the first.
#[rstest]
#[case(SocketAddr::from(([127, 0, 0, 77], 0)), None)]
#[case::behind_a_balancer(SocketAddr::from(([127, 0, 0, 78], 0)), Some(balanced::aws(1)))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h8_c19_of_gateways_that_share_a_key_file_only_the_one_that_was_left_resets_its_clients(
    #[case] nobodys: SocketAddr,
    #[case] lb: Option<QuicLb>,
) {
    // Nobody else binds there, so that the port stays free between two of them.
    let first = gateway_at(nobodys, "gate01", lb.clone()).await;
    let address = first.quic_addresses()[0];
    let mut raw = RawQuic::connect(address).await;
    let packet = raw.sealed(&[0x01]);
    end(first).await;
    // The close went to the socket before this one: it is lost, as when a process is killed.
    raw.rebind().await;

    let other = gateway_at(address, "gate02", lb.clone()).await;
    raw.socket.send_to(&packet, address).await.unwrap();
    raw.turn_for(QUIET).await;
    assert!(raw.lost.is_none(), "another gateway ended the connection: {:?}", raw.lost);
    RawQuic::connect(address).await;
    end(other).await;

    let _again = gateway_at(address, "gate01", lb).await;
    raw.socket.send_to(&packet, address).await.unwrap();
    raw.until("the reset", |raw| raw.lost.is_some()).await;
    assert!(matches!(raw.lost, Some(ConnectionError::Reset)), "{:?}", raw.lost);
}

/// A path whose every packet is marked "congestion experienced", both ways; returns where clients connect, and a
/// receiver that sees each packet.
async fn marking_path(gateway: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    const CONGESTION_EXPERIENCED: u32 = 0b11;
    let (front, back) = (socket().await, socket().await);
    for side in [&front, &back] {
        socket2::SockRef::from(side).set_tos_v4(CONGESTION_EXPERIENCED).unwrap();
    }
    back.connect(gateway).await.unwrap();
    let address = front.local_addr().unwrap();
    let (seen, packets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut client = None;
        let (mut there, mut here) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                received = front.recv_from(&mut there) => {
                    let (length, from) = received.unwrap();
                    client = Some(from);
                    back.send(&there[..length]).await.unwrap();
                }
                received = back.recv(&mut here) => {
                    let client = client.expect("the client speaks first");
                    front.send_to(&here[..received.unwrap()], client).await.unwrap();
                }
            }
            let _the_test_is_over = seen.send(());
        }
    });
    (address, packets)
}

/// Silence of half a second is what is waited for; acknowledgements of acknowledgements never leave any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h6_an_idle_session_is_silent_on_a_path_that_marks_everything() {
    let harness = TestGateway::start().await;
    let (address, mut packets) = marking_path(harness.target.quic).await;
    let mut alice = Raw::connect(Kind::QuicOne, &Target { quic: address, ..harness.target }).await;
    alice.login("alice").await;
    let mut seen = 0;
    let silence = async {
        while tokio::time::timeout(Duration::from_millis(500), packets.recv()).await.is_ok() {
            seen += 1;
        }
    };
    soon("silence", silence).await;
    println!("silence after {seen} packets");
    assert!(seen > 0, "the session went over this path");
}
