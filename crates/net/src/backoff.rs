//! How long to pause before the next try.

use std::time::Duration;

use super::rng::Rng;

/// Beyond so many failures a pause no longer grows; up to it, doubling stays within what a double holds.
const MAX_EXPONENT: u32 = 1000;

/// Exponential backoff: the n-th pause, counted from 0, is drawn around the smaller of `cap` and `base` × `factor`^n.
///
/// A value without state: whoever tries again counts the failures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first pause, before jitter.
    pub base: Duration,
    /// The longest pause, before jitter.
    pub cap: Duration,
    /// Growth from one pause to the next.
    pub factor: f64,
    /// What is drawn of a pause. Peers that were cut off together must not come back together.
    pub jitter: Jitter,
}

/// Which part of a pause chance decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// All of it: from nothing to the whole pause.
    Full,
    /// One half: from half of the pause to all of it.
    Equal,
    /// This share of it, from 0 to 1, both ways.
    Around(f64),
}

impl Default for Backoff {
    /// From 500 ms to 30 s, doubled each time, with full jitter.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Doubles each time, with full jitter.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, factor: 2.0, jitter: Jitter::Full }
    }

    /// The n-th pause.
    pub fn pause(&self, n: u32, rng: &mut Rng) -> Duration {
        self.unjittered(n).mul_f64(self.jitter.share(rng))
    }

    /// The n-th pause before jitter, for one who has no peers.
    pub fn unjittered(&self, n: u32) -> Duration {
        let exponent = n.min(MAX_EXPONENT).cast_signed();
        let grown = Duration::try_from_secs_f64(self.base.as_secs_f64() * self.factor.powi(exponent));
        grown.map_or(self.cap, |grown| grown.min(self.cap))
    }
}

impl Jitter {
    fn share(self, rng: &mut Rng) -> f64 {
        match self {
            Self::Full => rng.share(),
            Self::Equal => 0.5 + rng.share() / 2.0,
            Self::Around(share) => 1.0 + share * (2.0 * rng.share() - 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The n-th pauses lie between these shares of `bound`, and come near to both.
    #[track_caller]
    fn fills(backoff: Backoff, n: u32, bound: Duration, (low, high): (f64, f64)) {
        for seed in 0..20 {
            let mut rng = Rng::seeded(seed);
            let near = bound.mul_f64((high - low) / 10.0);
            let (low, high) = (bound.mul_f64(low), bound.mul_f64(high));
            let pauses: Vec<_> = (0..200).map(|_| backoff.pause(n, &mut rng)).collect();
            assert!(pauses.iter().all(|pause| (low..=high).contains(pause)), "{n}");
            assert!(pauses.iter().any(|pause| *pause < low + near), "{n}: nearly the least is possible");
            assert!(pauses.iter().any(|pause| *pause > high - near), "{n}: nearly the most is possible");
        }
    }

    #[test]
    fn pauses_fill_the_whole_time_up_to_a_bound_that_doubles_up_to_the_cap() {
        for (n, bound) in
            [(0, 500), (1, 1000), (3, 4000), (6, 30_000), (31, 30_000), (32, 30_000), (u32::MAX, 30_000)]
        {
            fills(Backoff::default(), n, Duration::from_millis(bound), (0.0, 1.0));
        }
    }

    #[test]
    fn other_jitter_leaves_a_part_of_each_pause_alone() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(5));
        for (jitter, shares) in [(Jitter::Equal, (0.5, 1.0)), (Jitter::Around(0.2), (0.8, 1.2))] {
            let backoff = Backoff { base, cap, factor: 1.5, jitter };
            for (n, bound) in [(0, 1.0), (1, 1.5), (2, 2.25), (4, 5.0), (900, 5.0)] {
                fills(backoff, n, Duration::from_secs_f64(bound), shares);
            }
        }
    }

    #[test]
    fn no_base_is_no_pause_and_no_cap_is_no_fault() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).unjittered(u32::MAX), Duration::ZERO);
        let endless = Backoff::new(Duration::from_secs(1), Duration::MAX);
        assert_eq!(endless.unjittered(u32::MAX), Duration::MAX);
        assert!(endless.pause(u32::MAX, &mut Rng::seeded(1)) < Duration::MAX);
    }
}
