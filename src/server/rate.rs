//! How fast a client may send: frames and bytes per second, with a burst of two seconds' worth. Excess is not
//! dropped and not punished: reading stops until it is paid off.

use std::time::{Duration, Instant};

/// The burst, in seconds of the rate.
const BURST_SECONDS: f64 = 2.0;

/// A bucket that leaks at a rate; 0 per second: no bound.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    level: f64,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), level: 0.0 }
    }

    fn leak(&mut self, elapsed: Duration) {
        self.level = (self.level - self.per_second * elapsed.as_secs_f64()).max(0.0);
    }

    fn pour(&mut self, amount: f64) {
        if self.per_second > 0.0 {
            self.level += amount;
        }
    }

    /// Until it is back at its burst.
    fn excess(&self) -> Duration {
        if self.per_second == 0.0 {
            return Duration::ZERO;
        }
        let above = self.level - self.per_second * BURST_SECONDS;
        if above > 0.0 { Duration::from_secs_f64(above / self.per_second) } else { Duration::ZERO }
    }
}

/// Both buckets of one channel.
#[derive(Debug)]
pub(crate) struct Rate {
    frames: Bucket,
    bytes: Bucket,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(frames_per_second: u32, bytes_per_second: u32, now: Instant) -> Self {
        Self { frames: Bucket::new(frames_per_second), bytes: Bucket::new(bytes_per_second), at: now }
    }

    /// One frame of so many bytes arrived.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.frames.pour(1.0);
        self.bytes.pour(bytes as f64);
    }

    /// When reading may go on; none: at once.
    pub(crate) fn resume_at(&mut self, now: Instant) -> Option<Instant> {
        let elapsed = now.saturating_duration_since(self.at);
        self.at = now;
        self.frames.leak(elapsed);
        self.bytes.leak(elapsed);
        let excess = self.frames.excess().max(self.bytes.excess());
        (!excess.is_zero()).then(|| now + excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a3_excess_pauses_and_is_paid_off() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 0, start);
        for _ in 0..200 {
            rate.charge(5);
        }
        assert_eq!(rate.resume_at(start), None, "the burst is free");
        rate.charge(5);
        let resume = rate.resume_at(start).expect("one too many");
        assert!(resume > start && resume <= start + Duration::from_millis(11));
        assert_eq!(rate.resume_at(start + Duration::from_millis(20)), None);
    }

    #[test]
    fn zero_is_off() {
        let start = Instant::now();
        let mut rate = Rate::new(0, 0, start);
        for _ in 0..1_000_000 {
            rate.charge(1000);
        }
        assert_eq!(rate.resume_at(start), None);
    }
}
