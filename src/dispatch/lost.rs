//! What a broken link leaves behind: requests it had sent, on their way to be answered 210, and receivers of its pushes that
//! were not woken yet. A crowd is looked for, answered and woken in slices.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::dispatch::corked::Corked;
use crate::session::channel::{Channel, Ticket};
use crate::session::channels::{Channels, PARTS};
use crate::session::spare;

/// See the module. They stand in the tables of their channels until they are answered.
#[derive(Debug, Default)]
pub(super) struct Lost {
    tickets: RefCell<VecDeque<Rc<Ticket>>>,
    /// Parts of the channels that are still to be searched.
    unsearched: Cell<usize>,
    corked: Corked,
    changed: Notify,
}

impl Lost {
    /// A link broke: every channel may have lost something.
    pub(super) fn search(&self) {
        self.unsearched.set(PARTS);
        self.changed.notify_one();
    }

    /// These receivers are woken from here.
    pub(super) fn wake(&self, corked: &Corked) {
        self.corked.take_over(corked);
        self.changed.notify_one();
    }

    /// Wakes some of them.
    pub(super) fn wake_some(&self) {
        self.corked.release_some();
    }

    /// Returns `true` if anything is left to do.
    pub(super) fn is_any(&self) -> bool {
        self.unsearched.get() > 0 || !self.tickets.borrow().is_empty() || !self.corked.is_empty()
    }

    /// The next one that was lost; it may have been answered meanwhile. Takes from `left` as much as it looked at, and
    /// finds none when that is used up.
    pub(super) fn take(&self, channels: &Channels, left: &mut usize) -> Option<Rc<Ticket>> {
        let mut tickets = self.tickets.borrow_mut();
        while tickets.is_empty()
            && *left > 0
            && let Some(part) = self.unsearched.get().checked_sub(1)
        {
            self.unsearched.set(part);
            let look = |channel: &Rc<Channel>| tickets.extend(channel.pending.borrow().lost().cloned());
            *left = left.saturating_sub(channels.for_each_in(part, look));
        }
        *left = left.saturating_sub(1);
        let ticket = tickets.pop_front();
        spare::shrink_queue(&mut tickets);
        ticket
    }

    /// Waits until there is something to do. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
