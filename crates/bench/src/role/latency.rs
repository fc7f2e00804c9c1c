//! How long messages took, from the time they were due.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart, nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Digits that count.
const DIGITS: u8 = 3;

/// Shares of messages that are shown.
const SHARES: [f64; 17] =
    [0.0, 0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999];

/// What is counted while a load runs.
#[derive(Debug)]
pub(crate) struct LatencyRecord {
    taken: Histogram<u64>,
    /// How late messages were sent: the load's own fault.
    late: Histogram<u64>,
}

impl LatencyRecord {
    pub(crate) fn new() -> Self {
        let empty = || Histogram::new_with_max(LONGEST, DIGITS).expect("the bounds are good");
        Self { taken: empty(), late: empty() }
    }

    /// A message that was due then is answered now.
    pub(crate) fn answered(&mut self, due: Instant, now: Instant) {
        self.taken.saturating_record(nanoseconds(now.saturating_duration_since(due)));
    }

    /// A message that was due then is sent now.
    pub(crate) fn sent(&mut self, due: Instant, now: Instant) {
        self.late.saturating_record(nanoseconds(now.saturating_duration_since(due)));
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.taken.reset();
        self.late.reset();
    }

    /// What came of it.
    pub(crate) fn summary(&self) -> Latency {
        let us = |histogram: &Histogram<u64>, share: f64| histogram.value_at_quantile(share) as f64 / 1e3;
        Latency {
            p50: us(&self.taken, 0.5),
            p99: us(&self.taken, 0.99),
            p999: us(&self.taken, 0.999),
            late_p99: us(&self.late, 0.99),
            points: SHARES.iter().map(|share| (*share, us(&self.taken, *share))).collect(),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Latencies of one measurement, microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// How late the load sent.
    pub(crate) late_p99: f64,
    /// Shares of messages, and the time within which they were answered.
    pub(crate) points: Vec<(f64, f64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_counted_from_when_a_message_was_due() {
        let mut record = LatencyRecord::new();
        let due = Instant::now();
        for ms in 1..=100 {
            record.sent(due, due + Duration::from_micros(20));
            record.answered(due, due + Duration::from_millis(ms));
        }
        let latency = record.summary();
        assert!(
            (latency.p50 - 50_000.0).abs() < 100.0 && (latency.p99 - 99_000.0).abs() < 100.0,
            "{latency:?}"
        );
        assert!((latency.late_p99 - 20.0).abs() < 0.1, "{latency:?}");
        record.clear();
        assert_eq!(record.summary().p99, 0.0);
    }
}
