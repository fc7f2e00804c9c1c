//! When a set of keys is fetched the next time: decisions only, time is passed in.

use std::time::Duration;

use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;
use tokio::time::Instant;

use crate::limits::{BACKOFF_FACTOR, BACKOFF_JITTER, JWKS_PACE, JWKS_RETRY_MAX};

/// Pauses after failures. The jitter keeps gateways that lost a source together from coming back together.
const PAUSES: Backoff = Backoff {
    base: JWKS_PACE,
    cap: JWKS_RETRY_MAX,
    factor: BACKOFF_FACTOR,
    jitter: Jitter::Around(BACKOFF_JITTER),
};

/// See the module.
#[derive(Debug)]
pub(super) struct RefreshSchedule {
    due: Instant,
    /// When the last fetch began.
    began: Option<Instant>,
    /// In a row.
    failures: u32,
    rng: Rng,
}

impl RefreshSchedule {
    /// The first fetch is due at once.
    pub(super) fn new(now: Instant, rng: Rng) -> Self {
        Self { due: now, began: None, failures: 0, rng }
    }

    /// When to fetch.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Somebody names a key that is not known: it may have been published since. All of them together are good for one
    /// fetch in [`JWKS_PACE`].
    pub(super) fn wish(&mut self, now: Instant) {
        let earliest = self.began.map_or(now, |began| now.max(began + JWKS_PACE));
        self.due = self.due.min(earliest);
    }

    /// A fetch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// It brought keys that are fresh for so long.
    pub(super) fn succeeded(&mut self, now: Instant, fresh_for: Duration) {
        self.failures = 0;
        self.due = now + fresh_for;
    }

    /// It brought nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        self.due = now + PAUSES.pause(self.failures, &mut self.rng).max(JWKS_PACE);
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn started() -> (RefreshSchedule, Instant) {
        let now = Instant::now();
        let mut schedule = RefreshSchedule::new(now, Rng::seeded(7));
        assert_eq!(schedule.due(), now);
        schedule.begin(now);
        schedule.succeeded(now, DAY);
        assert_eq!(schedule.due(), now + DAY);
        (schedule, now)
    }

    #[test]
    fn unknown_keys_are_good_for_one_fetch_in_ten_seconds_however_many_ask() {
        let (mut schedule, now) = started();
        let second = now + Duration::from_secs(1);
        for _ in 0..1000 {
            schedule.wish(second);
        }
        assert_eq!(schedule.due(), now + JWKS_PACE);
        schedule.begin(now + JWKS_PACE);
        schedule.succeeded(now + JWKS_PACE, DAY);
        let later = now + DAY / 2;
        schedule.wish(later);
        assert_eq!(schedule.due(), later, "at once, when the last fetch is long ago");
        schedule.wish(later + Duration::from_secs(1));
        assert_eq!(schedule.due(), later, "and no later for the next who asks");
    }

    #[test]
    fn a_source_that_is_down_is_asked_less_and_less_often_and_never_faster_than_the_pace() {
        let (mut schedule, mut now) = started();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            schedule.begin(now);
            schedule.failed(now);
            pauses.push(schedule.due() - now);
            now = schedule.due();
        }
        assert!(pauses.iter().all(|pause| *pause >= JWKS_PACE), "{pauses:?}");
        let longest = JWKS_RETRY_MAX.mul_f64(1.0 + BACKOFF_JITTER);
        assert!(
            pauses.iter().all(|pause| *pause <= longest) && pauses[11] > JWKS_RETRY_MAX / 2,
            "{pauses:?}"
        );
        schedule.begin(now);
        schedule.wish(now + Duration::from_secs(3));
        assert!(schedule.due() <= now + JWKS_PACE, "an unknown key asks sooner");
    }
}
