//! The two heartbeats, which the gateway answers itself, and what they keep alive.

use std::time::Duration;

use gateway::limits::Limits;
use gateway::wire::dialect::Dialect;
use gateway_client::ConnectOptions;
use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Options;
use crate::support::soon;

#[rstest]
#[tokio::test]
async fn a6_a10_both_heartbeats_are_answered_in_both_dialects_on_their_stream(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect,
) {
    let harness = TestGateway::start().await;
    let mut alice = harness.connect_with(kind, Options { dialect, ..Options::default() }).await;
    alice.login("alice").await;
    for _ in 0..3 {
        alice.heartbeat(true).await;
        alice.heartbeat(false).await;
    }
    assert!(alice.leftovers().is_empty(), "one pong for each ping");
    assert_eq!(harness.metric("gateway_heartbeats_total", &["basic"]).await, 3.0);
    assert_eq!(harness.metric("gateway_heartbeats_total", &["frame"]).await, 3.0);
}

#[rstest]
#[tokio::test]
async fn e14_heartbeats_are_answered_while_every_service_is_gone(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.login.stop().await;
    harness.chat.stop().await;
    alice.heartbeat(true).await;
    alice.heartbeat(false).await;
}

#[rstest]
#[tokio::test]
async fn d1_a_client_that_says_nothing_is_closed_3001_and_one_that_pings_is_not(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] frame_ping: bool,
) {
    let idle = Duration::from_millis(450);
    let harness = TestGateway::with_limits(|limits| limits.read_idle = idle).await;
    let (mut quiet, quiet_channel) = harness.client(kind, "quiet").await;
    let (mut lively, lively_channel) = harness.client(kind, "lively").await;
    let since = Instant::now();
    // The pings go on until the silent one was closed, and that is later than one idle time.
    let mut ticks = tokio::time::interval(idle / 6);
    while harness.login.packets("login.signout").is_empty() {
        ticks.tick().await;
        lively.heartbeat(frame_ping).await;
        assert!(since.elapsed() < crate::support::PATIENCE, "the silent one is not closed");
    }
    assert!(since.elapsed() >= idle / 2);
    quiet.closed_with(3001).await;
    assert_eq!(harness.login.signout(&quiet_channel).await.meta("reason"), "heartbeat_timeout");

    lively.closed_with(3001).await;
    assert_eq!(harness.login.signout(&lively_channel).await.meta("reason"), "heartbeat_timeout");
}

/// Heartbeats every 55 s against 130 s of read-idle and 120 s of QUIC's own: all of it a fiftieth.
#[tokio::test]
async fn c21_a_quiet_client_stays_connected_by_its_heartbeats_alone() {
    const SCALE: u32 = 50;
    const BEATS: u32 = 8;
    let limits = Limits::default();
    let interval = ConnectOptions::tcp("x:1").heartbeat.expect("heartbeats are on");
    assert!(interval * 2 < limits.read_idle, "one may be lost on the way");
    assert!(interval * 2 < limits.quic_idle, "without keep-alives as well");
    let (interval, idle) = (interval / SCALE, limits.read_idle / SCALE);
    let harness = TestGateway::with_limits(|limits| {
        (limits.read_idle, limits.quic_idle) = (idle, limits.quic_idle / SCALE);
    })
    .await;
    let mut quiet = JoinSet::new();
    for kind in Kind::ALL {
        for frame_ping in [true, false] {
            let (mut client, _) = harness.client(kind, "quiet").await;
            quiet.spawn(async move {
                let mut beats = interval_at(Instant::now() + interval, interval);
                for _ in 0..BEATS {
                    beats.tick().await;
                    client.heartbeat(frame_ping).await;
                }
                (kind, client)
            });
        }
    }
    let clients = soon("eight heartbeats of each", quiet.join_all()).await;
    assert!(interval * BEATS > idle * 3);
    assert!(harness.login.packets("login.signout").is_empty());
    // Their time ends all the same, as soon as they are silent; QUIC's own, a little earlier, where nothing keeps it alive.
    for (kind, mut client) in clients {
        assert_eq!(client.farewell().await.code, kind.is_tcp().then_some(3001), "{kind:?}");
    }
}
