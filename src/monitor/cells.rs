//! The cells of a process: what is counted, in the one place where the collector reads it. Those of a worker are in
//! [`super::worker`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::admin_labels::{AdminChange, AdminResult};
use super::counters::{Counter, Counters, Gauge};
use super::events::Events;
use super::jwks::JwksMetrics;
use super::labels::{DiscoveryError, LinkState, Memory};
use super::trace_spans::TraceMetrics;
use super::worker::WorkerMetrics;
use crate::resolve::Resolver;

/// No certificate ends then.
pub(super) const NO_CERTIFICATE: i64 = i64::MIN;

/// What the collector reads.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    pub(super) started: Instant,
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
    pub(super) traces: OnceLock<Arc<TraceMetrics>>,
    /// Empty until there is one.
    pub(super) resolver: OnceLock<Resolver>,
    pub(super) links: Mutex<Vec<Weak<LinkMetrics>>>,
    pub(super) events: Events,
    /// By what was ordered.
    pub(super) administered: [Counters<{ AdminResult::COUNT }>; AdminChange::COUNT],
}

impl Cells {
    /// The links there are: those of instances that have left are gone, and their series with them.
    pub(super) fn links(&self) -> Vec<Arc<LinkMetrics>> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}

/// Counters and state of one link, written by its worker. Its labels come from discovery.
///
/// With several workers each has a link of its own; they are shown as one, with the worst state.
#[derive(Debug)]
#[repr(align(128))]
pub struct LinkMetrics {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) zone: String,
    state: AtomicU8,
    pub(super) queued_packets: Gauge,
    pub(super) queued_bytes: Gauge,
    pub(super) reconnects: Counter,
    pub(super) requests_sent: Counter,
    pub(super) pushes_received: Counter,
}

impl LinkMetrics {
    /// A link that is being dialled for the first time.
    pub(super) fn new(service: &str, instance: &str, zone: &str) -> Self {
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            state: AtomicU8::new(LinkState::Dialling as u8),
            queued_packets: Gauge::default(),
            queued_bytes: Gauge::default(),
            reconnects: Counter::default(),
            requests_sent: Counter::default(),
            pushes_received: Counter::default(),
        }
    }

    /// The link changed its state.
    pub fn set_state(&self, state: LinkState) {
        self.state.store(state as u8, Relaxed);
    }

    /// Its state.
    pub fn state(&self) -> LinkState {
        LinkState::ALL.get(usize::from(self.state.load(Relaxed))).copied().unwrap_or(LinkState::Dialling)
    }

    /// Its outgoing queue grew or shrank.
    pub fn queued(&self, delta_packets: i64, delta_bytes: i64) {
        self.queued_packets.add(delta_packets);
        self.queued_bytes.add(delta_bytes);
    }

    /// It came up again after it had been up before.
    pub fn reconnected(&self) {
        self.reconnects.add(1);
    }

    /// It may have got the first byte of `n` requests.
    pub fn requests_sent(&self, n: u64) {
        self.requests_sent.add(n);
    }

    /// It sent a push.
    pub fn push_received(&self) {
        self.pushes_received.add(1);
    }
}

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
        self.errors.add_shared(kind.index(), 1);
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
