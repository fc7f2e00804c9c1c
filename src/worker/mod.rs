//! One core's gateway: a thread with its own runtime, sockets, channels and links (ARCHITECTURE §5).

use std::cell::Cell;
use std::net::{TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use quinn::Endpoint;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::drain::{DrainTimes, Orders, drained};
use self::operator_drain::OperatorDrain;
use self::questions::Overview;
use self::reload::Reloadable;
use crate::admin::mailbox::Mailbox;
use crate::config::{Config, ProxyProtocol};
use crate::discovery::Feed;
use crate::dispatch::dialer::TcpDialer;
use crate::dispatch::links::LinkRegistry;
use crate::dispatch::queue::QueueBounds;
use crate::dispatch::reconciler::Reconciler;
use crate::dispatch::selector::RouteSelector;
use crate::dispatch::services::Services;
use crate::dispatch::{Dispatch, DispatchParts, Settings};
use crate::handler::{ChannelIds, Gate, Handler};
use crate::limits::{ENDPOINT_FLUSH, LiveLimits, RUNTIME_END};
use crate::live::LiveFeed;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::resolve::Resolver;
use crate::server::access_log::AccessLog;
use crate::server::admission::Admission;
use crate::server::connection::ConnectionContext;
use crate::server::path::Paths;
use crate::server::quic::{self, QuicEndpointError};
use crate::server::recent_closes::RecentCloses;
use crate::server::spoken::Spoken;
use crate::server::steering::WorkerSlot;
use crate::server::tcp::Listener;
use crate::server::tickets::Tickets;
use crate::server::tls::TlsParts;
use crate::server::websocket::LivePolicy;
use crate::session::channels::Channels;
use crate::session::signouts::{SignOutBounds, SignOuts};
use crate::session::signouts_by_identity::SignOutsByIdentity;
use crate::spans::SpanQueue;
use crate::wire::close::CloseReason;

mod activity;
mod drain;
mod load_shedding;
mod notice;
mod operator_drain;
mod questions;
mod reload;

/// Which worker this is: constructors take it, so that several workers differ in nothing else.
#[derive(Debug, Clone)]
pub(crate) struct WorkerIdentity {
    /// From 0.
    pub(crate) index: usize,
    /// The id with which it shakes hands with logic services.
    pub(crate) gate_id: String,
}

/// Everything a worker is given.
pub(crate) struct WorkerPlan {
    pub(crate) identity: WorkerIdentity,
    /// As it was at the start.
    pub(crate) config: Arc<Config>,
    /// What may change while it runs.
    pub(crate) live: LiveFeed,
    /// Of the process: a client may come back to another worker.
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) by_identity: Arc<SignOutsByIdentity>,
    pub(crate) gate: Gate,
    /// The number of its first channel.
    pub(crate) first_channel: u64,
    /// Bound, not yet served.
    pub(crate) tcp: Vec<TcpListener>,
    /// Bound, not yet served.
    pub(crate) tls: Vec<TcpListener>,
    /// Bound, not yet served.
    pub(crate) ws: Vec<TcpListener>,
    /// Bound, not yet served.
    pub(crate) wss: Vec<TcpListener>,
    /// Bound, not yet served. Empty where packets cannot be steered and QUIC belongs to another worker.
    pub(crate) udp: Vec<UdpSocket>,
    /// Which packets of the UDP ports are this worker's.
    pub(crate) slot: WorkerSlot,
    /// Begins the drain.
    pub(crate) drain: CancellationToken,
    /// When the process was told to drain; there before `drain` is cancelled.
    pub(crate) told: Arc<OnceLock<Instant>>,
    /// Has the drain wait for nothing any more.
    pub(crate) hurry: CancellationToken,
    /// Ends the worker at once.
    pub(crate) stop: CancellationToken,
    /// The instances of the logic services.
    pub(crate) feed: Feed,
    /// Finds them.
    pub(crate) resolver: Resolver,
    /// Where spans go; none: nowhere.
    pub(crate) spans: Option<SpanQueue>,
    /// What the administrator asks it.
    pub(crate) mailbox: Mailbox,
    /// Its place among the workers.
    pub(crate) at_work: AtWork,
}

/// Says that a worker has not finished. Its drop says that it has, on every way out.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Barrier>);

#[derive(Debug)]
struct Barrier {
    at_work: AtomicUsize,
    finished: CancellationToken,
}

impl AtWork {
    /// A place for each worker of a process.
    pub(crate) fn barrier(workers: usize) -> Vec<Self> {
        let crew = Barrier { at_work: AtomicUsize::new(workers), finished: CancellationToken::new() };
        let crew = Arc::new(crew);
        (0..workers).map(|_| Self(Arc::clone(&crew))).collect()
    }

    /// This worker has finished; resolves when all have. Cancel safe.
    async fn finish(self) {
        let finished = self.0.finished.clone();
        drop(self);
        finished.cancelled().await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if self.0.at_work.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.finished.cancel();
        }
    }
}

/// Runs a worker on the calling thread until it has drained or was stopped.
///
/// # Errors
/// The machine gave no event queue, or a socket or certificate could not be used.
pub(crate) fn run(plan: WorkerPlan) -> Result<(), QuicEndpointError> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let ended = runtime.block_on(serve(plan));
    // Without a limit whatever still blocks in it would hold up the exit of the process.
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}

async fn serve(mut plan: WorkerPlan) -> Result<(), QuicEndpointError> {
    let dispatch = build_dispatch(&plan);
    let shared = build_shared(&plan, &dispatch);
    let mut tasks = JoinSet::new();
    let upgrade = plan.config.websocket.as_ref().map(|websocket| LivePolicy::new(&websocket.upgrade));
    let tls = TlsParts { certificate: plan.live.certificate(), tickets: Arc::clone(&plan.tickets) };
    for (listener, (spoken, proxy)) in tcp_listeners(&mut plan, &tls, upgrade.as_ref())? {
        let listener = Listener::new(listener, spoken, proxy)?;
        tasks.spawn_local(listener.serve(Rc::clone(&shared), plan.drain.clone()));
    }
    let endpoints = listen_quic(plan.udp, &plan.config, &tls, plan.slot, &plan.drain, &shared, &mut tasks)?;
    let gate_id = plan.identity.gate_id.clone();
    let limits = Rc::clone(&dispatch.settings.limits);
    let dialer = Rc::new(TcpDialer::new(gate_id, limits, plan.resolver));
    tasks.spawn_local(Reconciler::new(Rc::clone(&dispatch), dialer).follow(plan.feed));
    let signouts = Rc::clone(&dispatch);
    tasks.spawn_local(async move { signouts.run_signouts().await });
    let lost = Rc::clone(&dispatch);
    tasks.spawn_local(async move { lost.run_lost().await });
    let live = plan.live.reader();
    let (dispatch_too, shared_too) = (Rc::clone(&dispatch), Rc::clone(&shared));
    let reloadable =
        Reloadable { dispatch: dispatch_too, shared: shared_too, quic: endpoints.clone(), upgrade };
    tasks.spawn_local(plan.live.follow(move |live| reloadable.take(live)));
    let (dispatch_too, shared_too) = (Rc::clone(&dispatch), Rc::clone(&shared));
    let drain = OperatorDrain::new(Rc::clone(&dispatch));
    tasks.spawn_local(Rc::clone(&drain).follow());
    let overview = Overview { dispatch: dispatch_too, shared: shared_too, drain, epoch: plan.mailbox.epoch };
    tasks.spawn_local(questions::answer(plan.mailbox, overview));
    let pressure = plan.gate.pressure.clone();
    let (channels, metrics) = (Rc::clone(&dispatch.channels), Arc::clone(&dispatch.metrics));
    tasks.spawn_local(load_shedding::relieve(pressure, channels, Arc::clone(&metrics)));
    tasks.spawn_local(activity::tell(Rc::clone(&dispatch.channels), Arc::clone(&metrics)));
    tasks.spawn_local(load_shedding::beat(metrics, Rc::clone(&shared.entrance.newcomers)));
    #[cfg(feature = "faults")]
    tasks.spawn_local(crate::faults::worker());
    plan.readiness.worker_started(plan.identity.index);
    info!(event = "worker_started", index = plan.identity.index, gate_id = plan.identity.gate_id);

    let panicked = tokio::select! {
        () = plan.stop.cancelled() => None,
        () = async {
            let orders = Orders { begin: &plan.drain, told: &plan.told, hurry: &plan.hurry };
            drained(orders, &dispatch, || DrainTimes::new(&live.current().config)).await;
            // Who has not been told yet why there is no handshake.
            let entrance = &shared.entrance;
            let all_told = async { tokio::join!(entrance.tls.all_ended(), entrance.websocket.all_ended()) };
            let _bounded = timeout(ENDPOINT_FLUSH, all_told).await;
            // A UDP socket that closed sooner would have the kernel renumber the others, and their packets go astray.
            plan.at_work.finish().await;
        } => None,
        // None of these tasks ends by itself: one that does has panicked, which is fatal for the worker.
        Some(ended) = tasks.join_next() => Some(match ended {
            Err(failed) => failed.into_panic(),
            Ok(()) => Box::new("a task of the worker ended"),
        }),
    };
    // Who is still connected over QUIC would learn of a silent end only after the idle timeout.
    let reason = if panicked.is_some() { CloseReason::InternalError } else { CloseReason::Draining };
    close_endpoints(endpoints.iter().map(|(endpoint, _)| endpoint), reason).await;
    match panicked {
        Some(panic) => std::panic::resume_unwind(panic),
        None => Ok(()),
    }
}

/// What is spoken on a listener, and how balancers name their clients there.
type SpokenBehind = (Spoken, Option<Arc<ProxyProtocol>>);

/// The listeners on TCP, and what each of them speaks.
fn tcp_listeners(
    plan: &mut WorkerPlan,
    tls: &TlsParts,
    upgrade: Option<&Rc<LivePolicy>>,
) -> Result<Vec<(TcpListener, SpokenBehind)>, rustls::Error> {
    let config = &plan.config;
    let ws_proxy = config.websocket.as_ref().and_then(|websocket| websocket.proxy.as_ref());
    let mut listeners = Vec::new();
    for (sockets, tls, upgrade, proxy) in [
        (&mut plan.tcp, None, None, config.tcp_proxy.as_ref()),
        (&mut plan.tls, Some(tls), None, config.tcp_proxy.as_ref()),
        (&mut plan.ws, None, upgrade, ws_proxy),
        (&mut plan.wss, Some(tls), upgrade, ws_proxy),
    ] {
        let spoken = (Spoken::new(tls, upgrade)?, proxy.cloned());
        listeners.extend(sockets.drain(..).map(|socket| (socket, spoken.clone())));
    }
    Ok(listeners)
}

async fn close_endpoints<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone, reason: CloseReason) {
    for endpoint in endpoints.clone() {
        endpoint.close(reason.code().unwrap_or_default().into(), reason.token().as_bytes());
    }
    // One time for all of them, however many there are.
    let until = tokio::time::Instant::now() + ENDPOINT_FLUSH;
    for endpoint in endpoints {
        let _best_effort = timeout_at(until, endpoint.wait_idle()).await;
    }
}

fn listen_quic(
    sockets: Vec<UdpSocket>,
    config: &Config,
    tls: &TlsParts,
    slot: WorkerSlot,
    drain: &CancellationToken,
    shared: &Rc<ConnectionContext>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<(Endpoint, Arc<Paths>)>, QuicEndpointError> {
    let mut endpoints = Vec::new();
    let Some(quic) = &config.quic else { return Ok(endpoints) };
    for socket in sockets {
        let (endpoint, paths) =
            quic::endpoint(socket, &config.id, quic, tls, &config.limits, slot, &shared.metrics)?;
        endpoints.push((endpoint.clone(), Arc::clone(&paths)));
        tasks.spawn_local(quic::serve(endpoint, paths, Rc::clone(shared), drain.clone()));
    }
    Ok(endpoints)
}

fn build_dispatch(plan: &WorkerPlan) -> Rc<Dispatch> {
    let config = &plan.config;
    let limits = &config.limits;
    let metrics = plan.metrics.worker(plan.identity.index);
    let bounds = SignOutBounds::of(plan.admission.max(), limits);
    let signouts = SignOuts::new(bounds, Arc::clone(&plan.by_identity), Arc::clone(&metrics));
    let channels = Channels::new(Rc::clone(&signouts), Arc::clone(&metrics));
    if let Some(queue) = &plan.spans {
        channels.tracer.start(queue.clone());
    }
    channels.tracer.follow(reload::tracer_policy(&config.tracing));
    let selector = RouteSelector::new(&config.route);
    let links = LinkRegistry::new(QueueBounds::of(limits), plan.metrics.clone());
    let services = Services::new(selector, config.services(), config.bounded_load, links, &metrics);
    let settings = Settings {
        worker: plan.identity.index,
        gate_id: plan.identity.gate_id.clone(),
        login_service: config.login_service.clone(),
        signout_after_kick: Cell::new(config.signout_after_kick),
        limits: LiveLimits::new(limits.clone()),
        pressure: plan.gate.pressure.clone(),
    };
    let readiness = Arc::clone(&plan.readiness);
    Dispatch::new(DispatchParts { settings, channels, signouts, metrics, services, readiness })
}

fn build_shared(plan: &WorkerPlan, dispatch: &Rc<Dispatch>) -> Rc<ConnectionContext> {
    let ids = ChannelIds::new(&plan.identity.gate_id, plan.first_channel);
    let (verifier, gate) = (Arc::clone(&plan.live.reader().current().verifier), plan.gate.clone());
    let handler = Handler::new(Rc::clone(dispatch), verifier, gate, ids, Instant::now());
    let limits = Rc::clone(&dispatch.settings.limits);
    Rc::new(ConnectionContext {
        handler,
        channels: Rc::clone(&dispatch.channels),
        admission: Arc::clone(&plan.admission),
        entrance: plan.admission.entrance(&limits.now(), Instant::now(), &dispatch.metrics),
        metrics: Arc::clone(&dispatch.metrics),
        log: AccessLog::new(),
        closes: RecentCloses::default(),
        limits,
        wall_clock: SystemTime::now,
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    /// A socket that is closed early has the kernel renumber its group.
    #[test]
    fn f1_a_worker_that_has_finished_waits_for_the_others_even_for_one_that_panics() {
        let mut crew = AtWork::barrier(3);
        let panicking = crew.pop().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let (second, first) = (crew.pop().unwrap(), crew.pop().unwrap());
        let mut first = pin!(first.finish());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let mut second = pin!(second.finish());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        drop(panicking);
        assert!(first.as_mut().poll(&mut cx).is_ready());
        assert!(second.as_mut().poll(&mut cx).is_ready());
    }
}
