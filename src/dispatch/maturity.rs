//! Young and adult: whether an instance that is linked may be chosen while its service has others (protocol §6).
//!
//! A fresh instance gets time to warm up, and one that comes and goes does not have accounts moved to it and back
//! (row E7). One [`Maturity`] belongs to one instance at one address and follows its link through the two events of
//! its life, up and lost. Time is passed in, and nothing here waits: whoever holds it asks [`Maturity::next_due`].

use std::time::{Duration, Instant};

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// An instance is young for so long after its first sign of life.
    pub(crate) young: Duration,
    /// An adult that is back after no more than this is still adult.
    pub(crate) returned_within: Duration,
}

/// What an instance is while its link is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// May be chosen only while its service has no adult.
    Young,
    /// May be chosen.
    Adult,
}

/// The age of one instance through all of its links.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maturity(Stage);

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Its link was never up.
    Unseen { is_of_first_set: bool },
    /// Up.
    Young { until: Instant },
    /// Up.
    Adult,
    /// Its link was up and is lost.
    Lost { at: Instant, was_adult: bool },
}

impl Maturity {
    /// Of an instance that was not linked yet.
    ///
    /// The first set of a source is every instance it names when it first speaks: for the configuration, all of its
    /// list. The first time each comes up it is adult at its first sign of life, whenever that is: one that was down
    /// when the gateway started belongs to the set all the same. From then on it is like any other. An instance that a
    /// source names later is young first, and so is one that has another address than before.
    pub(crate) const fn new(is_of_first_set: bool) -> Self {
        Self(Stage::Unseen { is_of_first_set })
    }

    /// The first sign of life on a new link.
    ///
    /// A young instance that was lost begins its time anew, however soon it is back: it has to hold in one piece.
    #[must_use]
    pub(crate) fn came_up(self, now: Instant, rule: &Rule) -> Self {
        let is_adult = match self.0 {
            Stage::Unseen { is_of_first_set } => is_of_first_set,
            Stage::Lost { at, was_adult } => {
                was_adult && now.saturating_duration_since(at) <= rule.returned_within
            }
            Stage::Young { .. } | Stage::Adult => return self,
        };
        Self(if is_adult { Stage::Adult } else { Stage::Young { until: now + rule.young } })
    }

    /// Its link broke. Without an effect where none was up: a redial that failed does not shorten an absence.
    #[must_use]
    pub(crate) fn lost(self, now: Instant) -> Self {
        match self.grown(now).0 {
            Stage::Young { .. } => Self(Stage::Lost { at: now, was_adult: false }),
            Stage::Adult => Self(Stage::Lost { at: now, was_adult: true }),
            Stage::Unseen { .. } | Stage::Lost { .. } => self,
        }
    }

    /// Adult, if it was young and has had its time.
    #[must_use]
    pub(crate) fn grown(self, now: Instant) -> Self {
        match self.0 {
            Stage::Young { until } if now >= until => Self(Stage::Adult),
            _ => self,
        }
    }

    /// When [`grown`](Self::grown) will change it; none if time alone changes nothing.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.0 {
            Stage::Young { until } => Some(until),
            _ => None,
        }
    }

    /// Its age; none while its link is not up.
    pub(crate) fn age(&self) -> Option<Age> {
        match self.0 {
            Stage::Young { .. } => Some(Age::Young),
            Stage::Adult => Some(Age::Adult),
            Stage::Unseen { .. } | Stage::Lost { .. } => None,
        }
    }

    /// Was it up before, and is not now?
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.0, Stage::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { young: Duration::from_secs(10), returned_within: Duration::from_secs(5) };
    const MS: Duration = Duration::from_millis(1);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// One that was adult and is lost at this moment.
    fn lost_adult(now: Instant) -> Maturity {
        Maturity::new(true).came_up(now, &RULE).lost(now)
    }

    #[test]
    fn the_first_set_is_adult_at_its_first_sign_of_life_whenever_that_is() {
        let start = Instant::now();
        let first = Maturity::new(true);
        assert_eq!((first.age(), first.next_due(), first.is_lost()), (None, None, false));
        for later in [Duration::ZERO, secs(3600)] {
            let up = first.came_up(start + later, &RULE);
            assert_eq!((up.age(), up.next_due()), (Some(Age::Adult), None));
        }
    }

    #[test]
    fn a_dial_that_fails_changes_nothing() {
        let start = Instant::now();
        for first in [true, false] {
            let never_up = Maturity::new(first).lost(start).grown(start + secs(60)).lost(start + secs(60));
            assert_eq!((never_up.age(), never_up.is_lost()), (None, false));
            let up = never_up.came_up(start + secs(90), &RULE);
            assert_eq!(up.age(), Some(if first { Age::Adult } else { Age::Young }));
        }
        let away = lost_adult(start).lost(start + secs(4));
        assert_eq!(away.came_up(start + secs(6), &RULE).age(), Some(Age::Young), "away for 6 s, not for 2 s");
    }

    #[test]
    fn a_new_instance_is_young_for_ten_seconds_to_the_instant() {
        let start = Instant::now();
        let new = Maturity::new(false).came_up(start, &RULE);
        assert_eq!((new.age(), new.next_due()), (Some(Age::Young), Some(start + secs(10))));
        assert_eq!(new.grown(start + secs(10) - MS).age(), Some(Age::Young));
        let grown = new.grown(start + secs(10));
        assert_eq!((grown.age(), grown.next_due()), (Some(Age::Adult), None));
        assert_eq!(grown.grown(start + secs(99)).age(), Some(Age::Adult));
    }

    #[test]
    fn an_adult_back_within_five_seconds_is_still_adult_and_a_millisecond_later_it_is_young() {
        let start = Instant::now();
        let lost = lost_adult(start);
        assert_eq!((lost.age(), lost.next_due(), lost.is_lost()), (None, None, true));
        for (away, age) in [
            (Duration::ZERO, Age::Adult),
            (secs(5), Age::Adult),
            (secs(5) + MS, Age::Young),
            (secs(3600), Age::Young),
        ] {
            let back = lost.came_up(start + away, &RULE);
            assert_eq!((back.age(), back.is_lost()), (Some(age), false), "away for {away:?}");
            assert_eq!(back.next_due(), (age == Age::Young).then(|| start + away + secs(10)));
        }
    }

    #[test]
    fn e7_a_young_one_that_comes_and_goes_begins_anew_each_time() {
        let mut now = Instant::now();
        let mut flapping = Maturity::new(false);
        for _ in 0..30 {
            flapping = flapping.came_up(now, &RULE);
            assert_eq!((flapping.age(), flapping.next_due()), (Some(Age::Young), Some(now + secs(10))));
            now += secs(1);
            flapping = flapping.grown(now).lost(now);
            now += secs(1);
        }
        let steady = flapping.came_up(now, &RULE).grown(now + secs(10));
        assert_eq!(steady.age(), Some(Age::Adult));
    }

    #[test]
    fn one_that_has_had_its_time_is_lost_as_an_adult_even_if_nobody_looked() {
        let start = Instant::now();
        let new = Maturity::new(false).came_up(start, &RULE);
        for (up_for, age) in [(secs(10) - MS, Age::Young), (secs(10), Age::Adult)] {
            let lost_at = start + up_for;
            assert_eq!(new.lost(lost_at).came_up(lost_at + secs(1), &RULE).age(), Some(age), "{up_for:?}");
        }
    }

    #[test]
    fn a_second_sign_of_life_and_a_clock_that_goes_back_change_nothing() {
        let start = Instant::now() + secs(100);
        let young = Maturity::new(false).came_up(start, &RULE);
        assert_eq!(young.came_up(start + secs(9), &RULE).next_due(), young.next_due());
        assert_eq!(lost_adult(start).came_up(start - secs(50), &RULE).age(), Some(Age::Adult));
    }
}
