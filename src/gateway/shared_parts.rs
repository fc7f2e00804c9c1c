//! What all workers of a process share, and how it is made from the configuration.

use std::sync::Arc;
use std::time::Instant;

use super::reload::account_rate;
use super::start_error::StartError;
use crate::bans::{Bans, BansFileError};
use crate::config::{Config, NoRandomness, TlsIdentity};
use crate::handler::Gate;
use crate::jwks::KeyRefresh;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::overload::memory::MemoryBudget;
use crate::overload::pressure::Pressure;
use crate::overload::watchdog::{ConnectionCapacity, Watchdog};
use crate::resolve::Resolver;
use crate::server::admission::Admission;
use crate::server::tickets::Tickets;
use crate::session::signouts_by_identity::SignOutsByIdentity;

/// Shared by all workers, beside what the gateway itself holds.
pub(super) struct SharedParts {
    pub(super) tickets: Arc<Tickets>,
    pub(super) admission: Arc<Admission>,
    pub(super) by_identity: Arc<SignOutsByIdentity>,
    pub(super) gate: Gate,
    /// The number of the first channel of each.
    pub(super) first_channel: u64,
    pub(super) resolver: Resolver,
}

/// Reads the file of the bans, as a start does.
///
/// # Errors
/// [`StartError::Bans`].
pub fn check_bans(config: &Config) -> Result<(), StartError> {
    Bans::open(config.admin.bans_file.as_deref())?;
    Ok(())
}

/// What may keep a login out although its token is good.
pub(super) fn new_gate(
    config: &Config,
    pressure: Pressure,
    key_refresh: Option<KeyRefresh>,
) -> Result<Gate, BansFileError> {
    let bans = Arc::new(Bans::open(config.admin.bans_file.as_deref())?);
    Ok(Gate { pressure, accounts: account_rate(&config.limits), bans, key_refresh })
}

pub(super) fn watch(
    config: &Config,
    metrics: &Metrics,
    readiness: &Arc<Readiness>,
    budget: MemoryBudget,
    max_connections: usize,
) -> Result<(Watchdog, Pressure), StartError> {
    let told = (!config.ready_when_full).then(|| Arc::clone(readiness));
    let capacity = ConnectionCapacity { max_connections, readiness: told };
    Watchdog::start(metrics.clone(), budget, capacity).map_err(StartError::Thread)
}

/// With the keys of the configuration, or with some of its own.
pub(super) fn new_tickets(config: &Config) -> Result<Arc<Tickets>, NoRandomness> {
    Tickets::new(config.ticket_keys.as_ref(), Instant::now()).map(Arc::new)
}

pub(super) fn new_metrics(config: &Config, resolver: &Resolver) -> Metrics {
    let zones = config.route.zones().iter().map(|zone| zone.id.clone());
    let metrics = Metrics::new(&config.id, config.workers, zones.collect());
    if let Some(end) = config.certificate().and_then(TlsIdentity::not_after) {
        metrics.certificate_ends(end);
    }
    metrics.shows(resolver.clone());
    metrics
}
