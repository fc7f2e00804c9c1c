//! Who watches whom, on one worker.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::packet::{TraceLine, TracedPacket};
use crate::limits::TRACE_LINES;

/// Whom a trace is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceSubject {
    /// Any, without one.
    pub(crate) app: Option<String>,
    pub(crate) account: String,
}

impl TraceSubject {
    pub(crate) fn is(&self, app: &str, account: &str) -> bool {
        self.account == account && self.app.as_deref().is_none_or(|wanted| wanted == app)
    }
}

/// The workers' end of one trace. It is over when its reader is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    subject: Arc<TraceSubject>,
    worker: usize,
    lines: Sender<TraceLine>,
    dropped: Arc<AtomicU64>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct TapReader {
    lines: Receiver<TraceLine>,
    dropped: Arc<AtomicU64>,
}

/// A trace of this account.
pub(crate) fn tap(subject: TraceSubject) -> (Tap, TapReader) {
    let (sender, lines) = channel(TRACE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let tap = Tap { subject: Arc::new(subject), worker: 0, lines: sender, dropped: Arc::clone(&dropped) };
    (tap, TapReader { lines, dropped })
}

impl Tap {
    /// The end of this worker.
    pub(crate) fn of_worker(mut self, worker: usize) -> Self {
        self.worker = worker;
        self
    }

    pub(crate) fn is_about(&self, app: &str, account: &str) -> bool {
        self.subject.is(app, account)
    }

    /// Waits for nobody.
    pub(crate) fn tell(&self, whom: (&str, &str), channel: Option<&str>, packet: &TracedPacket<'_>) {
        // Made only where there is a place for it.
        match self.lines.try_reserve() {
            Ok(place) => place.send(TraceLine::new(self.worker, whom, channel, packet)),
            Err(TrySendError::Full(())) => _ = self.dropped.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Closed(())) => {}
        }
    }
}

impl TapReader {
    /// The next line; none when no worker is left.
    pub(crate) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<TraceLine>> {
        self.lines.poll_recv(cx)
    }

    /// Lines that found no place since the trace began.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The traces of one worker. Those that are over are forgotten whenever the others are looked at.
#[derive(Debug, Default)]
pub(crate) struct Taps(RefCell<Vec<Tap>>);

impl Taps {
    pub(crate) fn add(&self, tap: Tap) {
        let mut taps = self.0.borrow_mut();
        taps.retain(|tap| !tap.lines.is_closed());
        taps.push(tap);
    }

    /// Returns `true` if somebody watches this account.
    pub(crate) fn is_any_about(&self, app: &str, account: &str) -> bool {
        let mut taps = self.0.borrow_mut();
        // Almost always there is none, and this is asked at each sign-in.
        if taps.is_empty() {
            return false;
        }
        taps.retain(|tap| !tap.lines.is_closed());
        taps.iter().any(|tap| tap.is_about(app, account))
    }

    /// Returns `true` if nobody watches anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Shows a packet to those who watch its account.
    pub(crate) fn tell(&self, whom: (&str, &str), channel: Option<&str>, packet: &TracedPacket<'_>) {
        let taps = self.0.borrow();
        let about = taps.iter().filter(|tap| tap.is_about(whom.0, whom.1));
        about.for_each(|tap| tap.tell(whom, channel, packet));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn alice(app: Option<&str>) -> TraceSubject {
        TraceSubject { app: app.map(str::to_owned), account: "alice".to_owned() }
    }

    fn next(reader: &mut TapReader) -> Option<String> {
        match reader.poll_line(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(line) => line.map(|line| serde_json::to_string(&line).unwrap()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn f17_a_trace_shows_its_account_alone() {
        let taps = Taps::default();
        assert!(!taps.is_any_about("x_im", "alice"));
        let ((one, mut of_app), (other, mut of_any)) = (tap(alice(Some("x_im"))), tap(alice(None)));
        taps.add(one);
        taps.add(other);
        assert!(taps.is_any_about("x_im", "alice") && taps.is_any_about("kim", "alice"));
        assert!(!taps.is_any_about("x_im", "alic"));
        let packet = TracedPacket { command: "chat.user.talk", ..TracedPacket::default() };
        taps.tell(("kim", "alice"), Some("c1"), &packet);
        taps.tell(("x_im", "bob"), Some("c2"), &packet);
        assert_eq!(next(&mut of_app), None);
        let line = next(&mut of_any).unwrap();
        assert!(line.contains("\"channel\":\"c1\"") && line.contains("\"direction\":\"in\""), "{line}");
        assert_eq!(next(&mut of_any), None);
        drop((of_app, of_any));
        assert!(!taps.is_any_about("x_im", "alice") && taps.is_empty(), "whoever has left watches nobody");
    }

    #[test]
    fn f17_a_reader_that_does_not_read_is_not_waited_for_and_is_told() {
        let (tap, mut reader) = tap(alice(None));
        for _ in 0..TRACE_LINES + 3 {
            tap.tell(("x_im", "alice"), None, &TracedPacket::default());
        }
        assert_eq!(reader.dropped(), 3);
        assert!(next(&mut reader).is_some());
        tap.tell(("x_im", "alice"), None, &TracedPacket::default());
        assert_eq!(reader.dropped(), 3);
    }

    #[test]
    fn f17_a_long_command_is_cut_between_characters() {
        let (tap, mut reader) = tap(alice(None));
        let command = format!("x{}", "é".repeat(200));
        tap.tell(("x_im", "alice"), None, &TracedPacket { command: &command, ..TracedPacket::default() });
        let line = next(&mut reader).unwrap();
        assert!(line.contains(&format!("\"command\":\"x{}\"", "é".repeat(127))), "{line}");
    }
}
