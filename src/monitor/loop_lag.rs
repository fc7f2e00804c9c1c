//! How late a worker's loop is: it beats at a fixed pace, and a beat that is late, or does not come, was held up by
//! something (row F16).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::limits::{LAG_PERIOD, PRESSURE_LOOK};

/// No beat is due: the loop has not begun, or has ended.
const NEVER: u64 = u64::MAX;

/// Written by its worker, read by anyone. Times are microseconds since `started`.
#[derive(Debug)]
pub(super) struct LoopLag {
    started: Instant,
    /// When the next beat should come.
    due: AtomicU64,
    /// Number of the period that `worst` is of.
    period: AtomicU64,
    worst: AtomicU64,
    worst_before: AtomicU64,
    /// The worst since it was last asked for.
    untold: AtomicU64,
}

impl LoopLag {
    /// Of a loop that begins no earlier than now.
    pub(super) fn new(now: Instant) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: now,
            due: AtomicU64::new(NEVER),
            period: zero(),
            worst: zero(),
            worst_before: zero(),
            untold: zero(),
        }
    }

    /// The loop is at work now. It is late by what has passed since the beat was due.
    pub(super) fn beat(&self, now: Instant) {
        let late = micros(self.overdue(now));
        let period = self.since_start(now) / micros(LAG_PERIOD);
        let last = self.period.swap(period, Relaxed);
        if period != last {
            let worst = self.worst.swap(0, Relaxed);
            self.worst_before.store(if period == last + 1 { worst } else { 0 }, Relaxed);
        }
        self.worst.fetch_max(late, Relaxed);
        self.untold.fetch_max(late, Relaxed);
        self.due.store(self.since_start(now) + micros(PRESSURE_LOOK), Relaxed);
    }

    /// The loop has ended: nothing is late any more.
    pub(super) fn end(&self) {
        self.due.store(NEVER, Relaxed);
    }

    /// The worst delay of late, that of a beat that has not come yet included.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        let worst = self.worst.load(Relaxed).max(self.worst_before.load(Relaxed));
        Duration::from_micros(worst).max(self.overdue(now))
    }

    /// The same since this was last asked for.
    pub(super) fn take_lag(&self, now: Instant) -> Duration {
        Duration::from_micros(self.untold.swap(0, Relaxed)).max(self.overdue(now))
    }

    fn overdue(&self, now: Instant) -> Duration {
        Duration::from_micros(self.since_start(now).saturating_sub(self.due.load(Relaxed)))
    }

    fn since_start(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.started))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn f16_a_late_beat_is_seen_and_forgotten_after_two_periods() {
        let beat = LoopLag::new(Instant::now());
        let start = beat.started;
        beat.beat(start);
        beat.beat(start + millis(100));
        assert_eq!(beat.lag(start + millis(150)), Duration::ZERO);
        beat.beat(start + millis(450));
        assert_eq!(beat.lag(start + millis(450)), millis(250));
        assert_eq!(beat.take_lag(start + millis(450)), millis(250));
        assert_eq!(beat.take_lag(start + millis(450)), Duration::ZERO, "told once");
        let mut at = start + millis(450);
        let mut beat_until = |end: Duration| {
            while at < start + end {
                at += millis(100);
                beat.beat(at);
            }
            beat.lag(at)
        };
        assert_eq!(beat_until(LAG_PERIOD + millis(500)), millis(250), "the period before still shows");
        assert_eq!(beat_until(LAG_PERIOD * 2 + millis(500)), Duration::ZERO);
    }

    #[test]
    fn f16_a_loop_that_is_blocked_now_shows_before_it_ever_beats_again() {
        let beat = LoopLag::new(Instant::now());
        let start = beat.started;
        assert_eq!(beat.lag(start + millis(5_000)), Duration::ZERO, "it has not begun");
        beat.beat(start);
        assert_eq!(beat.lag(start + millis(1_100)), millis(1_000));
        assert_eq!(beat.take_lag(start + millis(1_100)), millis(1_000));
        beat.end();
        assert_eq!(beat.lag(start + millis(5_000)), Duration::ZERO, "it has ended");
    }
}
