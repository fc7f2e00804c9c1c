//! What a reload changes beside the workers: what all of them share, and the threads of the process.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tracing::error;

use super::error::ReloadError;
use crate::config::Config;
use crate::discovery::SourceChange;
use crate::gateway::events::event_targets;
use crate::gateway::open_files::open_file_limit;
use crate::limits::Limits;
use crate::monitor::events::sender::{EventTargets, Retarget};
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::overload::memory::MemoryBudget;
use crate::overload::watchdog::{ConnectionCapacity, WatchdogBounds};
use crate::rate_limit::RateLimiter;
use crate::resolve::Resolver;
use crate::server::admission::Admission;
use crate::server::tickets::Tickets;

/// Sets the level of the log; false where something else rules it.
pub struct LogLevel(Box<dyn Fn(tracing::Level) -> bool + Send + Sync>);

impl LogLevel {
    /// Set by this.
    pub fn new(set: impl Fn(tracing::Level) -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(set))
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLevel")
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::gateway) struct ProcessParts {
    pub(in crate::gateway) metrics: Metrics,
    pub(in crate::gateway) readiness: Arc<Readiness>,
    pub(in crate::gateway) admission: Arc<Admission>,
    /// How often accounts sign in.
    pub(in crate::gateway) accounts: Arc<RateLimiter>,
    pub(in crate::gateway) tickets: Arc<Tickets>,
    pub(in crate::gateway) watchdog: WatchdogBounds,
    pub(in crate::gateway) events: Retarget,
    pub(in crate::gateway) source: SourceChange,
    pub(in crate::gateway) resolver: Resolver,
    pub(in crate::gateway) log_level: Option<LogLevel>,
}

/// What was checked and cannot fail any more.
pub(super) struct Prepared {
    events: EventTargets,
    source: Box<dyn FnOnce() + Send>,
}

impl ProcessParts {
    pub(super) fn prepare(&self, config: &Arc<Config>) -> Result<Prepared, ReloadError> {
        Ok(Prepared {
            events: event_targets(config, &self.resolver).map_err(ReloadError::Webhook)?,
            source: self.source.prepare(config)?,
        })
    }

    /// Before the workers learn of it: they look at what they share.
    pub(super) fn apply_shared(&self, config: &Config) {
        let limits = &config.limits;
        self.metrics
            .count_zones(&config.route.zones().iter().map(|zone| zone.id.clone()).collect::<Vec<_>>());
        let max_connections = limits.max_connections.min(open_file_limit(config));
        let budget = MemoryBudget::of(limits);
        self.admission.follow_limits(max_connections, budget.before_login, limits);
        self.accounts.change(limits.account_logins_per_second, limits.account_login_burst);
        self.watchdog.change(budget, self.capacity(config, max_connections));
        self.follow_tickets(config);
        if let Some(log_level) = &self.log_level {
            (log_level.0)(config.log.level);
        }
    }

    /// Returns `false` where something else rules it.
    pub(super) fn set_log_level(&self, level: tracing::Level) -> bool {
        self.log_level.as_ref().is_some_and(|set| (set.0)(level))
    }

    /// Those of before stay where there is no randomness for others: then there is none for handshakes either.
    pub(super) fn follow_tickets(&self, config: &Config) {
        if let Err(error) = self.tickets.use_keys(config.ticket_keys.as_ref(), Instant::now()) {
            error!(event = "tickets", %error, "TLS tickets keep their keys");
        }
    }

    /// Behind the workers: they know the services of the instances then.
    pub(super) fn apply_threads(&self, prepared: Prepared) {
        if let Some(ends) = prepared.events.certificate_ends {
            self.metrics.certificate_ends(ends);
        }
        self.events.to(prepared.events);
        (prepared.source)();
    }

    fn capacity(&self, config: &Config, max_connections: usize) -> ConnectionCapacity {
        let readiness = (!config.ready_when_full).then(|| Arc::clone(&self.readiness));
        ConnectionCapacity { max_connections, readiness }
    }
}

/// How often accounts may sign in.
pub(in crate::gateway) fn account_rate(limits: &Limits) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new(limits.account_logins_per_second, limits.account_login_burst))
}
