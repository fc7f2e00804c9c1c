//! Cells of discovery: what the source of instances learned, and what went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::labels::DiscoveryError;
use super::worker::Counters;

/// Counters of the one source of a process.
#[derive(Debug)]
pub struct DiscoveryMetrics {
    pub(super) errors: Counters<{ DiscoveryError::COUNT }>,
    pub(super) updates: AtomicU64,
    /// Seconds since 1970; 0: never.
    pub(super) last_success: AtomicI64,
    /// By service.
    instances: Mutex<BTreeMap<String, u64>>,
}

impl DiscoveryMetrics {
    /// Cells for these services.
    pub(super) fn new(services: impl IntoIterator<Item = String>) -> Self {
        Self {
            errors: Counters::default(),
            updates: AtomicU64::new(0),
            last_success: AtomicI64::new(0),
            instances: Mutex::new(services.into_iter().map(|service| (service, 0)).collect()),
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
        if let Some(cell) = self.by_service().get_mut(service) {
            *cell = instances as u64;
        }
    }

    /// The services are these from now on.
    pub fn services_are(&self, services: &BTreeSet<String>) {
        let mut by_service = self.by_service();
        by_service.retain(|service, _| services.contains(service));
        for service in services {
            by_service.entry(service.clone()).or_default();
        }
    }

    /// How many instances each service has.
    pub(super) fn instances(&self) -> BTreeMap<String, u64> {
        self.by_service().clone()
    }

    fn by_service(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source answered as it should; in seconds since 1970.
    pub fn succeeded(&self, at: i64) {
        self.last_success.store(at, Relaxed);
    }
}
