//! The whole set of metrics: made once at start and handed to whoever counts.

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Registry, TextEncoder};

use super::admin_labels::{AdminChange, AdminResult};
use super::cells::{Cells, NO_CERTIFICATE};
pub use super::cells::{DiscoveryMetrics, LinkMetrics};
use super::collector::GatewayCollector;
use super::events::Events;
use super::jwks::JwksMetrics;
pub use super::labels::{
    AnswerOrigin, Direction, DiscoveryError, Heartbeat, LinkState, Memory, PathChange, PushDrop, Reject,
    Signout, Transport,
};
pub use super::login_labels::{JwksRefresh, LoginResult, RenewalResult};
use super::trace_spans::TraceMetrics;
pub use super::worker::WorkerMetrics;
use crate::resolve::Resolver;
use crate::statistics::{ActivityReport, WorkerStatistics};

/// All cells of the process, and the registry that shows them. Clones share the cells.
#[derive(Debug, Clone)]
pub struct Metrics {
    cells: Arc<Cells>,
    registry: Registry,
}

impl Metrics {
    /// Cells for `workers` workers. `gateway_id` is the configured `gateway.id`, the same for all of them; `zones` are
    /// the names of the route's zones.
    pub fn new(gateway_id: &str, workers: usize, zones: Vec<String>) -> Self {
        let events = Events::new(gateway_id);
        let hasher = RandomState::new();
        let worker = |index| {
            let statistics = WorkerStatistics::new(hasher.clone());
            Arc::new(WorkerMetrics::new(index, events.clone(), statistics))
        };
        let cells = Arc::new(Cells {
            workers: (0..workers).map(worker).collect(),
            events,
            started: Instant::now(),
            gateway_id: gateway_id.to_owned(),
            cert_not_after: AtomicI64::new(NO_CERTIFICATE),
            discovery: OnceLock::new(),
            jwks: OnceLock::new(),
            traces: OnceLock::new(),
            resolver: OnceLock::new(),
            overload: AtomicU64::new(0),
            backends_paused: AtomicBool::new(false),
            max_connections: AtomicU64::new(0),
            memory: Default::default(),
            links: Mutex::new(Vec::new()),
            administered: Default::default(),
        });
        let registry = Registry::new();
        registry
            .register(Box::new(GatewayCollector::new(Arc::clone(&cells))))
            .expect("the names of the metrics are constants, and a test registers them");
        let metrics = Self { cells, registry };
        metrics.count_zones(&zones);
        metrics
    }

    /// These zones are counted from now on, those of earlier routes still.
    pub fn count_zones(&self, names: &[String]) {
        self.cells.workers.iter().for_each(|worker| worker.count_zones(names));
    }

    /// When the certificate of QUIC and TLS ends, seconds since 1970.
    pub fn certificate_ends(&self, seconds: i64) {
        self.cells.cert_not_after.store(seconds, Relaxed);
    }

    /// What this resolver counts is shown as well. Only the first call counts.
    pub fn shows(&self, resolver: Resolver) {
        let _known = self.cells.resolver.set(resolver);
    }

    /// How overloaded the process is now: 0 is not at all, each level above demands more.
    pub(crate) fn overload(&self, level: u8) {
        self.cells.overload.store(u64::from(level), Relaxed);
    }

    /// Returns `true` if logic services are read slowly now.
    pub(crate) fn backends_paused(&self, paused: bool) {
        self.cells.backends_paused.store(paused, Relaxed);
    }

    /// Bytes of this kind, now.
    pub(crate) fn memory(&self, kind: Memory, bytes: u64) {
        self.cells.memory[kind.index()].store(bytes, Relaxed);
    }

    /// Bytes waiting to be written to clients, of all workers.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.cells.workers.iter().map(|worker| worker.queued_bytes()).sum()
    }

    /// Bytes of frames of clients whose end has not come, of all workers.
    pub(crate) fn partial_bytes(&self) -> u64 {
        self.cells.workers.iter().map(|worker| worker.partial_bytes()).sum()
    }

    /// So many client connections there may be.
    pub(crate) fn max_connections(&self, max: u64) {
        self.cells.max_connections.store(max, Relaxed);
    }

    /// See [`Metrics::max_connections`].
    pub(super) fn connection_bound(&self) -> u64 {
        self.cells.max_connections.load(Relaxed)
    }

    /// See [`Metrics::overload`].
    pub(super) fn overload_level(&self) -> u64 {
        self.cells.overload.load(Relaxed)
    }

    /// `gateway.id`.
    pub(super) fn gateway_id(&self) -> &str {
        &self.cells.gateway_id
    }

    /// For how long there have been these cells.
    pub(super) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.cells.started)
    }

    pub(super) fn each_link(&self) -> Vec<Arc<LinkMetrics>> {
        self.cells.links()
    }

    pub(super) fn each_worker(&self) -> &[Arc<WorkerMetrics>] {
        &self.cells.workers
    }

    /// Client connections open now.
    pub(crate) fn connections(&self) -> u64 {
        // Closed before opened, as it is shown.
        let closed: u64 =
            self.cells.workers.iter().flat_map(|worker| &worker.closes).map(|closes| closes.sum()).sum();
        let opened: u64 = self.cells.workers.iter().map(|worker| worker.opened.sum()).sum();
        opened.saturating_sub(closed)
    }

    /// How often this was counted, by all workers.
    pub(crate) fn rejected(&self, reason: Reject) -> u64 {
        self.cells.workers.iter().map(|worker| worker.rejects.get(reason.index())).sum()
    }

    /// Memory of connections that have not signed in, of all workers.
    pub(crate) fn before_login_bytes(&self) -> u64 {
        let sum: i64 = self.cells.workers.iter().map(|worker| worker.before_login_bytes.get()).sum();
        u64::try_from(sum).unwrap_or_default()
    }

    /// How many workers there are.
    pub(crate) fn workers(&self) -> usize {
        self.cells.workers.len()
    }

    /// The administrator has ordered something.
    pub(crate) fn administered(&self, change: AdminChange, result: AdminResult) {
        self.cells.administered[change.index()].add_shared(result.index(), 1);
    }

    /// What the administrator is told about goes here.
    pub fn events(&self) -> &Events {
        &self.cells.events
    }

    /// The cells of one worker.
    ///
    /// # Panics
    /// If `index` is not below the number of workers given to [`Metrics::new`].
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.cells.workers[index])
    }

    /// New cells for one link, shown for as long as someone holds them. Called once per worker and instance that
    /// discovery names, never on behalf of a peer.
    pub fn link(&self, service: &str, instance: &str, zone: &str) -> Arc<LinkMetrics> {
        let link = Arc::new(LinkMetrics::new(service, instance, zone));
        let mut links = self.cells.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        link
    }

    /// The cells of the process's spans.
    pub fn traces(&self) -> Arc<TraceMetrics> {
        Arc::clone(self.cells.traces.get_or_init(Arc::default))
    }

    /// The cells of the process's fetched keys.
    pub fn jwks(&self) -> Arc<JwksMetrics> {
        Arc::clone(self.cells.jwks.get_or_init(Arc::default))
    }

    /// The cells of the process's source of instances, for these services. Only the first call decides on them.
    pub fn discovery(&self, services: impl IntoIterator<Item = String>) -> Arc<DiscoveryMetrics> {
        Arc::clone(self.cells.discovery.get_or_init(|| Arc::new(DiscoveryMetrics::new(services))))
    }

    /// Who is active and how much, over all workers. Takes about half a millisecond for each, in which it may hold up the end of a
    /// session there.
    pub fn activity(&self) -> ActivityReport {
        WorkerStatistics::report(self.cells.workers.iter().map(|worker| worker.statistics()))
    }

    /// Everything in Prometheus's text format.
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| format!("# the metrics could not be encoded: {error}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::close::CloseReason;
    use crate::wire::command;

    fn metrics() -> Metrics {
        Metrics::new("gate01", 2, vec!["zone_a".to_owned(), "zone_b".to_owned()])
    }

    /// The value of one series, by its exact name and labels.
    fn value(text: &str, series: &str) -> f64 {
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))
            .unwrap_or_else(|| panic!("no series {series} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn g9_workers_are_summed_and_the_gauge_is_opened_less_closed() {
        let metrics = metrics();
        metrics.worker(0).connection_opened(Transport::Quic);
        metrics.worker(1).connection_opened(Transport::Quic);
        metrics.worker(1).connection_opened(Transport::Tcp);
        metrics.worker(1).connection_closed(Transport::Quic, CloseReason::Kicked);
        let text = metrics.render();
        assert_eq!(value(&text, "gateway_connections{transport=\"quic\"}"), 1.0);
        assert_eq!(value(&text, "gateway_connections{transport=\"tcp\"}"), 1.0);
        assert_eq!(value(&text, "gateway_connections_opened_total{transport=\"quic\"}"), 2.0);
        assert_eq!(value(&text, "gateway_closes_total{reason=\"kicked\",transport=\"quic\"}"), 1.0);
    }

    /// Calls each method of a worker's metrics that `every_method_moves_its_own_series` reads back.
    fn move_every_series(worker: &WorkerMetrics) {
        worker.login(LoginResult::Refused);
        worker.renewal(RenewalResult::Unauthenticated);
        worker.packet(Direction::In, command::label_index(command::CHAT_USER_TALK), 70);
        worker.packet(Direction::Out, command::label_index("made.up"), 30);
        worker.heartbeat(Heartbeat::Basic);
        worker.request_received();
        worker.request_forwarded();
        worker.request_rejected();
        worker.pending_opened();
        worker.answered(0, AnswerOrigin::Service);
        worker.answered(-7, AnswerOrigin::Gateway);
        worker.latency(Duration::from_millis(3));
        worker.push_delivered(5);
        worker.push_dropped(PushDrop::NoChannel, 2);
        worker.reject(Reject::TaskPanic);
        worker.queued(4, 400);
        worker.partial(30);
        worker.before_login(70);
        worker.signout(Signout::Superseded);
        worker.signouts_waiting(3);
        worker.signout_answered(404);
        worker.zone_fallback("zone_b");
        worker.zone_fallback("of no route");
        worker.no_instance("zone_a");
        worker.no_instance("of no route");
        worker.link_transition(LinkState::Ejected);
        worker.spilled();
        worker.auto_login(Transport::Wss);
        worker.session_ended(Duration::from_secs(90));
        worker.statistics().turn_to(1_900_000_000);
        worker.statistics().see("x_im", "alice", 0);
    }

    #[test]
    fn every_method_moves_its_own_series() {
        let metrics = metrics();
        assert!(!metrics.render().contains("gateway_cert_not_after_seconds"));
        metrics.certificate_ends(1_900_000_000);
        move_every_series(&metrics.worker(0));
        let text = metrics.render();
        for (series, expected) in [
            ("gateway_cert_not_after_seconds", 1_900_000_000.0),
            ("gateway_logins_total{result=\"refused\"}", 1.0),
            ("gateway_renewals_total{result=\"unauthenticated\"}", 1.0),
            ("gateway_packets_total{command=\"chat.user.talk\",direction=\"in\"}", 1.0),
            ("gateway_bytes_total{command=\"chat.user.talk\",direction=\"in\"}", 70.0),
            ("gateway_packets_total{command=\"other\",direction=\"out\"}", 1.0),
            ("gateway_heartbeats_total{kind=\"basic\"}", 1.0),
            ("gateway_requests_received_total", 1.0),
            ("gateway_requests_forwarded_total", 1.0),
            ("gateway_requests_rejected_total", 1.0),
            ("gateway_pending_requests", 1.0),
            ("gateway_answers_total{origin=\"service\",status=\"0\"}", 1.0),
            ("gateway_answers_total{origin=\"gateway\",status=\"other\"}", 1.0),
            ("gateway_request_seconds_bucket{le=\"0.0025\"}", 0.0),
            ("gateway_request_seconds_bucket{le=\"0.005\"}", 1.0),
            ("gateway_request_seconds_bucket{le=\"+Inf\"}", 1.0),
            ("gateway_request_seconds_sum", 0.003),
            ("gateway_request_seconds_count", 1.0),
            ("gateway_pushes_delivered_total", 5.0),
            ("gateway_push_drops_total{reason=\"no_channel\"}", 2.0),
            ("gateway_reject_total{reason=\"task_panics\"}", 1.0),
            ("gateway_queued_messages", 4.0),
            ("gateway_queued_bytes", 400.0),
            ("gateway_partial_bytes", 30.0),
            ("gateway_before_login_bytes", 70.0),
            ("gateway_signouts_total{outcome=\"superseded\"}", 1.0),
            ("gateway_signouts_waiting", 3.0),
            ("gateway_signout_answers_total{status=\"404\"}", 1.0),
            ("gateway_zone_fallback_total{zone=\"zone_b\"}", 1.0),
            ("gateway_zone_fallback_total{zone=\"zone_a\"}", 0.0),
            ("gateway_spilled_total", 1.0),
            ("gateway_auto_logins_total{transport=\"wss\"}", 1.0),
            ("gateway_auto_logins_total{transport=\"quic\"}", 0.0),
            ("gateway_session_seconds_bucket{le=\"60\"}", 0.0),
            ("gateway_session_seconds_bucket{le=\"300\"}", 1.0),
            ("gateway_session_seconds_sum", 90.0),
            ("gateway_active_accounts{period=\"this_hour\"}", 1.0),
            ("gateway_active_accounts{period=\"yesterday\"}", 0.0),
            ("gateway_link_transitions_total{to=\"ejected\"}", 1.0),
            ("gateway_link_transitions_total{to=\"healthy\"}", 0.0),
            ("x_im_no_server_found_error_total{zone=\"zone_a\"}", 1.0),
            ("x_im_no_server_found_error_total{zone=\"zone_b\"}", 1.0),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
    }

    #[test]
    fn h5_addresses_and_what_went_there_are_shown() {
        let metrics = metrics();
        metrics.worker(0).path_change(PathChange::Proven);
        metrics.worker(0).unproven_bytes(Direction::Out, 1200);
        let text = metrics.render();
        for (series, expected) in [
            ("gateway_path_changes_total{outcome=\"proven\"}", 1.0),
            ("gateway_path_changes_total{outcome=\"abuse\"}", 0.0),
            ("gateway_unproven_bytes_total{direction=\"out\"}", 1200.0),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
    }

    #[test]
    fn fetched_keys_are_shown_once_there_is_a_source() {
        let metrics = metrics();
        assert!(!metrics.render().contains("gateway_jwks_"));
        let cells = metrics.jwks();
        cells.refreshed(JwksRefresh::Timeout);
        assert!(!metrics.render().contains("gateway_jwks_last_success"));
        cells.refreshed(JwksRefresh::Ok);
        cells.succeeded(1_900_000_000, 3);
        let text = metrics.render();
        for (series, expected) in [
            ("gateway_jwks_refreshes_total{outcome=\"ok\"}", 1.0),
            ("gateway_jwks_refreshes_total{outcome=\"timeout\"}", 1.0),
            ("gateway_jwks_refreshes_total{outcome=\"status\"}", 0.0),
            ("gateway_jwks_keys", 3.0),
            ("gateway_jwks_last_success_timestamp_seconds", 1_900_000_000.0),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
    }

    #[test]
    fn discovery_is_shown_once_there_is_a_source() {
        let metrics = metrics();
        assert!(!metrics.render().contains("gateway_discovery_"));
        let cells = metrics.discovery(["chat".to_owned(), "login".to_owned()]);
        assert!(!metrics.render().contains("gateway_discovery_last_success"));
        cells.error(DiscoveryError::Timeout);
        cells.updated("chat", 3);
        cells.updated("no such service", 9);
        cells.succeeded(1_900_000_000);
        let text = metrics.render();
        for (series, expected) in [
            ("gateway_discovery_errors_total{kind=\"timeout\"}", 1.0),
            ("gateway_discovery_errors_total{kind=\"dns\"}", 0.0),
            ("gateway_discovery_updates_total", 2.0),
            ("gateway_discovery_instances{service=\"chat\"}", 3.0),
            ("gateway_discovery_instances{service=\"login\"}", 0.0),
            ("gateway_discovery_last_success_timestamp_seconds", 1_900_000_000.0),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
    }

    #[test]
    fn the_original_names_show_the_same_cells() {
        let metrics = metrics();
        for (index, bytes) in [(0, 70), (1, 30)] {
            let worker = metrics.worker(index);
            worker.packet(Direction::In, command::label_index(command::CHAT_USER_TALK), bytes);
            worker.packet(Direction::Out, command::label_index("made.up"), bytes / 10);
            worker.zone_fallback("zone_a");
            worker.no_instance("zone_a");
        }
        let text = metrics.render();
        let from =
            |command| format!("{{command=\"{command}\",serviceId=\"gate01\",serviceName=\"tgateway\"}}");
        for (series, expected) in [
            (format!("x_im_message_in_total{}", from("chat.user.talk")), 2.0),
            (format!("x_im_message_in_flow_bytes{}", from("chat.user.talk")), 100.0),
            (format!("x_im_message_in_total{}", from("other")), 0.0),
            (format!("x_im_message_in_flow_bytes{}", from("other")), 0.0),
            ("x_im_message_out_flow_bytes{command=\"other\"}".to_owned(), 10.0),
            ("x_im_message_out_flow_bytes{command=\"chat.user.talk\"}".to_owned(), 0.0),
            ("x_im_no_server_found_error_total{zone=\"zone_a\"}".to_owned(), 4.0),
            ("x_im_no_server_found_error_total{zone=\"zone_b\"}".to_owned(), 0.0),
        ] {
            assert_eq!(value(&text, &series), expected, "{series}");
        }
        let counters = text.lines().filter(|line| line.starts_with("# TYPE x_im_")).collect::<Vec<_>>();
        assert!(counters.iter().all(|line| line.ends_with(" counter")), "{counters:?}");
        assert_eq!(counters.len(), 4);
    }

    #[test]
    fn links_of_several_workers_are_one_with_the_worst_state() {
        let metrics = metrics();
        let (first, second) =
            (metrics.link("chat", "chat01", "zone_a"), metrics.link("chat", "chat01", "zone_a"));
        first.set_state(LinkState::Healthy);
        second.set_state(LinkState::Broken);
        first.queued(2, 20);
        second.queued(1, 10);
        second.reconnected();
        first.requests_sent(6);
        first.push_received();
        let text = metrics.render();
        let labels = "instance=\"chat01\",service=\"chat\"";
        for (series, expected) in [
            (format!("gateway_link_state{{{labels},state=\"healthy\",zone=\"zone_a\"}}"), 0.0),
            (format!("gateway_link_state{{{labels},state=\"broken\",zone=\"zone_a\"}}"), 1.0),
            (format!("gateway_link_queued_packets{{{labels},zone=\"zone_a\"}}"), 3.0),
            (format!("gateway_link_queued_bytes{{{labels},zone=\"zone_a\"}}"), 30.0),
            (format!("gateway_link_reconnects_total{{{labels},zone=\"zone_a\"}}"), 1.0),
            (format!("gateway_link_requests_sent_total{{{labels},zone=\"zone_a\"}}"), 6.0),
            (format!("gateway_link_pushes_received_total{{{labels},zone=\"zone_a\"}}"), 1.0),
        ] {
            assert_eq!(value(&text, &series), expected, "{series}");
        }
    }

    #[test]
    fn f9_the_number_of_series_is_bounded_and_every_family_is_explained() {
        let text = metrics().render();
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!((150..2_000).contains(&series), "{series} series");
        let families = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        let explained = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .filter(|line| line.split(' ').count() > 4)
            .count();
        assert_eq!(families, explained);
        assert!(text.contains("gateway_build_info{"));
    }

    #[test]
    fn f11_f16_the_state_of_the_process_and_of_each_worker_is_shown() {
        let metrics = metrics();
        assert!(!metrics.render().contains("kind=\"resident\""), "not known");
        metrics.memory(Memory::Resident, 5);
        metrics.overload(2);
        metrics.worker(1).connection_opened(Transport::Quic);
        metrics.worker(1).connection_opened(Transport::Tcp);
        metrics.worker(1).connection_closed(Transport::Tcp, CloseReason::Bye);
        let text = metrics.render();
        assert_eq!(value(&text, "gateway_overload_level"), 2.0);
        assert_eq!(value(&text, "gateway_memory_bytes{kind=\"resident\"}"), 5.0);
        assert_eq!(value(&text, "gateway_worker_connections{worker=\"0\"}"), 0.0);
        assert_eq!(value(&text, "gateway_worker_connections{worker=\"1\"}"), 1.0);
        assert_eq!(value(&text, "gateway_loop_lag_seconds{worker=\"1\"}"), 0.0);
        metrics.worker(1).queued(1, 30);
        metrics.worker(0).queued(1, 12);
        assert_eq!(metrics.queued_bytes(), 42);
    }

    #[test]
    fn cells_of_two_workers_share_no_cache_line() {
        assert_eq!(align_of::<WorkerMetrics>(), 128);
        assert_eq!(align_of::<LinkMetrics>(), 128);
    }
}
