//! The tally against violations that were planted.

use std::time::{Duration, Instant};

use super::tally::{ANY, RequestOutcome, Tally};
use crate::ledger::Judge as _;
use crate::note::{Note, Sender};
use crate::stamp::Stamp;

const RUN: u64 = 7;
const APP: &str = "x_im";
const CHAT: &str = "chat01.1";
const LOGIN: &str = "login01.1";
const TOOK: Duration = Duration::from_millis(3);

/// Alice's sender by way of this gateway; each connection is a channel of its own.
fn alice(gate: &str) -> Sender {
    Sender {
        channel: format!("{gate}_alice_1"),
        account: "alice".to_owned(),
        app: APP.to_owned(),
        gate: gate.to_owned(),
    }
}

/// A tally, and what the ledger tells it.
struct RollingStory(Tally);

impl RollingStory {
    /// Two gateways; Alice has signed in over the first one.
    fn new() -> Self {
        let mut story = Self(Tally::new(RUN, APP, &["gate01", "gate02"]));
        for link in [LOGIN, CHAT] {
            story.opened(link, "gate01");
        }
        story.sign_in(alice("gate01"));
        story
    }

    fn tell(&mut self, link: &str, note: &Note) {
        self.0.told(link, note, Instant::now());
    }

    fn opened(&mut self, link: &str, gate: &str) {
        self.tell(link, &Note::Opened { instance: "chat01".to_owned(), gate: gate.to_owned() });
    }

    fn sign_in(&mut self, sender: Sender) {
        let account = sender.account.clone();
        self.tell(LOGIN, &Note::SignIn { sender, account });
    }

    fn sign_out(&mut self, sender: Sender) {
        self.tell(LOGIN, &Note::SignOut { sender, reason: "bye".to_owned() });
    }

    /// Request `n` of Alice, as her client writes it.
    fn ask(&mut self, n: u64) -> Stamp {
        self.0.asking("alice", n).parse().expect("a stamp")
    }

    fn see(&mut self, link: &str, sender: Sender, stamp: &Stamp) {
        self.tell(link, &Note::Request { sender, stamp: stamp.clone() });
    }

    fn end(&mut self, n: u64, outcome: RequestOutcome) {
        self.0.ended("alice", n, outcome, TOOK);
    }

    /// A request with everything that belongs to it.
    fn served(&mut self, n: u64) -> Stamp {
        let stamp = self.ask(n);
        self.see(CHAT, alice("gate01"), &stamp);
        self.end(n, RequestOutcome::Served);
        stamp
    }

    /// What is found at the end, a line each, holds these words, and nothing else is found.
    #[track_caller]
    fn finds(mut self, words: &[&str]) -> Tally {
        self.0.judge();
        let evidence = self.0.evidence();
        assert_eq!(evidence.lines().count(), words.len(), "{evidence}");
        for (line, words) in evidence.lines().zip(words) {
            assert!(line.contains(words), "{words:?} is not in {line:?}");
        }
        assert_eq!(self.0.is_kept(), words.is_empty());
        self.0
    }

    /// The same, when Alice has left.
    #[track_caller]
    fn left_finds(mut self, words: &[&str]) -> Tally {
        self.sign_out(alice("gate01"));
        self.finds(words)
    }
}

#[test]
fn f1_a_restart_that_goes_well_is_clean() {
    let mut story = RollingStory::new();
    story.served(1);
    // Seen before its client says how it ended, or after.
    let second = story.ask(2);
    story.end(2, RequestOutcome::Served);
    story.see(CHAT, alice("gate01"), &second);
    assert_eq!(story.0.signed_in(), 1);
    story.sign_out(alice("gate01"));
    assert_eq!(story.0.signed_in(), 0);
    // Her next requests go out over the other gateway.
    story.opened(CHAT, "gate02");
    story.sign_in(alice("gate02"));
    let third = story.ask(3);
    story.see(CHAT, alice("gate02"), &third);
    story.end(3, RequestOutcome::Served);
    story.tell(CHAT, &Note::Push { channel: "gate02_alice_1".to_owned(), n: 1 });
    story.0.link_ended(CHAT);
    story.sign_out(alice("gate02"));
    let summary = story.finds(&[]).summary();
    assert!(
        summary.starts_with("3 requests: 3 served, 0 outcome unknown, 0 lost, 0 repeated; "),
        "{summary}"
    );
    assert!(summary.ends_with("; 2 sign-ins"), "{summary}");
}

#[test]
fn g1_a_request_that_ends_in_anything_but_its_answer_is_found() {
    let unknown = || RequestOutcome::Unknown("answered 210".to_owned());
    let failed = || RequestOutcome::Failed("answered 300".to_owned());
    for (outcome, is_seen, words, counted) in [
        (Some(unknown()), true, "Unknown(\"answered 210\")", "1 outcome unknown, 0 lost"),
        (Some(unknown()), false, "Unknown(\"answered 210\")", "1 outcome unknown, 0 lost"),
        (Some(failed()), false, "Failed(\"answered 300\")", "0 outcome unknown, 1 lost"),
        (Some(failed()), true, "Failed(\"answered 300\")", "0 outcome unknown, 1 lost"),
        (None, false, "never ended", "0 outcome unknown, 1 lost"),
        (None, true, "never ended", "0 outcome unknown, 1 lost"),
        (Some(RequestOutcome::Served), false, "was served by nobody", "0 outcome unknown, 0 lost"),
    ] {
        let mut story = RollingStory::new();
        story.served(1);
        let stamp = story.ask(2);
        if is_seen {
            story.see(CHAT, alice("gate01"), &stamp);
        }
        if let Some(outcome) = outcome {
            story.end(2, outcome);
        }
        let summary = story.left_finds(&[&format!("G1: alice/2: {words}")]).summary();
        assert!(summary.contains(counted), "{summary}");
    }
}

#[test]
fn g1_a_request_that_nobody_made_and_an_end_that_comes_twice_are_found() {
    let mut story = RollingStory::new();
    let made_up = Stamp { run: RUN, sender: "alice".to_owned(), channel: ANY.to_owned(), n: 9 };
    story.see(CHAT, alice("gate01"), &made_up);
    story.left_finds(&["G1: alice/9: never ended"]);
    let mut story = RollingStory::new();
    story.served(1);
    story.end(1, RequestOutcome::Served);
    story.left_finds(&["alice/1 ended twice"]);
}

#[test]
fn g4_a_request_handed_over_twice_is_found_on_one_link_on_two_and_over_two_gateways() {
    for (link, gate) in [(CHAT, "gate01"), ("chat02.1", "gate01"), ("chat02.1", "gate02")] {
        let mut story = RollingStory::new();
        let stamp = story.served(1);
        story.see(link, alice(gate), &stamp);
        let summary = story.left_finds(&["G4: 7/alice/any/1 was handed over again"]).summary();
        assert!(summary.contains("1 served") && summary.contains("1 repeated"), "{summary}");
    }
}

#[test]
fn g5_a_sign_in_and_a_sign_out_that_are_missing_or_doubled_are_found() {
    RollingStory::new().finds(&["G5: gate01_alice_1: 1 sign-ins, 0 sign-outs"]);
    let mut story = RollingStory::new();
    story.sign_out(alice("gate01"));
    story.left_finds(&["G5: gate01_alice_1: 1 sign-ins, 2 sign-outs"]);
    let mut story = RollingStory::new();
    story.sign_in(alice("gate01"));
    story.left_finds(&["G5: gate01_alice_1: 2 sign-ins, 1 sign-outs"]);
    let mut story = RollingStory::new();
    story.sign_out(alice("gate02"));
    story.left_finds(&["G5: gate02_alice_1: 0 sign-ins, 1 sign-outs"]);
}

#[test]
fn g7_a_stamp_of_another_run_account_or_channel_is_found() {
    let good = || Stamp { run: RUN, sender: "alice".to_owned(), channel: ANY.to_owned(), n: 1 };
    for stamp in [Stamp { run: 8, ..good() }, Stamp { channel: "gate01_bob_2".to_owned(), ..good() }] {
        let mut story = RollingStory::new();
        story.ask(1);
        story.see(CHAT, alice("gate01"), &stamp);
        story.end(1, RequestOutcome::Served);
        story.left_finds(&[&format!("{CHAT}: gate01_alice_1 alice x_im gate01 sent {stamp}")]);
    }
    let mut story = RollingStory::new();
    let stamp = story.ask(1);
    story.see(CHAT, Sender { account: "bob".to_owned(), ..alice("gate01") }, &stamp);
    story.end(1, RequestOutcome::Served);
    story.left_finds(&["gate01_alice_1 bob x_im gate01 sent 7/alice/any/1"]);
}

#[test]
fn g7_another_app_or_gateway_is_found_on_requests_sign_ins_and_sign_outs() {
    for forged in [
        Sender { app: "other".to_owned(), ..alice("gate01") },
        Sender { gate: "gate09".to_owned(), ..alice("gate01") },
    ] {
        let words = format!("a packet of {forged}");
        let mut story = RollingStory::new();
        let stamp = story.ask(1);
        story.see(CHAT, forged.clone(), &stamp);
        story.end(1, RequestOutcome::Served);
        story.left_finds(&[&words]);
        let mut story = RollingStory::new();
        let channel = "gate01_alice_2".to_owned();
        story.sign_in(Sender { channel: channel.clone(), ..forged.clone() });
        story.sign_out(Sender { channel, ..alice("gate01") });
        story.left_finds(&["a packet of gate01_alice_2"]);
        let mut story = RollingStory::new();
        story.sign_out(forged);
        story.finds(&[&words]);
    }
    let mut story = RollingStory::new();
    story.opened("chat02.1", "gate09");
    story.left_finds(&["chat02.1: a gateway \"gate09\""]);
}

#[test]
fn what_a_logic_service_or_the_runner_complains_of_is_a_violation() {
    let mut story = RollingStory::new();
    story.tell(CHAT, &Note::Fault { text: "no frame".to_owned() });
    story.0.violated("F1: gate01 ended with Some(1) after 2s".to_owned());
    story.left_finds(&["chat01.1: no frame", "F1: gate01 ended with Some(1)"]);
}

#[test]
fn of_many_violations_the_first_are_shown_and_all_are_counted() {
    let mut story = RollingStory::new();
    (1..=20).for_each(|n| {
        story.ask(n);
    });
    story.sign_out(alice("gate01"));
    story.0.judge();
    let evidence = story.0.evidence();
    assert_eq!(evidence.lines().count(), 13, "{evidence}");
    assert!(evidence.ends_with("  and 8 more\n"), "{evidence}");
    assert!(!story.0.is_kept());
}
