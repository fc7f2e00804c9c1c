//! The session that lasts of the client library, through real gateways: it moves, comes back, stays away, and every
//! request is carried out once or its caller knows better (rows F1, F3).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gateway::wire::close::CloseReason;
use gateway::wire::command::{CHAT_USER_TALK, LOGIN_SIGNIN};
use gateway::wire::dialect::Dialect;
use gateway_client::{
    Backoff, Client, ConnectOptions, End, Event, Events, LoginError, PendingReply, RequestError,
    Requests as _, ResilientClient, ResilientOptions, Streams, TrustedCa,
};
use rstest::rstest;

use crate::support::fake_logic::FakeLogic;
use crate::support::harness::TestGateway;
use crate::support::identity::{CERTIFICATES, token};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Target;
use crate::support::shaped::{Shape, ShapedLink};
use crate::support::soon;

/// Pauses that tests need not wait for.
const SHORT: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));

fn server(kind: Kind, target: &Target) -> ConnectOptions {
    let ca = || TrustedCa::from_der(vec![CERTIFICATES.ca.clone()]).unwrap();
    let mut options = match kind {
        Tcp => ConnectOptions::tcp(target.tcp.to_string()),
        Tls => ConnectOptions::tls(target.tls.to_string(), ca()),
        Ws => ConnectOptions::ws(target.ws.to_string()),
        Wss => ConnectOptions::wss(target.wss.to_string(), ca()),
        QuicOne | QuicMany => ConnectOptions::quic(target.quic.to_string(), ca()),
    };
    options.streams = if kind == QuicOne { Streams::Single } else { Streams::Separate };
    options
}

fn options(kind: Kind, harness: &TestGateway) -> ResilientOptions {
    lasting(server(kind, &harness.target))
}

/// A session on this server that comes back soon.
fn lasting(server: ConnectOptions) -> ResilientOptions {
    let mut options = ResilientOptions::new(server);
    options.backoff = SHORT;
    options
}

/// Takes events up to one for which `wanted` gives something.
async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = soon("an event", events.recv()).await.expect("the session goes on");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

/// Awaits the next sign-in; returns the server.
async fn online(events: &mut Events) -> String {
    event(events, |event| match event {
        Event::Connected(online) => Some(online.server.clone()),
        _ => None,
    })
    .await
}

/// Numbered requests and their answers to come.
struct ReconnectLedger {
    made: Vec<PendingReply>,
}

impl ReconnectLedger {
    const fn new() -> Self {
        Self { made: Vec::new() }
    }

    async fn make(&mut self, client: &ResilientClient, count: usize) {
        for _ in 0..count {
            let number = self.made.len().to_string();
            self.made.push(soon("room", client.send(CHAT_USER_TALK, "bob", number)).await.unwrap());
        }
    }

    /// Awaits every answer and compares it with what the services got; returns how many have an unknown outcome.
    async fn balance(self, services: &[&FakeLogic]) -> usize {
        let mut results = Vec::new();
        for reply in self.made {
            results.push(soon("the end of a request", reply).await);
        }
        let mut seen: HashMap<usize, usize> = HashMap::new();
        for service in services {
            let numbers = service
                .packets(CHAT_USER_TALK)
                .into_iter()
                .map(|packet| String::from_utf8(packet.body.to_vec()).unwrap().parse::<usize>().unwrap());
            let numbers: Vec<usize> = numbers.collect();
            assert!(numbers.is_sorted(), "G3: in the order in which they were made: {numbers:?}");
            numbers.into_iter().for_each(|number| *seen.entry(number).or_default() += 1);
        }
        let mut unknown = 0;
        for (number, result) in results.into_iter().enumerate() {
            let times = seen.get(&number).copied().unwrap_or(0);
            match result {
                Ok(answer) => {
                    assert!(answer.is_success(), "{number}: {}", answer.status);
                    assert_eq!(times, 1, "request {number}");
                }
                Err(error) => {
                    assert!(error.is_outcome_unknown(), "{number}: {error}");
                    assert!(times <= 1, "request {number} was carried out {times} times");
                    unknown += 1;
                }
            }
        }
        unknown
    }
}

#[rstest]
#[tokio::test]
async fn f1_when_its_gateway_drains_a_client_moves_to_the_other_and_no_request_is_lost_or_repeated(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut old = TestGateway::start().await;
    let new = TestGateway::start().await;
    let two = options(kind, &old).or(server(kind, &new.target));
    let there = server(kind, &new.target).server;
    let connecting = ResilientClient::connect(two, token("alice"));
    let (client, _pushes, mut events) = soon("a session", connecting).await.unwrap();
    online(&mut events).await;
    let channel = client.session().unwrap().channel_id;
    let mut ledger = ReconnectLedger::new();
    ledger.make(&client, 50).await;
    old.chat.packet(CHAT_USER_TALK, 49).await;
    old.drain();
    let told = |event: &Event| {
        matches!(event, Event::Draining(_) | Event::Lost(CloseReason::Draining)).then_some(())
    };
    event(&mut events, told).await;
    ledger.make(&client, 50).await;
    assert_eq!(online(&mut events).await, there);
    ledger.make(&client, 50).await;
    assert_eq!(ledger.balance(&[&old.chat, &new.chat]).await, 0, "none is unknown");
    assert!(new.chat.packets(CHAT_USER_TALK).len() >= 50);
    old.login.signout(&channel).await;
    old.ended().await;
    assert_eq!(old.login.packets(LOGIN_SIGNIN).len(), 1);
    assert_eq!(new.login.packets(LOGIN_SIGNIN).len(), 1);
    assert!(new.login.packets(LOGIN_SIGNIN)[0].session().tags.contains(&"goaway".to_owned()));
}

#[rstest]
#[tokio::test]
async fn f3_a_gateway_that_was_killed_and_comes_back_has_its_clients_back_with_what_they_had_waiting(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let connecting = ResilientClient::connect(options(kind, &harness), token("alice"));
    let (client, _pushes, mut events) = soon("a session", connecting).await.unwrap();
    online(&mut events).await;
    let before = client.session().unwrap().channel_id;
    harness.chat.hold(CHAT_USER_TALK);
    let lost = client.send(CHAT_USER_TALK, "bob", "lost").await.unwrap();
    harness.chat.packet(CHAT_USER_TALK, 0).await;
    let Target { tcp, tls, ws, wss, quic } = harness.target;
    drop(harness);
    event(&mut events, |event| matches!(event, Event::Lost(_)).then_some(())).await;
    let error = soon("its end", lost).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    let mut ledger = ReconnectLedger::new();
    ledger.make(&client, 20).await;
    event(&mut events, |event| matches!(event, Event::Reconnecting { attempt: 2.., .. }).then_some(())).await;

    let harness = TestGateway::with(|config| {
        config.tcp = vec![tcp];
        config.tls.as_mut().unwrap().listen = vec![tls];
        config.quic.as_mut().unwrap().listen = vec![quic];
        let websocket = config.websocket.as_mut().unwrap();
        websocket.listen = vec![ws];
        websocket.tls.as_mut().unwrap().listen = vec![wss];
    })
    .await;
    online(&mut events).await;
    assert_ne!(client.session().unwrap().channel_id, before);
    assert_eq!(ledger.balance(&[&harness.chat]).await, 0);
    assert_eq!(harness.chat.packets(CHAT_USER_TALK).len(), 20, "and not the one that was lost");
}

#[rstest]
#[tokio::test]
async fn who_was_kicked_stays_away(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let connecting = ResilientClient::connect(options(kind, &harness), token("alice"));
    let (client, mut pushes, mut events) = soon("a session", connecting).await.unwrap();
    harness.login.kick(&client.session().unwrap().channel_id).await;
    assert!(soon("the notice", pushes.recv()).await.unwrap().kick().is_some());
    event(&mut events, |event| matches!(event, Event::Kicked).then_some(())).await;
    let end = soon("the end", client.over()).await;
    assert!(matches!(*end, End::Closed(CloseReason::Kicked)), "{end}");
    let late = client.request(CHAT_USER_TALK, "bob", "late").await.unwrap_err();
    assert!(matches!(late, RequestError::NotSent(_)));
    // Its task has ended, so nobody can come back.
    soon("the last event", async { while events.recv().await.is_some() {} }).await;
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 1);
}

/// A slow road, and what it takes two seconds to carry.
const SLOW: Shape = Shape { rate: 100_000, delay: Duration::from_millis(20), queue: 64 * 1024 };
const LARGE: usize = 200_000;

#[rstest]
#[tokio::test]
async fn h3_who_was_kicked_behind_pending_data_stays_away(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] drains: bool,
) {
    let harness = TestGateway::start().await;
    let link = ShapedLink::to(&harness.target, SLOW).await;
    let options = lasting(server(kind, link.target()));
    let connecting = ResilientClient::connect(options, token("alice"));
    let (client, _pushes, mut events) = soon("a session", connecting).await.unwrap();
    let channel = client.session().unwrap().channel_id;
    harness.chat.push(&[&channel], 1, &[b'p'; LARGE]).await;
    harness.metric_is("gateway_pushes_received_total", &[], 1.0).await;
    harness.login.kick(&channel).await;
    if drains {
        harness.metric_is("gateway_pushes_received_total", &[], 2.0).await;
        harness.drain();
    }
    let end = soon("the end", client.over()).await;
    assert!(matches!(*end, End::Closed(CloseReason::Kicked)), "{end}");
    soon("the last event", async { while events.recv().await.is_some() {} }).await;
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 1);
}

#[rstest]
#[tokio::test]
async fn h3_what_was_sent_before_a_goodbye_is_carried_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: usize = 50;
    let harness = TestGateway::start().await;
    let link = ShapedLink::to(&harness.target, Shape { rate: 1_000_000, ..SLOW }).await;
    let (client, _pushes) = Client::connect(server(kind, link.target())).await.unwrap();
    let channel = client.login(&token("alice")).await.unwrap().channel_id;
    let mut unanswered = Vec::new();
    for _ in 0..COUNT {
        unanswered.push(client.send_talk("bob", &"x".repeat(3000)).await.unwrap());
    }
    assert_eq!(soon("the goodbye", client.close()).await, CloseReason::Bye);
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
    harness.chat.packet(CHAT_USER_TALK, COUNT - 1).await;
}

/// More is under way than the road takes in the second a goodbye waits.
#[rstest]
#[tokio::test]
async fn h3_a_goodbye_behind_pending_data_is_signed_out_as_one(#[values(QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::with_limits(|limits| limits.max_frame = 1 << 20).await;
    let link = ShapedLink::to(&harness.target, SLOW).await;
    let (client, _pushes) = Client::connect(server(kind, link.target())).await.unwrap();
    let channel = client.login(&token("alice")).await.unwrap().channel_id;
    let _unanswered = client.send(CHAT_USER_TALK, "bob", vec![0; 4 * LARGE]).await.unwrap();
    let since = Instant::now();
    assert_eq!(soon("the goodbye", client.close()).await, CloseReason::Bye);
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[rstest]
#[tokio::test]
async fn a_wrong_token_ends_it(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (client, _pushes, _events) =
        ResilientClient::start(options(kind, &harness), "no.such.token".to_owned());
    let end = soon("the end", client.over()).await;
    assert!(matches!(*end, End::Login(LoginError::Refused { status: 105, .. })), "{end}");
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 0);
}

#[rstest]
#[tokio::test]
async fn b20_a_request_for_a_service_that_comes_late_is_carried_out_once(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (chat, waker) = FakeLogic::dormant(Dialect::XIm);
    let harness = TestGateway::unready(FakeLogic::start(Dialect::XIm), chat, Dialect::XIm, |config| {
        config.limits.backoff_first = Duration::from_millis(20);
        config.limits.backoff_max = Duration::from_millis(50);
    });
    harness.login.handshake(0).await;
    let (client, _pushes, _events) = ResilientClient::start(options(kind, &harness), token("alice"));
    soon("a session", client.online()).await.unwrap();
    let reply = client.send(CHAT_USER_TALK, "bob", "late").await.unwrap();
    soon("two refusals", async {
        while harness.metric("gateway_answers_total", &["status=\"300\""]).await < 2.0 {}
    })
    .await;
    waker.wake();
    assert!(soon("the answer", reply).await.unwrap().is_success());
    assert_eq!(harness.chat.packets(CHAT_USER_TALK).len(), 1);
}

/// The login service is not there when the client is: it is tried again until it is.
#[tokio::test]
async fn b21_a_login_that_is_not_possible_yet_is_tried_again() {
    let (login, waker) = FakeLogic::dormant(Dialect::XIm);
    let harness = TestGateway::unready(login, FakeLogic::start(Dialect::XIm), Dialect::XIm, |config| {
        config.limits.backoff_first = Duration::from_millis(20);
        config.limits.backoff_max = Duration::from_millis(50);
    });
    let (client, _pushes, mut events) = ResilientClient::start(options(Tcp, &harness), token("alice"));
    event(&mut events, |event| matches!(event, Event::Reconnecting { attempt: 2.., .. }).then_some(())).await;
    waker.wake();
    soon("a session", client.online()).await.unwrap();
    assert_eq!(harness.login.packets(LOGIN_SIGNIN).len(), 1);
}
