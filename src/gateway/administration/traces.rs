//! The packets of one account, as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep};

use super::acts::{body, check_whom};
use super::context::{Administration, Answered, ApiRefusal};
use crate::admin::mailbox::Question;
use crate::admin::model::Problem;
use crate::admin::orders::{TraceOrder, Whom};
use crate::admin::{AdminAnswer, AdminRequest, LineStream};
use crate::limits::{TRACE_SECONDS, TRACES_AT_ONCE};
use crate::packet_trace::{TapReader, TraceSubject, tap};

/// How often whoever watches is told that nothing happens: so the gateway learns that nobody watches any more.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Lines of one piece of the answer.
const LINES_AT_ONCE: usize = 64;

/// Shows each packet of an account as a line of JSON, without bodies, until the time is over or whoever asked leaves. Other
/// lines hold only `dropped`, the number of lines that found no place; the last one has `ended` as well.
#[utoipa::path(post, path = "/api/v1/trace", request_body = TraceOrder, responses(
    (status = 200, description = "lines of JSON, each a packet", content_type = "application/x-ndjson", body = String),
    (status = 400, description = "nobody is named, or a value is none", body = Problem),
    (status = 409, description = "as many traces as may be are under way", body = Problem),
))]
pub(super) fn trace(of: &Administration, request: &AdminRequest) -> Answered {
    let order: TraceOrder = body(request)?;
    check_whom(&Whom { app: order.app.clone(), account: Some(order.account.clone()), ..Whom::default() })?;
    let seconds = order.seconds.unwrap_or(TRACE_SECONDS);
    if !(1..=TRACE_SECONDS).contains(&seconds) {
        return Err(ApiRefusal::Asked(format!("seconds: is {seconds}; allowed is 1 to {TRACE_SECONDS}")));
    }
    let place = Arc::clone(&of.traces).try_acquire_owned().map_err(|_| {
        let problem = format!("{TRACES_AT_ONCE} accounts are watched already; wait until a trace ends");
        ApiRefusal::Conflict(problem)
    })?;
    let (tap, reader) = tap(TraceSubject { app: order.app, account: order.account });
    of.mailboxes.ask(|reply| Question::Trace(tap.clone(), reply))?;
    let mut trace = RunningTrace::new(reader, Duration::from_secs(seconds), place);
    Ok(AdminAnswer::stream(LineStream::new(move |cx| trace.poll_next(cx))))
}

/// What is told beside packets.
#[derive(Serialize)]
struct TraceNote {
    dropped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<&'static str>,
}

/// A trace that somebody reads. Its drop ends it on every worker.
struct RunningTrace {
    reader: TapReader,
    end: Pin<Box<Sleep>>,
    sign_of_life: Interval,
    has_ended: bool,
    _place: OwnedSemaphorePermit,
}

impl RunningTrace {
    fn new(reader: TapReader, time: Duration, place: OwnedSemaphorePermit) -> Self {
        let mut sign_of_life = interval_at(Instant::now() + SIGN_OF_LIFE, SIGN_OF_LIFE);
        sign_of_life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { reader, end: Box::pin(sleep(time)), sign_of_life, has_ended: false, _place: place }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // First, so that an account that never rests does not keep it open.
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(self.ended("the time is over")));
        }
        let mut lines = Vec::new();
        for _ in 0..LINES_AT_ONCE {
            match self.reader.poll_line(cx) {
                Poll::Ready(Some(line)) => put(&mut lines, &line),
                Poll::Ready(None) if lines.is_empty() => {
                    return Poll::Ready(Some(self.ended("the gateway ends")));
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !lines.is_empty() {
            return Poll::Ready(Some(lines.into()));
        }
        self.sign_of_life.poll_tick(cx).map(|_| Some(self.note(None)))
    }

    fn ended(&mut self, why: &'static str) -> Bytes {
        self.has_ended = true;
        self.note(Some(why))
    }

    fn note(&self, ended: Option<&'static str>) -> Bytes {
        let mut line = Vec::new();
        put(&mut line, &TraceNote { dropped: self.reader.dropped(), ended });
        line.into()
    }
}

/// Writing numbers and texts to memory does not fail.
fn put(lines: &mut Vec<u8>, line: &impl Serialize) {
    if serde_json::to_writer(&mut *lines, line).is_ok() {
        lines.push(b'\n');
    }
}
