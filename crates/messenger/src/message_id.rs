//! Ids and times of messages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Low bits of an id that count within a millisecond; the rest is the time. 2^43 ms last until the year 2248.
const COUNTER_BITS: u32 = 20;

/// Issues ids that never repeat and only grow, also when the clock is set back or the process starts anew on a
/// clock that was not.
#[derive(Debug, Default)]
pub(super) struct MessageIds {
    last_id: i64,
    last_time: i64,
}

impl MessageIds {
    /// An id (positive, 63 bits) and the time in nanoseconds since 1970; neither is smaller than the last.
    pub(super) fn next(&mut self, now: SystemTime) -> (i64, i64) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let of_clock = i64::try_from(since.as_millis()).unwrap_or(i64::MAX >> COUNTER_BITS) << COUNTER_BITS;
        self.last_id = of_clock.max(self.last_id + 1);
        self.last_time = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX).max(self.last_time);
        (self.last_id, self.last_time)
    }

    /// The last id issued; 0 before the first.
    pub(super) const fn last(&self) -> i64 {
        self.last_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_only_grow_even_when_the_clock_does_not() {
        let mut ids = MessageIds::default();
        let noon = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        let first = ids.next(noon);
        assert_eq!(first, (1_700_000_000_000 << COUNTER_BITS, 1_700_000_000_000_000_000));
        let mut last = first;
        for now in [noon, noon, noon - Duration::from_secs(60), UNIX_EPOCH - Duration::from_secs(1)] {
            let next = ids.next(now);
            assert_eq!(next.0, last.0 + 1);
            assert_eq!(next.1, last.1);
            last = next;
        }
        let later = ids.next(noon + Duration::from_millis(1));
        assert_eq!(later.0, (1_700_000_000_001i64) << COUNTER_BITS);
        assert_eq!(ids.last(), later.0);
    }
}
