//! The cells of a process: what is counted, in the one place where the collector reads it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::discovery::DiscoveryMetrics;
use super::events::Events;
use super::jwks::JwksMetrics;
use super::labels::Memory;
use super::link::LinkMetrics;
use super::worker::WorkerMetrics;
use crate::resolve::Resolver;

/// No certificate ends then.
pub(super) const NO_CERTIFICATE: i64 = i64::MIN;

/// What the collector reads.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    /// Label `serviceId` of the original metrics.
    pub(super) gateway_id: String,
    /// Seconds since 1970; [`NO_CERTIFICATE`] without one.
    pub(super) cert_not_after: AtomicI64,
    /// The level as a number.
    pub(super) overload: AtomicU64,
    pub(super) backends_paused: AtomicBool,
    pub(super) max_connections: AtomicU64,
    /// In the order of [`Memory`]; 0: not known.
    pub(super) memory: [AtomicU64; Memory::COUNT],
    /// Empty until a source of instances begins.
    pub(super) discovery: OnceLock<Arc<DiscoveryMetrics>>,
    /// Empty where no keys are fetched.
    pub(super) jwks: OnceLock<Arc<JwksMetrics>>,
    /// Empty until there is one.
    pub(super) resolver: OnceLock<Resolver>,
    pub(super) links: Mutex<Vec<Weak<LinkMetrics>>>,
    pub(super) events: Events,
}

impl Cells {
    /// The links there are: those of instances that have left are gone, and their series with them.
    pub(super) fn links(&self) -> Vec<Arc<LinkMetrics>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}
