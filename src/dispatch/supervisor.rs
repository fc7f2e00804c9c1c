//! Keeps one link: dial, shake hands, serve, notice its end, back off, dial again (protocol §5).

use std::fmt::Display;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::dispatch::Dispatch;
use crate::dispatch::backoff::Backoff;
use crate::dispatch::dialer::TcpDialer;
use crate::dispatch::link::Link;
use crate::dispatch::supervision::{Event, Loss};
use crate::dispatch::traffic::{LinkEnd, Traffic};
use crate::monitor::metrics::Reject;

/// Runs until its instance has left. Not cancel safe for what is queued: only the end of the worker drops it.
pub(crate) async fn supervise(link: Rc<Link>, dispatch: Rc<Dispatch>, dialer: Rc<TcpDialer>) {
    let limits = &dispatch.settings.limits;
    let mut backoff = Backoff::new(limits.backoff_first, limits.backoff_max);
    let mut reported = false;
    let mut pause = Duration::ZERO;
    loop {
        let attempt = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            dispatch.on(&link, Event::Dial, Instant::now());
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
                dispatch.on(&link, Event::Lost(Loss::NotReached), Instant::now());
                report_unreached(&link, &error, &mut reported);
                backoff.skip_immediate();
                pause = backoff.next_pause();
                continue;
            }
        };
        let (began, lives) = (Instant::now(), link.lives());
        let end = serve(stream, &link, &dispatch).await;
        if link.is_leaving() {
            report_left(&link, &end);
            return;
        }
        let was_up = link.lives() > lives;
        // One that comes and goes, or never came, is not redialled at once each time (row E7).
        if was_up && began.elapsed() >= limits.backoff_first {
            backoff.reset();
        }
        if was_up {
            report_lost(&link, &dispatch, &end);
            reported = false;
        } else {
            if end == LinkEnd::Refused {
                report_refused(&link, &dispatch, &mut reported);
            } else {
                report_unreached(&link, &end, &mut reported);
            }
            backoff.skip_immediate();
        }
        pause = backoff.next_pause();
    }
}

/// Serves a connection in a task of its own, so that a panic ends the link and not the worker (architecture §4.8).
async fn serve(stream: TcpStream, link: &Rc<Link>, dispatch: &Rc<Dispatch>) -> LinkEnd {
    let mut task = JoinSet::new();
    task.spawn_local(Traffic::new(stream, Rc::clone(link), Rc::clone(dispatch)).run());
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

/// One line per outage; the rest is in the metrics.
fn report_unreached(link: &Link, error: &dyn Display, reported: &mut bool) {
    let instance = &link.instance;
    if !std::mem::replace(reported, true) {
        let what = "is the service running, and is the address right?";
        warn!(event = "link_down", service = instance.service, instance = instance.id,
            address = instance.address, %error, "logic service not reached; {what} Trying again");
    }
}

fn report_refused(link: &Link, dispatch: &Dispatch, reported: &mut bool) {
    let instance = &link.instance;
    dispatch.metrics.reject(Reject::BackendRejected);
    if !std::mem::replace(reported, true) {
        warn!(
            event = "link_refused",
            service = instance.service,
            instance = instance.id,
            gate_id = dispatch.settings.gate_id,
            "the logic service knows another link with this gateway id; trying again. If two gateways run, give each its own gateway.id"
        );
    }
}

fn report_lost(link: &Link, dispatch: &Dispatch, end: &LinkEnd) {
    let instance = &link.instance;
    dispatch.metrics.reject(Reject::BackendDown);
    warn!(event = "link_lost", service = instance.service, instance = instance.id, reason = %end,
        "logic service lost; its queued requests move, its sent ones are answered 210");
}
