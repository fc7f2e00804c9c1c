//! Cells of discovery: what the source of instances learned, and what went wrong.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::labels::DiscoveryError;
use super::worker::Counters;

/// Counters of the one source of a process.
#[derive(Debug)]
pub struct DiscoveryMetrics {
    pub(super) errors: Counters<{ DiscoveryError::COUNT }>,
    pub(super) updates: AtomicU64,
    /// Seconds since 1970; 0: never.
    pub(super) last_success: AtomicI64,
    /// By service, in the order they were given.
    pub(super) instances: Vec<(String, AtomicU64)>,
}

impl DiscoveryMetrics {
    /// Cells for these services, which are all there will be.
    pub(super) fn new(services: impl IntoIterator<Item = String>) -> Self {
        Self {
            errors: Counters::default(),
            updates: AtomicU64::new(0),
            last_success: AtomicI64::new(0),
            instances: services.into_iter().map(|service| (service, AtomicU64::new(0))).collect(),
        }
    }

    /// Something went wrong.
    pub fn error(&self, kind: DiscoveryError) {
        self.errors.add(kind.index(), 1);
    }

    /// How often that went wrong.
    pub fn errors(&self, kind: DiscoveryError) -> u64 {
        self.errors.get(kind.index())
    }

    /// The workers were told of a service's new set.
    pub fn updated(&self, service: &str, instances: usize) {
        self.updates.fetch_add(1, Relaxed);
        if let Some((_, cell)) = self.instances.iter().find(|(name, _)| name == service) {
            cell.store(instances as u64, Relaxed);
        }
    }

    /// The source answered as it should; in seconds since 1970.
    pub fn succeeded(&self, at: i64) {
        self.last_success.store(at, Relaxed);
    }
}
