//! How many accounts were connected in an hour and in a day.

use super::hyper_log_log::HyperLogLog;
use super::report::ActiveAccounts;

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// The accounts of one app, or of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Active {
    hour: Period,
    day: Period,
}

impl Active {
    /// An account is connected; by this time, in seconds since 1970.
    pub(super) fn insert(&mut self, hash: u64, now: u64) {
        for (period, length) in [(&mut self.hour, HOUR), (&mut self.day, DAY)] {
            period.turn_to(now / length);
            period.current.insert(hash);
        }
    }

    /// Adds those of another worker, at this time.
    pub(super) fn merge(&mut self, other: &Self, now: u64) {
        for (mine, theirs, length) in [(&mut self.hour, &other.hour, HOUR), (&mut self.day, &other.day, DAY)]
        {
            let mut theirs = theirs.clone();
            theirs.turn_to(now / length);
            mine.turn_to(now / length);
            mine.current.merge(&theirs.current);
            mine.last.merge(&theirs.last);
        }
    }

    pub(super) fn report(&self) -> ActiveAccounts {
        ActiveAccounts {
            this_hour: self.hour.current.estimate(),
            last_hour: self.hour.last.estimate(),
            today: self.day.current.estimate(),
            yesterday: self.day.last.estimate(),
        }
    }
}

/// An hour or a day in UTC, and the one before it.
#[derive(Debug, Clone, Default)]
struct Period {
    /// Counted from 1970.
    number: u64,
    current: HyperLogLog,
    last: HyperLogLog,
}

impl Period {
    /// A clock that was set back changes nothing.
    fn turn_to(&mut self, number: u64) {
        if number <= self.number {
            return;
        }
        let ended = std::mem::take(&mut self.current);
        self.last = if number == self.number + 1 { ended } else { HyperLogLog::default() };
        self.number = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread over all bits.
    fn hash(account: u64) -> u64 {
        use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one(account)
    }

    #[test]
    fn hours_and_days_end_and_the_last_one_is_kept() {
        let noon = 20_000 * DAY + 12 * HOUR;
        let mut active = Active::default();
        (0..3).for_each(|account| active.insert(hash(account), noon));
        active.insert(hash(3), noon + HOUR);
        let counts = |active: &Active, now| {
            let mut at = Active::default();
            at.merge(active, now);
            let found = at.report();
            [found.this_hour, found.last_hour, found.today, found.yesterday]
        };
        assert_eq!(counts(&active, noon + HOUR), [1, 3, 4, 0]);
        // Set back by an hour.
        active.insert(hash(4), noon);
        assert_eq!(counts(&active, noon + HOUR), [2, 3, 5, 0]);
        assert_eq!(counts(&active, noon + 2 * HOUR), [0, 2, 5, 0]);
        assert_eq!(counts(&active, noon + DAY), [0, 0, 0, 5]);
        assert_eq!(counts(&active, noon + 2 * DAY), [0, 0, 0, 0]);
    }
}
