//! What the gateway does when too much is queued, and when somebody comes too often. Queues are filled with pushes to
//! channels whose login is not answered: these are parked, so that no buffer of a kernel takes a part of them.

use std::time::Instant;

use gateway::limits::Limits;
use gateway::wire::pb;
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::identity::token;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Raw;

/// Budget of the queued bytes of the process.
const BUDGET: usize = 1_000_000;

async fn tight() -> TestGateway {
    tight_with(|_| {}).await
}

async fn tight_with(change: impl FnOnce(&mut Limits)) -> TestGateway {
    let harness = TestGateway::with_limits(|limits| {
        limits.queued_bytes = BUDGET;
        limits.max_queued_bytes = BUDGET * 10;
        change(limits);
    })
    .await;
    harness.metric_is("gateway_memory_bytes", &["\"queue_limit\""], BUDGET as f64).await;
    harness.metric_is("gateway_overload_level", &[], 0.0).await;
    harness
}

/// A client whose login is not answered, with this much queued: `(client, sequence of its login, channel id)`.
async fn parked(harness: &TestGateway, kind: Kind, account: &str, bytes: usize) -> (Raw, u32, String) {
    harness.login.hold("login.signin");
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token(account)).await;
    let channel = harness.login.signin(account).await.header.channel_id;
    harness.chat.push(&[&channel], 1, &vec![b'x'; bytes]).await;
    (client, sequence, channel)
}

async fn is_refused(harness: &TestGateway, kind: Kind, account: &str) {
    let mut client = harness.connect(kind).await;
    let sequence = client.signin(&token(account)).await;
    let farewell = client.closed_with(3003).await;
    assert_eq!(farewell.response(sequence).header.status, pb::Status::SystemException as i32);
}

async fn rejects(harness: &TestGateway, reason: &str, count: f64) {
    harness.metric_is("gateway_reject_total", &[&format!("\"{reason}\"")], count).await;
}

#[rstest]
#[tokio::test]
async fn f11_at_nine_tenths_of_the_budget_logins_are_refused_and_everybody_else_is_served(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = tight().await;
    let (mut bob, _) = harness.client(kind, "bob").await;
    let (mut alice, sequence, _) = parked(&harness, kind, "alice", 920_000).await;
    harness.metric_is("gateway_overload_level", &[], 1.0).await;
    is_refused(&harness, kind, "carol").await;
    is_refused(&harness, kind, "dave").await;
    rejects(&harness, "overload_login", 2.0).await;
    harness.metric_is("gateway_logins_total", &["\"overloaded\""], 2.0).await;
    assert_eq!(harness.login.packets("login.signin").len(), 2, "the login service is not asked");
    let talk = bob.talk("alice", "accepted work goes on").await;
    assert_eq!(bob.response(talk).await.header.status, 0);

    harness.login.answer_default(&harness.login.signin("alice").await);
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(alice.push().await.body.len(), 920_000);
    harness.metric_is("gateway_overload_level", &[], 0.0).await;
    harness.login.unhold("login.signin");
    harness.client(kind, "carol").await;
    rejects(&harness, "overload_shed", 0.0).await;
}

#[rstest]
#[tokio::test]
async fn f11_above_nineteen_twentieths_the_largest_queue_is_shed_and_no_other(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = tight().await;
    let (mut alice, first, _) = parked(&harness, kind, "alice", 250_000).await;
    let (mut bob, _, _) = parked(&harness, kind, "bob", 400_000).await;
    let (mut carol, third, channel) = parked(&harness, kind, "carol", 200_000).await;
    rejects(&harness, "overload_shed", 0.0).await;
    harness.chat.push(&[&channel], 2, &[b'y'; 115_000]).await;
    let farewell = bob.farewell().await;
    assert!(farewell.messages.is_empty());
    // A client that takes nothing is not waited for: only QUIC has a place for the code.
    assert_eq!(farewell.code, (!kind.is_tcp()).then_some(3002));
    rejects(&harness, "overload_shed", 1.0).await;
    rejects(&harness, "overload_newest", 0.0).await;
    harness.metric_is("gateway_closes_total", &["\"slow_consumer\""], 1.0).await;
    harness.metric_is("gateway_push_drops_total", &["\"slow_consumer\""], 1.0).await;
    for account in ["alice", "bob", "carol"] {
        harness.login.answer_default(&harness.login.signin(account).await);
    }
    for (client, sequence, length) in [(&mut alice, first, 250_000), (&mut carol, third, 200_000)] {
        assert_eq!(client.response(sequence).await.header.status, 0);
        assert_eq!(client.push().await.body.len(), length);
    }
    assert_eq!(carol.push().await.body.len(), 115_000);
    harness.metric_is("gateway_queued_bytes", &[], 0.0).await;
}

#[rstest]
#[tokio::test]
async fn f11_near_the_budget_the_newest_connection_is_closed_as_well(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = tight().await;
    let (mut oldest, _) = harness.client(kind, "oldest").await;
    let (mut large, _, channel) = parked(&harness, kind, "large", 10).await;
    harness.login.unhold("login.signin");
    let (mut newest, _) = harness.client(kind, "newest").await;
    harness.chat.push(&[&channel], 2, &vec![b'x'; BUDGET]).await;
    newest.closed_with(3003).await;
    large.farewell().await;
    rejects(&harness, "overload_newest", 1.0).await;
    rejects(&harness, "overload_shed", 1.0).await;
    oldest.heartbeat(true).await;
    harness.metric_is("gateway_closes_total", &["\"overloaded\""], 1.0).await;
}

#[rstest]
#[tokio::test]
async fn b20_a_login_storm_on_one_account_is_answered_300_and_closed_3003(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = tight_with(|limits| {
        limits.account_logins_per_second = 1;
        limits.account_login_burst = 2;
    })
    .await;
    let (mut first, _) = harness.client(kind, "alice").await;
    let (mut second, _) = harness.client(kind, "alice").await;
    is_refused(&harness, kind, "alice").await;
    rejects(&harness, "account_rate", 1.0).await;
    assert_eq!(harness.login.packets("login.signin").len(), 2, "the login service is not asked");
    harness.client(kind, "bob").await;
    for session in [&mut first, &mut second] {
        session.heartbeat(true).await;
    }
    harness.metric_is("gateway_logins_total", &["\"overloaded\""], 1.0).await;
}

/// Whoever holds a token is its account: what the gateway does about a stolen one is to bound how often it signs in. Which
/// of its sessions stay is the login service's affair.
#[rstest]
#[tokio::test]
async fn b18_one_token_on_many_connections_signs_in_at_the_rate_of_its_account(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const CONNECTIONS: usize = 40;
    let burst = Limits::default().account_login_burst;
    let harness = TestGateway::with_limits(|limits| {
        limits.account_logins_per_second = Limits::default().account_logins_per_second;
        limits.account_login_burst = burst;
    })
    .await;
    let (stolen, begun) = (token("alice"), Instant::now());
    let (mut sessions, mut refused) = (Vec::new(), 0);
    for _ in 0..CONNECTIONS {
        let mut client = harness.connect(kind).await;
        let sequence = client.signin(&stolen).await;
        if client.response(sequence).await.header.status == 0 {
            sessions.push(client);
        } else {
            client.closed_with(3003).await;
            refused += 1;
        }
    }
    let most = burst as usize + begun.elapsed().as_secs() as usize + 1;
    assert!((burst as usize..=most).contains(&sessions.len()), "{} sessions", sessions.len());
    rejects(&harness, "account_rate", f64::from(refused)).await;
    assert_eq!(
        harness.login.packets("login.signin").len(),
        sessions.len(),
        "the login service is asked no oftener"
    );
    // One account's storm is nobody else's.
    let (mut bob, _) = harness.client(kind, "bob").await;
    for session in sessions.iter_mut().chain([&mut bob]) {
        session.heartbeat(true).await;
    }
    assert!(harness.login.packets("login.signout").is_empty());
}

/// Loopback has no rate of its own, so that of all connections stands for both.
#[tokio::test]
async fn d1_connections_beyond_the_rate_of_the_process_are_closed_3003() {
    let harness = tight_with(|limits| limits.connections_per_second = 1).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(harness.connect(Tcp).await);
    }
    harness.connect(Tcp).await.closed_with(3003).await;
    rejects(&harness, "connection_rate", 1.0).await;
    for client in &mut clients {
        client.login("alice").await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f16_every_worker_shows_its_connections_and_how_late_its_loop_is() {
    let harness = TestGateway::with(|config| config.workers = 2).await;
    let mut clients = Vec::new();
    for n in 0..8 {
        clients.push(harness.client(Tcp, &format!("user{n}")).await);
    }
    harness.metric_is("gateway_worker_connections", &[], 8.0).await;
    let (_, text) = harness.get("/metrics").await;
    for worker in 0..2 {
        for name in ["gateway_worker_connections", "gateway_loop_lag_seconds"] {
            assert!(text.contains(&format!("{name}{{worker=\"{worker}\"}} ")), "{text}");
        }
    }
    // Seconds: whatever this machine does to it, no loop has been late for a minute.
    assert!(harness.metric("gateway_loop_lag_seconds", &[]).await < 60.0);
    assert!(harness.metric("gateway_memory_bytes", &["\"resident\""]).await > 1e6);
}
