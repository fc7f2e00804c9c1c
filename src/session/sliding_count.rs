//! Counts events within a sliding period, for what is tolerated a few times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The times of the last events. Whoever uses it acts on a small count, which bounds it.
#[derive(Debug, Default)]
pub(crate) struct SlidingCount(VecDeque<Instant>);

impl SlidingCount {
    /// One more event; returns how many there were in the period that ends now, this one included.
    pub(crate) fn add(&mut self, now: Instant, period: Duration) -> usize {
        while self.0.front().is_some_and(|first| now.saturating_duration_since(*first) >= period) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b6_c7_the_period_slides() {
        let mut window = SlidingCount::default();
        let start = Instant::now();
        let minute = Duration::from_secs(60);
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(window.add(at(0), minute), 1);
        assert_eq!(window.add(at(59), minute), 2);
        assert_eq!(window.add(at(60), minute), 2, "the first is a minute old");
        assert_eq!(window.add(at(61), minute), 3, "three within two seconds");
        assert_eq!(window.add(at(200), minute), 1);
    }
}
