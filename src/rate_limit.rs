//! How often somebody may come: the generic cell rate algorithm (GCRA), for one or by key.
//!
//! All that is kept of one who is limited is a moment, the *theoretical arrival time*: that until which what came is paid
//! off at the rate. Nobody's needs a timer, and one that has passed can be forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::REMEMBERED_RATES;

/// Parts of a table, so that two workers seldom wait for each other.
const SHARDS: usize = 16;

/// Shortest time between two looks for what can be forgotten.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// And the longest, so that a slow rate does not keep what a busy hour left.
const LONGEST_SWEEP: Duration = Duration::from_secs(60);

/// A rate with a burst.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gcra {
    per_second: NonZeroU32,
    /// How far ahead of its time somebody may be.
    tolerance: Duration,
}

impl Gcra {
    /// So many per second, and at first so many at once, one at least; none when it is switched off with 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let tolerance = time_of(burst.max(1).into(), per_second);
        Some(Self { per_second, tolerance })
    }

    /// Lets one come if it is within the rate; false, and free of charge, if not.
    pub(crate) fn take(self, arrival: &mut Instant, now: Instant) -> bool {
        let next = (*arrival).max(now) + time_of(1, self.per_second);
        let is_in_time = next - now <= self.tolerance;
        if is_in_time {
            *arrival = next;
        }
        is_in_time
    }

    /// Charges for what came unasked, within the rate or not.
    pub(crate) fn charge(self, arrival: &mut Instant, amount: u64, now: Instant) {
        *arrival = (*arrival).max(now) + time_of(amount, self.per_second);
    }

    /// How long it takes until what came is within the rate.
    pub(crate) fn excess(self, arrival: Instant, now: Instant) -> Duration {
        arrival.saturating_duration_since(now).saturating_sub(self.tolerance)
    }
}

/// At this rate.
fn time_of(amount: u64, per_second: NonZeroU32) -> Duration {
    Duration::from_nanos(amount.saturating_mul(1_000_000_000) / u64::from(per_second.get()))
}

/// A rate for each key, shared by all workers and bounded in memory (row B20). Keys are kept as hashes of 64 bits with a
/// secret of this process: who shares one by accident, which nobody can bring about, shares a rate.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    /// The rate, and below it the burst, of 32 bits each: together, so that nobody sees one half of a change.
    rate: AtomicU64,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// Keys remembered in each shard.
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    arrivals: HashMap<u64, Instant>,
    sweep_at: Option<Instant>,
}

impl RateLimiter {
    /// So many per second and key, and at first so many at once. 0 per second: no bound, and no cost.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self::with_room(per_second, burst, REMEMBERED_RATES)
    }

    fn with_room(per_second: u32, burst: u32, keys: usize) -> Self {
        Self {
            rate: AtomicU64::new(packed(per_second, burst)),
            hasher: RandomState::new(),
            shards: Default::default(),
            room: keys / SHARDS,
        }
    }

    /// This rate from now on. What is owed stays owed.
    pub(crate) fn change(&self, per_second: u32, burst: u32) {
        self.rate.store(packed(per_second, burst), Relaxed);
    }

    fn gcra(&self) -> Option<Gcra> {
        let rate = self.rate.load(Relaxed);
        Gcra::new((rate >> u32::BITS) as u32, rate as u32)
    }

    /// Returns `true` if this one may come now. Where there is no room to remember it, it may.
    pub(crate) fn take(&self, key: &impl Hash, now: Instant) -> bool {
        let Some(gcra) = self.gcra() else { return true };
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        shard.sweep(now, gcra);
        if let Some(arrival) = shard.arrivals.get_mut(&hash) {
            return gcra.take(arrival, now);
        }
        if shard.arrivals.len() < self.room {
            let mut arrival = now;
            gcra.take(&mut arrival, now);
            shard.arrivals.insert(hash, arrival);
        }
        true
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        self.shards[hash as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn packed(per_second: u32, burst: u32) -> u64 {
    u64::from(per_second) << u32::BITS | u64::from(burst)
}

impl Shard {
    /// Forgets who is paid off; not with every key that comes, which would cost as much as the table is large.
    fn sweep(&mut self, now: Instant, gcra: Gcra) {
        if self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = Some(now + gcra.tolerance.clamp(SHORTEST_SWEEP, LONGEST_SWEEP));
        self.arrivals.retain(|_, arrival| *arrival > now);
        if self.arrivals.capacity() > self.arrivals.len() * 4 {
            self.arrivals.shrink_to(self.arrivals.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(limiter: &RateLimiter) -> usize {
        limiter.shards.iter().map(|shard| shard.lock().unwrap().arrivals.len()).sum()
    }

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn b20_a_burst_is_let_in_then_one_per_second_and_others_notice_nothing() {
        let limiter = RateLimiter::new(1, 5);
        let start = Instant::now();
        let at = |after: u64, who: &str| limiter.take(&("app", who), start + millis(after));
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
        let limiter = RateLimiter::new(500, 2_000);
        let start = Instant::now();
        let burst = (0..3_000).filter(|_| limiter.take(&7, start)).count();
        assert_eq!(burst, 2_000);
        let later = (0..10_000u64).filter(|n| limiter.take(&7, start + millis(n / 10))).count();
        assert!((498..=500).contains(&later), "{later} in one second");
    }

    #[test]
    fn b20_who_has_not_come_for_a_while_is_forgotten() {
        let limiter = RateLimiter::new(1, 5);
        let start = Instant::now();
        for account in 0..10_000 {
            assert!(limiter.take(&account, start));
        }
        assert_eq!(remembered(&limiter), 10_000);
        for account in 0..1_000 {
            assert!(limiter.take(&account, start + millis(6_000)));
        }
        assert!(remembered(&limiter) < 1_200, "{}", remembered(&limiter));
        let capacity: usize =
            limiter.shards.iter().map(|shard| shard.lock().unwrap().arrivals.capacity()).sum();
        assert!(capacity < 5_000, "{capacity}");
    }

    #[test]
    fn g6_a_flood_of_keys_takes_bounded_memory_and_shuts_nobody_out() {
        let limiter = RateLimiter::with_room(1, 1, 160);
        let now = Instant::now();
        assert!(limiter.take(&"known", now));
        for key in 0..10_000 {
            assert!(limiter.take(&key, now));
        }
        assert!(remembered(&limiter) <= 160);
        assert!(!limiter.take(&"known", now), "those that are remembered stay bounded");
    }

    #[test]
    fn zero_is_off_and_costs_nothing() {
        let limiter = RateLimiter::new(0, 5);
        let now = Instant::now();
        assert!((0..1_000).all(|_| limiter.take(&"alice", now)));
        assert_eq!(remembered(&limiter), 0);
        assert!(Gcra::new(0, 1).is_none());
    }

    #[test]
    fn f7_a_clock_that_seems_to_go_back_lets_nobody_in_for_free() {
        let limiter = RateLimiter::new(1, 1);
        let now = Instant::now();
        assert!(limiter.take(&1, now + millis(5_000)));
        assert!(!limiter.take(&1, now));
    }
}
