//! Random numbers that keep peers from doing the same at the same moment.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Random numbers that are good enough to spread peers, and repeatable from a seed (splitmix64). Never for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Default for Rng {
    /// Differs at every call: the standard library seeds every hasher from the system.
    fn default() -> Self {
        Self::seeded(RandomState::new().hash_one(0u8))
    }
}

impl Rng {
    /// The same numbers for the same seed.
    pub const fn seeded(seed: u64) -> Self {
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

    /// Any number but 0.
    pub fn id(&mut self) -> u64 {
        self.roll().max(1)
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Any time from nothing to this one.
    pub fn within(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.share())
    }

    /// Any index below `count`; 0 if that is 0.
    pub fn index(&mut self, count: usize) -> usize {
        let index = self.roll() % count.max(1) as u64;
        usize::try_from(index).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_from_a_seed_and_differ_without_one() {
        let roll = |mut rng: Rng| -> Vec<u64> { (0..4).map(|_| rng.roll()).collect() };
        assert_eq!(roll(Rng::seeded(7)), roll(Rng::seeded(7)));
        assert_ne!(roll(Rng::default()), roll(Rng::default()));
        let mut rng = Rng::seeded(1);
        let seen: std::collections::BTreeSet<_> = (0..100).map(|_| rng.index(3)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(rng.index(0), 0);
    }
}
