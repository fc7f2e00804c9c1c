//! Faults on demand: what a panic ends, and what it does not. Needs the feature `faults`.
#![cfg(feature = "faults")]

use gateway::faults::{PANIC_TASK, PANIC_WORKER};
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::identity::token;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};

#[rstest]
#[tokio::test]
async fn f10_a_panic_in_a_connection_ends_that_connection_and_nothing_else(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    let mut broken = harness.connect(kind).await;
    broken.signin(&token(PANIC_TASK)).await;
    broken.farewell().await;
    harness.metric_is("gateway_reject_total", &["\"task_panics\""], 1.0).await;
    harness.metric_is("gateway_connections", &[], 1.0).await;
    let signin = harness.login.signin(PANIC_TASK).await;
    assert_eq!(harness.login.signout(&signin.header.channel_id).await.meta("reason"), "internal_error");
    let sequence = alice.talk("bob", "unharmed").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn a_worker_that_panics_ends_the_gateway_and_the_others_drain(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut harness =
        TestGateway::with(|config| config.workers = if cfg!(target_os = "linux") { 2 } else { 1 }).await;
    let mut clients = Vec::new();
    for n in 0..16 {
        clients.push(harness.client(kind, &format!("user{n}")).await);
    }
    let mut last = harness.connect(kind).await;
    last.signin(&token(PANIC_WORKER)).await;
    let mut told = 0;
    for (raw, channel) in &mut clients {
        match raw.farewell().await.code {
            Some(3000) => {
                harness.login.signout(channel).await;
                told += 1;
            }
            // QUIC has no end of a stream that the system would send in the name of a dead worker.
            code => assert_eq!(code, if kind.is_tcp() { None } else { Some(3006) }),
        }
    }
    // Which worker panicked is chance; those of the other one were told, and signed out.
    assert!(!cfg!(target_os = "linux") || (1..16).contains(&told), "{told} of 16 were told");
    assert!(!harness.end().await, "an end by a fault is no orderly one");
}

/// The kernel renumbers a group of sockets when one is closed, and would steer the packets of living workers astray.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_sockets_of_a_worker_that_panicked_stay_until_the_others_have_drained() {
    let mut harness = TestGateway::with(|config| config.workers = 3).await;
    let port = format!(":{:04X} ", harness.target.quic.port());
    let bound = || {
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
        sockets
            .lines()
            .filter(|line| line.split(" 00000000:").next().unwrap().contains(port.trim_end()))
            .count()
    };
    assert_eq!(bound(), 3);
    harness.chat.hold("chat.user.talk");
    let mut clients = Vec::new();
    for n in 0..24 {
        let (mut raw, channel) = harness.client(QuicMany, &format!("user{n}")).await;
        let sequence = raw.talk("bob", "slow").await;
        clients.push((raw, channel, sequence));
    }
    harness.chat.packet("chat.user.talk", 23).await;
    let mut last = harness.connect(QuicMany).await;
    last.signin(&token(PANIC_WORKER)).await;
    // Said by the worker behind its panic; its thread ends a moment later, so the look is repeated below.
    assert_eq!(last.farewell().await.code, Some(3006));
    assert_eq!(bound(), 3, "the others still drain");
    for request in harness.chat.packets("chat.user.talk") {
        harness.chat.answer_default(&request);
        assert_eq!(bound(), 3);
    }
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for (raw, _, sequence) in &mut clients {
        let farewell = raw.farewell().await;
        if farewell.code == Some(3000) {
            assert_eq!(farewell.response(*sequence).header.status, 0, "the last answer");
        }
        *codes.entry(farewell.code.unwrap()).or_default() += 1;
    }
    assert_eq!(codes.keys().copied().collect::<Vec<_>>(), [3000, 3006], "{codes:?}");
    assert!(!harness.end().await);
    assert_eq!(bound(), 0);
}
