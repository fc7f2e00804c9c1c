//! The counters an operator looks at first, as numbers instead of text.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::counters::{BOUNDS_MICROS, Histogram};
use super::labels::{EventKind, Transport};
use super::login_labels::LoginResult;
use super::metrics::Metrics;
use super::worker::WorkerMetrics;
use crate::wire::close::CloseReason;

/// Sums over all workers, at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Glance {
    /// Of each worker: how late its loop was of late, and its connections.
    #[serde(skip)]
    pub(crate) workers: Vec<(Duration, u64)>,
    pub(crate) connections: u64,
    /// Without those that are being turned away.
    #[serde(skip)]
    pub(crate) served_connections: u64,
    pub(crate) max_connections: u64,
    pub(crate) by_transport: BTreeMap<&'static str, u64>,
    pub(crate) logins: BTreeMap<&'static str, u64>,
    pub(crate) closes: BTreeMap<&'static str, u64>,
    pub(crate) requests_received: u64,
    pub(crate) requests_forwarded: u64,
    pub(crate) requests_pending: u64,
    pub(crate) pushes_received: u64,
    /// None before the first answer.
    pub(crate) mean_latency: Option<f64>,
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
    pub(crate) overload_level: u64,
    pub(crate) conditions: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// See [`Glance`].
    pub(crate) fn glance(&self, now: Instant) -> Glance {
        let workers = self.each_worker();
        let sum =
            |read: &dyn Fn(&WorkerMetrics) -> u64| workers.iter().map(|worker| read(worker)).sum::<u64>();
        let gauge = |read: &dyn Fn(&WorkerMetrics) -> i64| {
            let total: i64 = workers.iter().map(|worker| read(worker)).sum();
            u64::try_from(total).unwrap_or_default()
        };
        let open = |worker: &WorkerMetrics, index: usize| {
            // Closed before opened: two readings may straddle a change, and a negative number would be nonsense.
            let closed = worker.closes[index].sum();
            worker.opened.get(index).saturating_sub(closed)
        };
        let all = 0..Transport::COUNT;
        let of_worker = |worker: &WorkerMetrics| all.clone().map(|index| open(worker, index)).sum::<u64>();
        let by_transport = Transport::ALL.iter().map(|transport| {
            (transport.label(), sum(&|worker: &WorkerMetrics| open(worker, transport.index())))
        });
        let logins = LoginResult::ALL
            .iter()
            .map(|result| (result.label(), sum(&|worker: &WorkerMetrics| worker.logins.get(result.index()))));
        let closes = CloseReason::ALL.iter().map(|reason| {
            let of = |worker: &WorkerMetrics| {
                worker.closes.iter().map(|closes| closes.get(reason.index())).sum::<u64>()
            };
            (reason.token(), sum(&of))
        });
        let totals = Histogram::sum(&BOUNDS_MICROS, workers.iter().map(|worker| &worker.latency));
        let answers: u64 = totals.buckets.iter().sum();
        let conditions = EventKind::ALL.iter().zip(self.events().active());
        Glance {
            workers: workers.iter().map(|worker| (worker.beat.lag(now), of_worker(worker))).collect(),
            connections: self.connections(),
            served_connections: gauge(&|worker| worker.served_connections.get()),
            max_connections: self.connection_bound(),
            by_transport: by_transport.collect(),
            logins: logins.filter(|(_, count)| *count > 0).collect(),
            closes: closes.filter(|(_, count)| *count > 0).collect(),
            requests_received: sum(&|worker| worker.requests_received.get()),
            requests_forwarded: sum(&|worker| worker.requests_forwarded.get()),
            requests_pending: gauge(&|worker| worker.pending.get()),
            pushes_received: sum(&|worker| worker.pushes_received.get()),
            mean_latency: (answers > 0).then(|| totals.sum_seconds / answers as f64),
            queued_messages: gauge(&|worker| worker.queued_messages.get()),
            queued_bytes: gauge(&|worker| worker.queued_bytes.get()),
            overload_level: self.overload_level(),
            conditions: conditions
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.label(), count as u64))
                .collect(),
        }
    }
}
