//! What a worker tells the statistics of those who are connected. Those who go are told of by their channel's guard.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::monitor::metrics::WorkerMetrics;
use crate::session::channel::{ChannelState, Identity};
use crate::session::channels::{Channels, PARTS};

/// Between two looks at everybody: hours and days are up to so much behind, and 100,000 channels cost some 75 ms.
const LOOK: Duration = Duration::from_secs(60);

/// Looks at every open channel once a minute, a part of them in a turn, for as long as it is polled.
pub(super) async fn tell(channels: Rc<Channels>, metrics: Arc<WorkerMetrics>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics.statistics().turn_to(now.as_secs());
        for part in 0..PARTS {
            tell_part(part, &channels, &metrics);
            yield_now().await;
        }
    }
}

fn tell_part(part: usize, channels: &Channels, metrics: &WorkerMetrics) {
    metrics.statistics().see_all(|see| {
        channels.for_each_in(part, |channel| {
            if let ChannelState::Open(_) = channel.state() {
                let Identity { app, account } = &channel.identity;
                see(app, account, channel.take_requests());
            }
        });
    });
}
