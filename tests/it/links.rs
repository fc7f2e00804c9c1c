//! Links to the logic services: lost, refused, silent, stuck; and what moves from one instance to another.

use std::collections::HashSet;
use std::time::Duration;

use gateway::config::Config;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use gateway::wire::pb;
use rstest::rstest;

use crate::support::PATIENCE;
use crate::support::fake_logic::{FakeLogic, Received};
use crate::support::harness::{GATE, TestGateway, instance, route};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Purpose, Raw, request};
use crate::support::stream::Seen;

const SYSTEM_EXCEPTION: i32 = pb::Status::SystemException as i32;
const OUTCOME_UNKNOWN: i32 = pb::Status::OutcomeUnknown as i32;

/// Redials come quickly.
fn eager(config: &mut Config) {
    config.limits.backoff_first = Duration::from_millis(10);
    config.limits.backoff_max = Duration::from_millis(50);
}

#[rstest]
#[tokio::test]
async fn g4_e1_when_a_stuck_link_breaks_its_queue_moves_and_what_was_sent_is_answered_210(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] another: bool,
) {
    const COUNT: u32 = 200;
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    stuck.hold("chat.user.talk");
    let spare = FakeLogic::start(Dialect::XIm);
    let spare_address = spare.address;
    let mut harness = TestGateway::on(FakeLogic::start(Dialect::XIm), stuck, Dialect::XIm, |config| {
        config.limits.request_deadline = Duration::from_secs(30);
        config.limits.backend_queued_bytes = 64 * 1024 * 1024;
        config.limits.backend_ping = Duration::from_secs(30);
        if another {
            config.instances.push(instance("chat", "chat02", spare_address, Dialect::XIm));
        }
    })
    .await;
    // With two instances an account's place among them decides; look for one that belongs to the first.
    let mut alice = None;
    for n in 0..50 {
        let (mut client, _) = harness.client(kind, &format!("alice{n}")).await;
        let sequence = client.request("chat.probe", "", b"").await;
        client.response(sequence).await;
        if harness.chat.packets("chat.probe").len() == 1 {
            alice = Some(client);
            break;
        }
    }
    let mut alice = alice.expect("an account of the first instance");

    harness.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let stream = alice.stream_for(Purpose::Messages);
    for sequence in 1000..1000 + COUNT {
        alice.send_on(stream, &request("chat.user.talk", sequence, "bob"), &body).await;
    }
    // The gateway has read all of them when it answers the ping behind them.
    alice.write_on(stream, encode(Opcode::Ping, &[])).await;
    alice
        .take("a pong", |seen| match seen {
            Seen::Frame(_, frame) if frame.opcode == Opcode::Pong => Some(()),
            _ => None,
        })
        .await;
    harness.chat.stop().await;

    let mut lost = 0;
    for sequence in 1000..1000 + COUNT {
        let status = alice.response(sequence).await.header.status;
        let expected = if another { 0 } else { SYSTEM_EXCEPTION };
        if status == OUTCOME_UNKNOWN {
            assert_eq!(sequence, 1000 + lost, "what was sent is a prefix");
            lost += 1;
        } else {
            assert_eq!(status, expected, "request {sequence}");
        }
    }
    assert!(lost > 0 && lost < COUNT, "some were sent and some were queued: {lost} sent");
    if another {
        let moved: Vec<_> = spare.packets("chat.user.talk").iter().map(|p| p.header.sequence).collect();
        let expected: Vec<_> = (1000 + lost..1000 + COUNT).collect();
        assert_eq!(moved, expected, "oldest first, each once");
    }
}

#[rstest]
#[tokio::test]
async fn g4_a_request_still_queued_when_its_time_ends_is_removed_and_answered_300(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: u32 = 150;
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    stuck.hold("chat.user.talk");
    let harness = TestGateway::on(FakeLogic::start(Dialect::XIm), stuck, Dialect::XIm, |config| {
        config.limits.request_deadline = Duration::from_millis(1500);
        config.limits.backend_queued_bytes = 64 * 1024 * 1024;
        config.limits.backend_ping = Duration::from_secs(30);
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let mut sequences = Vec::new();
    for _ in 0..COUNT {
        sequences.push(alice.request("chat.user.talk", "bob", &body).await);
    }
    let mut removed = HashSet::new();
    let mut unknown = HashSet::new();
    for sequence in sequences {
        match alice.response(sequence).await.header.status {
            SYSTEM_EXCEPTION => removed.insert(sequence),
            OUTCOME_UNKNOWN => unknown.insert(sequence),
            other => panic!("status {other}"),
        };
    }
    assert!(!removed.is_empty() && !unknown.is_empty(), "{} and {}", removed.len(), unknown.len());

    // The service wakes up: it gets what was being sent, and nothing of what was answered 300.
    harness.chat.read_on();
    harness.chat.unhold("chat.user.talk");
    let marker = alice.talk("bob", "marker").await;
    assert_eq!(alice.response(marker).await.header.status, 0);
    let seen: HashSet<_> = harness.chat.packets("chat.user.talk").iter().map(|p| p.header.sequence).collect();
    assert!(seen.contains(&marker));
    assert_eq!(seen.intersection(&removed).count(), 0, "a removed request was handed over");
}

#[rstest]
#[tokio::test]
async fn e3_a_full_queue_towards_an_instance_is_answered_300_at_once_and_others_work_on(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    let login = FakeLogic::start(Dialect::XIm);
    let harness = TestGateway::on(login, stuck, Dialect::XIm, |config| {
        config.limits.request_deadline = Duration::from_secs(30);
        config.limits.backend_queued_bytes = 200_000;
        config.limits.backend_ping = Duration::from_secs(30);
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let mut sequences = Vec::new();
    for _ in 0..200 {
        sequences.push(alice.request("chat.user.talk", "bob", &body).await);
    }
    // 12 MB find no room in the queue and the kernel's buffers; which request does is the kernel's affair.
    let refused = alice
        .take("an answer 300", |seen| seen.message().filter(|m| m.header.status == SYSTEM_EXCEPTION))
        .await;
    sequences.retain(|sequence| *sequence != refused.header.sequence);
    let (mut bob, _) = harness.client(kind, "bob").await;
    bob.heartbeat(false).await;

    harness.chat.read_on();
    for sequence in &sequences {
        let status = alice.response(*sequence).await.header.status;
        assert!(status == 0 || status == SYSTEM_EXCEPTION, "{status}");
    }
}

#[rstest]
#[tokio::test]
async fn e2_a_service_that_hangs_is_given_up_after_its_missed_pongs(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_millis(100);
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.chat.stop_reading();
    let sequence = alice.talk("bob", "are you there?").await;
    assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    harness.chat.read_on();
    harness.chat.handshake(1).await;
    let status = loop {
        let sequence = alice.talk("bob", "and now?").await;
        let status = alice.response(sequence).await.header.status;
        if status != SYSTEM_EXCEPTION && status != OUTCOME_UNKNOWN {
            break status;
        }
    };
    assert_eq!(status, 0);
}

#[tokio::test]
async fn any_bytes_of_a_service_count_as_a_pong() {
    let harness = TestGateway::with(|config| {
        config.limits.backend_ping = Duration::from_millis(60);
        config.limits.backend_misses = 5;
    })
    .await;
    let (mut alice, channel) = harness.client(Tcp, "alice").await;
    harness.chat.stop_reading();
    // It answers no ping now, but it speaks, for three times as long as silence would be suffered.
    let mut ticks = tokio::time::interval(Duration::from_millis(30));
    for n in 0..30 {
        ticks.tick().await;
        harness.chat.push(&[&channel], n, b"alive").await;
        assert_eq!(alice.push().await.header.sequence, n);
    }
    harness.chat.read_on();
    let sequence = alice.talk("bob", "x").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(harness.chat.packet("chat.user.talk", 0).await.link, 0, "still the first link");
}

#[rstest]
#[tokio::test]
async fn e15_an_instance_that_refuses_the_link_serves_nobody_and_is_dialled_again(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let refusing = FakeLogic::start(Dialect::XIm);
    refusing.refuse(5);
    let address = refusing.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.instances.push(instance("login", "login02", address, Dialect::XIm));
    })
    .await;
    for n in 0..10 {
        harness.client(kind, &format!("early{n}")).await;
    }
    // Once it relents it is used, too.
    assert_eq!(refusing.handshake(0).await, GATE);
    let mut n = 0;
    while refusing.packets("login.signin").is_empty() {
        harness.client(kind, &format!("late{n}")).await;
        n += 1;
        assert!(n < 500, "the instance is not used");
    }
    let seen = |logic: &FakeLogic| logic.packets("login.signin").len();
    assert_eq!(seen(&harness.login) + seen(&refusing), 10 + n, "every login reached one instance");
}

#[rstest]
#[tokio::test]
async fn e4_bytes_that_are_no_frame_close_the_link_and_harm_nobody(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("opcode", "length")] what: &str,
) {
    let harness = TestGateway::with(eager).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let bytes: &'static [u8] = if what == "opcode" { b"\x77garbage" } else { &[2, 0xff, 0xff, 0xff, 0xff] };
    harness.chat.send(bytes);
    harness.chat.ended(0).await;
    harness.chat.handshake(1).await;
    harness.chat.push(&[&channel], 1, b"by the new link").await;
    assert_eq!(alice.push().await.body, "by the new link");
    assert!(harness.login.packets("login.signout").is_empty());
}

#[tokio::test]
async fn a_frame_ping_of_a_service_is_answered_and_its_close_frame_ends_the_link() {
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_secs(60);
    })
    .await;
    harness.chat.send(encode(Opcode::Ping, &[]));
    harness.chat.pong(0).await;
    harness.chat.send(encode(Opcode::Close, &[]));
    harness.chat.ended(0).await;
    assert_eq!(harness.chat.handshake(1).await, GATE);
}

#[rstest]
#[tokio::test]
async fn signouts_wait_for_the_login_service_and_go_to_the_instance_that_got_the_signin(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.instances.push(instance("login", "login02", address, Dialect::XIm));
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..12 {
        clients.push(harness.client(kind, &format!("user{n}")).await);
    }
    for (client, _) in &mut clients {
        client.bye().await;
    }
    let mut places = [0, 0];
    for (_, channel) in &clients {
        let of = |packets: Vec<Received>| packets.iter().any(|p| p.header.channel_id == *channel);
        let place = usize::from(of(second.packets("login.signin")));
        places[place] += 1;
        [&harness.login, &second][place].signout(channel).await;
    }
    assert!(places[0] > 0 && places[1] > 0, "both were used: {places:?}");
    let all = harness.login.packets("login.signout").len() + second.packets("login.signout").len();
    assert_eq!(all, 12, "one each");
}

#[rstest]
#[tokio::test]
async fn a_signout_without_a_link_waits_for_the_next_one(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(eager).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.login.refuse(3);
    harness.login.reset_link();
    harness.login.ended(0).await;
    alice.bye().await;
    let signout = harness.login.signout(&channel).await;
    assert_eq!((signout.link, signout.meta("reason")), (1, "bye"));
}

#[rstest]
#[tokio::test]
async fn a_signout_that_finds_no_link_in_its_time_is_given_up(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.signout_retry = Duration::from_millis(300);
    })
    .await;
    let (mut alice, _) = harness.client(kind, "alice").await;
    harness.login.refuse(1_000_000);
    harness.login.reset_link();
    harness.login.ended(0).await;
    alice.bye().await;
    harness.metric_is("gateway_signouts_total", &["outcome=\"given_up\""], 1.0).await;
    harness.login.refuse(0);
    harness.login.handshake(1).await;
    harness.ready().await;
    let mut n = 0;
    while harness.login.packets("login.signin").len() < 2 {
        let mut bob = harness.connect(kind).await;
        bob.signin(&crate::support::identity::token(&format!("bob{n}"))).await;
        bob.next().await;
        n += 1;
    }
    assert_eq!(harness.login.packets("login.signout").len(), 0, "never after its time");
}

/// A gateway whose login and chat are one service that has stopped reading, its link full to the brim.
async fn stuck(kind: Kind, change: impl FnOnce(&mut Config)) -> (TestGateway, Raw, String, Vec<u32>) {
    let chat = FakeLogic::start_narrow(Dialect::Kim);
    let harness = TestGateway::on(FakeLogic::start(Dialect::Kim), chat, Dialect::Kim, |config| {
        eager(config);
        config.login_service = "chat".into();
        config.instances.retain(|instance| instance.service == "chat");
        config.limits.request_deadline = Duration::from_secs(30);
        config.limits.backend_queued_bytes = 64 * 1024 * 1024;
        config.limits.backend_ping = Duration::from_secs(30);
        change(config);
    })
    .await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let mut sequences = Vec::new();
    for _ in 0..150 {
        sequences.push(alice.request("chat.user.talk", "bob", &body).await);
    }
    // Read in order, so all of them are with the gateway when it answers the ping.
    alice.write_on(alice.stream_for(Purpose::Messages), encode(Opcode::Ping, &[])).await;
    alice
        .take("a pong", |seen| matches!(seen, Seen::Frame(_, f) if f.opcode == Opcode::Pong).then_some(()))
        .await;
    (harness, alice, channel, sequences)
}

#[rstest]
#[tokio::test]
async fn g4_requests_queued_when_their_channel_closes_are_forwarded_ahead_of_its_signout(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let (harness, mut alice, channel, sequences) = stuck(kind, |_| {}).await;
    alice.bye().await;
    harness.metric_is("gateway_signouts_waiting", &[], 1.0).await;
    harness.chat.read_on();
    harness.chat.signout(&channel).await;
    let talks = harness.chat.packets("chat.user.talk");
    let seen: Vec<_> = talks.iter().map(|packet| packet.header.sequence).collect();
    assert_eq!(seen, sequences, "every one, once, in order, before the sign-out");
}

#[rstest]
#[tokio::test]
async fn g4_a_login_that_was_never_handed_over_is_answered_300_and_not_signed_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values("link lost", "time over")] why: &str,
) {
    let (harness, _alice, _, _) = stuck(kind, |config| {
        config.limits.login_answer = Duration::from_millis(if why == "time over" { 400 } else { 4500 });
    })
    .await;
    let mut bob = harness.connect(kind).await;
    let sequence = bob.signin(&crate::support::identity::token("bob")).await;
    harness.metric_is("gateway_pending_requests", &[], 151.0).await;
    if why == "link lost" {
        harness.chat.reset_link();
    }
    let farewell = bob.closed_with(3004).await;
    assert_eq!(farewell.response(sequence).header.status, SYSTEM_EXCEPTION);

    harness.chat.read_on();
    let mut carol = 0;
    loop {
        let mut client = harness.connect(kind).await;
        client.signin(&crate::support::identity::token(&format!("carol{carol}"))).await;
        carol += 1;
        let first = client.next().await.and_then(|seen| seen.message()).expect("an answer");
        if first.header.status == 0 {
            break;
        }
    }
    let of_bob =
        |command| harness.chat.packets(command).iter().filter(|p| p.meta("account") == "bob").count();
    assert_eq!((of_bob("login.signin"), of_bob("login.signout")), (0, 0));
}

#[tokio::test]
async fn g1_g4_whatever_breaks_each_request_has_one_answer_and_is_handed_over_at_most_once() {
    const EACH: u32 = 120;
    let spare = FakeLogic::start(Dialect::Kim);
    let address = spare.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.instances.push(instance("chat", "chat02", address, Dialect::Kim));
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..9 {
        clients.push(harness.client(Kind::ALL[n % Kind::ALL.len()], &format!("user{n}")).await.0);
    }
    let mut statuses = std::collections::HashMap::new();
    for round in 0..EACH {
        for client in &mut clients {
            client.talk("bob", "x").await;
        }
        // Five rounds are on their way at any time.
        for (n, client) in clients.iter_mut().enumerate() {
            if round >= 5 {
                let sequence = round - 5 + 2;
                statuses.insert((n, sequence), client.response(sequence).await.header.status);
            }
        }
        // Both instances break again and again, in turn, and come back while the other one breaks.
        if round % 8 == 3 {
            let (broken, other) = match round % 16 {
                3 => (&harness.chat, &spare),
                _ => (&spare, &harness.chat),
            };
            other.handshake(round as usize / 16).await;
            if round % 32 < 16 { broken.reset_link() } else { broken.finish_link() }
        }
    }
    let mut handed_over = std::collections::HashMap::<_, usize>::new();
    let mut outcomes = std::collections::HashMap::<i32, usize>::new();
    for (n, client) in clients.iter_mut().enumerate() {
        for sequence in EACH - 5 + 2..EACH + 2 {
            statuses.insert((n, sequence), client.response(sequence).await.header.status);
        }
        client.heartbeat(true).await;
        assert!(client.leftovers().is_empty(), "one answer each");
    }
    assert_eq!(statuses.len(), clients.len() * EACH as usize);
    for packet in harness.chat.packets("chat.user.talk").iter().chain(&spare.packets("chat.user.talk")) {
        *handed_over.entry((packet.meta("account").to_owned(), packet.header.sequence)).or_default() += 1;
    }
    for ((n, sequence), status) in statuses {
        *outcomes.entry(status).or_default() += 1;
        let account = format!("user{n}");
        let times = handed_over.get(&(account.clone(), sequence)).copied().unwrap_or(0);
        match status {
            0 => assert_eq!(times, 1, "{account} {sequence}"),
            OUTCOME_UNKNOWN => assert!(times <= 1, "{account} {sequence}: {times} times"),
            SYSTEM_EXCEPTION => assert_eq!(times, 0, "{account} {sequence}"),
            other => panic!("status {other}"),
        }
    }
    assert!(outcomes.get(&0).is_some_and(|answered| *answered > 100), "{outcomes:?}");
    harness.metric_is("gateway_pending_requests", &[], 0.0).await;
}

#[tokio::test]
async fn e13_the_zone_of_an_account_decides_and_an_empty_zone_falls_back_deterministically() {
    let far = FakeLogic::start(Dialect::XIm);
    let address = far.address;
    let harness = TestGateway::with(|config| {
        config.route = std::sync::Arc::new(route(&["zone_a", "zone_b"]));
        let mut other = instance("chat", "chat02", address, Dialect::XIm);
        other.zone = "zone_b".into();
        config.instances.push(other);
    })
    .await;
    // crc32("alice") is odd and crc32("bob") even: the second and the first of two zones.
    for (account, chat) in [("alice", &far), ("bob", &harness.chat)] {
        let (mut client, _) = harness.client(Tcp, account).await;
        let sequence = client.talk("somebody", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        assert_eq!(chat.packet("chat.user.talk", 0).await.meta("account"), account);
        assert_eq!(chat.packets("chat.user.talk").len(), 1);
    }
    // Both logins went to the only login instance, in zone_a.
    assert_eq!(harness.login.packets("login.signin").len(), 2);
    assert_eq!(harness.metric("gateway_zone_fallback_total", &["zone_b"]).await, 1.0);
}

/// Two chat instances, the second one `chat02`, both healthy, and clients that do not keep theirs. An absence of 20 ms is a long one, a refused redial
/// makes it longer than that, and no ping wakes a link meanwhile.
async fn two_chats(warming: Duration) -> (TestGateway, FakeLogic) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.backoff_first = Duration::from_millis(50);
        config.limits.backend_ping = Duration::from_secs(30);
        config.bounded_load = false;
        config.limits.backend_warming = warming;
        config.limits.backend_returned_within = Duration::from_millis(20);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat01", "healthy").await;
    state_is(&harness, "chat02", "healthy").await;
    (harness, second)
}

async fn state_is(harness: &TestGateway, id: &str, state: &str) {
    let labels = [&*format!("instance=\"{id}\""), &*format!("state=\"{state}\"")];
    harness.metric_is("gateway_link_state", &labels, 1.0).await;
}

/// Ends the link of an instance for longer than it may be away.
async fn away_for_long(logic: &FakeLogic) {
    logic.refuse(2);
    logic.reset_link();
    logic.handshake(1).await;
}

/// An account that belongs to the second of two instances, signed in.
async fn client_of(harness: &TestGateway, second: &FakeLogic, kind: Kind) -> Raw {
    for n in 0..50 {
        let (mut client, _) = harness.client(kind, &format!("account{n}")).await;
        let sequence = client.request("chat.probe", "", b"").await;
        client.response(sequence).await;
        if second.packets("chat.probe").len() == 1 {
            return client;
        }
    }
    panic!("no account belongs to the second instance");
}

#[rstest]
#[tokio::test]
async fn e7_an_instance_back_after_long_gets_nothing_until_its_time_and_then_its_share(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const WARMING: Duration = Duration::from_secs(2);
    let (harness, second) = two_chats(WARMING).await;
    let mut alice = client_of(&harness, &second, kind).await;
    let left = std::time::Instant::now();
    away_for_long(&second).await;
    state_is(&harness, "chat02", "warming").await;
    let mut meanwhile = 0;
    while second.packets("chat.user.talk").is_empty() {
        let sequence = alice.talk("bob", "who serves me?").await;
        assert_eq!(alice.response(sequence).await.header.status, 0, "nothing is refused meanwhile");
        meanwhile += 1;
        assert!(left.elapsed() < PATIENCE, "its time does not come: {meanwhile} requests");
    }
    assert!(left.elapsed() >= WARMING, "{:?}", left.elapsed());
    assert!(meanwhile > 5, "{meanwhile} requests");
    state_is(&harness, "chat02", "healthy").await;
    assert_eq!(harness.chat.packets("chat.user.talk").len(), meanwhile - 1, "all but the last");
}

#[rstest]
#[tokio::test]
async fn e7_a_warming_instance_serves_at_once_when_it_is_alone_and_when_the_last_healthy_goes(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    // Longer than the test: whoever is warming stays it.
    let (mut harness, second) = two_chats(Duration::from_secs(600)).await;
    let mut alice = client_of(&harness, &second, kind).await;
    away_for_long(&second).await;
    state_is(&harness, "chat02", "warming").await;
    let sequence = alice.talk("bob", "to the healthy").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(
        (harness.chat.packets("chat.user.talk").len(), second.packets("chat.user.talk").len()),
        (1, 0)
    );

    // Nothing is on its way when the healthy goes, so nothing is refused or lost.
    harness.chat.stop().await;
    state_is(&harness, "chat01", "broken").await;
    let sequence = alice.talk("bob", "to the warming one").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packets("chat.user.talk").len(), 1);
    assert_eq!(harness.metric("gateway_reject_total", &["no_instance"]).await, 0.0);

    // Alone, lost, and back after long.
    second.refuse(2);
    second.reset_link();
    second.handshake(2).await;
    state_is(&harness, "chat02", "warming").await;
    let sequence = alice.talk("bob", "to the only one").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packet("chat.user.talk", 1).await.link, 2);
}

#[rstest]
#[tokio::test]
async fn a_link_back_within_its_time_leaves_the_instance_healthy(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.backend_warming = Duration::from_secs(600);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat01", "healthy").await;
    state_is(&harness, "chat02", "healthy").await;
    let mut alice = client_of(&harness, &second, kind).await;
    second.reset_link();
    second.handshake(1).await;
    harness.metric_is("gateway_link_reconnects_total", &["instance=\"chat02\""], 1.0).await;
    state_is(&harness, "chat02", "healthy").await;
    let sequence = alice.talk("bob", "to the one that was away").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packet("chat.user.talk", 0).await.link, 1);
}

/// Accounts, one after the other, ask until the instance has got one request more; all of them are answered 0.
async fn until_asked(harness: &TestGateway, logic: &FakeLogic, kind: Kind) {
    let before = logic.packets("chat.user.talk").len();
    let until = std::time::Instant::now() + PATIENCE;
    for n in 0.. {
        let (mut client, _) = harness.client(kind, &format!("asking{n}")).await;
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0, "nobody else is hurt");
        if logic.packets("chat.user.talk").len() > before {
            return;
        }
        assert!(std::time::Instant::now() < until, "the instance is not used");
    }
}

#[rstest]
#[tokio::test]
async fn e2_an_instance_that_hung_is_tried_with_one_request_and_then_serves(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_millis(100);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat02", "healthy").await;
    second.stop_reading();
    // Broken, and from then on dialled without a sign of life.
    harness.metric_is("gateway_reject_total", &["backend_down"], 1.0).await;
    second.read_on();
    state_is(&harness, "chat02", "ejected").await;
    until_asked(&harness, &second, kind).await;
    state_is(&harness, "chat02", "healthy").await;
    assert!(harness.metric("gateway_link_transitions_total", &["to=\"ejected\""]).await >= 1.0);
    assert_eq!(harness.metric("gateway_link_transitions_total", &["to=\"warming\""]).await, 0.0);
}

#[rstest]
#[tokio::test]
async fn e2_an_instance_that_answers_pings_and_nothing_else_is_ejected_and_tried_again(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.request_deadline = Duration::from_secs(1);
        config.limits.backend_ejected = Duration::from_millis(300);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat02", "healthy").await;
    let mut alice = client_of(&harness, &second, kind).await;
    second.hold("chat.user.talk");
    for _ in 0..5 {
        alice.talk("bob", "never answered").await;
    }
    for sequence in 3..8 {
        assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    }
    state_is(&harness, "chat02", "ejected").await;
    let sequence = alice.talk("bob", "to another").await;
    second.unhold("chat.user.talk");
    assert_eq!(alice.response(sequence).await.header.status, 0);
    // Its link was never lost, and its one answer makes it what it was.
    until_asked(&harness, &second, kind).await;
    state_is(&harness, "chat02", "healthy").await;
    assert_eq!(harness.metric("gateway_reject_total", &["backend_down"]).await, 0.0);
    assert_eq!(harness.metric("gateway_link_transitions_total", &["to=\"ejected\""]).await, 1.0);
}

#[rstest]
#[tokio::test]
async fn e2_an_instance_that_was_ejected_while_it_hung_is_tried_as_soon_as_it_speaks_again(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.limits.request_deadline = Duration::from_secs(1);
        config.limits.backend_ping = Duration::from_millis(300);
        // The timeouts come long before the silence, and the ejection would last longer than this test.
        config.limits.backend_misses = 100;
        config.limits.backend_ejected = Duration::from_secs(60);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat02", "healthy").await;
    let mut alice = client_of(&harness, &second, kind).await;
    second.stop_reading();
    for _ in 0..5 {
        alice.talk("bob", "never answered in time").await;
    }
    for sequence in 3..8 {
        assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    }
    state_is(&harness, "chat02", "ejected").await;
    second.read_on();
    second.packet("chat.user.talk", 4).await;
    until_asked(&harness, &second, kind).await;
    state_is(&harness, "chat02", "healthy").await;
    assert_eq!(harness.metric("gateway_reject_total", &["backend_down"]).await, 0.0);
}

#[rstest]
#[tokio::test]
async fn a_client_keeps_its_instance_when_another_comes_and_new_ones_get_their_share(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] bounded: bool,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let harness = TestGateway::with(|config| {
        eager(config);
        config.bounded_load = bounded;
        config.limits.backend_warming = Duration::from_millis(50);
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..12 {
        let (mut client, _) = harness.client(kind, &format!("user{n}")).await;
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        clients.push(client);
    }
    harness.instances_are(vec![
        instance("login", "login01", harness.login.address, Dialect::XIm),
        instance("chat", "chat01", harness.chat.address, Dialect::XIm),
        instance("chat", "chat02", second.address, Dialect::XIm),
    ]);
    state_is(&harness, "chat02", "healthy").await;
    for client in &mut clients {
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
    }
    assert_eq!(second.packets("chat.user.talk").is_empty(), bounded);
    until_asked(&harness, &second, kind).await;
}

/// An instance that answers slowly is spared new clients, and those that it has stay with it.
#[rstest]
#[tokio::test]
async fn new_clients_avoid_an_instance_that_is_far_behind(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] bounded: bool,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let harness = TestGateway::with(|config| {
        eager(config);
        config.bounded_load = bounded;
        config.limits.request_deadline = Duration::from_millis(4900);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&harness, "chat02", "healthy").await;
    let mut alice = client_of(&harness, &second, kind).await;
    second.hold("chat.user.talk");
    for _ in 0..140 {
        alice.talk("bob", "answered late").await;
    }
    second.packet("chat.user.talk", 139).await;
    for n in 0..12 {
        let (mut client, _) = harness.client(kind, &format!("new{n}")).await;
        client.talk("bob", "x").await;
        // Behind the request on every stream: the gateway has placed it when it answers.
        client.heartbeat(false).await;
    }
    let spilled = harness.metric("gateway_spilled_total", &[]).await;
    if bounded {
        assert_eq!(second.packets("chat.user.talk").len(), 140);
        harness.chat.packet("chat.user.talk", 11).await;
        assert!(spilled > 0.0, "some of 12 accounts belong to it");
    } else {
        second.packet("chat.user.talk", 140).await;
        assert_eq!(spilled, 0.0);
    }
    second.unhold("chat.user.talk");
    for packet in second.packets("chat.user.talk") {
        second.answer_default(&packet);
    }
    for sequence in 3..143 {
        assert_eq!(alice.response(sequence).await.header.status, 0);
    }
}
