//! How fast a client may send: frames and bytes per second, with a burst of two seconds' worth. Excess is not
//! dropped and not punished: reading stops until it is paid off.

use std::time::Instant;

use crate::rate_limit::Gcra;

/// The burst, in seconds of the rate.
const BURST_SECONDS: u32 = 2;

/// What one channel has sent, in frames and in bytes.
#[derive(Debug)]
pub(crate) struct Rate {
    /// None where that is not bounded.
    bounds: [Option<(Gcra, Instant)>; 2],
    /// Since the beginning.
    charged: [u64; 2],
}

impl Rate {
    pub(crate) fn new(frames_per_second: u32, bytes_per_second: u32, now: Instant) -> Self {
        let bounds = [frames_per_second, bytes_per_second].map(|per_second| {
            let gcra = Gcra::new(per_second, per_second.saturating_mul(BURST_SECONDS))?;
            Some((gcra, now))
        });
        Self { bounds, charged: [0; 2] }
    }

    /// These rates from now on. What is owed stays owed.
    pub(crate) fn change(&mut self, frames_per_second: u32, bytes_per_second: u32, now: Instant) {
        let owed = self.bounds.map(|rate| rate.map_or(now, |(_, arrival)| arrival));
        let charged = self.charged;
        *self = Self { charged, ..Self::new(frames_per_second, bytes_per_second, now) };
        for (rate, owed) in self.bounds.iter_mut().zip(owed) {
            if let Some((_, arrival)) = rate {
                *arrival = owed;
            }
        }
    }

    /// One frame of so many bytes arrived.
    pub(crate) fn charge(&mut self, bytes: usize, now: Instant) {
        for ((rate, charged), amount) in self.bounds.iter_mut().zip(&mut self.charged).zip([1, bytes as u64])
        {
            *charged += amount;
            if let Some((gcra, arrival)) = rate {
                gcra.charge(arrival, amount, now);
            }
        }
    }

    /// Frames and bytes, since the beginning.
    pub(crate) const fn charged(&self) -> (u64, u64) {
        (self.charged[0], self.charged[1])
    }

    /// When reading may go on; none: at once.
    pub(crate) fn resume_at(&self, now: Instant) -> Option<Instant> {
        let excess = self.bounds.iter().flatten().map(|(gcra, arrival)| gcra.excess(*arrival, now)).max()?;
        (!excess.is_zero()).then(|| now + excess)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a3_excess_pauses_and_is_paid_off() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 0, start);
        for _ in 0..200 {
            rate.charge(5, start);
        }
        assert_eq!(rate.resume_at(start), None, "the burst is free");
        rate.charge(5, start);
        let resume = rate.resume_at(start).expect("one too many");
        assert!(resume > start && resume <= start + Duration::from_millis(11));
        assert_eq!(rate.resume_at(start + Duration::from_millis(20)), None);
    }

    #[test]
    fn zero_is_off() {
        let start = Instant::now();
        let mut rate = Rate::new(0, 0, start);
        for _ in 0..1_000_000 {
            rate.charge(1000, start);
        }
        assert_eq!(rate.resume_at(start), None);
    }
}
