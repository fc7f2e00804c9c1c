//! What a worker does when the process is overloaded, and the beat that shows that its loop turns (rows F11, F16).

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::{MissedTickBehavior, interval};

use crate::limits::{NEWEST_SHARE, PRESSURE_LOOK};
use crate::monitor::metrics::{Reject, WorkerMetrics};
use crate::overload::pressure::{Pressure, PressureState};
use crate::server::admission::Newcomers;
use crate::session::channels::Channels;
use crate::session::shedding::{close_newest, shed_largest};

/// Does what is demanded, for as long as it is polled.
pub(super) async fn relieve(mut pressure: Pressure, channels: Rc<Channels>, metrics: Arc<WorkerMetrics>) {
    while let Some(told) = pressure.next().await {
        answer(told, &channels, &metrics).await;
    }
    // Nobody looks any more: the process is ending, and a task that ended would be a fault of the worker.
    pending().await
}

async fn answer(told: PressureState, channels: &Channels, metrics: &WorkerMetrics) {
    let share = share(told, metrics.queued_bytes() + metrics.partial_bytes());
    if share > 0 {
        count(metrics, Reject::OverloadShed, shed_largest(channels, share).await);
    }
    if told.demand.close_newest {
        let newest = channels.connections().div_ceil(NEWEST_SHARE);
        count(metrics, Reject::OverloadNewest, close_newest(channels, newest));
    }
}

/// A worker's part of what all are to shed is that of what all hold, rounded up.
fn share(told: PressureState, own: u64) -> u64 {
    if told.held == 0 {
        return 0;
    }
    let share = (u128::from(told.demand.shed) * u128::from(own)).div_ceil(u128::from(told.held));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn count(metrics: &WorkerMetrics, reason: Reject, times: usize) {
    for _ in 0..times {
        metrics.reject(reason);
    }
}

/// Says again and again that the loop turns, and sends strangers away where they are too many. A beat that was held up comes late, and the next one in its own time.
pub(super) async fn beat(metrics: Arc<WorkerMetrics>, newcomers: Rc<Newcomers>) {
    let beating = Beating(metrics);
    let mut ticks = interval(PRESSURE_LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        beating.0.beat(Instant::now());
        newcomers.make_room();
    }
}

/// However the loop ends, it is not late afterwards.
struct Beating(Arc<WorkerMetrics>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.loop_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::level::Demand;

    #[test]
    fn f11_workers_shed_in_proportion_to_what_they_hold() {
        let told = |shed, held| PressureState { demand: Demand { shed, ..Demand::default() }, held };
        assert_eq!(share(told(100, 1_000), 1_000), 100);
        assert_eq!((share(told(100, 1_000), 750), share(told(100, 1_000), 250)), (75, 25));
        assert_eq!(share(told(1, 1_000), 3), 1, "together at least what is demanded");
        assert_eq!((share(told(100, 1_000), 0), share(told(0, 1_000), 10), share(told(5, 0), 10)), (0, 0, 0));
        assert_eq!(share(told(u64::MAX, 1), u64::MAX), u64::MAX, "what came meanwhile");
    }
}
