//! What the console draws: the counters at one moment, and the instances. No client is named in it.

use std::time::Instant;

use serde::Serialize;
use utoipa::ToSchema;

use super::counters::{BOUNDS_MICROS, Histogram};
use super::glance::Glance;
use super::instances::InstanceRow;
use super::metrics::Metrics;
use super::readiness::Readiness;

/// See the module. What grows, grows from the start of the process: rates are the difference of two of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewaySnapshot {
    /// `gateway.id`.
    pub(crate) gateway: String,
    pub(crate) version: &'static str,
    /// Milliseconds since the process measures.
    pub(crate) uptime_ms: u64,
    /// Whether traffic may be sent to it.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    pub(crate) draining: bool,
    #[serde(flatten)]
    pub(crate) glance: Glance,
    /// In their order.
    pub(crate) loops: Vec<WorkerLoop>,
    pub(crate) latency: LatencyBuckets,
    pub(crate) instances: Vec<InstanceRow>,
}

/// One worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerLoop {
    /// How late its loop was at worst, of late.
    pub(crate) lag_seconds: f64,
    pub(crate) connections: u64,
}

/// From the arrival of a request to its answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatencyBuckets {
    /// Upper bounds of all buckets but the last, which has none.
    pub(crate) bounds_seconds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
}

impl Metrics {
    /// See [`GatewaySnapshot`].
    pub(crate) fn snapshot(&self, readiness: &Readiness, now: Instant) -> GatewaySnapshot {
        let (mut glance, verdict) = (self.glance(now), readiness.verdict(now));
        let loops = std::mem::take(&mut glance.workers)
            .into_iter()
            .map(|(lag, connections)| WorkerLoop { lag_seconds: lag.as_secs_f64(), connections });
        let workers = self.each_worker();
        let latency = Histogram::sum(&BOUNDS_MICROS, workers.iter().map(|worker| &worker.latency));
        GatewaySnapshot {
            gateway: self.gateway_id().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_ms: u64::try_from(self.uptime(now).as_millis()).unwrap_or(u64::MAX),
            ready: verdict.is_ready(),
            reasons: verdict.reasons().to_vec(),
            draining: readiness.is_draining(),
            glance,
            loops: loops.collect(),
            latency: LatencyBuckets {
                bounds_seconds: latency.bounds.iter().map(|micros| *micros as f64 / 1e6).collect(),
                counts: latency.buckets.to_vec(),
            },
            instances: InstanceRow::of(&self.each_link()),
        }
    }
}
