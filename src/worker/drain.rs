//! The end of a worker in order: clients are told to go, closed one after the other, and signed out (row F1).

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::limits::{CHANNELS_PER_TURN, HURRIED_FLUSH, HURRIED_SIGNOUTS};
use crate::packet_trace::TracedPacket;
use crate::session::channel::Channel;
use crate::wire::close::CloseReason;
use crate::wire::packet::GoAway;
use gateway_net::rng::Rng;

/// The share of the hard stop that belongs to sign-outs alone: whatever channel is left then is closed without its
/// last answers.
const SIGNOUTS_SHARE: u32 = 6;

/// The share of the hard stop that belongs to the end of the process itself.
const END_SHARE: u32 = 10;

/// The share of the window in which nobody is closed: whoever was told to go has time for a handshake elsewhere and for
/// the answers it is owed. Without it the first to be closed lose what they ask at that moment.
const NOTICE_SHARE: u32 = 10;

/// How long a drain may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainTimes {
    /// Closes are spread over this.
    window: Duration,
    /// From the signal to the exit.
    hard_stop: Duration,
}

impl DrainTimes {
    pub(super) const fn new(config: &Config) -> Self {
        Self { window: config.drain_window, hard_stop: config.drain_hard_stop }
    }
}

/// What a worker is told of its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders<'a> {
    /// The drain begins.
    pub(super) begin: &'a CancellationToken,
    /// When the process was told so; there before the drain begins.
    pub(super) told: &'a OnceLock<std::time::Instant>,
    /// Nothing is waited for any more.
    pub(super) hurry: &'a CancellationToken,
}

/// Waits for the drain and carries it out: in order, or, once it is hurried, as far as its time reaches.
pub(super) async fn drained(orders: Orders<'_>, dispatch: &Dispatch, times: impl Fn() -> DrainTimes) {
    orders.begin.cancelled().await;
    // As they are now: a reload may have changed them since the start.
    let times = times();
    let begun = Instant::now();
    // The hard stop counts from when the process was told, not from when discovery has taken its leave.
    let told = orders.told.get().map_or(begun, |told| Instant::from_std(*told));
    let connections = dispatch.channels.connections();
    tokio::select! {
        () = in_order(dispatch, times, begun, told) => {}
        () = hurried(orders.hurry, dispatch) => warn_of_signouts(dispatch),
    }
    info!(event = "worker_drained", worker = dispatch.settings.worker, connections, elapsed = ?begun.elapsed());
}

/// Waits for the hurry, and has whatever [`in_order`] waits for end soon. Resolves when that has taken too long.
async fn hurried(hurry: &CancellationToken, dispatch: &Dispatch) {
    hurry.cancelled().await;
    dispatch.signouts.release();
    dispatch.channels.cut_short().await;
    sleep(HURRIED_FLUSH).await;
    dispatch.channels.stop_flushing();
    sleep(HURRIED_SIGNOUTS).await;
}

fn warn_of_signouts(dispatch: &Dispatch) {
    let signouts_waiting = dispatch.signouts.owed();
    if signouts_waiting > 0 {
        warn!(event = "drain_incomplete", signouts_waiting, "the end came before every sign-out was written");
    }
}

/// Each channel is served until its own close begins, ends with its last answers, and its sign-out is written.
async fn in_order(dispatch: &Dispatch, times: DrainTimes, begun: Instant, told: Instant) {
    let cut = told + (times.hard_stop - times.hard_stop / SIGNOUTS_SHARE);
    let until = told + (times.hard_stop - times.hard_stop / END_SHARE);
    // Before anything is awaited: whoever still comes is told to go, even if nobody is here.
    let channels = dispatch.channels.begin_drain().await;
    let closes = async {
        close_spread_out(dispatch, channels, begun, times.window, None).await;
        std::future::pending().await
    };
    let ended = tokio::select! {
        biased;
        () = dispatch.channels.all_ended() => true,
        () = sleep_until(cut) => false,
        () = closes => false,
    };
    if !ended {
        let left = dispatch.channels.connections();
        warn!(event = "drain_cut_short", left, "the hard stop is near: what is left is closed now");
        dispatch.channels.cut_short().await;
        let _still_flushing = timeout_at(until, dispatch.channels.all_ended()).await;
    }
    let _hard_stop = timeout_at(until, dispatch.signouts.all_discharged()).await;
    warn_of_signouts(dispatch);
}

/// Tells the channels, and where to go if that is known, then closes each at its moment. Those that end before are not missed.
pub(super) async fn close_spread_out(
    dispatch: &Dispatch,
    channels: Vec<Rc<Channel>>,
    begun: Instant,
    window: Duration,
    to: Option<&str>,
) {
    let notice = window / NOTICE_SHARE;
    let mut rng = Rng::default();
    let moments = jittered_schedule(window - notice, channels.len(), || rng.share()).map(|at| notice + at);
    let mut closes = Vec::with_capacity(channels.len());
    for (number, (channel, at)) in channels.into_iter().zip(moments).enumerate() {
        // With no window there is no time to go in: the close says it all.
        if !window.is_zero() && channel.announce_close(go_away(at), to) {
            dispatch.channels.trace(&channel, || TracedPacket::notice("the gateway drains: go away"));
        }
        // Not the channel: one that ends early gives its memory back.
        closes.push((at, Rc::clone(&channel.id)));
        if number % CHANNELS_PER_TURN == CHANNELS_PER_TURN - 1 {
            yield_now().await;
        }
    }
    for (at, id) in closes {
        sleep_until(begun + at).await;
        dispatch.channels.close(&id, CloseReason::Draining);
    }
}

fn go_away(at: Duration) -> GoAway {
    GoAway {
        seconds: u16::try_from(at.as_secs()).unwrap_or(u16::MAX),
        code: CloseReason::Draining.code().unwrap_or_default(),
    }
}

/// When each close of a drain happens: evenly over the window, with jitter (row F1). The window is cut into one slot per
/// close, and the close is at a random place of its slot. So no stretch of the window sees more than one close above its
/// share at either end, and no two gateways keep step.
///
/// The moments of so many closes, from the begin of the window and in order. `share` gives the place in each slot,
/// from 0 to below 1.
fn jittered_schedule(
    window: Duration,
    count: usize,
    mut share: impl FnMut() -> f64,
) -> impl Iterator<Item = Duration> {
    (0..count).map(move |slot| window.mul_f64((slot as f64 + share()) / count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(20);

    /// Most closes in any stretch of this length.
    fn peak(moments: &[Duration], stretch: Duration) -> usize {
        moments
            .iter()
            .map(|from| moments.iter().filter(|at| *at >= from && **at < *from + stretch).count())
            .max()
            .unwrap()
    }

    #[test]
    fn f1_the_peak_is_at_most_twice_the_mean_whatever_the_jitter() {
        let mut rng = Rng::default();
        let mut extremes = [0.999_999, 0.0].into_iter().cycle();
        for (name, share) in [
            ("random", &mut (|| rng.share()) as &mut dyn FnMut() -> f64),
            ("as close as two can come", &mut move || extremes.next().unwrap()),
            ("none", &mut || 0.0),
        ] {
            let moments: Vec<_> = jittered_schedule(WINDOW, 2000, share).collect();
            assert_eq!(moments.len(), 2000);
            assert!(moments.is_sorted(), "{name}");
            assert!(moments[1999] < WINDOW && moments[1999] >= WINDOW.mul_f64(1999.0 / 2000.0), "{name}");
            // A tenth of a second has 10 on average, a second 100.
            for (stretch, mean) in [(Duration::from_millis(100), 10), (Duration::from_secs(1), 100)] {
                let peak = peak(&moments, stretch);
                assert!(peak <= 2 * mean && peak <= mean + 2, "{name}: {peak} within {stretch:?}");
            }
        }
    }

    #[test]
    fn f1_no_two_drains_have_the_same_moments() {
        let [one, other] = [Rng::default(), Rng::default()]
            .map(|mut rng| jittered_schedule(WINDOW, 10, || rng.share()).collect::<Vec<_>>());
        assert_ne!(one, other);
    }

    #[test]
    fn f1_without_a_window_all_is_at_once_and_of_nothing_there_is_nothing() {
        assert_eq!(jittered_schedule(Duration::ZERO, 3, || 0.5).collect::<Vec<_>>(), [Duration::ZERO; 3]);
        assert_eq!(jittered_schedule(WINDOW, 0, || 0.5).count(), 0);
    }
}
