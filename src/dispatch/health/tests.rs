//! Every transition of the table, then its time and its memory.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn rule() -> Rule {
    Rule::of(&Limits::default())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An instance at one moment of an injected time.
#[derive(Clone, Copy)]
struct Life {
    health: Health,
    now: Instant,
}

impl Life {
    fn of(is_of_first_set: bool) -> Self {
        Self { health: Health::new(is_of_first_set), now: Instant::now() }
    }

    fn on(&mut self, event: HealthEvent) -> Option<Transition> {
        self.health.on(event, self.now, &rule())
    }

    fn after(mut self, events: &[HealthEvent]) -> Self {
        for event in events {
            self.on(*event);
        }
        self
    }

    /// Lets time pass, and has it looked at.
    fn wait(mut self, time: Duration) -> Self {
        self.now += time;
        self.after(&[HealthEvent::Time])
    }

    fn standing(&self) -> Option<Standing> {
        self.health.standing()
    }
}

const ALIVE: HealthEvent = HealthEvent::Alive;
const LOST: HealthEvent = HealthEvent::Lost(Loss::Ended);
const SILENT: HealthEvent = HealthEvent::Lost(Loss::Silent);
const TIMED_OUT: HealthEvent = HealthEvent::TimedOut { may_eject: true };

/// One of the first set that is up.
fn healthy() -> Life {
    Life::of(true).after(&[ALIVE])
}

fn ejected() -> Life {
    healthy().after(&[TIMED_OUT; 5])
}

/// Each row of the table in the module's words, by what is to happen to an instance in each state.
#[test]
fn every_transition_of_the_table() {
    let half_open = ejected().wait(secs(10));
    let states = [
        ("dialling", Life::of(true)),
        ("warming", Life::of(false).after(&[ALIVE])),
        ("healthy", healthy()),
        ("ejected", ejected()),
        ("half-open", half_open),
        ("asked", half_open.after(&[HealthEvent::Asked])),
        ("broken", healthy().after(&[LOST])),
    ];
    let name = |life: &Life| match (life.standing(), life.health.state()) {
        (Some(Standing::Ejected), LinkState::Ejected) => "ejected",
        (Some(Standing::HalfOpen), LinkState::Ejected) => "half-open",
        (Some(Standing::Asked), LinkState::Ejected) => "asked",
        (Some(Standing::Healthy), LinkState::Healthy) => "healthy",
        (Some(Standing::Warming), LinkState::Warming) => "warming",
        (None, LinkState::Dialling) => "dialling",
        (None, LinkState::Broken) => "broken",
        other => panic!("{other:?}"),
    };
    let same = "";
    // What happens, after how long, and the outcome by state, in the order above.
    let table = [
        (HealthEvent::Dial, secs(0), [same, same, same, same, same, same, "dialling"]),
        (ALIVE, secs(0), ["healthy", same, same, same, same, same, "healthy"]),
        (HealthEvent::Resumed, secs(0), [same, same, same, "half-open", same, same, same]),
        (LOST, secs(0), ["broken", "broken", "broken", "broken", "broken", "broken", same]),
        (SILENT, secs(0), ["broken", "broken", "broken", "broken", "broken", "broken", same]),
        (HealthEvent::Time, secs(10), [same, "healthy", same, "half-open", same, "half-open", same]),
        (HealthEvent::Time, secs(5), [same, same, same, same, same, same, same]),
        (HealthEvent::Asked, secs(0), [same, same, same, same, "asked", same, same]),
        (HealthEvent::Answered, secs(0), [same, same, same, same, "healthy", "healthy", same]),
        (TIMED_OUT, secs(0), [same, same, same, same, "ejected", "ejected", same]),
    ];
    for (event, later, outcomes) in table {
        for ((from, life), expected) in states.iter().zip(outcomes) {
            assert_eq!(name(life), *from);
            let mut life = *life;
            life.now += later;
            let told = life.on(event);
            assert_eq!(name(&life), if expected == same { from } else { expected }, "{event:?} when {from}");
            let is_quiet = expected == same || event == HealthEvent::Asked || expected == "half-open";
            assert_eq!(told.is_none(), is_quiet, "{event:?} when {from} tells {told:?}");
            if let Some(told) = told {
                assert_eq!(told.to, life.health.state());
                assert!(told.reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            }
        }
    }
    for mut life in [Life::of(false).after(&[ALIVE]), healthy()] {
        for _ in 0..4 {
            assert_eq!(life.on(TIMED_OUT), None);
        }
        let told = life.on(TIMED_OUT).unwrap();
        assert_eq!((told.to, told.reason, name(&life)), (LinkState::Ejected, "timeouts", "ejected"));
    }
    let reasons = [
        (Loss::NotReached, "not_reached"),
        (Loss::Refused, "refused"),
        (Loss::Ended, "ended"),
        (Loss::Silent, "silent"),
        (Loss::Given, "given_up"),
    ];
    for (loss, reason) in reasons {
        let told = healthy().on(HealthEvent::Lost(loss)).unwrap();
        assert_eq!((told.from, told.to, told.reason), (LinkState::Healthy, LinkState::Broken, reason));
    }
}

/// The row of the table that depends on what came before.
#[test]
fn the_first_sign_of_life_means_what_its_past_says() {
    for (mut dialled, outcome) in [
        (Life::of(true), Standing::Healthy),
        (Life::of(false), Standing::Warming),
        (healthy().after(&[LOST, HealthEvent::Dial]), Standing::Healthy),
        (healthy().after(&[SILENT, HealthEvent::Dial]), Standing::HalfOpen),
        (ejected().after(&[LOST, HealthEvent::Dial]), Standing::HalfOpen),
    ] {
        let told = dialled.on(ALIVE).unwrap();
        assert_eq!((told.from, told.to), (LinkState::Dialling, dialled.health.state()));
        assert_eq!(dialled.standing(), Some(outcome));
    }
}

#[test]
fn the_first_set_is_healthy_at_its_first_sign_of_life_whenever_that_is() {
    let first = Life::of(true);
    assert_eq!((first.standing(), first.health.next_due(), first.health.was_up()), (None, None, false));
    for later in [Duration::ZERO, secs(3600)] {
        let up = first.wait(later).after(&[ALIVE]);
        assert_eq!((up.standing(), up.health.next_due()), (Some(Standing::Healthy), None));
        assert!(up.health.was_up());
    }
}

#[test]
fn e8_a_dial_that_fails_changes_nothing() {
    for (first, standing) in [(true, Standing::Healthy), (false, Standing::Warming)] {
        let failed = [
            HealthEvent::Lost(Loss::NotReached),
            HealthEvent::Dial,
            HealthEvent::Lost(Loss::Silent),
            HealthEvent::Dial,
        ];
        let never_up = Life::of(first).after(&failed).wait(secs(60)).after(&failed);
        assert_eq!((never_up.standing(), never_up.health.was_up()), (None, false));
        assert_eq!(never_up.after(&[ALIVE]).standing(), Some(standing));
    }
    let away = healthy()
        .after(&[LOST, HealthEvent::Dial])
        .wait(secs(4))
        .after(&[HealthEvent::Lost(Loss::NotReached)]);
    let back = away.wait(secs(2)).after(&[HealthEvent::Dial, ALIVE]);
    assert_eq!(back.standing(), Some(Standing::Warming), "away for 6 s, not for 2 s");
}

#[test]
fn e15_one_that_refuses_serves_nobody_however_long_and_is_what_it_was_when_it_relents() {
    let mut life = Life::of(true);
    for _ in 0..100 {
        life = life.wait(secs(5)).after(&[HealthEvent::Dial, HealthEvent::Lost(Loss::Refused)]);
        assert_eq!((life.standing(), life.health.state()), (None, LinkState::Broken));
    }
    assert_eq!(life.after(&[HealthEvent::Dial, ALIVE]).standing(), Some(Standing::Healthy));
}

#[test]
fn a_new_instance_is_warming_for_ten_seconds_to_the_instant() {
    let new = Life::of(false).after(&[ALIVE]);
    assert_eq!(new.standing(), Some(Standing::Warming));
    assert_eq!(new.health.next_due(), Some(new.now + secs(10)));
    assert_eq!(new.wait(secs(10) - MS).standing(), Some(Standing::Warming));
    let grown = new.wait(secs(10));
    assert_eq!((grown.standing(), grown.health.next_due()), (Some(Standing::Healthy), None));
    assert_eq!(grown.wait(secs(99)).standing(), Some(Standing::Healthy));
}

#[test]
fn an_healthy_back_within_five_seconds_is_still_healthy_and_a_millisecond_later_it_is_warming() {
    let lost = healthy().after(&[LOST]);
    for (away, standing) in [
        (Duration::ZERO, Standing::Healthy),
        (secs(5), Standing::Healthy),
        (secs(5) + MS, Standing::Warming),
        (secs(3600), Standing::Warming),
    ] {
        let back = lost.wait(away).after(&[HealthEvent::Dial, ALIVE]);
        assert_eq!(back.standing(), Some(standing), "away for {away:?}");
    }
}

#[test]
fn e7_a_warming_one_that_comes_and_goes_begins_anew_each_time() {
    let mut flapping = Life::of(false);
    for _ in 0..30 {
        flapping = flapping.after(&[ALIVE]);
        assert_eq!(flapping.standing(), Some(Standing::Warming));
        assert_eq!(flapping.health.next_due(), Some(flapping.now + secs(10)));
        flapping = flapping.wait(secs(1)).after(&[LOST]).wait(secs(1));
    }
    assert_eq!(flapping.after(&[ALIVE]).wait(secs(10)).standing(), Some(Standing::Healthy));
}

#[test]
fn one_that_has_had_its_time_is_lost_as_healthy_even_if_nobody_looked() {
    let new = Life::of(false).after(&[ALIVE]);
    for (up_for, standing) in [(secs(10) - MS, Standing::Warming), (secs(10), Standing::Healthy)] {
        let mut lost = new;
        lost.now += up_for;
        assert_eq!(
            lost.after(&[LOST]).wait(secs(1)).after(&[ALIVE]).standing(),
            Some(standing),
            "{up_for:?}"
        );
    }
}

#[test]
fn a_clock_that_goes_back_changes_nothing() {
    let mut lost = healthy().after(&[LOST]);
    lost.now -= secs(50);
    assert_eq!(lost.after(&[ALIVE]).standing(), Some(Standing::Healthy));
    let mut warming = Life::of(false).after(&[ALIVE]);
    let due = warming.health.next_due();
    warming.now += secs(9);
    assert_eq!(warming.after(&[ALIVE]).health.next_due(), due);
}

#[test]
fn e2_one_that_hung_is_half_open_however_long_it_was_away_and_an_answer_makes_it_healthy() {
    for up in [healthy(), Life::of(false).after(&[ALIVE])] {
        for away in [Duration::ZERO, secs(3), secs(600)] {
            let hung = up.after(&[SILENT]).wait(away);
            // Frozen still: it takes connections and says nothing.
            let mute =
                hung.after(&[HealthEvent::Dial, HealthEvent::Lost(Loss::NotReached), HealthEvent::Dial]);
            let back = mute.after(&[ALIVE]);
            assert_eq!(back.standing(), Some(Standing::HalfOpen), "away for {away:?}");
            assert_eq!(back.wait(secs(3600)).standing(), Some(Standing::HalfOpen), "age proves nothing");
            assert_eq!(
                back.after(&[HealthEvent::Asked, HealthEvent::Answered]).standing(),
                Some(Standing::Healthy)
            );
            let proven = back.after(&[HealthEvent::Asked, HealthEvent::Answered, LOST, ALIVE]);
            assert_eq!(proven.standing(), Some(Standing::Healthy), "and it is one like any other");
        }
    }
}

#[test]
fn e2_a_trial_that_fails_starts_the_pause_again_and_each_is_longer_up_to_a_minute() {
    let mut life = healthy().after(&[SILENT, HealthEvent::Dial, ALIVE]);
    for expected in [10, 20, 30, 40, 50, 60, 60, 60] {
        life = life.after(&[HealthEvent::Asked]);
        assert_eq!(life.standing(), Some(Standing::Asked));
        let told = life.on(TIMED_OUT).unwrap();
        assert_eq!(
            (told.from, told.to, told.reason),
            (LinkState::Ejected, LinkState::Ejected, "trial_failed")
        );
        assert_eq!(life.health.next_due(), Some(life.now + secs(expected)));
        assert_eq!(life.wait(secs(expected) - MS).standing(), Some(Standing::Ejected));
        life = life.wait(secs(expected));
        assert_eq!(life.standing(), Some(Standing::HalfOpen));
    }
}

#[test]
fn five_timeouts_in_a_row_eject_and_an_answer_between_them_begins_anew() {
    let mut life = healthy();
    for _ in 0..20 {
        life = life.after(&[TIMED_OUT; 4]).after(&[HealthEvent::Answered]);
        assert_eq!(life.standing(), Some(Standing::Healthy));
    }
    assert!(!life.health.awaits_proof());
    life = life.after(&[TIMED_OUT; 4]);
    assert!(life.health.awaits_proof());
    assert_eq!(
        life.after(&[LOST, ALIVE, TIMED_OUT]).standing(),
        Some(Standing::Healthy),
        "nor over two links"
    );
    assert_eq!(life.after(&[TIMED_OUT]).standing(), Some(Standing::Ejected));
}

#[test]
fn where_too_few_would_remain_the_ejection_comes_with_the_next_timeout_that_may() {
    let refused = HealthEvent::TimedOut { may_eject: false };
    let life = healthy().after(&[refused; 50]);
    assert_eq!(life.standing(), Some(Standing::Healthy));
    assert_eq!(life.after(&[TIMED_OUT]).standing(), Some(Standing::Ejected));
    let off = Rule { timeouts: 0, ..rule() };
    let mut never = healthy();
    for _ in 0..100 {
        assert_eq!(never.health.on(TIMED_OUT, never.now, &off), None);
    }
}

#[test]
fn e2_an_ejection_ends_with_its_link_whatever_broke_it_and_its_number_is_kept() {
    let losses = [Loss::NotReached, Loss::Refused, Loss::Ended, Loss::Silent, Loss::Given];
    let half_open = ejected().wait(secs(10));
    for ejected in [ejected(), ejected().wait(secs(9)), half_open, half_open.after(&[HealthEvent::Asked])] {
        for loss in losses {
            let away = ejected.after(&[HealthEvent::Lost(loss), HealthEvent::Dial]);
            assert_eq!(away.standing(), None, "not before it shows life");
            // Frozen still, the first time it is dialled.
            let away = away.after(&[HealthEvent::Lost(Loss::NotReached), HealthEvent::Dial]);
            let back = away.after(&[ALIVE]);
            assert_eq!(back.standing(), Some(Standing::HalfOpen), "{loss:?}");
            assert_eq!(
                back.after(&[HealthEvent::Asked, HealthEvent::Answered]).standing(),
                Some(Standing::Healthy)
            );
            let failed = back.after(&[HealthEvent::Asked, TIMED_OUT]);
            assert_eq!(failed.health.next_due(), Some(failed.now + secs(20)), "the second one");
        }
    }
}

#[test]
fn e2_one_that_hung_as_a_whole_is_half_open_when_it_goes_on_and_its_number_is_kept() {
    let back = ejected().wait(secs(1)).after(&[HealthEvent::Resumed]);
    assert_eq!((back.standing(), back.health.next_due()), (Some(Standing::HalfOpen), None));
    let failed = back.after(&[HealthEvent::Asked, TIMED_OUT]);
    assert_eq!(failed.health.next_due(), Some(failed.now + secs(20)), "the second one");
}

#[test]
fn e2_what_was_left_lying_while_it_hung_is_not_counted_after_it_is_back() {
    for hung in [healthy().after(&[TIMED_OUT; 4]), ejected()] {
        assert!(hung.health.is_about_now(hung.now), "while it hangs all is about it");
        let back = hung.wait(secs(1)).after(&[HealthEvent::Resumed, HealthEvent::Asked]);
        assert!(!back.health.is_about_now(back.now.checked_sub(MS).unwrap()));
        assert!(back.health.is_about_now(back.now));
    }
    let back = healthy().after(&[TIMED_OUT; 4]).after(&[HealthEvent::Resumed]);
    assert_eq!(back.after(&[TIMED_OUT; 4]).standing(), Some(Standing::Healthy), "a row of its own");
    assert_eq!(back.after(&[TIMED_OUT; 5]).standing(), Some(Standing::Ejected));
}

#[test]
fn ejections_are_forgotten_after_five_good_minutes() {
    let well = ejected().wait(secs(10)).after(&[HealthEvent::Asked, HealthEvent::Answered]);
    for (good, again) in [(FORGIVEN, 20), (FORGIVEN + MS, 10)] {
        let life = well.wait(good).after(&[TIMED_OUT; 5]);
        assert_eq!(life.health.next_due(), Some(life.now + secs(again)), "after {good:?}");
    }
}

#[test]
fn a_late_answer_ends_no_ejection_and_a_trial_whose_client_left_is_repeated() {
    assert_eq!(ejected().after(&[HealthEvent::Answered]).standing(), Some(Standing::Ejected));
    let asked = ejected().wait(secs(10)).after(&[HealthEvent::Asked]);
    let trial = rule().trial;
    assert!(trial > Limits::default().request_deadline, "its timeout is known first");
    assert_eq!(asked.wait(trial - MS).standing(), Some(Standing::Asked));
    assert_eq!(asked.wait(trial).standing(), Some(Standing::HalfOpen));
}
