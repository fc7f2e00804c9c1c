//! Lines of the log that were lost (row F8). A process has one log, and so there is one count of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// So many lines found no place, or could not be written.
pub fn drop_lines(lines: u64) {
    DROPPED.fetch_add(lines, Relaxed);
}

/// Lines lost since the start of the process; shown as `gateway_log_dropped_total`.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}
