//! What a client that shook hands may put into packets against the rules of QUIC: its connection ends, or it gets
//! little for it, and a bystander loses nothing.

use std::time::{Duration, Instant};

use quinn_proto::ConnectionError;
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::quic::{RawQuic, bytes_until_quiet};
use crate::support::soon;

/// Codes of RFC 9000 section 20.1.
const INTERNAL_ERROR: u64 = 0x01;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const CONNECTION_ID_LIMIT_ERROR: u64 = 0x09;
const PROTOCOL_VIOLATION: u64 = 0x0a;
const CRYPTO_BUFFER_EXCEEDED: u64 = 0x0d;

/// Longer than the pauses between packets that answer.
const QUIET: Duration = Duration::from_millis(300);

/// An integer of four bytes, as frames hold it.
fn varint(value: u32) -> [u8; 4] {
    (value | 0x8000_0000).to_be_bytes()
}

/// It grants all that the gateway may want, and goes on sending, so that neither credit nor the idle timer ends it. Of
/// more than the send window something waits before it; of one push, nothing does but quinn itself.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c9_a_client_that_sends_and_acknowledges_nothing_is_closed_after_the_write_stall(
    #[values(1, 24)] pushes: u32,
) {
    const STALL: Duration = Duration::from_secs(1);
    let harness = TestGateway::with_limits(|limits| limits.write_stall = STALL).await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    raw.sign_in("mallory").await;
    let channel = harness.login.signin("mallory").await.session().channel_id;

    let since = Instant::now();
    for n in 0..pushes {
        harness.chat.push(&[&channel], n, &[7; 16 * 1024]).await;
    }
    let mut received = 0;
    let stalls = async {
        while harness.metric("gateway_closes_total", &["\"slow_consumer\""]).await == 0.0 {
            // Only what the test forges leaves: the state machine, which would acknowledge, sees nothing.
            raw.forge(&[0x01]).await;
            received += bytes_until_quiet(&raw.socket, Duration::from_millis(20)).await;
        }
    };
    soon("the close", stalls).await;
    println!("closed after {:?}, {received} bytes arrived", since.elapsed());
    assert!(since.elapsed() >= STALL, "{:?}", since.elapsed());
    assert!(received > 0 && received < 256 * 1024, "{received} bytes without one acknowledgement");
    harness.serves_a_bystander().await;
}

/// Each challenge asks for an answer of its own; an answer fills a datagram (RFC 9000 section 8.2.2). What nobody
/// acknowledges is held back by congestion control.
#[rstest]
#[case::acknowledged(true, 200)]
#[case::unacknowledged(false, 40)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c14_a_flood_of_path_challenges_gets_an_answer_per_packet_at_most(
    #[case] acknowledges: bool,
    #[case] most: usize,
) {
    const PACKETS: usize = 200;
    /// An answer, and an acknowledgement of its own.
    const ANSWER: usize = 1200 + 40;
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let challenges = [0x1a, 1, 2, 3, 4, 5, 6, 7, 8].repeat(120);
    let before = raw.traffic.1;
    let mut unread = 0;
    for _ in 0..PACKETS {
        if acknowledges {
            raw.forge(&[raw.acknowledgements(), challenges.clone()].concat()).await;
            raw.turn_for(Duration::from_millis(2)).await;
        } else {
            raw.forge(&challenges).await;
            unread += bytes_until_quiet(&raw.socket, Duration::from_millis(2)).await;
        }
    }
    harness.serves_a_bystander().await;
    unread += bytes_until_quiet(&raw.socket, QUIET).await;
    let bytes = unread + raw.traffic.1 - before;
    println!("{bytes} bytes for {} challenges", PACKETS * 120);
    assert!(bytes > 0 && bytes <= most * ANSWER, "{bytes} bytes for {PACKETS} packets");
    // Its end is heard: the connection was neither lost nor stuck.
    raw.forge(&[0x1d, 0, 0]).await;
    harness.metric_is("gateway_connections", &["\"quic\""], 0.0).await;
}

/// One byte at every second place of the first stream, which never begins.
fn gaps(chunks: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    let frame = |n: u32| {
        let offset = varint(2 * n + 1);
        [&[0x0e, 0][..], &offset, &[1, 0x55]].concat()
    };
    let frames: Vec<_> = chunks.map(frame).collect();
    frames.chunks(120).map(|frames| frames.concat()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c10_a_stream_of_thousands_of_gaps_closes_the_connection() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    for packet in gaps(0..960) {
        raw.forge(&packet).await;
    }
    raw.lives().await;
    for packet in gaps(960..4_000) {
        raw.forge(&packet).await;
    }
    assert_eq!(raw.closed().await, INTERNAL_ERROR);
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_crypto_data_far_ahead_closes_the_connection() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let crypto = |offset| [&[0x06][..], &varint(offset), &[4], &[0; 4]].concat();
    raw.forge(&crypto(16 * 1024 - 4)).await;
    raw.lives().await;
    raw.forge(&crypto(16 * 1024 - 3)).await;
    assert_eq!(raw.closed().await, CRYPTO_BUFFER_EXCEEDED);
    harness.serves_a_bystander().await;
}

/// NEW_CONNECTION_ID. The id is the one in use, so that what the gateway says still finds its client.
fn new_id(raw: &RawQuic, sequence: u32, retire_prior_to: u32) -> Vec<u8> {
    [&[0x18][..], &varint(sequence), &varint(retire_prior_to), &[8], raw.own_id(), &[3; 16]].concat()
}

#[rstest]
#[case::more_than_are_kept(100, 0, CONNECTION_ID_LIMIT_ERROR)]
#[case::retired_before_it_is_there(3, 4, FRAME_ENCODING_ERROR)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_connection_ids_against_the_rules_close_the_connection(
    #[case] sequence: u32,
    #[case] retire_prior_to: u32,
    #[case] code: u64,
) {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    raw.forge(&new_id(&raw, sequence, retire_prior_to)).await;
    assert_eq!(raw.closed().await, code);
    harness.serves_a_bystander().await;
}

/// Each retires those before; the gateway's RETIRE_CONNECTION_ID frames are never acknowledged, so that they pile up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_a_flood_of_new_connection_ids_closes_the_connection() {
    const ATTEMPTS: usize = 10;
    let harness = TestGateway::start().await;
    for _ in 0..ATTEMPTS {
        let mut raw = RawQuic::connect(harness.target.quic).await;
        flood_with_ids(&mut raw).await;
        // On a machine that is slow just now the client may read such a frame before its end. Its state machine knows
        // nothing of forged ids and gives up by itself, which says nothing of the gateway.
        if !matches!(raw.lost, Some(ConnectionError::TransportError(_))) {
            assert_eq!(raw.closed().await, CONNECTION_ID_LIMIT_ERROR);
            return harness.serves_a_bystander().await;
        }
    }
    panic!("the client gave up {ATTEMPTS} times");
}

/// Until the connection is lost.
async fn flood_with_ids(raw: &mut RawQuic) {
    // A million ids retired at once are no more than the few that were there.
    raw.forge(&new_id(raw, 1_000_000, 1_000_000)).await;
    raw.lives().await;
    let mut sequence = 1_000_000;
    while raw.lost.is_none() {
        assert!(sequence < 1_100_000, "still open");
        let ids: Vec<_> = (1..=30).map(|n| new_id(raw, sequence + n, sequence + n)).collect();
        raw.forge(&ids.concat()).await;
        sequence += 30;
        raw.turn_for(Duration::from_millis(2)).await;
    }
    println!("closed after {} ids", sequence - 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c13_retiring_an_id_that_was_never_given_closes_the_connection() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    raw.forge(&[&[0x19][..], &varint(1_000)].concat()).await;
    assert_eq!(raw.closed().await, PROTOCOL_VIOLATION);
    harness.serves_a_bystander().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c18_acknowledging_what_was_never_sent_closes_the_connection() {
    let harness = TestGateway::start().await;
    let mut raw = RawQuic::connect(harness.target.quic).await;
    let acknowledge = |number| [&[0x02][..], &varint(number), &[0, 0, 0]].concat();
    raw.forge(&acknowledge(0)).await;
    raw.lives().await;
    raw.forge(&acknowledge(1_000_000)).await;
    assert_eq!(raw.closed().await, PROTOCOL_VIOLATION);
    harness.serves_a_bystander().await;
}
