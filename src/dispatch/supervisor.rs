//! Keeps one link: dial, shake hands, serve, notice its end, back off, dial again (protocol §5).

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, warn};

use crate::dispatch::Dispatch;
use crate::dispatch::backoff::Backoff;
use crate::dispatch::dialer::TcpDialer;
use crate::dispatch::link::Link;
use crate::dispatch::traffic::{LinkEnd, Traffic};
use crate::monitor::metrics::{LinkState, Reject};

/// Runs until it is dropped. Not cancel safe for what is queued: only the end of the worker drops it.
pub(crate) async fn supervise(link: Rc<Link>, dispatch: Rc<Dispatch>, dialer: Rc<TcpDialer>) {
    let limits = &dispatch.settings.limits;
    let mut backoff = Backoff::new(limits.backoff_first, limits.backoff_max);
    let mut reported = false;
    let mut pause = Duration::ZERO;
    loop {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        link.metrics.set_state(LinkState::Dialing);
        let stream = match dialer.dial_and_handshake(&link.instance.address).await {
            Ok(stream) => stream,
            Err(error) => {
                // One line per outage; the rest is in the metrics.
                if !std::mem::replace(&mut reported, true) {
                    let what = "is the service running, and is the address right?";
                    let instance = &link.instance;
                    warn!(event = "link_down", service = instance.service, instance = instance.id,
                        address = instance.address, %error, "logic service not reached; {what} Trying again");
                }
                link.metrics.set_state(LinkState::Backoff);
                backoff.skip_immediate();
                pause = backoff.next_pause();
                continue;
            }
        };
        let began = Instant::now();
        let end = serve(stream, &link, &dispatch).await;
        // One that comes and goes is not redialled at once each time (row E7).
        if began.elapsed() >= limits.backoff_first {
            backoff.reset();
        }
        report_end(&link, &dispatch, &end, &mut reported);
        if end == LinkEnd::Refused {
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

fn report_end(link: &Link, dispatch: &Dispatch, end: &LinkEnd, reported: &mut bool) {
    let instance = &link.instance;
    if *end == LinkEnd::Refused {
        dispatch.metrics.reject(Reject::BackendRejected);
        link.metrics.set_state(LinkState::Refused);
        if !std::mem::replace(reported, true) {
            warn!(
                event = "link_refused",
                service = instance.service,
                instance = instance.id,
                gate_id = dispatch.settings.gate_id,
                "the logic service knows another link with this gateway id; trying again. If two gateways run, \
                 give each its own gateway.id"
            );
        }
        return;
    }
    *reported = false;
    dispatch.metrics.reject(Reject::BackendDown);
    link.metrics.set_state(LinkState::Backoff);
    warn!(event = "link_lost", service = instance.service, instance = instance.id, reason = %end,
        "logic service lost; its queued requests move, its sent ones are answered 210");
}
