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
use crate::limits::{DELIVERIES_PER_TURN, HURRIED_FLUSH, HURRIED_SIGNOUTS};
use crate::session::channel::Channel;
use crate::session::jittered_schedule::jittered_schedule;
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
        close_spread_out(dispatch, channels, begun, times.window).await;
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

/// Tells the channels, then closes each at its moment. Those that end before are not missed.
async fn close_spread_out(dispatch: &Dispatch, channels: Vec<Rc<Channel>>, begun: Instant, window: Duration) {
    let notice = window / NOTICE_SHARE;
    let mut rng = Rng::default();
    let moments = jittered_schedule(window - notice, channels.len(), || rng.share()).map(|at| notice + at);
    let mut closes = Vec::with_capacity(channels.len());
    for (number, (channel, at)) in channels.into_iter().zip(moments).enumerate() {
        // With no window there is no time to go in: the close says it all.
        if !window.is_zero() {
            channel.announce_close(go_away(at));
        }
        // Not the channel: one that ends early gives its memory back.
        closes.push((at, Rc::clone(&channel.id)));
        if number % DELIVERIES_PER_TURN == DELIVERIES_PER_TURN - 1 {
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
