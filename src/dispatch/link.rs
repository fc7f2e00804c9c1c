//! The handle of one logic instance: what its link's task and the rest of the worker share.

use std::cell::{Cell, Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::config::Instance;
use crate::dispatch::corked::Corked;
use crate::dispatch::health::{Health, HealthEvent, Loss, Rule, Standing, Transition};
use crate::dispatch::queue::{LinkQueue, Payload, QueueBounds};
use crate::dispatch::zones::LinkPresence;
use crate::monitor::metrics::{LinkMetrics, LinkState};
use crate::session::local_waker::LocalWaker;
use crate::session::pending::{InstanceKey, Load};
use crate::wire::frame::FrameError;
use crate::wire::packet::Encoded;

/// How a link ends whose instance has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    /// Until then, channels that wait for an answer of the instance send it what follows, to keep their order.
    pub(crate) follow_until: Instant,
    /// It ends when it owes nothing more, and by then at the latest.
    pub(crate) by: Instant,
}

/// Why a link is in its state.
#[derive(Debug, Default)]
pub(crate) struct LinkReason {
    /// Since when it is; none since it is known.
    pub(crate) since: Option<Instant>,
    /// A word of a fixed set.
    pub(crate) reason: &'static str,
    /// How its connection ended last, or why none came about.
    pub(crate) trouble: Option<Box<str>>,
}

/// One logic instance as this worker sees it. There is at most one connection to it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) key: InstanceKey,
    pub(crate) instance: Instance,
    pub(crate) metrics: Arc<LinkMetrics>,
    /// Of its connection; one that broke keeps what it owed.
    load: RefCell<Rc<Load>>,
    queue: RefCell<LinkQueue>,
    health: RefCell<Health>,
    /// How often its connection came up.
    lives: Cell<u64>,
    /// The administrator was told that it is lost, or refused.
    is_told_lost: Cell<bool>,
    /// Its instance has left.
    drain: Cell<Option<Drain>>,
    /// Since when an operator has its instance ejected, however well it is.
    set_aside: Cell<Option<Instant>>,
    /// Sign-outs that its connection took and that were not answered. The Go services answer each, the embedded one none.
    signouts: Cell<u64>,
    /// When its connection's task was last at work.
    last_poll: Cell<Option<Instant>>,
    /// It has a task that keeps it connected.
    has_task: Cell<bool>,
    /// Why it is in its state, and since when.
    why: RefCell<LinkReason>,
    /// Those whom its pushes are for, until they are woken.
    pub(crate) corked: Corked,
    /// Its connection's task waits here.
    pub(super) wake: LocalWaker,
}

impl Link {
    pub(crate) fn new(
        key: InstanceKey,
        instance: Instance,
        is_of_first_set: bool,
        bounds: QueueBounds,
        metrics: Arc<LinkMetrics>,
    ) -> Rc<Self> {
        let queue = RefCell::new(LinkQueue::new(key, bounds));
        Rc::new(Self {
            key,
            instance,
            metrics,
            load: RefCell::default(),
            queue,
            health: RefCell::new(Health::new(is_of_first_set)),
            lives: Cell::new(0),
            is_told_lost: Cell::new(false),
            drain: Cell::new(None),
            set_aside: Cell::new(None),
            signouts: Cell::new(0),
            last_poll: Cell::new(None),
            has_task: Cell::new(false),
            why: RefCell::default(),
            corked: Corked::default(),
            wake: LocalWaker::default(),
        })
    }

    /// Returns `true` if its connection is up and has to stay.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_leaving() && self.health.borrow().standing().is_some()
    }

    /// What the selector may do with it; none while its connection is not up, none when its instance has left, and none
    /// while an operator has it ejected.
    pub(crate) fn standing(&self) -> Option<Standing> {
        if self.is_leaving() || self.is_set_aside() { None } else { self.health.borrow().standing() }
    }

    /// An operator has ejected its instance, then; or has returned it.
    pub(crate) fn set_aside(&self, since: Option<Instant>) {
        self.set_aside.set(since);
        self.metrics.set_state(self.state());
    }

    /// Since when an operator has its instance ejected.
    pub(crate) fn set_aside_since(&self) -> Option<Instant> {
        self.set_aside.get()
    }

    /// Returns `true` while an operator has its instance ejected.
    pub(crate) fn is_set_aside(&self) -> bool {
        self.set_aside.get().is_some()
    }

    /// Its state, as log and metrics name it: one that an operator has ejected is ejected while it is connected.
    pub(crate) fn state(&self) -> LinkState {
        let health = self.health.borrow();
        match health.standing() {
            Some(_) if self.is_set_aside() => LinkState::Ejected,
            _ => health.state(),
        }
    }

    /// How things stand with it, as the administrator was told.
    pub(crate) fn presence(&self) -> LinkPresence {
        match (self.health.borrow().standing(), self.is_told_lost.get()) {
            (Some(_), _) => LinkPresence::Linked,
            (None, false) => LinkPresence::Awaited,
            (None, true) => LinkPresence::Lost,
        }
    }

    /// The administrator was told that it is lost; false if that is no news.
    pub(crate) fn tell_lost(&self) -> bool {
        !self.is_told_lost.replace(true)
    }

    /// How often its connection came up.
    pub(crate) fn lives(&self) -> u64 {
        self.lives.get()
    }

    /// The task of its connection is at work; how long it was not. Nothing for a connection that begins.
    pub(crate) fn note_poll(&self, now: Instant) -> Duration {
        let last = self.last_poll.replace(Some(now));
        last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last))
    }

    /// The connection is over, or not there yet.
    pub(crate) fn rest(&self) {
        self.last_poll.set(None);
        self.signouts.set(0);
    }

    /// Its connection took a sign-out.
    pub(crate) fn signed_out(&self) {
        self.signouts.set(self.signouts.get() + 1);
    }

    /// An answer to a sign-out came; false if none is expected.
    pub(crate) fn signout_answered(&self) -> bool {
        let left = self.signouts.get().checked_sub(1);
        left.map(|left| self.signouts.set(left)).is_some()
    }

    /// Returns `true` if the task of its connection was not at work for longer than this. Then what came is not read.
    pub(crate) fn stands_still(&self, now: Instant, limit: Duration) -> bool {
        self.last_poll.get().is_some_and(|last| now.saturating_duration_since(last) > limit)
    }

    /// Lets something happen to it; tells what of it is worth a word.
    pub(crate) fn on(&self, event: HealthEvent, now: Instant, rule: &Rule) -> Option<Transition> {
        let was_up = self.health.borrow().was_up();
        let transition = self.health.borrow_mut().on(event, now, rule);
        if event == HealthEvent::Alive && transition.is_some() {
            self.lives.set(self.lives.get() + 1);
            self.is_told_lost.set(false);
            if was_up {
                self.metrics.reconnected();
            }
        }
        self.metrics.set_state(self.state());
        if let Some(transition) = transition {
            let mut why = self.why.borrow_mut();
            (why.since, why.reason) = (Some(now), transition.reason);
        }
        transition
    }

    /// What the administrator was told of its last loss.
    pub(crate) fn note_trouble(&self, detail: &str) {
        self.why.borrow_mut().trouble = Some(detail.into());
    }

    /// Why it is in its state.
    pub(crate) fn why(&self) -> Ref<'_, LinkReason> {
        self.why.borrow()
    }

    /// How many requests it owes an answer.
    pub(crate) fn load(&self) -> usize {
        self.load.borrow().get()
    }

    /// Its connection broke: it owes nothing any more, and what was sent over that is lost.
    pub(crate) fn lose(&self) {
        self.load.take().lose();
    }

    /// Its instance left: it ends when it owes nothing more, and by then at the latest.
    pub(crate) fn drain(&self, drain: Drain) {
        self.drain.set(Some(drain));
        self.wake.wake();
    }

    /// Its instance is back, the same in everything, before it ended.
    pub(crate) fn undrain(&self) {
        self.drain.set(None);
    }

    /// Returns `true` if its instance has left.
    pub(crate) fn is_leaving(&self) -> bool {
        self.drain.get().is_some()
    }

    /// When it ends at the latest, if its instance has left.
    pub(crate) fn leaves_by(&self) -> Option<Instant> {
        self.drain.get().map(|drain| drain.by)
    }

    /// Returns `true` if its instance has left, and channels that still wait for it send what follows there, too.
    pub(crate) fn takes_followers(&self, now: Instant) -> bool {
        let is_up = self.health.borrow().standing().is_some_and(|standing| standing <= Standing::Warming);
        is_up && self.drain.get().is_some_and(|drain| now < drain.follow_until)
    }

    /// Returns `true` if there is nothing any more to wait for, once its instance has left. While it lives, what it
    /// owes may come.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        let is_done = || self.load() == 0 && self.queue().is_empty();
        self.leaves_by().is_some_and(|by| now >= by || is_done())
    }

    /// Resolves when its instance has left. Only for whoever runs the link, while no connection of it is served.
    /// Cancel safe.
    pub(crate) async fn left(&self) {
        poll_fn(|cx| {
            self.wake.register(cx);
            if self.is_leaving() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Returns `true` if a task keeps it connected.
    pub(super) fn has_task(&self) -> bool {
        self.has_task.get()
    }

    /// Its task begins, or has ended.
    pub(super) fn set_task(&self, runs: bool) {
        self.has_task.set(runs);
    }

    /// How well it is. [`Link::standing`] is what the selector may make of it.
    pub(crate) fn health(&self) -> Ref<'_, Health> {
        self.health.borrow()
    }

    /// What waits to be written to it. Not to be kept: whatever changes the queue panics meanwhile.
    pub(crate) fn queue(&self) -> Ref<'_, LinkQueue> {
        self.queue.borrow()
    }

    /// Appends to the queue and has the link's task write.
    pub(crate) fn enqueue(&self, payload: Payload, frame: Encoded) {
        if let Payload::Request(ticket) = &payload {
            ticket.burden(&self.load.borrow());
        }
        self.change_queue(|queue| queue.push(payload, frame));
        self.wake.wake();
    }

    /// Queues a ping or pong ahead of what has not begun.
    pub(crate) fn enqueue_control(&self, frame: Encoded) {
        self.change_queue(|queue| queue.push_control(frame));
        self.wake.wake();
    }

    /// Every change goes through here, so that the depth gauges cannot drift.
    pub(crate) fn change_queue<R>(&self, change: impl FnOnce(&mut LinkQueue) -> R) -> R {
        let mut queue = self.queue.borrow_mut();
        let before = queue.depth();
        let result = change(&mut queue);
        let after = queue.depth();
        if before != after {
            self.metrics.queued(difference(before.0, after.0), difference(before.1, after.1));
        }
        result
    }
}

fn difference(before: usize, after: usize) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX)
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// A close frame and nothing else came: the service does not want this gateway id.
    Refused,
    /// The service took a newer link with this gateway's id in its place. This gateway made none: another one did.
    Replaced,
    /// A close frame.
    Closed,
    /// The connection ended.
    Eof,
    /// The connection broke.
    Io(String),
    /// No byte for so long, pings notwithstanding (row E2).
    Silent,
    /// A frame began and did not end in this time, whatever came meanwhile (row H13).
    SlowFrame(Duration),
    /// Not one byte after the handshake in that time.
    Mute,
    /// Not a frame (row E4).
    BadFrame(FrameError),
    /// Its instance has left the set, and it owed nothing more or had had its time (row E11).
    Left,
    /// The task that served it panicked: a fault of the gateway (row F10).
    Panicked,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Replaced => f.write_str("replaced by the link of another gateway with the same id"),
            Self::Closed => f.write_str("closed by the service"),
            Self::Eof => f.write_str("connection ended"),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Silent => f.write_str("no answer to pings"),
            Self::SlowFrame(limit) => write!(f, "a frame that had begun did not end within {limit:?}"),
            Self::Mute => f.write_str("no sign of life after the handshake"),
            Self::BadFrame(error) => write!(f, "bad frame: {error}"),
            Self::Left => f.write_str("no longer in the set of instances"),
            Self::Panicked => f.write_str("a fault of the gateway; please report this"),
        }
    }
}

impl LinkEnd {
    /// What it means to health.
    pub(super) fn loss(&self) -> Loss {
        match self {
            Self::Refused => Loss::Refused,
            Self::Replaced | Self::Closed | Self::Eof | Self::Io(_) => Loss::Ended,
            // What begins a frame and stays within it is as good as silent.
            Self::Silent | Self::SlowFrame(_) => Loss::Silent,
            Self::Mute => Loss::NotReached,
            Self::BadFrame(_) | Self::Left | Self::Panicked => Loss::Given,
        }
    }
}

impl From<io::Error> for LinkEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}
