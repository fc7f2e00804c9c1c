//! Keeps one link: dial, shake hands, serve, notice its end, back off, dial again (protocol §5).

use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info};

use crate::config::Instance;
use crate::dispatch::Dispatch;
use crate::dispatch::connection::LinkConnection;
use crate::dispatch::dialer::TcpDialer;
use crate::dispatch::health::{HealthEvent, Loss};
use crate::dispatch::link::{Link, LinkEnd};
use crate::limits::{BACKOFF_FACTOR, BACKOFF_JITTER, Limits};
use crate::monitor::events::event::{self, Severity};
use crate::monitor::metrics::Reject;
use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;

/// Runs until its instance has left. Not cancel safe for what is queued: only the end of the worker drops it.
pub(crate) async fn keep_connected(link: Rc<Link>, dispatch: Rc<Dispatch>, dialer: Rc<TcpDialer>) {
    let mut pauses = RedialPause::new();
    let limits = || dispatch.settings.limits.now();
    let mut reported = false;
    let mut pause = Duration::ZERO;
    loop {
        let attempt = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            dispatch.on(&link, HealthEvent::Dial, Instant::now());
            dialer.dial_and_handshake(&link.instance.address).await
        };
        let outcome = tokio::select! {
            biased;
            () = link.left() => return,
            outcome = attempt => outcome,
        };
        let stream = match outcome {
            Ok(stream) => stream,
            Err(error) => {
                dispatch.on(&link, HealthEvent::Lost(Loss::NotReached), Instant::now());
                report_unreached(&link, &dispatch, &error, &mut reported);
                pauses.skip_immediate();
                pause = pauses.next(&limits());
                continue;
            }
        };
        let there = stream.peer_addr();
        let (began, lives) = (Instant::now(), link.lives());
        let end = serve(stream, &link, &dispatch).await;
        if link.is_leaving() {
            report_left(&link, &end);
            return;
        }
        let was_up = link.lives() > lives;
        let is_contested = matches!(end, LinkEnd::Refused | LinkEnd::Replaced);
        // One that comes and goes, or never came, is not redialled at once each time (row E7). Nor is one that another
        // gateway has taken: the two would throw each other out as fast as they can (row F15).
        if was_up && !is_contested && began.elapsed() >= limits().backoff_first {
            pauses.reset();
        }
        if !was_up && let Ok(there) = there {
            dialer.avoid(&link.instance.address, there);
        }
        if was_up {
            report_lost(&link, &dispatch, &end);
            reported = false;
        } else if !is_contested {
            report_unreached(&link, &dispatch, &end, &mut reported);
        }
        if is_contested {
            report_contested(&link, &dispatch, &end);
        }
        if is_contested || !was_up {
            pauses.skip_immediate();
        }
        pause = pauses.next(&limits());
    }
}

/// Serves a connection in a task of its own, so that a panic ends the link and not the worker (ARCHITECTURE §4.11).
async fn serve(stream: TcpStream, link: &Rc<Link>, dispatch: &Rc<Dispatch>) -> LinkEnd {
    let mut task = JoinSet::new();
    task.spawn_local(LinkConnection::new(stream, Rc::clone(link), Rc::clone(dispatch)).run());
    match task.join_next().await {
        Some(Ok(end)) => end,
        _ => {
            dispatch.metrics.reject(Reject::TaskPanic);
            error!(
                event = "task_panic",
                instance = link.instance.id,
                "the task of a link panicked. Please report this"
            );
            LinkEnd::Panicked
        }
    }
}

fn report_left(link: &Link, end: &LinkEnd) {
    let instance = &link.instance;
    info!(
        event = "link_closed",
        service = instance.service,
        instance = instance.id,
        address = instance.address,
        reason = %end,
        "the link of an instance that had left has ended"
    );
}

/// One line per outage, beside that of the event; the rest is in the metrics.
fn report_unreached(link: &Link, dispatch: &Dispatch, error: &dyn Display, reported: &mut bool) {
    let instance = &link.instance;
    raise_lost(link, dispatch, error);
    if !std::mem::replace(reported, true) {
        info!(event = "link_down", service = instance.service, instance = instance.id,
            address = instance.address, %error, "logic service not reached; trying again");
    }
}

fn raise_lost(link: &Link, dispatch: &Dispatch, detail: &dyn Display) {
    let Instance { service, id, zone, .. } = &link.instance;
    dispatch.tell_lost(link, event::Event::instance_lost(service, id, zone, detail));
}

/// The instance has a link of this gateway's id that this gateway knows nothing of. A single instance that refuses may only
/// not have noticed that an old link is dead (row E15).
fn report_contested(link: &Link, dispatch: &Dispatch, end: &LinkEnd) {
    dispatch.metrics.reject(Reject::BackendRejected);
    let Instance { service, id, zone, .. } = &link.instance;
    let is_certain = *end == LinkEnd::Replaced;
    let severity = if dispatch.contested(service, is_certain) { Severity::Error } else { Severity::Warning };
    let gate_id = &dispatch.settings.gate_id;
    let detail = if is_certain {
        format!("it took another link with the id {gate_id} instead")
    } else {
        format!("it knows {gate_id} already")
    };
    dispatch.tell_lost(link, event::Event::link_refused(service, id, zone, severity, detail));
}

fn report_lost(link: &Link, dispatch: &Dispatch, end: &LinkEnd) {
    let instance = &link.instance;
    dispatch.metrics.reject(Reject::BackendDown);
    raise_lost(link, dispatch, end);
    info!(event = "link_lost", service = instance.service, instance = instance.id, reason = %end,
        "logic service lost; its queued requests move, its sent ones are answered 210");
}

/// The pause before a redial: at once, then growing, with jitter (row E7). Counts the attempts since the last one that held.
#[derive(Debug)]
struct RedialPause {
    rng: Rng,
    attempts: u32,
}

impl RedialPause {
    fn new() -> Self {
        Self { rng: Rng::default(), attempts: 0 }
    }

    /// The connection held: the next redial comes at once.
    fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The instance refused: even the first redial waits.
    fn skip_immediate(&mut self) {
        self.attempts = self.attempts.max(1);
    }

    /// How long to wait before the next attempt: zero the first time.
    fn next(&mut self, limits: &Limits) -> Duration {
        let jitter = Jitter::Around(BACKOFF_JITTER);
        let backoff =
            Backoff { base: limits.backoff_first, cap: limits.backoff_max, factor: BACKOFF_FACTOR, jitter };
        let attempt = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        attempt.checked_sub(1).map_or(Duration::ZERO, |n| backoff.pause(n, &mut self.rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e7_at_once_then_growing_within_the_jitter_up_to_the_maximum() {
        let mut pauses = RedialPause::new();
        assert_eq!(pauses.next(&Limits::default()), Duration::ZERO);
        let mut expected = 0.2_f64;
        for _ in 0..12 {
            let pause = pauses.next(&Limits::default()).as_secs_f64();
            assert!((expected * 0.8..=expected * 1.2).contains(&pause), "{pause} for {expected}");
            expected = (expected * 1.6).min(5.0);
        }
        pauses.reset();
        assert_eq!(pauses.next(&Limits::default()), Duration::ZERO);
        pauses.reset();
        pauses.skip_immediate();
        assert!(pauses.next(&Limits::default()) >= Duration::from_millis(160));
    }

    #[test]
    fn e15_it_never_gives_up_and_never_pauses_beyond_its_maximum() {
        let mut pauses = RedialPause::new();
        let mut waited = Duration::ZERO;
        for _ in 0..100_000 {
            pauses.skip_immediate();
            let pause = pauses.next(&Limits::default());
            assert!(pause <= Duration::from_secs(6), "back within 6 s after it relents: {pause:?}");
            assert!(!pause.is_zero());
            waited += pause;
        }
        assert!(waited > Duration::from_secs(180), "{waited:?}");
    }
}
