//! Counters, gauges and a latency histogram. What one thread writes and any may read is changed by a load and a store: a
//! locked addition costs several times as much, and a message is counted some twenty times.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A counter that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A gauge that one thread writes.
#[derive(Debug, Default)]
pub(super) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(super) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// `N` counters that belong together.
#[derive(Debug)]
pub(super) struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self([const { Counter(AtomicU64::new(0)) }; N])
    }
}

impl<const N: usize> Counters<N> {
    /// Adds to one counter. One thread may.
    pub(super) fn add(&self, index: usize, n: u64) {
        self.0[index].add(n);
    }

    /// Adds to one counter, from any thread.
    pub(super) fn add_shared(&self, index: usize, n: u64) {
        self.0[index].0.fetch_add(n, Relaxed);
    }

    /// The value of one counter.
    pub(super) fn get(&self, index: usize) -> u64 {
        self.0[index].get()
    }

    /// The sum of all counters.
    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// Upper bounds of the buckets, microseconds: 0.5 ms to 5 s, beyond which every client has given up.
pub(super) const BOUNDS_MICROS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// Counts durations by bucket; the last bucket holds what is above every bound.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Counter; BOUNDS_MICROS.len() + 1],
    sum_nanos: Counter,
}

/// The sum of several histograms at one moment.
#[derive(Debug, Default, Clone)]
pub(super) struct Totals {
    /// Not cumulative; one per bound, and one for what is above them.
    pub(super) buckets: [u64; BOUNDS_MICROS.len() + 1],
    /// Sum of all durations, seconds.
    pub(super) sum_seconds: f64,
}

impl Histogram {
    /// Counts one duration. A value equal to a bound belongs below it.
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().take_while(|bound| **bound * 1_000 < nanos).count();
        self.buckets[bucket].add(1);
        self.sum_nanos.add(nanos);
    }

    /// Adds what this histogram holds to `totals`.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        totals.sum_seconds += Duration::from_nanos(self.sum_nanos.get()).as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut totals = Totals::default();
        histogram.add_to(&mut totals);
        assert_eq!(totals.buckets[0], 2);
        assert_eq!(totals.buckets[1], 1);
        assert_eq!(totals.buckets[12], 1);
        assert_eq!(totals.buckets[13], 1);
        assert!((totals.sum_seconds - 10.001_002).abs() < 1e-9);
    }
}
