//! What a source of instances knows.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Instance;

/// Every instance that is known now, of all services, sorted by service and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// No two have the same service and id.
    pub instances: Vec<Instance>,
}

/// The newest snapshot, and word of the next. Clones follow independently; a source that has ended leaves its last word.
pub type Feed = watch::Receiver<Arc<Snapshot>>;
