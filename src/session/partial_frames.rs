//! The bytes that came from one client as parts of frames and wait for the rest (row A15), counted while they are kept.

use std::cell::Cell;
use std::sync::Arc;

use crate::monitor::metrics::WorkerMetrics;

/// See the module.
#[derive(Debug)]
pub(crate) struct PartialFrames {
    bytes: Cell<usize>,
    metrics: Arc<WorkerMetrics>,
}

impl PartialFrames {
    /// Of a client that has sent nothing.
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { bytes: Cell::new(0), metrics }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// So many are kept now.
    pub(crate) fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if before != bytes {
            self.metrics.partial(signed(bytes) - signed(before));
        }
    }
}

impl Drop for PartialFrames {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
