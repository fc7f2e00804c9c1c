//! How long to pause before the next try.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Upper bound of the pause before the first try.
const BASE: Duration = Duration::from_millis(500);

/// Upper bound of every pause.
const CAP: Duration = Duration::from_secs(30);

/// Exponential backoff with full jitter: the n-th pause, counted from 0, is anything from nothing to the smaller of
/// `cap` and `base` × 2^n. Clients that were cut off together so come back spread over the whole time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first pause. Default 500 ms.
    pub base: Duration,
    /// Upper bound of every pause. Default 30 s.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: BASE, cap: CAP }
    }
}

impl Backoff {
    /// The n-th pause.
    pub(super) fn pause(self, n: u32, rng: &mut Rng) -> Duration {
        let factor = 1u32.checked_shl(n).filter(|factor| *factor != 0).unwrap_or(u32::MAX);
        rng.within(self.base.saturating_mul(factor).min(self.cap))
    }
}

/// Random numbers that are good enough to spread clients, and repeatable from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    /// The standard library seeds every hasher from the system.
    pub(super) fn new() -> Self {
        Self::seeded(RandomState::new().hash_one(0u8))
    }

    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Any time from nothing to this one.
    pub(super) fn within(&mut self, most: Duration) -> Duration {
        // 53 bits are what a double holds exactly.
        most.mul_f64((self.roll() >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Any index below `count`, which is not 0.
    pub(super) fn index(&mut self, count: usize) -> usize {
        let index = self.roll() % count.max(1) as u64;
        usize::try_from(index).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_fill_the_whole_time_up_to_a_bound_that_doubles_up_to_the_cap() {
        let backoff = Backoff::default();
        for seed in 0..20 {
            let mut rng = Rng::seeded(seed);
            for (n, bound) in
                [(0, 500), (1, 1000), (3, 4000), (6, 30_000), (31, 30_000), (32, 30_000), (900, 30_000)]
            {
                let bound = Duration::from_millis(bound);
                let pauses: Vec<_> = (0..200).map(|_| backoff.pause(n, &mut rng)).collect();
                assert!(pauses.iter().all(|pause| *pause <= bound), "{n}");
                assert!(pauses.iter().any(|pause| *pause < bound / 10), "{n}: nearly nothing is possible");
                assert!(pauses.iter().any(|pause| *pause > bound * 9 / 10), "{n}: nearly all is possible");
            }
        }
    }

    #[test]
    fn dice_repeat_from_a_seed_and_differ_without_one() {
        let roll = |mut rng: Rng| -> Vec<u64> { (0..4).map(|_| rng.roll()).collect() };
        assert_eq!(roll(Rng::seeded(7)), roll(Rng::seeded(7)));
        assert_ne!(roll(Rng::new()), roll(Rng::new()));
        let mut rng = Rng::seeded(1);
        let seen: std::collections::BTreeSet<_> = (0..100).map(|_| rng.index(3)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rng.index(0), 0);
    }
}
