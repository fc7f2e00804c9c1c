//! Cells of the keys that are fetched: what came of it, and when it last went well.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::counters::Counters;
use super::login_labels::JwksRefresh;

/// Counters of the one source of a process.
#[derive(Debug, Default)]
pub struct JwksMetrics {
    pub(super) refreshes: Counters<{ JwksRefresh::COUNT }>,
    /// Seconds since 1970; 0: never.
    pub(super) last_success: AtomicU64,
    pub(super) keys: AtomicU64,
}

impl JwksMetrics {
    /// A fetch ended so.
    pub fn refreshed(&self, outcome: JwksRefresh) {
        self.refreshes.add_shared(outcome.index(), 1);
    }

    /// It brought so many keys, at this second since 1970.
    pub fn succeeded(&self, at: u64, keys: usize) {
        self.last_success.store(at, Relaxed);
        self.keys.store(keys as u64, Relaxed);
    }
}
