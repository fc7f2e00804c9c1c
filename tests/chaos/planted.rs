//! The oracle of tests/chaos against violations that were planted: each must be found, and a clean run must be clean. So
//! must the tally of its rolling restart.

#![allow(dead_code)] // what only the runner uses

mod exposition;
mod ledger;
mod note;
mod oracle;
mod stamp;

/// The part that needs no gateway.
mod load {
    mod samples;
    pub(crate) use samples::percentile;
}

/// The same.
mod rolling {
    mod planted;
    mod tally;
}

use std::time::{Duration, Instant};

use exposition::Exposition;
use oracle::{Expected, Identity, Oracle, Outcome, Reply, ViolationKind};
use stamp::Stamp;

const RUN: u64 = 7;
const ALICE: &str = "gate01_alice_1";
const BOB: &str = "gate01_bob_2";
const RETRY: Duration = Duration::from_secs(60);

/// An oracle and the clock of its story.
struct Story {
    oracle: Oracle,
    now: Instant,
}

fn identity(channel: &'static str) -> Identity<'static> {
    let account = channel.split('_').nth(1).expect("an account");
    Identity { channel, account, app: "x_im", gate: "gate01" }
}

fn stamp(sender: &str, channel: &str, n: u64) -> Stamp {
    Stamp { run: RUN, sender: sender.into(), channel: channel.into(), n }
}

impl Story {
    /// Alice and Bob have signed in over `login01`, and `chat01` is linked.
    fn new() -> Self {
        let expected = Expected {
            run: RUN,
            app: "x_im".into(),
            gate: "gate01".into(),
            patience: Duration::from_secs(5),
        };
        let mut story = Self { oracle: Oracle::new(expected), now: Instant::now() };
        story.oracle.link_opened("login01.1", "login01", "gate01");
        story.oracle.link_opened("chat01.1", "chat01", "gate01");
        for (channel, account) in [(ALICE, "alice"), (BOB, "bob")] {
            story.oracle.signin_seen("login01.1", identity(channel), account, story.now);
            story.oracle.opened(channel, account);
        }
        story
    }

    fn tick(&mut self) -> Instant {
        self.now += Duration::from_millis(1);
        self.now
    }

    fn send(&mut self, channel: &'static str) -> u64 {
        let now = self.tick();
        self.oracle.sending(channel, now)
    }

    fn see(&mut self, link: &str, channel: &'static str, n: u64) {
        let account = identity(channel).account;
        self.oracle.request_seen(link, identity(channel), &stamp(account, channel, n));
    }

    fn answer(&mut self, channel: &'static str, n: u64, status: i32) {
        let (account, now) = (identity(channel).account, self.tick());
        let (echo, written) = (stamp(account, channel, n), stamp("chat01.1", channel, n));
        let served = status == 0;
        self.oracle.answered(
            channel,
            Reply { n, status, echo: served.then_some(&echo), written: served.then_some(&written), at: now },
        );
    }

    /// A request with everything that belongs to it.
    fn served(&mut self, channel: &'static str) -> u64 {
        let n = self.send(channel);
        self.see("chat01.1", channel, n);
        self.answer(channel, n, 0);
        n
    }

    fn push(&mut self, channel: &str, n: u64) {
        let now = self.tick();
        self.oracle.pushed("chat01.1", channel, n, now);
    }

    fn got(&mut self, channel: &str, n: u64) {
        self.oracle.got(channel, Some(&stamp("chat01.1", channel, n)));
    }

    fn leave(&mut self, channel: &'static str) {
        let now = self.tick();
        self.oracle.ended(channel, now);
        self.oracle.signout_seen("login01.1", identity(channel), "bye", now);
    }

    fn judged(mut self) -> Vec<ViolationKind> {
        self.oracle.judge(RETRY);
        let mut kinds: Vec<_> = self.oracle.violations().iter().map(|found| found.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    #[track_caller]
    fn finds(self, kind: ViolationKind) {
        assert_eq!(self.judged(), [kind]);
    }
}

#[test]
fn a_clean_story_is_clean_and_quiet() {
    let mut story = Story::new();
    for n in 1..=3 {
        assert_eq!(story.served(ALICE), n);
        story.push(BOB, n);
        story.got(BOB, n);
    }
    let lost = story.send(ALICE);
    story.see("chat01.1", ALICE, lost);
    story.answer(ALICE, lost, 210);
    let refused = story.send(ALICE);
    story.answer(ALICE, refused, 300);
    let closed = story.send(BOB);
    let now = story.tick();
    story.oracle.unanswered(BOB, closed, Outcome::Closed, now);
    story.leave(BOB);
    story.push(BOB, 4);
    assert!(story.oracle.under_way(RETRY).is_empty(), "{:?}", story.oracle.under_way(RETRY));
    let totals = story.oracle.totals();
    assert_eq!((totals.requests, totals.answers, totals.outcome_unknown), (6, 3, 1));
    assert_eq!((totals.refused, totals.closed, totals.pushes), (1, 1, 4));
    assert_eq!(story.judged(), []);
}

#[test]
fn g1_a_request_without_an_answer_is_found() {
    let mut story = Story::new();
    story.send(ALICE);
    assert!(!story.oracle.under_way(RETRY).is_empty());
    story.finds(ViolationKind::Unanswered);
    let mut story = Story::new();
    let (n, now) = (story.send(ALICE), story.tick());
    story.oracle.unanswered(ALICE, n, Outcome::GaveUp, now);
    story.finds(ViolationKind::Unanswered);
}

#[test]
fn g1_a_second_answer_a_foreign_one_and_a_late_one_are_found() {
    let mut story = Story::new();
    let n = story.served(ALICE);
    story.answer(ALICE, n, 0);
    story.finds(ViolationKind::Duplicated);
    let mut story = Story::new();
    story.oracle.unmatched(ALICE, 1);
    story.finds(ViolationKind::Duplicated);
    let mut story = Story::new();
    let (n, now) = (story.send(ALICE), story.tick());
    story.see("chat01.1", ALICE, n);
    let echo = stamp("bob", BOB, n);
    story.oracle.answered(ALICE, Reply { n, status: 0, echo: Some(&echo), written: None, at: now });
    story.finds(ViolationKind::Crossed);
    let mut story = Story::new();
    let n = story.send(ALICE);
    story.see("chat01.1", ALICE, n);
    story.now += Duration::from_secs(6);
    story.answer(ALICE, n, 0);
    story.finds(ViolationKind::Late);
}

#[test]
fn g1_a_pause_of_the_gateway_excuses_its_own_length_and_no_more() {
    for (paused, found) in [(2, vec![]), (1, vec![ViolationKind::Late])] {
        let mut story = Story::new();
        let n = story.send(ALICE);
        story.see("chat01.1", ALICE, n);
        let stopped = story.now;
        story.oracle.paused(stopped, stopped + Duration::from_secs(paused));
        story.oracle.paused(stopped - Duration::from_secs(60), stopped - Duration::from_secs(50));
        story.now += Duration::from_secs(6);
        story.answer(ALICE, n, 0);
        assert_eq!(story.judged(), found, "paused for {paused} s");
    }
}

#[test]
fn g1_an_answer_that_says_what_did_not_happen_is_found() {
    for (status, seen) in [(0, false), (300, true), (404, true), (103, false)] {
        let mut story = Story::new();
        let n = story.send(ALICE);
        if seen {
            story.see("chat01.1", ALICE, n);
        }
        story.answer(ALICE, n, status);
        story.finds(ViolationKind::Untrue);
    }
}

#[test]
fn g2_a_gap_and_a_repeated_push_are_found() {
    let mut story = Story::new();
    (1..=2).for_each(|n| story.push(BOB, n));
    story.got(BOB, 2);
    story.finds(ViolationKind::Lost);
    let mut story = Story::new();
    story.push(BOB, 1);
    story.got(BOB, 1);
    story.got(BOB, 1);
    story.finds(ViolationKind::Duplicated);
}

#[test]
fn g2_a_push_that_a_live_channel_lacks_is_found_and_one_of_a_dead_link_or_channel_is_none() {
    let mut story = Story::new();
    story.push(BOB, 1);
    assert!(!story.oracle.under_way(RETRY).is_empty());
    story.finds(ViolationKind::Lost);
    let mut story = Story::new();
    story.push(BOB, 1);
    story.leave(BOB);
    assert_eq!(story.judged(), []);
    let mut story = Story::new();
    story.push(BOB, 1);
    story.oracle.link_ended("chat01.1");
    assert_eq!(story.judged(), []);
}

#[test]
fn g3_requests_out_of_order_are_found() {
    let mut story = Story::new();
    let (first, second) = (story.send(ALICE), story.send(ALICE));
    for n in [second, first] {
        story.see("chat01.1", ALICE, n);
        story.answer(ALICE, n, 0);
    }
    story.finds(ViolationKind::Order);
}

#[test]
fn g3_answers_out_of_order_are_found() {
    for (written, earlier) in [([2, 1], 0), ([1, 2], 2), ([1, 1], 0)] {
        let mut story = Story::new();
        for number in written {
            let n = story.send(ALICE);
            story.see("chat01.1", ALICE, n);
            let (now, written) = (story.tick(), stamp("chat01.1", ALICE, number));
            let at = if number == earlier { now - Duration::from_millis(50) } else { now };
            story.oracle.answered(ALICE, Reply { n, status: 0, echo: None, written: Some(&written), at });
        }
        story.finds(ViolationKind::Order);
    }
}

#[test]
fn g4_a_request_handed_over_twice_is_found_on_one_link_and_on_two() {
    for link in ["chat01.1", "chat02.1"] {
        let mut story = Story::new();
        let n = story.served(ALICE);
        story.see(link, ALICE, n);
        story.finds(ViolationKind::Duplicated);
    }
}

#[test]
fn g5_a_missing_a_second_and_an_early_sign_out_are_found() {
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.ended(BOB, now);
    assert!(!story.oracle.under_way(RETRY).is_empty());
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    story.leave(BOB);
    story.leave(BOB);
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.signout_seen("login01.1", identity("gate01_carol_9"), "bye", now);
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.signout_seen("login01.1", identity(BOB), "bye", now);
    story.served(BOB);
    story.finds(ViolationKind::Lifecycle);
}

#[test]
fn g5_a_login_that_no_client_has_is_signed_out_too() {
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.signin_seen("login01.1", identity("gate01_carol_3"), "carol", now);
    story.finds(ViolationKind::Lifecycle);
}

#[test]
fn g5_a_second_sign_in_and_anything_behind_a_sign_out_are_found() {
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.signin_seen("login01.1", identity(BOB), "bob", now);
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    story.leave(BOB);
    let now = story.tick();
    story.oracle.signin_seen("login01.1", identity(BOB), "bob", now);
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    story.oracle.opened(BOB, "bob");
    story.finds(ViolationKind::Lifecycle);
    let mut story = Story::new();
    let n = story.send(BOB);
    story.leave(BOB);
    story.see("login01.1", BOB, n);
    story.answer(BOB, n, 210);
    story.finds(ViolationKind::Lifecycle);
}

#[test]
fn g5_a_killed_gateway_owes_nothing_and_a_killed_login_instance_excuses() {
    let mut story = Story::new();
    story.oracle.gateway_over(true);
    let now = story.tick();
    for channel in [ALICE, BOB] {
        story.oracle.ended(channel, now);
    }
    assert_eq!(story.oracle.totals().orphaned, 2);
    assert_eq!(story.judged(), []);
    let mut story = Story::new();
    let now = story.tick();
    story.oracle.ended(BOB, now);
    story.oracle.torn("login01", true, now);
    story.oracle.judge(RETRY);
    assert_eq!(story.oracle.totals().excused, 1);
    assert_eq!(story.judged(), []);
    let mut story = Story::new();
    story.oracle.gateway_over(false);
    let now = story.tick();
    story.oracle.ended(BOB, now);
    story.finds(ViolationKind::Lifecycle);
}

#[test]
fn g5_an_overtaken_sign_out_may_be_dropped_if_the_gateway_says_so() {
    let overtaken = |dropped: u64| {
        let mut story = Story::new();
        let now = story.tick();
        story.oracle.ended(BOB, now);
        let (again, now) = (Identity { channel: "gate01_bob_9", ..identity(BOB) }, story.tick());
        story.oracle.signin_seen("login01.1", again, "bob", now);
        story.oracle.opened("gate01_bob_9", "bob");
        story.oracle.gateway_dropped(dropped);
        story
    };
    let story = overtaken(1);
    assert_eq!(story.oracle.under_way(RETRY), Vec::<String>::new());
    assert_eq!(story.judged(), []);
    let story = overtaken(0);
    assert_eq!(story.oracle.under_way(RETRY).len(), 1, "it may still come");
    story.finds(ViolationKind::Lifecycle);
    let mut story = overtaken(1);
    story.oracle.gateway_over(false);
    story.oracle.judge(RETRY);
    story.finds(ViolationKind::Lifecycle);
}

#[test]
fn g7_another_account_app_gateway_or_channel_is_found() {
    let good = identity(ALICE);
    for forged in [
        Identity { account: "bob", ..good },
        Identity { app: "other", ..good },
        Identity { gate: "gate02", ..good },
    ] {
        let mut story = Story::new();
        let n = story.send(ALICE);
        story.oracle.request_seen("chat01.1", forged, &stamp("alice", ALICE, n));
        story.answer(ALICE, n, 0);
        story.finds(ViolationKind::Identity);
    }
    let mut story = Story::new();
    let n = story.send(ALICE);
    story.oracle.request_seen("chat01.1", Identity { channel: BOB, ..good }, &stamp("alice", ALICE, n));
    story.answer(ALICE, n, 0);
    story.finds(ViolationKind::Crossed);
    let mut story = Story::new();
    story.oracle.link_opened("chat02.1", "chat02", "gate02");
    story.finds(ViolationKind::Identity);
}

#[test]
fn no_cross_talk_goes_unseen() {
    let mut story = Story::new();
    story.oracle.got(BOB, None);
    story.finds(ViolationKind::Crossed);
    let mut story = Story::new();
    story.oracle.got(BOB, Some(&stamp("chat01.1", "nobody", 0)));
    story.finds(ViolationKind::Crossed);
    let mut story = Story::new();
    story.oracle.got(BOB, Some(&Stamp { run: 8, ..stamp("chat01.1", BOB, 1) }));
    story.finds(ViolationKind::Crossed);
    let mut story = Story::new();
    story.got(BOB, 1);
    story.finds(ViolationKind::Crossed);
}

#[test]
fn stamps_survive_the_wire_and_are_found_among_others() {
    let one = stamp("chat01.1", BOB, 3);
    assert_eq!(one.to_string().parse::<Stamp>().unwrap(), one);
    let body = format!("{}\n{one}\n....", stamp("chat01.1", ALICE, 9));
    assert_eq!(Stamp::of_channel(body.as_bytes(), BOB), Some(one));
    assert_eq!(Stamp::of_channel(body.as_bytes(), "gate01_carol_3"), None);
    assert_eq!(Stamp::first(body.as_bytes()).unwrap().n, 9);
    assert!(Stamp::first(b"1/2/3").is_err() && Stamp::first(b"").is_err());
}

const BALANCED: &str = "# TYPE gateway_connections gauge\n\
    gateway_connections{transport=\"quic\"} 2\ngateway_connections{transport=\"tcp\"} 1\n\
    gateway_connections_opened_total{transport=\"quic\"} 5\ngateway_closes_total{reason=\"bye\"} 2\n\
    gateway_requests_received_total 9\ngateway_requests_forwarded_total 7\ngateway_requests_rejected_total 2\n\
    gateway_pushes_received_total 4\ngateway_pushes_delivered_total 3\n\
    gateway_push_drops_total{reason=\"closing\"} 1\n\
    gateway_link_state{instance=\"chat01\",service=\"chat\",state=\"up\",zone=\"a\"} 0\n\
    gateway_link_state{instance=\"chat01\",service=\"chat\",state=\"backoff\",zone=\"a\"} 1\n";

#[test]
fn g9_every_planted_imbalance_is_found() {
    let balanced = Exposition::parse(BALANCED);
    assert!(balanced.imbalances(3, 0).is_empty() && balanced.is_quiet(), "{:?}", balanced.imbalances(3, 0));
    assert_eq!(balanced.link_state("chat01"), Some("backoff"));
    assert_eq!(balanced.sum("gateway_connections", &["transport=\"quic\""]), 2.0);
    assert_eq!(balanced.imbalances(4, 0).len(), 1);
    for (from, to) in [
        ("forwarded_total 7", "forwarded_total 6"),
        ("received_total 9", "received_total 10"),
        ("delivered_total 3", "delivered_total 4"),
        ("\"closing\"} 1", "\"closing\"} 0"),
        ("opened_total{transport=\"quic\"} 5", "opened_total{transport=\"quic\"} 6"),
        (
            "gateway_requests_received_total 9",
            "gateway_requests_received_total 9\ngateway_pending_requests 1",
        ),
        (
            "gateway_requests_received_total 9",
            "gateway_requests_received_total 9\ngateway_signouts_waiting 1",
        ),
        ("gateway_requests_received_total 9", "gateway_requests_received_total 9\ngateway_queued_bytes 1"),
        (
            "gateway_requests_received_total 9",
            "gateway_requests_received_total 9\ngateway_reject_total{reason=\"task_panics\"} 1",
        ),
    ] {
        let planted = Exposition::parse(&BALANCED.replace(from, to));
        assert_eq!(planted.imbalances(3, 0).len(), 1, "{from} -> {to}: {:?}", planted.imbalances(3, 0));
    }
}
