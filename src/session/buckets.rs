//! How often somebody may come: token buckets by key, shared by all workers and bounded in memory (row B20).
//!
//! A bucket is one moment: that at which it would be full again. Whoever's bucket is full is forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{Limits, REMEMBERED_RATES};

/// Parts of a table, so that two workers seldom wait for each other.
const SHARDS: usize = 16;

/// Shortest time between two looks for what can be forgotten.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// And the longest, so that a slow rate does not keep what a busy hour left.
const LONGEST_SWEEP: Duration = Duration::from_secs(60);

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Until one more is there.
    interval: Duration,
    /// How far ahead of its pace somebody may be who comes once more.
    ahead: Duration,
}

impl Pace {
    /// So many per second, and at first so many at once; none when it is switched off with 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(per_second)?;
        Some(Self { interval, ahead: interval * burst.saturating_sub(1) })
    }

    /// Takes one out of the bucket that is full at `full_at`; false if it is empty.
    pub(crate) fn take(self, full_at: &mut Instant, now: Instant) -> bool {
        let from = (*full_at).max(now);
        if from - now > self.ahead {
            return false;
        }
        *full_at = from + self.interval;
        true
    }

    fn fills_within(self) -> Duration {
        self.interval + self.ahead
    }
}

/// A bucket per key. Keys are kept as hashes of 64 bits with a secret of this process: who shares one by accident, which
/// nobody can bring about, shares a rate.
#[derive(Debug)]
pub(crate) struct Buckets {
    pace: Option<Pace>,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// Keys remembered in each shard.
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    full_at: HashMap<u64, Instant>,
    sweep_at: Option<Instant>,
}

impl Buckets {
    /// For the logins of each account (row B20).
    pub(crate) fn of_accounts(limits: &Limits) -> Self {
        Self::new(limits.account_logins_per_second, limits.account_login_burst)
    }

    /// So many per second and key, and at first so many at once. 0 per second: no bound, and no cost.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self::with_room(per_second, burst, REMEMBERED_RATES)
    }

    fn with_room(per_second: u32, burst: u32, keys: usize) -> Self {
        Self {
            pace: Pace::new(per_second, burst),
            hasher: RandomState::new(),
            shards: Default::default(),
            room: keys / SHARDS,
        }
    }

    /// Returns `true` if this one may come now. Where there is no room to remember it, it may.
    pub(crate) fn take(&self, key: &impl Hash, now: Instant) -> bool {
        let Some(pace) = self.pace else { return true };
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        shard.sweep(now, pace);
        if let Some(full_at) = shard.full_at.get_mut(&hash) {
            return pace.take(full_at, now);
        }
        if shard.full_at.len() < self.room {
            let mut full_at = now;
            pace.take(&mut full_at, now);
            shard.full_at.insert(hash, full_at);
        }
        true
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Forgets whose bucket is full; not with every key that comes, which would cost as much as the table is large.
    fn sweep(&mut self, now: Instant, pace: Pace) {
        if self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = Some(now + pace.fills_within().clamp(SHORTEST_SWEEP, LONGEST_SWEEP));
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.capacity() > self.full_at.len() * 4 {
            self.full_at.shrink_to(self.full_at.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(buckets: &Buckets) -> usize {
        buckets.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn b20_a_burst_is_let_in_then_one_per_second_and_others_notice_nothing() {
        let buckets = Buckets::new(1, 5);
        let start = Instant::now();
        let at = |after: u64, who: &str| buckets.take(&("app", who), start + millis(after));
        assert_eq!([0; 7].map(|_| at(0, "alice")), [true, true, true, true, true, false, false]);
        assert!(at(0, "bob"));
        assert!(!at(999, "alice"));
        assert!(at(1_000, "alice"), "refusals cost nothing");
        assert!(!at(1_999, "alice"));
        assert!(at(2_000, "alice"));
        assert_eq!([0; 6].map(|_| at(60_000, "alice")), [true, true, true, true, true, false]);
    }

    #[test]
    fn b20_many_per_second_are_counted_exactly() {
        let buckets = Buckets::new(500, 2_000);
        let start = Instant::now();
        let burst = (0..3_000).filter(|_| buckets.take(&7, start)).count();
        assert_eq!(burst, 2_000);
        let later = (0..10_000u64).filter(|n| buckets.take(&7, start + millis(n / 10))).count();
        assert!((498..=500).contains(&later), "{later} in one second");
    }

    #[test]
    fn b20_who_has_not_come_for_a_while_is_forgotten() {
        let buckets = Buckets::new(1, 5);
        let start = Instant::now();
        for account in 0..10_000 {
            assert!(buckets.take(&account, start));
        }
        assert_eq!(remembered(&buckets), 10_000);
        for account in 0..1_000 {
            assert!(buckets.take(&account, start + millis(6_000)));
        }
        assert!(remembered(&buckets) < 1_200, "{}", remembered(&buckets));
        let capacity: usize =
            buckets.shards.iter().map(|shard| shard.lock().unwrap().full_at.capacity()).sum();
        assert!(capacity < 5_000, "{capacity}");
    }

    #[test]
    fn g6_a_flood_of_keys_takes_bounded_memory_and_shuts_nobody_out() {
        let buckets = Buckets::with_room(1, 1, 160);
        let now = Instant::now();
        assert!(buckets.take(&"known", now));
        for key in 0..10_000 {
            assert!(buckets.take(&key, now));
        }
        assert!(remembered(&buckets) <= 160);
        assert!(!buckets.take(&"known", now), "those that are remembered stay bounded");
    }

    #[test]
    fn zero_is_off_and_costs_nothing() {
        let buckets = Buckets::new(0, 5);
        let now = Instant::now();
        assert!((0..1_000).all(|_| buckets.take(&"alice", now)));
        assert_eq!(remembered(&buckets), 0);
        assert!(Pace::new(0, 1).is_none());
    }

    #[test]
    fn f7_a_clock_that_seems_to_go_back_lets_nobody_in_for_free() {
        let buckets = Buckets::new(1, 1);
        let now = Instant::now();
        assert!(buckets.take(&1, now + millis(5_000)));
        assert!(!buckets.take(&1, now));
    }
}
