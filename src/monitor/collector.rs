//! Sums the cells of all workers when Prometheus asks, and only then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::activity;
use super::administered::administered;
use super::cells::{Cells, DiscoveryMetrics, LinkMetrics, NO_CERTIFICATE};
use super::counters::{BOUNDS_MICROS, Counter, Counters, Gauge, Histogram};
use super::descriptors as of;
use super::events::Events;
use super::family::{Family, Spec};
use super::instances::LinkTotals;
use super::jwks::JwksMetrics;
use super::labels::{
    AnswerOrigin, Delivery, Direction, DiscoveryError, DnsError, EventKind, Heartbeat, LinkState, Memory,
    PathChange, PushDrop, Reject, Signout, Transport,
};
use super::log_lines;
use super::login_labels::{JwksRefresh, LoginResult, RenewalResult};
use super::worker::{STATUSES, WorkerMetrics};
use crate::resolve::{Resolver, ResolverCounts};
use crate::wire::close::CloseReason;
use crate::wire::command;

/// Our side of Prometheus's registry.
pub(super) struct GatewayCollector {
    cells: Arc<Cells>,
    descs: Vec<Desc>,
}

impl GatewayCollector {
    /// A collector over these cells.
    pub(super) fn new(cells: Arc<Cells>) -> Self {
        Self { cells, descs: of::ALL.iter().map(|spec| spec.desc()).collect() }
    }
}

impl Collector for GatewayCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let workers = Workers(&self.cells.workers);
        let mut families = vec![build_info()];
        let end = self.cells.cert_not_after.load(Relaxed);
        if end != NO_CERTIFICATE {
            families.push(single(&of::CERT_NOT_AFTER, end as f64));
        }
        families.extend(workers.connections());
        families.extend(workers.traffic());
        families.extend(workers.requests());
        families.extend(workers.pushes_and_queues());
        families.extend(overload(&self.cells));
        families.extend(workers.each(Instant::now()));
        families.push(workers.zone_fallbacks());
        families.push(workers.total(&of::SPILLED, |worker| &worker.spilled));
        let outcomes = PathChange::ALL.iter().map(|outcome| outcome.label());
        families.push(workers.by_label(&of::PATH_CHANGES, outcomes, |worker| &worker.path_changes));
        let directions = Direction::ALL.iter().map(|direction| direction.label());
        families.push(workers.by_label(&of::UNPROVEN_BYTES, directions, |worker| &worker.unproven_bytes));
        let states = LinkState::ALL.iter().map(|state| state.label());
        families.push(workers.by_label(&of::LINK_TRANSITIONS, states, |worker| &worker.link_transitions));
        families.push(single(&of::LOG_DROPPED, log_lines::dropped() as f64));
        families.extend(events(&self.cells.events));
        families.push(administered(&self.cells));
        families.extend(workers.originals(&self.cells));
        families.extend(activity::families(&self.cells.workers));
        families.extend(links(&self.cells.links()));
        families.extend(self.cells.traces.get().map(|cells| cells.family()));
        families.extend(self.cells.jwks.get().into_iter().flat_map(|cells| jwks(cells)));
        families.extend(self.cells.discovery.get().into_iter().flat_map(|cells| discovery(cells)));
        families.extend(self.cells.resolver.get().into_iter().flat_map(resolver));
        families
    }
}

/// Reads sums over all workers.
struct Workers<'a>(&'a [Arc<WorkerMetrics>]);

impl Workers<'_> {
    fn sum(&self, read: impl Fn(&WorkerMetrics) -> u64) -> f64 {
        self.0.iter().map(|worker| read(worker)).sum::<u64>() as f64
    }

    fn total(&self, spec: &'static Spec, cell: impl Fn(&WorkerMetrics) -> &Counter) -> MetricFamily {
        single(spec, self.sum(|worker| cell(worker).get()))
    }

    /// Two workers may be read in the middle of a change; a negative gauge would be nonsense to show.
    fn gauge(&self, spec: &'static Spec, cell: impl Fn(&WorkerMetrics) -> &Gauge) -> MetricFamily {
        single(spec, self.0.iter().map(|worker| cell(worker).get()).sum::<i64>().max(0) as f64)
    }

    /// One family with one label, from counters in the order of `labels`.
    fn by_label<'l, const N: usize>(
        &self,
        spec: &'static Spec,
        labels: impl IntoIterator<Item = &'l str>,
        counters: impl Fn(&WorkerMetrics) -> &Counters<N>,
    ) -> MetricFamily {
        let mut family = Family::new(spec);
        for (index, label) in labels.into_iter().enumerate() {
            family.sample(&[label], self.sum(|worker| counters(worker).get(index)));
        }
        family.finish()
    }

    fn connections(&self) -> [MetricFamily; 6] {
        let mut open = Family::new(&of::CONNECTIONS);
        let mut opened_total = Family::new(&of::OPENED);
        let mut closes = Family::new(&of::CLOSES);
        for transport in Transport::ALL {
            let position = transport.index();
            // Closed before opened: what is opened in between must not make the difference negative.
            let closed = self.sum(|worker| worker.closes[position].sum());
            let opened = self.sum(|worker| worker.opened.get(position));
            open.sample(&[transport.label()], (opened - closed).max(0.0));
            opened_total.sample(&[transport.label()], opened);
            for reason in CloseReason::ALL {
                let count = self.sum(|worker| worker.closes[position].get(reason.index()));
                closes.sample(&[transport.label(), reason.token()], count);
            }
        }
        let logins =
            self.by_label(&of::LOGINS, LoginResult::ALL.iter().map(|l| l.label()), |worker| &worker.logins);
        let renewals = self
            .by_label(&of::RENEWALS, RenewalResult::ALL.iter().map(|l| l.label()), |worker| &worker.renewals);
        let heartbeats = self
            .by_label(&of::HEARTBEATS, Heartbeat::ALL.iter().map(|l| l.label()), |worker| &worker.heartbeats);
        [open.finish(), opened_total.finish(), closes.finish(), logins, renewals, heartbeats]
    }

    fn traffic(&self) -> [MetricFamily; 2] {
        let mut packets = Family::new(&of::PACKETS);
        let mut bytes = Family::new(&of::BYTES);
        for direction in Direction::ALL {
            for (index, command) in command::KNOWN.into_iter().enumerate() {
                let labels = [direction.label(), command];
                packets.sample(&labels, self.sum(|worker| worker.packets[direction.index()].get(index)));
                bytes.sample(&labels, self.sum(|worker| worker.bytes[direction.index()].get(index)));
            }
        }
        [packets.finish(), bytes.finish()]
    }

    fn requests(&self) -> [MetricFamily; 6] {
        let mut answers = Family::new(&of::ANSWERS);
        for (index, status) in statuses().enumerate() {
            for origin in AnswerOrigin::ALL {
                let count = self.sum(|worker| worker.answers[origin.index()].get(index));
                answers.sample(&[&status, origin.label()], count);
            }
        }
        let totals = Histogram::sum(&BOUNDS_MICROS, self.0.iter().map(|worker| &worker.latency));
        let mut latency = Family::new(&of::LATENCY);
        latency.histogram(&totals);
        [
            self.total(&of::REQUESTS_RECEIVED, |worker| &worker.requests_received),
            self.total(&of::REQUESTS_FORWARDED, |worker| &worker.requests_forwarded),
            self.total(&of::REQUESTS_REJECTED, |worker| &worker.requests_rejected),
            self.gauge(&of::PENDING, |worker| &worker.pending),
            answers.finish(),
            latency.finish(),
        ]
    }

    fn pushes_and_queues(&self) -> [MetricFamily; 11] {
        let statuses: Vec<_> = statuses().collect();
        [
            self.total(&of::PUSHES_DELIVERED, |worker| &worker.pushes_delivered),
            self.total(&of::PUSHES_RECEIVED, |worker| &worker.pushes_received),
            self.by_label(&of::PUSH_DROPS, PushDrop::ALL.iter().map(|l| l.label()), |worker| {
                &worker.push_drops
            }),
            self.by_label(&of::REJECTS, Reject::ALL.iter().map(|l| l.label()), |worker| &worker.rejects),
            self.gauge(&of::QUEUED_MESSAGES, |worker| &worker.queued_messages),
            self.gauge(&of::QUEUED_BYTES, |worker| &worker.queued_bytes),
            self.gauge(&of::PARTIAL_BYTES, |worker| &worker.partial_bytes),
            self.gauge(&of::BEFORE_LOGIN_BYTES, |worker| &worker.before_login_bytes),
            self.by_label(&of::SIGNOUTS, Signout::ALL.iter().map(|l| l.label()), |worker| &worker.signouts),
            self.gauge(&of::SIGNOUTS_WAITING, |worker| &worker.signouts_waiting),
            self.by_label(&of::SIGNOUT_ANSWERS, statuses.iter().map(String::as_str), |worker| {
                &worker.signout_answers
            }),
        ]
    }

    /// What is shown by worker: nothing but what tells a worker that is stuck or alone (ARCHITECTURE §5).
    fn each(&self, now: Instant) -> [MetricFamily; 2] {
        let mut connections = Family::new(&of::WORKER_CONNECTIONS);
        let mut lag = Family::new(&of::LOOP_LAG);
        for (index, worker) in self.0.iter().enumerate() {
            let label = index.to_string();
            let closed: u64 = worker.closes.iter().map(Counters::sum).sum();
            connections.sample(&[&label], worker.opened.sum().saturating_sub(closed) as f64);
            lag.sample(&[&label], worker.beat.lag(now).as_secs_f64());
        }
        [connections.finish(), lag.finish()]
    }

    /// What all workers counted by zone: fallbacks, and requests that found nobody.
    fn zones(&self) -> BTreeMap<String, [u64; 2]> {
        let mut sums = BTreeMap::new();
        for (zone, counted) in self.0.iter().flat_map(|worker| worker.zones()) {
            let sum: &mut [u64; 2] = sums.entry(zone).or_default();
            (0..2).for_each(|cell| sum[cell] += counted[cell]);
        }
        sums
    }

    fn zone_fallbacks(&self) -> MetricFamily {
        let mut family = Family::new(&of::ZONE_FALLBACK);
        for (zone, [fallbacks, _]) in self.zones() {
            family.sample(&[&zone], fallbacks as f64);
        }
        family.finish()
    }

    /// The same cells again, under the names that dashboards of the original system ask for.
    fn originals(&self, cells: &Cells) -> [MetricFamily; 4] {
        let mut packets_in = Family::new(&of::X_IM_IN_TOTAL);
        let mut bytes_in = Family::new(&of::X_IM_IN_BYTES);
        let mut bytes_out = Family::new(&of::X_IM_OUT_BYTES);
        let (inward, outward) = (Direction::In.index(), Direction::Out.index());
        for (index, command) in command::KNOWN.into_iter().enumerate() {
            let labels = [cells.gateway_id.as_str(), ORIGINAL_SERVICE, command];
            packets_in.sample(&labels, self.sum(|worker| worker.packets[inward].get(index)));
            bytes_in.sample(&labels, self.sum(|worker| worker.bytes[inward].get(index)));
            bytes_out.sample(&[command], self.sum(|worker| worker.bytes[outward].get(index)));
        }
        let mut no_server = Family::new(&of::X_IM_NO_SERVER);
        for (zone, [fallbacks, no_instances]) in self.zones() {
            no_server.sample(&[&zone], (fallbacks + no_instances) as f64);
        }
        [packets_in.finish(), bytes_in.finish(), bytes_out.finish(), no_server.finish()]
    }
}

/// The label of each place of a counter by status.
fn statuses() -> impl Iterator<Item = String> {
    STATUSES.iter().map(|status| status.to_string()).chain(["other".to_owned()])
}

/// Label `serviceName` of the original metrics: the name under which its TCP gateway registers.
const ORIGINAL_SERVICE: &str = "tgateway";

fn build_info() -> MetricFamily {
    let mut family = Family::new(&of::BUILD_INFO);
    family.sample(&[env!("CARGO_PKG_VERSION"), env!("GATEWAY_COMMIT")], 1.0);
    family.finish()
}

fn jwks(cells: &JwksMetrics) -> Vec<MetricFamily> {
    let mut refreshes = Family::new(&of::JWKS_REFRESHES);
    for outcome in JwksRefresh::ALL {
        refreshes.sample(&[outcome.label()], cells.refreshes.get(outcome.index()) as f64);
    }
    let mut keys = Family::new(&of::JWKS_KEYS);
    keys.sample(&[], cells.keys.load(Relaxed) as f64);
    let mut families = vec![refreshes.finish(), keys.finish()];
    let last_success = cells.last_success.load(Relaxed);
    if last_success > 0 {
        let mut family = Family::new(&of::JWKS_LAST_SUCCESS);
        family.sample(&[], last_success as f64);
        families.push(family.finish());
    }
    families
}

fn discovery(cells: &DiscoveryMetrics) -> Vec<MetricFamily> {
    let mut errors = Family::new(&of::DISCOVERY_ERRORS);
    for kind in DiscoveryError::ALL {
        errors.sample(&[kind.label()], cells.errors.get(kind.index()) as f64);
    }
    let mut instances = Family::new(&of::DISCOVERY_INSTANCES);
    for (service, count) in cells.instances() {
        instances.sample(&[&service], count as f64);
    }
    let updates = single(&of::DISCOVERY_UPDATES, cells.updates.load(Relaxed) as f64);
    let mut families = vec![errors.finish(), updates, instances.finish()];
    let last = cells.last_success.load(Relaxed);
    if last != 0 {
        families.push(single(&of::DISCOVERY_LAST_SUCCESS, last as f64));
    }
    families
}

fn resolver(resolver: &Resolver) -> [MetricFamily; 2] {
    let ResolverCounts { failed, late, full, under_way } = resolver.counts();
    let mut errors = Family::new(&of::DNS_ERRORS);
    for kind in DnsError::ALL {
        let count = match kind {
            DnsError::Failed => failed,
            DnsError::Late => late,
            DnsError::Full => full,
        };
        errors.sample(&[kind.label()], count as f64);
    }
    [errors.finish(), single(&of::DNS_LOOKUPS, under_way as f64)]
}

fn overload(cells: &Cells) -> [MetricFamily; 4] {
    let mut memory = Family::new(&of::MEMORY);
    for kind in Memory::ALL {
        match cells.memory[kind.index()].load(Relaxed) {
            0 => {}
            bytes => memory.sample(&[kind.label()], bytes as f64),
        }
    }
    [
        single(&of::MAX_CONNECTIONS, cells.max_connections.load(Relaxed) as f64),
        single(&of::OVERLOAD_LEVEL, cells.overload.load(Relaxed) as f64),
        single(&of::BACKENDS_PAUSED, cells.backends_paused.load(Relaxed).into()),
        memory.finish(),
    ]
}

fn events(events: &Events) -> [MetricFamily; 4] {
    let mut raised = Family::new(&of::EVENTS);
    let mut active = Family::new(&of::EVENTS_ACTIVE);
    for (kind, holding) in EventKind::ALL.iter().zip(events.active()) {
        raised.sample(&[kind.label()], events.raised(*kind) as f64);
        active.sample(&[kind.label()], holding as f64);
    }
    let mut deliveries = Family::new(&of::WEBHOOK_DELIVERIES);
    for outcome in Delivery::ALL {
        deliveries.sample(&[outcome.label()], events.deliveries(*outcome) as f64);
    }
    let queued = single(&of::WEBHOOK_QUEUED, events.waiting() as f64);
    [raised.finish(), active.finish(), deliveries.finish(), queued]
}

fn single(spec: &'static Spec, value: f64) -> MetricFamily {
    let mut family = Family::new(spec);
    family.sample(&[], value);
    family.finish()
}

fn links(links: &[Arc<LinkMetrics>]) -> Vec<MetricFamily> {
    let instances = LinkTotals::of(links);
    let mut state = Family::new(&of::LINK_STATE);
    let mut reconnects = Family::new(&of::LINK_RECONNECTS);
    let mut requests = Family::new(&of::LINK_REQUESTS);
    let mut pushes = Family::new(&of::LINK_PUSHES);
    let mut packets = Family::new(&of::LINK_QUEUED_PACKETS);
    let mut bytes = Family::new(&of::LINK_QUEUED_BYTES);
    for (labels, totals) in &instances {
        for candidate in LinkState::ALL {
            let [service, instance, zone] = *labels;
            let is_in_it = candidate.index() == totals.worst;
            state.sample(&[service, instance, zone, candidate.label()], f64::from(u8::from(is_in_it)));
        }
        reconnects.sample(labels, totals.reconnects as f64);
        requests.sample(labels, totals.requests as f64);
        pushes.sample(labels, totals.pushes as f64);
        packets.sample(labels, totals.packets.max(0) as f64);
        bytes.sample(labels, totals.bytes.max(0) as f64);
    }
    [state, reconnects, requests, pushes, packets, bytes].into_iter().map(Family::finish).collect()
}
