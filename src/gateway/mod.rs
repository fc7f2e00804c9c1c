//! The composition root: from a [`Config`] to bound sockets, workers and the monitor. Used by the program and by
//! tests.

use std::fmt;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use crate::admin::AdminServer;
use crate::admin::mailbox::Mailbox;
use crate::config::Config;
use crate::discovery::{self, Discovery, Feed};
use crate::jwks::JwksThread;
use crate::limits::{EVENTS_FLUSH, HURRY};
use crate::live::{Live, LiveSource};
use crate::monitor::events::event::{Event, Severity};
use crate::monitor::events::sender::WebhookSender;
use crate::monitor::events::{Events, PROCESS};
use crate::monitor::http::MonitorServer;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::overload::memory::MemoryBudget;
use crate::overload::watchdog::Watchdog;
use crate::resolve::Resolver;
use crate::server::admission::Admission;
use crate::server::quic::{self, QuicEndpointError};
use crate::server::steering::WorkerSlot;
use crate::worker::{self, AtWork, WorkerPlan};

pub use self::addresses::Addresses;
pub use self::administration::API;
use self::bound::BoundSockets;
use self::events::start_courier;
use self::fetched_keys::fetch_keys;
use self::open_files::open_file_limit;
use self::reload::{FilesWatch, Reloader};
pub use self::reload::{LogLevel, ReloadError, ReloadHandle, ReloadReport, Reloads};
pub use self::shared_parts::check_bans;
use self::shared_parts::{SharedParts, new_gate, new_metrics, new_tickets, watch};
pub use self::start_error::StartError;
pub use self::state::StateError;
use self::trace_export::TraceExport;

mod addresses;
mod administration;
mod bound;
mod events;
mod fetched_keys;
mod open_files;
mod reload;
mod shared_parts;
mod sockets;
mod start_error;
mod state;
mod trace_export;

/// The transport settings of QUIC connections under the default limits: `gateway bench` gives them to quinn alone.
pub fn quic_transport() -> quinn::TransportConfig {
    quic::default_transport()
}

/// What a gateway may be given beside its configuration; by default, what the configuration says.
#[derive(Debug, Default)]
pub struct Parts {
    /// Another source of instances. What it names must be of the services of [`Config::services`]; others get nothing.
    pub feed: Option<Feed>,
    /// How names become addresses: by default as the system says.
    pub resolver: Resolver,
    /// Where the configuration comes from, to be read again; none: it stays as it is.
    pub reloads: Option<Reloads>,
    /// What sets the level of the log when a reload changes it; none: it stays.
    pub log_level: Option<LogLevel>,
}

/// A running gateway. Dropping it ends it at once; [`Gateway::drain`] ends it orderly.
pub struct Gateway {
    addresses: Addresses,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    drain: CancellationToken,
    hurry: CancellationToken,
    stop: CancellationToken,
    ended: CancellationToken,
    failed: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    /// When the process was told to drain: the beginning of its one hard stop.
    told: Arc<OnceLock<Instant>>,
    /// When it must be gone, once it is hurried.
    hurried_by: OnceLock<Instant>,
    config: Arc<Config>,
    live: LiveSource,
    reloader: Option<Arc<Reloader>>,
    sender: Option<WebhookSender>,
    /// A second handle to each UDP socket that workers share. The kernel renumbers a group when one of its sockets is
    /// closed, and would steer packets astray: none is, before all workers have ended.
    _udp: Vec<UdpSocket>,
    discovery: Discovery,
    _jwks: Option<JwksThread>,
    // After the workers: what they recorded last is posted.
    export: TraceExport,
    // After the workers: health is served for as long as they run.
    _monitor: Option<MonitorServer>,
    admin: Option<AdminServer>,
    files: Option<FilesWatch>,
    watchdog: Watchdog,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds every listener, then starts the workers and the monitor. When it returns, clients can connect.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Parts::default())
    }

    /// The same with parts of the caller's own.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub fn start_with(config: Config, parts: Parts) -> Result<Self, StartError> {
        let Parts { feed, resolver, reloads, log_level } = parts;
        let max_connections = config.limits.max_connections.min(open_file_limit(&config));
        let config = Arc::new(config);
        let (numbers, drain) = (state::reserve(config.state_file.as_deref())?, CancellationToken::new());
        let mut bound = BoundSockets::bind(&config)?;
        let (addresses, metrics) = (bound.addresses(), new_metrics(&config, &resolver));
        let readiness = Arc::new(Readiness::new(config.workers, config.services()));
        let sender = start_courier(&config, &metrics, &readiness, &resolver)?;
        let monitor = bound.serve_monitor(&metrics, &readiness)?;
        let discovery = discover(
            feed,
            discovery::DiscoveryContext {
                config: Arc::clone(&config),
                metrics: metrics.clone(),
                readiness: Arc::clone(&readiness),
                listening: addresses.listening(),
                resolver: resolver.clone(),
                drain: drain.clone(),
            },
        )?;
        let budget = MemoryBudget::of(&config.limits);
        let (watchdog, pressure) = watch(&config, &metrics, &readiness, budget, max_connections)?;
        let live = LiveSource::new(Live::new(Arc::clone(&config))?, config.workers);
        let (jwks, key_refresh) = fetch_keys(&config, &live, &metrics, &readiness, &resolver)?;
        let export = TraceExport::start(&config, &metrics, &resolver)?;
        let mut gateway = Self {
            addresses,
            readiness: Arc::clone(&readiness),
            metrics: metrics.clone(),
            drain,
            hurry: CancellationToken::new(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            failed: Arc::default(),
            workers: Vec::new(),
            told: Arc::default(),
            hurried_by: OnceLock::new(),
            config: Arc::clone(&config),
            live,
            reloader: None,
            sender: Some(sender),
            _udp: bound.udp.handles(),
            discovery,
            _jwks: jwks,
            export,
            _monitor: monitor,
            admin: None,
            files: None,
            watchdog,
        };
        let gate = new_gate(&config, pressure, key_refresh)?;
        let admission = Admission::new(max_connections, budget.before_login, &config.limits, Instant::now());
        let shared = SharedParts {
            tickets: new_tickets(&config)?,
            admission: Arc::new(admission.barring(Arc::clone(&gate.bans))),
            by_identity: Arc::default(),
            gate,
            first_channel: numbers.first,
            resolver,
        };
        let mailboxes = gateway.administer(reloads, log_level, &shared, bound.admin.next_worker().pop())?;
        // The last worker that lets go of it ends the gateway.
        let ended = Arc::new(gateway.ended.clone().drop_guard());
        for (index, place) in AtWork::barrier(config.workers).into_iter().zip(mailboxes).enumerate() {
            let plan = gateway.plan(index, place, &shared, &mut bound);
            gateway.spawn_worker(plan, Arc::clone(&ended))?;
        }
        Ok(gateway)
    }

    fn plan(
        &self,
        index: usize,
        (at_work, mailbox): (AtWork, Mailbox),
        shared: &SharedParts,
        bound: &mut BoundSockets,
    ) -> WorkerPlan {
        WorkerPlan {
            identity: worker::WorkerIdentity { index, gate_id: self.config.gate_id(index) },
            config: Arc::clone(&self.config),
            live: self.live.feed(index),
            tickets: Arc::clone(&shared.tickets),
            metrics: self.metrics.clone(),
            readiness: Arc::clone(&self.readiness),
            admission: Arc::clone(&shared.admission),
            by_identity: Arc::clone(&shared.by_identity),
            gate: shared.gate.clone(),
            first_channel: shared.first_channel,
            tcp: bound.tcp.next_worker(),
            tls: bound.tls.next_worker(),
            ws: bound.ws.next_worker(),
            wss: bound.wss.next_worker(),
            udp: bound.udp.next_worker(),
            slot: WorkerSlot { index, of: bound.quic_workers },
            drain: self.drain.clone(),
            told: Arc::clone(&self.told),
            hurry: self.hurry.clone(),
            stop: self.stop.clone(),
            feed: self.discovery.feed(),
            resolver: shared.resolver.clone(),
            spans: self.export.queue.clone(),
            mailbox,
            at_work,
        }
    }

    fn spawn_worker(&mut self, plan: WorkerPlan, ended: Arc<DropGuard>) -> Result<(), StartError> {
        let name = format!("worker-{}", plan.identity.index);
        let end = WorkerEnd {
            _ended: ended,
            leave: self.discovery.leave(),
            told: Arc::clone(&self.told),
            readiness: Arc::clone(&self.readiness),
            events: self.metrics.events().clone(),
            failed: Arc::clone(&self.failed),
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                end.after(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(plan))));
            })
            .map_err(StartError::Thread)?;
        self.workers.push(thread);
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether traffic may be sent to it; what `/ready` answers.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// From the signal to the exit of a draining process, as it is configured now.
    pub fn drain_hard_stop(&self) -> Duration {
        self.live.current().config.drain_hard_stop
    }

    /// Begins the drain: not ready, taken out of Consul, nothing new is accepted, channels end with code 3000 after
    /// their last answers, sign-outs are written. Returns at once; [`Gateway::ended`] or [`Gateway::wait`] tell when it is done.
    pub fn drain(&self) {
        self.readiness.draining();
        self.told.get_or_init(Instant::now);
        self.metrics.events().raise(PROCESS, Event::drain(Severity::Info, "asked to"));
        self.discovery.leave().cancel();
    }

    /// Drains within [`HURRY`], waiting for neither answers nor Consul. Close frames and sign-outs are still written.
    pub fn hurry(&self) {
        self.hurried_by.get_or_init(|| Instant::now() + HURRY);
        self.drain();
        self.hurry.cancel();
        self.drain.cancel();
    }

    /// Resolves when the workers have ended, by a drain or by a fault. Cancel safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Blocks until the workers have ended; true if they ended orderly. What is left of the events is posted for a
    /// moment more, and never beyond the end of the drain.
    pub fn wait(mut self) -> bool {
        let orderly = self.join();
        self.metrics.events().end();
        let hard_stop = self.drain_hard_stop();
        let gone_by = self.hurried_by.get().copied().or_else(|| Some(*self.told.get()? + hard_stop));
        let left = gone_by.map(|by| by.saturating_duration_since(Instant::now()));
        if let Some(sender) = self.sender.take() {
            sender.finish(left.unwrap_or(EVENTS_FLUSH).min(EVENTS_FLUSH));
        }
        orderly
    }

    fn join(&mut self) -> bool {
        for thread in self.workers.drain(..) {
            if thread.join().is_err() {
                self.failed.store(true, Ordering::Release);
            }
        }
        !self.failed.load(Ordering::Acquire)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.join();
    }
}

/// What happens when a worker has ended.
struct WorkerEnd {
    _ended: Arc<DropGuard>,
    /// Begins the drain.
    leave: CancellationToken,
    told: Arc<OnceLock<Instant>>,
    readiness: Arc<Readiness>,
    events: Events,
    failed: Arc<AtomicBool>,
}

impl WorkerEnd {
    /// A gateway without one of its workers must not look alive: the others are drained, so that their clients find
    /// another gateway, and the process ends.
    fn after(self, outcome: std::thread::Result<Result<(), QuicEndpointError>>) {
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_panic) => Some("it panicked. Please report this".to_owned()),
        };
        if let Some(reason) = failed {
            error!(event = "worker_failed", %reason, "a worker failed; the others are drained, then the gateway ends");
            self.failed.store(true, Ordering::Release);
            self.readiness.draining();
            let detail = format_args!("a worker failed: {reason}");
            self.events.raise(PROCESS, Event::drain(Severity::Error, detail));
            self.told.get_or_init(Instant::now);
            self.leave.cancel();
        }
    }
}

fn discover(given: Option<Feed>, context: discovery::DiscoveryContext) -> Result<Discovery, StartError> {
    Ok(match given {
        Some(feed) => Discovery::given(feed, context),
        None => Discovery::start(context)?,
    })
}
