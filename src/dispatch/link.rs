//! The handle of one logic instance: what its link's task and the rest of the worker share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use crate::config::Instance;
use crate::dispatch::maturity::{Age, Maturity, Rule};
use crate::dispatch::queue::{Bounds, Cargo, Item, Progress, SendQueue};
use crate::monitor::metrics::{LinkMetrics, LinkState};
use crate::session::pending::InstanceKey;
use crate::session::wake::Wake;
use crate::wire::packet::Encoded;

/// One logic instance as this worker sees it. There is at most one connection to it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) key: InstanceKey,
    pub(crate) instance: Instance,
    pub(crate) metrics: Arc<LinkMetrics>,
    queue: RefCell<SendQueue>,
    maturity: Cell<Maturity>,
    wake: Wake,
}

impl Link {
    pub(crate) fn new(
        key: InstanceKey,
        instance: Instance,
        bounds: Bounds,
        metrics: Arc<LinkMetrics>,
    ) -> Rc<Self> {
        let queue = RefCell::new(SendQueue::new(key, bounds));
        Rc::new(Self {
            key,
            instance,
            metrics,
            queue,
            // The list of the configuration is all there is from the start.
            maturity: Cell::new(Maturity::new(true)),
            wake: Wake::default(),
        })
    }

    /// Is its connection up?
    pub(crate) fn is_live(&self) -> bool {
        self.age().is_some()
    }

    /// Young or adult; none while its connection is not up.
    pub(crate) fn age(&self) -> Option<Age> {
        self.maturity.get().age()
    }

    /// The first sign of life on a new connection.
    pub(crate) fn came_up(&self, now: Instant, rule: &Rule) {
        let before = self.maturity.get();
        if before.is_lost() {
            self.metrics.reconnected();
        }
        self.grow_to(before.came_up(now, rule));
    }

    /// Its connection broke.
    pub(crate) fn was_lost(&self, now: Instant) {
        self.maturity.set(self.maturity.get().lost(now));
    }

    /// When it will be adult, if it is young.
    pub(crate) fn adult_at(&self) -> Option<Instant> {
        self.maturity.get().next_due()
    }

    /// Lets time pass: true if it was young and is adult from now on.
    pub(crate) fn grow(&self, now: Instant) -> bool {
        let is_due = self.adult_at().is_some_and(|due| due <= now);
        if is_due {
            self.grow_to(self.maturity.get().grown(now));
        }
        is_due
    }

    fn grow_to(&self, maturity: Maturity) {
        self.maturity.set(maturity);
        let is_adult = maturity.age() == Some(Age::Adult);
        self.metrics.set_state(if is_adult { LinkState::Up } else { LinkState::Young });
    }

    /// The link's task waits here.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.wake.register(cx);
    }

    /// May a request of `bytes` be queued?
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.queue.borrow().has_room(bytes)
    }

    /// Appends to the queue and has the link's task write.
    pub(crate) fn enqueue(&self, cargo: Cargo, frame: Encoded) {
        self.change(|queue| queue.push(cargo, frame));
        self.wake.wake();
    }

    /// Queues a ping or pong ahead of what has not begun.
    pub(crate) fn enqueue_control(&self, frame: Encoded) {
        self.change(|queue| queue.push_control(frame));
        self.wake.wake();
    }

    /// Takes a request out before its first byte was written; false when it is too late.
    pub(crate) fn cancel(&self, number: u64) -> bool {
        self.change(|queue| queue.cancel(number))
    }

    /// Is there nothing to write?
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Shows the queued frames to a writer.
    pub(crate) fn write_with<R>(&self, write: impl FnOnce(&mut dyn Iterator<Item = &Encoded>) -> R) -> R {
        write(&mut self.queue.borrow().frames())
    }

    /// The socket took `written` bytes.
    pub(crate) fn advance(&self, written: usize, report: impl FnMut(Progress)) {
        self.change(|queue| queue.advance(written, report));
    }

    /// Empties the queue of a broken link.
    pub(crate) fn take_unsent(&self) -> Vec<Item> {
        self.change(SendQueue::take_unsent)
    }

    /// Every change goes through here, so that the depth gauges cannot drift.
    fn change<R>(&self, change: impl FnOnce(&mut SendQueue) -> R) -> R {
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
