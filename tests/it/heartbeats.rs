//! The two heartbeats, which the gateway answers itself, and what they keep alive.

use std::time::Duration;

use gateway::wire::dialect::Dialect;
use rstest::rstest;

use crate::support::harness::Bench;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls};
use crate::support::raw::Options;

#[rstest]
#[tokio::test]
async fn a6_a10_both_heartbeats_are_answered_in_both_dialects_on_their_stream(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect,
) {
    let bench = Bench::start().await;
    let mut alice = bench.connect_with(kind, Options { dialect, ..Options::default() }).await;
    alice.login("alice").await;
    for _ in 0..3 {
        alice.heartbeat(true).await;
        alice.heartbeat(false).await;
    }
    assert!(alice.leftovers().is_empty(), "one pong for each ping");
    assert_eq!(bench.metric("gateway_heartbeats_total", &["basic"]).await, 3.0);
    assert_eq!(bench.metric("gateway_heartbeats_total", &["frame"]).await, 3.0);
}

#[rstest]
#[tokio::test]
async fn e14_heartbeats_are_answered_while_every_service_is_gone(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let mut bench = Bench::start().await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.login.stop().await;
    bench.chat.stop().await;
    alice.heartbeat(true).await;
    alice.heartbeat(false).await;
}

#[rstest]
#[tokio::test]
async fn d1_a_client_that_says_nothing_is_closed_3001_and_one_that_pings_is_not(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] frame_ping: bool,
) {
    let idle = Duration::from_millis(450);
    let bench = Bench::with_limits(|limits| limits.read_idle = idle).await;
    let (mut quiet, quiet_channel) = bench.client(kind, "quiet").await;
    let (mut lively, lively_channel) = bench.client(kind, "lively").await;
    let since = tokio::time::Instant::now();
    // The pings go on until the silent one was closed, and that is later than one idle time.
    let mut ticks = tokio::time::interval(idle / 6);
    while bench.login.packets("login.signout").is_empty() {
        ticks.tick().await;
        lively.heartbeat(frame_ping).await;
        assert!(since.elapsed() < crate::support::PATIENCE, "the silent one is not closed");
    }
    assert!(since.elapsed() >= idle / 2);
    quiet.closed_with(3001).await;
    assert_eq!(bench.login.signout(&quiet_channel).await.meta("reason"), "heartbeat_timeout");

    lively.closed_with(3001).await;
    assert_eq!(bench.login.signout(&lively_channel).await.meta("reason"), "heartbeat_timeout");
}
