//! A drain with a window: who is told, who is served meanwhile, and how evenly the closes come.

use std::time::{Duration, Instant};

use gateway::wire::dialect::Dialect;
use gateway::wire::packet::{BASIC_GO_AWAY, GO_AWAY_TAG, GoAway, Packet};
use gateway::wire::pb;
use rstest::rstest;
use tokio::task::JoinSet;

use crate::support::harness::TestGateway;
use crate::support::identity::token;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Raw};
use crate::support::stream::{Seen, StreamOf};

/// Without a window the tests of `draining` are about the end alone; here it is about the time before it.
async fn harness(window: Duration, workers: usize) -> TestGateway {
    TestGateway::with(|config| {
        config.drain_window = window;
        config.workers = workers;
    })
    .await
}

async fn login_with_tag(
    harness: &TestGateway,
    kind: Kind,
    dialect: Dialect,
    account: &str,
    tags: &[&str],
) -> Raw {
    let options = Options { dialect, ..Options::default() };
    let mut raw = harness.connect_with(kind, options).await;
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let sequence = raw.signin_with(&pb::LoginReq { token: token(account), tags, ..Default::default() }).await;
    assert_eq!(raw.response(sequence).await.header.status, 0);
    raw
}

/// Where and what a client was told, if this is it.
fn go_away(seen: &Seen) -> Option<(StreamOf, Dialect, GoAway)> {
    let Seen::Frame(stream, frame) = seen else { return None };
    match Packet::decode(&frame.payload) {
        Ok(Packet::Basic { dialect, code: BASIC_GO_AWAY, body }) => {
            assert_eq!(body.len(), 4);
            Some((*stream, dialect, GoAway::decode(&body).unwrap()))
        }
        _ => None,
    }
}

#[rstest]
#[tokio::test]
async fn f1_go_away_comes_first_and_the_close_when_it_said(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] dialect: Dialect,
) {
    let window = Duration::from_millis(2500);
    let mut harness = harness(window, 1).await;
    let mut alice = login_with_tag(&harness, kind, dialect, "alice", &["other", GO_AWAY_TAG]).await;
    let mut untagged = login_with_tag(&harness, kind, dialect, "bob", &[]).await;
    let since = Instant::now();
    harness.drain();
    let (stream, spoken, said) = alice.take("go away", go_away).await;
    assert_eq!((stream, spoken), (if kind.is_tcp() { StreamOf::Own(0) } else { StreamOf::Push(0) }, dialect));
    assert_eq!(said.code, 3000);
    assert!(since.elapsed() < window, "it comes at the begin");
    // It is served until then.
    let sequence = alice.talk("bob", "still here").await;
    let farewell = alice.closed_with(3000).await;
    assert!(since.elapsed() >= Duration::from_secs(said.seconds.into()), "{said:?}: {:?}", since.elapsed());
    let status = farewell.response(sequence).header.status;
    // Only where the close came at once the request may have come behind it.
    assert!(status == 0 || status == 300 && said.seconds == 0, "{status} {said:?}");

    let mut told = 0;
    while let Some(seen) = untagged.next().await {
        told += usize::from(go_away(&seen).is_some());
    }
    assert_eq!(told, usize::from(!kind.is_tcp()), "QUIC clients understand it, others only with the tag");
    harness.ended().await;
    assert!(since.elapsed() < window + Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(harness.login.packets("login.signout").len(), 2);
}

/// Sends requests until its connection ends. Returns when that was, and how many were answered 0 and 300.
async fn talk_until_closed(mut raw: Raw) -> (Instant, usize, usize) {
    let (mut served, mut refused) = (0, 0);
    let mut unanswered: Vec<u32> = Vec::new();
    loop {
        if unanswered.is_empty() {
            unanswered.push(raw.talk("bob", "x").await);
        }
        let Some(seen) = raw.next().await else { break };
        let Some(message) = seen.message() else { continue };
        assert_eq!(Some(message.header.sequence), unanswered.pop(), "one answer each");
        match message.header.status {
            0 => {
                assert_eq!(refused, 0, "once the close has begun nothing more is handed over");
                served += 1;
            }
            300 => refused += 1,
            other => panic!("status {other}"),
        }
    }
    (Instant::now(), served, refused)
}

#[tokio::test]
async fn f1_closes_are_spread_over_the_window_by_every_worker_and_requests_are_served_until_then() {
    const CLIENTS: usize = 200;
    const TALKING: usize = 20;
    let window = Duration::from_secs(4);
    let workers = if cfg!(target_os = "linux") { 2 } else { 1 };
    let mut harness = harness(window, workers).await;
    let mut ends = JoinSet::new();
    let mut talking = JoinSet::new();
    for n in 0..CLIENTS {
        let kind = Kind::ALL[n % Kind::ALL.len()];
        let (mut raw, _) = harness.client(kind, &format!("user{n}")).await;
        if n < TALKING {
            talking.spawn(talk_until_closed(raw));
        } else {
            ends.spawn(async move {
                while raw.next().await.is_some() {}
                Instant::now()
            });
        }
    }
    let begun = Instant::now();
    harness.drain();
    let mut moments = ends.join_all().await;
    for (at, served, refused) in talking.join_all().await {
        assert!(served > 0 && refused <= 1, "served {served}, refused {refused}");
        moments.push(at);
    }
    harness.ended().await;
    let mut tenths = [0; 10];
    for at in &moments {
        let tenth = (*at - begun).as_secs_f64() / window.as_secs_f64() * 10.0;
        // The last close takes its moment, too.
        tenths[(tenth as usize).min(9)] += 1;
    }
    println!("{CLIENTS} closes over {window:?}, by tenths: {tenths:?}");
    assert_eq!(moments.len(), CLIENTS);
    assert!(tenths.iter().all(|count| *count <= 2 * CLIENTS / 10), "peak above twice the mean: {tenths:?}");
    assert_eq!(tenths[0], 0, "who was told has time to go: {tenths:?}");
    assert!(tenths[1] > 0 && tenths[8] > 0, "from then to the end: {tenths:?}");
    // Every sign-out, once.
    let signouts = harness.login.packets("login.signout");
    assert_eq!(signouts.len(), CLIENTS);
    assert!(signouts.iter().all(|signout| signout.meta("reason") == "draining"));
    let requests = harness.chat.packets("chat.user.talk").len();
    assert!(requests > 0, "served while it drained");
}

#[tokio::test]
async fn f1_a_drain_ends_with_its_last_client_and_not_with_its_window() {
    let mut harness = harness(Duration::from_secs(25), 1).await;
    let (mut alice, channel) = harness.client(QuicOne, "alice").await;
    let since = Instant::now();
    harness.drain();
    harness.ready_is(503).await;
    // She moves when she is told.
    alice.take("go away", go_away).await;
    alice.bye().await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
    harness.ended().await;
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

/// Neither a request without an answer, nor a close that is not due yet, nor a sign-out nobody takes outlasts it.
#[rstest]
#[case::window(Duration::from_millis(3900), false)]
#[case::pending(Duration::ZERO, false)]
#[case::signout(Duration::ZERO, true)]
#[tokio::test]
async fn f1_the_end_comes_before_the_hard_stop(#[case] window: Duration, #[case] login_gone: bool) {
    let hard_stop = Duration::from_secs(4);
    let mut harness = TestGateway::with(|config| {
        config.drain_window = window;
        config.drain_hard_stop = hard_stop;
    })
    .await;
    harness.chat.hold("chat.user.talk");
    let mut clients = Vec::new();
    for n in 0..20 {
        let (mut raw, channel) = harness.client(Kind::ALL[n % Kind::ALL.len()], &format!("user{n}")).await;
        raw.talk("bob", "never answered").await;
        clients.push((raw, channel));
    }
    harness.chat.packet("chat.user.talk", 19).await;
    if login_gone {
        harness.login.stop().await;
    }
    let since = Instant::now();
    harness.drain();
    harness.ended().await;
    assert!(since.elapsed() < hard_stop, "{:?}", since.elapsed());
    for (raw, channel) in &mut clients {
        raw.closed_with(3000).await;
        if !login_gone {
            assert_eq!(harness.login.signout(channel).await.meta("reason"), "draining");
        }
    }
}
