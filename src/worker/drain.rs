//! The end of a worker in order: clients are told to go, closed one after the other, and signed out (row F1).

use std::rc::Rc;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Config;
use crate::dispatch::Dispatch;
use crate::limits::DELIVERIES_PER_TURN;
use crate::session::channel::Channel;
use crate::session::spread::{random_share, spread};
use crate::wire::close::CloseReason;
use crate::wire::packet::GoAway;

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
pub(super) struct Times {
    /// Closes are spread over this.
    window: Duration,
    /// From the signal to the exit.
    hard_stop: Duration,
}

impl Times {
    pub(super) const fn new(config: &Config) -> Self {
        Self { window: config.drain_window, hard_stop: config.drain_hard_stop }
    }
}

/// Waits for the drain and carries it out: each channel is served until its own close begins, ends with its last
/// answers, and its sign-out is written. The hard stop counts from when the process was told, not from when discovery has
/// taken its leave.
pub(super) async fn drained(
    begin: &CancellationToken,
    told: &OnceLock<std::time::Instant>,
    dispatch: &Dispatch,
    times: Times,
) {
    begin.cancelled().await;
    let begun = Instant::now();
    let told = told.get().map_or(begun, |told| Instant::from_std(*told));
    let cut = told + (times.hard_stop - times.hard_stop / SIGNOUTS_SHARE);
    let until = told + (times.hard_stop - times.hard_stop / END_SHARE);
    let connections = dispatch.channels.connections();
    // Before anything is awaited: whoever still comes is told to go, even if nobody is here.
    let channels = dispatch.channels.begin_drain().await;
    let closes = async {
        close_in_turn(dispatch, channels, begun, times.window).await;
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
        dispatch.channels.cut_short();
        let _still_flushing = timeout_at(until, dispatch.channels.all_ended()).await;
    }
    let signed_out = timeout_at(until, dispatch.signouts.all_settled()).await;
    let signouts_waiting = dispatch.signouts.owed();
    if signed_out.is_err() {
        warn!(
            event = "drain_incomplete",
            signouts_waiting, "the hard stop came before every sign-out was written"
        );
    }
    info!(event = "worker_drained", worker = dispatch.settings.worker, connections, elapsed = ?begun.elapsed());
}

/// Tells the channels, then closes each at its moment. Those that end before are not missed.
async fn close_in_turn(dispatch: &Dispatch, channels: Vec<Rc<Channel>>, begun: Instant, window: Duration) {
    let notice = window / NOTICE_SHARE;
    let moments = spread(window - notice, channels.len(), random_share).map(|at| notice + at);
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
