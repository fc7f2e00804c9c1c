//! What the metrics show of users: how many were there, for how long, and what their transports came to. No account and no app is
//! named: both come from tokens (row F9).

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::counters::{Histogram, SESSION_BOUNDS_MICROS};
use super::descriptors as of;
use super::family::Family;
use super::labels::Transport;
use super::worker::WorkerMetrics;
use crate::statistics::WorkerStatistics;

/// Of all workers together.
pub(super) fn families(workers: &[Arc<WorkerMetrics>]) -> [MetricFamily; 3] {
    let active = WorkerStatistics::active(workers.iter().map(|worker| worker.statistics()));
    let mut accounts = Family::new(&of::ACTIVE_ACCOUNTS);
    for (period, count) in [
        ("this_hour", active.this_hour),
        ("last_hour", active.last_hour),
        ("today", active.today),
        ("yesterday", active.yesterday),
    ] {
        accounts.sample(&[period], count as f64);
    }
    let mut sessions = Family::new(&of::SESSIONS);
    sessions
        .histogram(&Histogram::sum(&SESSION_BOUNDS_MICROS, workers.iter().map(|worker| &worker.sessions)));
    let mut auto = Family::new(&of::AUTO_LOGINS);
    for transport in Transport::ALL {
        let count: u64 = workers.iter().map(|worker| worker.auto_logins.get(transport.index())).sum();
        auto.sample(&[transport.label()], count as f64);
    }
    [accounts.finish(), sessions.finish(), auto.finish()]
}
