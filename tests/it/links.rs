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
use crate::support::harness::{Bench, GATE, instance, route};
use crate::support::lane::Seen;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls};
use crate::support::raw::{Purpose, Raw, request};

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
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] another: bool,
) {
    const COUNT: u32 = 200;
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    stuck.hold("chat.user.talk");
    let spare = FakeLogic::start(Dialect::XIm);
    let spare_address = spare.address;
    let mut bench = Bench::on(FakeLogic::start(Dialect::XIm), stuck, Dialect::XIm, |config| {
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
        let (mut client, _) = bench.client(kind, &format!("alice{n}")).await;
        let sequence = client.request("chat.probe", "", b"").await;
        client.response(sequence).await;
        if bench.chat.packets("chat.probe").len() == 1 {
            alice = Some(client);
            break;
        }
    }
    let mut alice = alice.expect("an account of the first instance");

    bench.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let lane = alice.lane_for(Purpose::Messages);
    for sequence in 1000..1000 + COUNT {
        alice.send_on(lane, &request("chat.user.talk", sequence, "bob"), &body).await;
    }
    // The gateway has read all of them when it answers the ping behind them.
    alice.write_on(lane, encode(Opcode::Ping, &[])).await;
    alice
        .take("a pong", |seen| match seen {
            Seen::Frame(_, frame) if frame.opcode == Opcode::Pong => Some(()),
            _ => None,
        })
        .await;
    bench.chat.stop().await;

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
    #[values(Tcp, Tls, QuicMany)] kind: Kind,
) {
    const COUNT: u32 = 150;
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    stuck.hold("chat.user.talk");
    let bench = Bench::on(FakeLogic::start(Dialect::XIm), stuck, Dialect::XIm, |config| {
        config.limits.request_deadline = Duration::from_millis(1500);
        config.limits.backend_queued_bytes = 64 * 1024 * 1024;
        config.limits.backend_ping = Duration::from_secs(30);
    })
    .await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.chat.stop_reading();
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
    bench.chat.read_on();
    bench.chat.unhold("chat.user.talk");
    let marker = alice.talk("bob", "marker").await;
    assert_eq!(alice.response(marker).await.header.status, 0);
    let seen: HashSet<_> = bench.chat.packets("chat.user.talk").iter().map(|p| p.header.sequence).collect();
    assert!(seen.contains(&marker));
    assert_eq!(seen.intersection(&removed).count(), 0, "a removed request was handed over");
}

#[rstest]
#[tokio::test]
async fn e3_a_full_queue_towards_an_instance_is_answered_300_at_once_and_others_work_on(
    #[values(Tcp, Tls, QuicMany)] kind: Kind,
) {
    let stuck = FakeLogic::start_narrow(Dialect::XIm);
    let login = FakeLogic::start(Dialect::XIm);
    let bench = Bench::on(login, stuck, Dialect::XIm, |config| {
        config.limits.request_deadline = Duration::from_secs(30);
        config.limits.backend_queued_bytes = 200_000;
        config.limits.backend_ping = Duration::from_secs(30);
    })
    .await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.chat.stop_reading();
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
    let (mut bob, _) = bench.client(kind, "bob").await;
    bob.heartbeat(false).await;

    bench.chat.read_on();
    for sequence in &sequences {
        let status = alice.response(*sequence).await.header.status;
        assert!(status == 0 || status == SYSTEM_EXCEPTION, "{status}");
    }
}

#[rstest]
#[tokio::test]
async fn e2_a_service_that_hangs_is_given_up_after_its_missed_pongs(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_millis(100);
    })
    .await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.chat.stop_reading();
    let sequence = alice.talk("bob", "are you there?").await;
    assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    bench.chat.read_on();
    bench.chat.handshake(1).await;
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
    let bench = Bench::with(|config| {
        config.limits.backend_ping = Duration::from_millis(60);
        config.limits.backend_misses = 5;
    })
    .await;
    let (mut alice, channel) = bench.client(Tcp, "alice").await;
    bench.chat.stop_reading();
    // It answers no ping now, but it speaks, for three times as long as silence would be suffered.
    let mut ticks = tokio::time::interval(Duration::from_millis(30));
    for n in 0..30 {
        ticks.tick().await;
        bench.chat.push(&[&channel], n, b"alive").await;
        assert_eq!(alice.push().await.header.sequence, n);
    }
    bench.chat.read_on();
    let sequence = alice.talk("bob", "x").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(bench.chat.packet("chat.user.talk", 0).await.link, 0, "still the first link");
}

#[rstest]
#[tokio::test]
async fn e15_an_instance_that_refuses_the_link_serves_nobody_and_is_dialled_again(
    #[values(Tcp, Tls, QuicOne)] kind: Kind,
) {
    let refusing = FakeLogic::start(Dialect::XIm);
    refusing.refuse(5);
    let address = refusing.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.instances.push(instance("login", "login02", address, Dialect::XIm));
    })
    .await;
    for n in 0..10 {
        bench.client(kind, &format!("early{n}")).await;
    }
    // Once it relents it is used, too.
    assert_eq!(refusing.handshake(0).await, GATE);
    let mut n = 0;
    while refusing.packets("login.signin").is_empty() {
        bench.client(kind, &format!("late{n}")).await;
        n += 1;
        assert!(n < 500, "the instance is not used");
    }
    let seen = |logic: &FakeLogic| logic.packets("login.signin").len();
    assert_eq!(seen(&bench.login) + seen(&refusing), 10 + n, "every login reached one instance");
}

#[rstest]
#[tokio::test]
async fn e4_bytes_that_are_no_frame_close_the_link_and_harm_nobody(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values("opcode", "length")] what: &str,
) {
    let bench = Bench::with(eager).await;
    let (mut alice, channel) = bench.client(kind, "alice").await;
    let bytes: &'static [u8] = if what == "opcode" { b"\x77garbage" } else { &[2, 0xff, 0xff, 0xff, 0xff] };
    bench.chat.send(bytes);
    bench.chat.ended(0).await;
    bench.chat.handshake(1).await;
    bench.chat.push(&[&channel], 1, b"by the new link").await;
    assert_eq!(alice.push().await.body, "by the new link");
    assert!(bench.login.packets("login.signout").is_empty());
}

#[tokio::test]
async fn a_frame_ping_of_a_service_is_answered_and_its_close_frame_ends_the_link() {
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_secs(60);
    })
    .await;
    bench.chat.send(encode(Opcode::Ping, &[]));
    bench.chat.pong(0).await;
    bench.chat.send(encode(Opcode::Close, &[]));
    bench.chat.ended(0).await;
    assert_eq!(bench.chat.handshake(1).await, GATE);
}

#[rstest]
#[tokio::test]
async fn signouts_wait_for_the_login_service_and_go_to_the_instance_that_got_the_signin(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.instances.push(instance("login", "login02", address, Dialect::XIm));
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..12 {
        clients.push(bench.client(kind, &format!("user{n}")).await);
    }
    for (client, _) in &mut clients {
        client.bye().await;
    }
    let mut places = [0, 0];
    for (_, channel) in &clients {
        let of = |packets: Vec<Received>| packets.iter().any(|p| p.header.channel_id == *channel);
        let place = usize::from(of(second.packets("login.signin")));
        places[place] += 1;
        [&bench.login, &second][place].signout(channel).await;
    }
    assert!(places[0] > 0 && places[1] > 0, "both were used: {places:?}");
    let all = bench.login.packets("login.signout").len() + second.packets("login.signout").len();
    assert_eq!(all, 12, "one each");
}

#[rstest]
#[tokio::test]
async fn a_signout_without_a_link_waits_for_the_next_one(#[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind) {
    let bench = Bench::with(eager).await;
    let (mut alice, channel) = bench.client(kind, "alice").await;
    bench.login.refuse(3);
    bench.login.reset_link();
    bench.login.ended(0).await;
    alice.bye().await;
    let signout = bench.login.signout(&channel).await;
    assert_eq!((signout.link, signout.meta("reason")), (1, "bye"));
}

#[rstest]
#[tokio::test]
async fn a_signout_that_finds_no_link_in_its_time_is_given_up(#[values(Tcp, Tls, QuicMany)] kind: Kind) {
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.signout_retry = Duration::from_millis(300);
    })
    .await;
    let (mut alice, _) = bench.client(kind, "alice").await;
    bench.login.refuse(1_000_000);
    bench.login.reset_link();
    bench.login.ended(0).await;
    alice.bye().await;
    bench.metric_is("gateway_signouts_total", &["outcome=\"given_up\""], 1.0).await;
    bench.login.refuse(0);
    bench.login.handshake(1).await;
    bench.ready().await;
    let mut n = 0;
    while bench.login.packets("login.signin").len() < 2 {
        let mut bob = bench.connect(kind).await;
        bob.signin(&crate::support::identity::token(&format!("bob{n}"))).await;
        bob.next().await;
        n += 1;
    }
    assert_eq!(bench.login.packets("login.signout").len(), 0, "never after its time");
}

/// A gateway whose login and chat are one service that has stopped reading, its link full to the brim.
async fn stuck(kind: Kind, change: impl FnOnce(&mut Config)) -> (Bench, Raw, String, Vec<u32>) {
    let chat = FakeLogic::start_narrow(Dialect::Kim);
    let bench = Bench::on(FakeLogic::start(Dialect::Kim), chat, Dialect::Kim, |config| {
        eager(config);
        config.login_service = "chat".into();
        config.instances.retain(|instance| instance.service == "chat");
        config.limits.request_deadline = Duration::from_secs(30);
        config.limits.backend_queued_bytes = 64 * 1024 * 1024;
        config.limits.backend_ping = Duration::from_secs(30);
        change(config);
    })
    .await;
    let (mut alice, channel) = bench.client(kind, "alice").await;
    bench.chat.stop_reading();
    let body = vec![b'x'; 60_000];
    let mut sequences = Vec::new();
    for _ in 0..150 {
        sequences.push(alice.request("chat.user.talk", "bob", &body).await);
    }
    // Read in order, so all of them are with the gateway when it answers the ping.
    alice.write_on(alice.lane_for(Purpose::Messages), encode(Opcode::Ping, &[])).await;
    alice
        .take("a pong", |seen| matches!(seen, Seen::Frame(_, f) if f.opcode == Opcode::Pong).then_some(()))
        .await;
    (bench, alice, channel, sequences)
}

#[rstest]
#[tokio::test]
async fn g4_requests_queued_when_their_channel_closes_are_forwarded_ahead_of_its_signout(
    #[values(Tcp, Tls, QuicOne)] kind: Kind,
) {
    let (bench, mut alice, channel, sequences) = stuck(kind, |_| {}).await;
    alice.bye().await;
    bench.metric_is("gateway_signouts_waiting", &[], 1.0).await;
    bench.chat.read_on();
    bench.chat.signout(&channel).await;
    let talks = bench.chat.packets("chat.user.talk");
    let seen: Vec<_> = talks.iter().map(|packet| packet.header.sequence).collect();
    assert_eq!(seen, sequences, "every one, once, in order, before the sign-out");
}

#[rstest]
#[tokio::test]
async fn g4_a_login_that_was_never_handed_over_is_answered_300_and_not_signed_out(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values("link lost", "time over")] why: &str,
) {
    let (bench, _alice, _, _) = stuck(kind, |config| {
        config.limits.login_answer = Duration::from_millis(if why == "time over" { 400 } else { 4500 });
    })
    .await;
    let mut bob = bench.connect(kind).await;
    let sequence = bob.signin(&crate::support::identity::token("bob")).await;
    bench.metric_is("gateway_pending_requests", &[], 151.0).await;
    if why == "link lost" {
        bench.chat.reset_link();
    }
    let farewell = bob.closed_with(3004).await;
    assert_eq!(farewell.response(sequence).header.status, SYSTEM_EXCEPTION);

    bench.chat.read_on();
    let mut carol = 0;
    loop {
        let mut client = bench.connect(kind).await;
        client.signin(&crate::support::identity::token(&format!("carol{carol}"))).await;
        carol += 1;
        let first = client.next().await.and_then(|seen| seen.message()).expect("an answer");
        if first.header.status == 0 {
            break;
        }
    }
    let of_bob = |command| bench.chat.packets(command).iter().filter(|p| p.meta("account") == "bob").count();
    assert_eq!((of_bob("login.signin"), of_bob("login.signout")), (0, 0));
}

#[tokio::test]
async fn g1_g4_whatever_breaks_each_request_has_one_answer_and_is_handed_over_at_most_once() {
    const EACH: u32 = 120;
    let spare = FakeLogic::start(Dialect::Kim);
    let address = spare.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.instances.push(instance("chat", "chat02", address, Dialect::Kim));
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..9 {
        clients.push(bench.client([Tcp, Tls, QuicOne, QuicMany][n % 4], &format!("user{n}")).await.0);
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
                3 => (&bench.chat, &spare),
                _ => (&spare, &bench.chat),
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
    for packet in bench.chat.packets("chat.user.talk").iter().chain(&spare.packets("chat.user.talk")) {
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
    bench.metric_is("gateway_pending_requests", &[], 0.0).await;
}

#[tokio::test]
async fn e13_the_zone_of_an_account_decides_and_an_empty_zone_falls_back_deterministically() {
    let far = FakeLogic::start(Dialect::XIm);
    let address = far.address;
    let bench = Bench::with(|config| {
        config.route = std::sync::Arc::new(route(&["zone_a", "zone_b"]));
        let mut other = instance("chat", "chat02", address, Dialect::XIm);
        other.zone = "zone_b".into();
        config.instances.push(other);
    })
    .await;
    // crc32("alice") is odd and crc32("bob") even: the second and the first of two zones.
    for (account, chat) in [("alice", &far), ("bob", &bench.chat)] {
        let (mut client, _) = bench.client(Tcp, account).await;
        let sequence = client.talk("somebody", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        assert_eq!(chat.packet("chat.user.talk", 0).await.meta("account"), account);
        assert_eq!(chat.packets("chat.user.talk").len(), 1);
    }
    // Both logins went to the only login instance, in zone_a.
    assert_eq!(bench.login.packets("login.signin").len(), 2);
    assert_eq!(bench.metric("gateway_zone_fallback_total", &["zone_b"]).await, 1.0);
}

/// Two chat instances, the second one `chat02`, both adult, and clients that do not keep theirs. An absence of 20 ms is a long one, a refused redial
/// makes it longer than that, and no ping wakes a link meanwhile.
async fn two_chats(young: Duration) -> (Bench, FakeLogic) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.backoff_first = Duration::from_millis(50);
        config.limits.backend_ping = Duration::from_secs(30);
        config.bounded_load = false;
        config.limits.backend_young = young;
        config.limits.backend_returned_within = Duration::from_millis(20);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat01", "adult").await;
    state_is(&bench, "chat02", "adult").await;
    (bench, second)
}

async fn state_is(bench: &Bench, id: &str, state: &str) {
    let labels = [&*format!("instance=\"{id}\""), &*format!("state=\"{state}\"")];
    bench.metric_is("gateway_link_state", &labels, 1.0).await;
}

/// Ends the link of an instance for longer than it may be away.
async fn away_for_long(logic: &FakeLogic) {
    logic.refuse(2);
    logic.reset_link();
    logic.handshake(1).await;
}

/// An account that belongs to the second of two instances, signed in.
async fn client_of(bench: &Bench, second: &FakeLogic, kind: Kind) -> Raw {
    for n in 0..50 {
        let (mut client, _) = bench.client(kind, &format!("account{n}")).await;
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
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    const YOUNG: Duration = Duration::from_secs(2);
    let (bench, second) = two_chats(YOUNG).await;
    let mut alice = client_of(&bench, &second, kind).await;
    let left = std::time::Instant::now();
    away_for_long(&second).await;
    state_is(&bench, "chat02", "young").await;
    let mut meanwhile = 0;
    while second.packets("chat.user.talk").is_empty() {
        let sequence = alice.talk("bob", "who serves me?").await;
        assert_eq!(alice.response(sequence).await.header.status, 0, "nothing is refused meanwhile");
        meanwhile += 1;
        assert!(left.elapsed() < PATIENCE, "its time does not come: {meanwhile} requests");
    }
    assert!(left.elapsed() >= YOUNG, "{:?}", left.elapsed());
    assert!(meanwhile > 5, "{meanwhile} requests");
    state_is(&bench, "chat02", "adult").await;
    assert_eq!(bench.chat.packets("chat.user.talk").len(), meanwhile - 1, "all but the last");
}

#[rstest]
#[tokio::test]
async fn e7_a_young_instance_serves_at_once_when_it_is_alone_and_when_the_last_adult_goes(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    // Longer than the test: whoever is young stays it.
    let (mut bench, second) = two_chats(Duration::from_secs(600)).await;
    let mut alice = client_of(&bench, &second, kind).await;
    away_for_long(&second).await;
    state_is(&bench, "chat02", "young").await;
    let sequence = alice.talk("bob", "to the adult").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!((bench.chat.packets("chat.user.talk").len(), second.packets("chat.user.talk").len()), (1, 0));

    // Nothing is on its way when the adult goes, so nothing is refused or lost.
    bench.chat.stop().await;
    state_is(&bench, "chat01", "broken").await;
    let sequence = alice.talk("bob", "to the young one").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packets("chat.user.talk").len(), 1);
    assert_eq!(bench.metric("gateway_reject_total", &["no_instance"]).await, 0.0);

    // Alone, lost, and back after long.
    second.refuse(2);
    second.reset_link();
    second.handshake(2).await;
    state_is(&bench, "chat02", "young").await;
    let sequence = alice.talk("bob", "to the only one").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packet("chat.user.talk", 1).await.link, 2);
}

#[rstest]
#[tokio::test]
async fn a_link_back_within_its_time_leaves_the_instance_adult(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.backend_young = Duration::from_secs(600);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat01", "adult").await;
    state_is(&bench, "chat02", "adult").await;
    let mut alice = client_of(&bench, &second, kind).await;
    second.reset_link();
    second.handshake(1).await;
    bench.metric_is("gateway_link_reconnects_total", &["instance=\"chat02\""], 1.0).await;
    state_is(&bench, "chat02", "adult").await;
    let sequence = alice.talk("bob", "to the one that was away").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    assert_eq!(second.packet("chat.user.talk", 0).await.link, 1);
}

/// Accounts, one after the other, ask until the instance has got one request more; all of them are answered 0.
async fn until_asked(bench: &Bench, logic: &FakeLogic, kind: Kind) {
    let before = logic.packets("chat.user.talk").len();
    let until = std::time::Instant::now() + PATIENCE;
    for n in 0.. {
        let (mut client, _) = bench.client(kind, &format!("asking{n}")).await;
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
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.backend_ping = Duration::from_millis(100);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat02", "adult").await;
    second.stop_reading();
    // Broken, and from then on dialled without a sign of life.
    bench.metric_is("gateway_reject_total", &["backend_down"], 1.0).await;
    second.read_on();
    state_is(&bench, "chat02", "suspect").await;
    until_asked(&bench, &second, kind).await;
    state_is(&bench, "chat02", "adult").await;
    assert!(bench.metric("gateway_link_transitions_total", &["to=\"suspect\""]).await >= 1.0);
    assert_eq!(bench.metric("gateway_link_transitions_total", &["to=\"young\""]).await, 0.0);
}

#[rstest]
#[tokio::test]
async fn e2_an_instance_that_answers_pings_and_nothing_else_is_ejected_and_tried_again(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.request_deadline = Duration::from_secs(1);
        config.limits.backend_ejected = Duration::from_millis(300);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat02", "adult").await;
    let mut alice = client_of(&bench, &second, kind).await;
    second.hold("chat.user.talk");
    for _ in 0..5 {
        alice.talk("bob", "never answered").await;
    }
    for sequence in 3..8 {
        assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    }
    state_is(&bench, "chat02", "suspect").await;
    let sequence = alice.talk("bob", "to another").await;
    second.unhold("chat.user.talk");
    assert_eq!(alice.response(sequence).await.header.status, 0);
    // Its link was never lost, and its one answer makes it what it was.
    until_asked(&bench, &second, kind).await;
    state_is(&bench, "chat02", "adult").await;
    assert_eq!(bench.metric("gateway_reject_total", &["backend_down"]).await, 0.0);
    assert_eq!(bench.metric("gateway_link_transitions_total", &["to=\"suspect\""]).await, 1.0);
}

#[rstest]
#[tokio::test]
async fn e2_an_instance_that_was_ejected_while_it_hung_is_tried_as_soon_as_it_speaks_again(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.limits.request_deadline = Duration::from_secs(1);
        config.limits.backend_ping = Duration::from_millis(300);
        // The timeouts come long before the silence, and the ejection would last longer than this test.
        config.limits.backend_misses = 100;
        config.limits.backend_ejected = Duration::from_secs(60);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat02", "adult").await;
    let mut alice = client_of(&bench, &second, kind).await;
    second.stop_reading();
    for _ in 0..5 {
        alice.talk("bob", "never answered in time").await;
    }
    for sequence in 3..8 {
        assert_eq!(alice.response(sequence).await.header.status, OUTCOME_UNKNOWN);
    }
    state_is(&bench, "chat02", "suspect").await;
    second.read_on();
    second.packet("chat.user.talk", 4).await;
    until_asked(&bench, &second, kind).await;
    state_is(&bench, "chat02", "adult").await;
    assert_eq!(bench.metric("gateway_reject_total", &["backend_down"]).await, 0.0);
}

#[rstest]
#[tokio::test]
async fn a_client_keeps_its_instance_when_another_comes_and_new_ones_get_their_share(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] bounded: bool,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let bench = Bench::with(|config| {
        eager(config);
        config.bounded_load = bounded;
        config.limits.backend_young = Duration::from_millis(50);
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..12 {
        let (mut client, _) = bench.client(kind, &format!("user{n}")).await;
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
        clients.push(client);
    }
    bench.instances_are(vec![
        instance("login", "login01", bench.login.address, Dialect::XIm),
        instance("chat", "chat01", bench.chat.address, Dialect::XIm),
        instance("chat", "chat02", second.address, Dialect::XIm),
    ]);
    state_is(&bench, "chat02", "adult").await;
    for client in &mut clients {
        let sequence = client.talk("bob", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
    }
    assert_eq!(second.packets("chat.user.talk").is_empty(), bounded);
    until_asked(&bench, &second, kind).await;
}

/// An instance that answers slowly is spared new clients, and those that it has stay with it.
#[rstest]
#[tokio::test]
async fn new_clients_avoid_an_instance_that_is_far_behind(
    #[values(Tcp, Tls, QuicOne, QuicMany)] kind: Kind,
    #[values(true, false)] bounded: bool,
) {
    let second = FakeLogic::start(Dialect::XIm);
    let address = second.address;
    let bench = Bench::with(|config| {
        eager(config);
        config.bounded_load = bounded;
        config.limits.request_deadline = Duration::from_millis(4900);
        config.instances.push(instance("chat", "chat02", address, Dialect::XIm));
    })
    .await;
    state_is(&bench, "chat02", "adult").await;
    let mut alice = client_of(&bench, &second, kind).await;
    second.hold("chat.user.talk");
    for _ in 0..140 {
        alice.talk("bob", "answered late").await;
    }
    second.packet("chat.user.talk", 139).await;
    for n in 0..12 {
        let (mut client, _) = bench.client(kind, &format!("new{n}")).await;
        client.talk("bob", "x").await;
        // Behind the request on every lane: the gateway has placed it when it answers.
        client.heartbeat(false).await;
    }
    let spilled = bench.metric("gateway_spilled_total", &[]).await;
    if bounded {
        assert_eq!(second.packets("chat.user.talk").len(), 140);
        bench.chat.packet("chat.user.talk", 11).await;
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
