//! What becomes of a connection's task that ended: nothing, unless it panicked (row F10).

use tokio::task::JoinError;
use tracing::error;

use crate::monitor::metrics::{Reject, WorkerMetrics};

/// Counts and logs a panic; its connection's guards have run while it unwound.
pub(crate) fn reap(ended: Result<(), JoinError>, metrics: &WorkerMetrics) {
    if let Err(failed) = ended
        && failed.is_panic()
    {
        metrics.reject(Reject::TaskPanic);
        error!(
            event = "task_panic",
            "a connection's task panicked; only that connection ended. Please report this"
        );
    }
}
