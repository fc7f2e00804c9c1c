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

/// The same for the length of sessions: 1 s to a day.
pub(super) const SESSION_BOUNDS_MICROS: [u64; 9] = [
    1_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    43_200_000_000,
    86_400_000_000,
];

/// One bucket for each bound, and one for what is above them.
pub(super) const BUCKETS: usize = BOUNDS_MICROS.len() + 1;
/// The same.
pub(super) const SESSION_BUCKETS: usize = SESSION_BOUNDS_MICROS.len() + 1;

/// Counts durations by bucket; the last of `N` holds what is above every bound.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    /// Microseconds, one less than buckets.
    bounds: &'static [u64],
    buckets: Counters<N>,
    sum_nanos: Counter,
}

/// The sum of several histograms at one moment.
#[derive(Debug, Clone)]
pub(super) struct Totals<const N: usize> {
    /// Those of the histograms.
    pub(super) bounds: &'static [u64],
    /// Not cumulative; one per bound, and one for what is above them.
    pub(super) buckets: [u64; N],
    /// Sum of all durations, seconds.
    pub(super) sum_seconds: f64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        debug_assert_eq!(bounds.len() + 1, N);
        Self { bounds, buckets: Counters::default(), sum_nanos: Counter::default() }
    }

    /// Counts one duration. A value equal to a bound belongs below it.
    pub(super) fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().take_while(|bound| **bound * 1_000 < nanos).count();
        self.buckets.add(bucket, 1);
        self.sum_nanos.add(nanos);
    }

    /// What these hold together.
    pub(super) fn sum<'a>(bounds: &'static [u64], all: impl Iterator<Item = &'a Self>) -> Totals<N> {
        let mut totals = Totals { bounds, buckets: [0; N], sum_seconds: 0.0 };
        all.for_each(|histogram| histogram.add_to(&mut totals));
        totals
    }

    fn add_to(&self, totals: &mut Totals<N>) {
        for (index, total) in totals.buckets.iter_mut().enumerate() {
            *total += self.buckets.get(index);
        }
        totals.sum_seconds += Duration::from_nanos(self.sum_nanos.get()).as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let histogram = Histogram::<BUCKETS>::new(&BOUNDS_MICROS);
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let totals = Histogram::sum(&BOUNDS_MICROS, std::iter::once(&histogram));
        assert_eq!(totals.buckets[0], 2);
        assert_eq!(totals.buckets[1], 1);
        assert_eq!(totals.buckets[12], 1);
        assert_eq!(totals.buckets[13], 1);
        assert!((totals.sum_seconds - 10.001_002).abs() < 1e-9);
    }
}
