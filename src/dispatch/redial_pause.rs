//! The pause before a redial: at once, then growing, with jitter (protocol §5, row E7).

use std::time::Duration;

use crate::limits::{BACKOFF_FACTOR, BACKOFF_JITTER, Limits};
use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;

/// Counts the attempts since the last one that held.
#[derive(Debug)]
pub(crate) struct RedialPause {
    rng: Rng,
    attempts: u32,
}

impl RedialPause {
    pub(crate) fn new() -> Self {
        Self { rng: Rng::default(), attempts: 0 }
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
    pub(crate) fn next(&mut self, limits: &Limits) -> Duration {
        let jitter = Jitter::Around(BACKOFF_JITTER);
        let backoff =
            Backoff { base: limits.backoff_first, cap: limits.backoff_max, factor: BACKOFF_FACTOR, jitter };
        let attempt = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        attempt.checked_sub(1).map_or(Duration::ZERO, |n| backoff.pause(n, &mut self.rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_at_once_then_growing_within_the_jitter_up_to_the_maximum() {
        let mut pauses = RedialPause::new();
        assert_eq!(pauses.next(&Limits::default()), Duration::ZERO);
        let mut expected = 0.2_f64;
        for _ in 0..12 {
            let pause = pauses.next(&Limits::default()).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&pause), "{pause} for {expected}");
            expected = (expected * 1.6).min(5.0);
        }
        pauses.reset();
        assert_eq!(pauses.next(&Limits::default()), Duration::ZERO);
        pauses.reset();
        pauses.skip_immediate();
        assert!(pauses.next(&Limits::default()) >= Duration::from_millis(160));
    }

    #[test]
    fn e15_it_never_gives_up_and_never_pauses_beyond_its_maximum() {
        let mut pauses = RedialPause::new();
        let mut waited = Duration::ZERO;
        for _ in 0..100_000 {
            pauses.skip_immediate();
            let pause = pauses.next(&Limits::default());
            assert!(pause <= Duration::from_secs(6), "back within 6 s after it relents: {pause:?}");
            assert!(!pause.is_zero());
            waited += pause;
        }
        assert!(waited > Duration::from_secs(180), "{waited:?}");
    }
}
