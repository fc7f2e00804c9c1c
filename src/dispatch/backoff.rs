//! The pause before a redial: at once, then growing, with jitter (protocol §5, row E7).

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::limits::{BACKOFF_FACTOR, BACKOFF_JITTER};

/// Counts the attempts since the last one that held.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempts: 0 }
    }

    /// The connection held: the next redial comes at once.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The instance refused: even the first redial waits.
    pub(crate) fn skip_immediate(&mut self) {
        self.attempts = self.attempts.max(1);
    }

    /// How long to wait before the next attempt: zero the first time.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let attempt = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if attempt == 0 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
        let grown = self.first.as_secs_f64() * BACKOFF_FACTOR.powi(exponent);
        let pause = grown.min(self.max.as_secs_f64());
        Duration::from_secs_f64(pause * (1.0 + BACKOFF_JITTER * (2.0 * random_share() - 1.0)))
    }
}

/// Between 0 and 1, different at every call; the standard library's hasher keys are random.
fn random_share() -> f64 {
    let bits = RandomState::new().hash_one(0u8);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_at_once_then_growing_within_the_jitter_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        assert_eq!(backoff.next_pause(), Duration::ZERO);
        let mut expected = 0.2_f64;
        for _ in 0..12 {
            let pause = backoff.next_pause().as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&pause), "{pause} for {expected}");
            expected = (expected * 1.6).min(5.0);
        }
        backoff.reset();
        assert_eq!(backoff.next_pause(), Duration::ZERO);
        backoff.reset();
        backoff.skip_immediate();
        assert!(backoff.next_pause() >= Duration::from_millis(160));
    }

    #[test]
    fn e15_it_never_gives_up_and_never_pauses_beyond_its_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut waited = Duration::ZERO;
        for _ in 0..100_000 {
            backoff.skip_immediate();
            let pause = backoff.next_pause();
            assert!(pause <= Duration::from_secs(6), "back within 6 s after it relents: {pause:?}");
            assert!(!pause.is_zero());
            waited += pause;
        }
        assert!(waited > Duration::from_secs(180), "{waited:?}");
    }
}
