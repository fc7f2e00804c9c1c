//! Requests that a broken link had sent, on their way to be answered 210. A crowd that waited for one instance is
//! answered in slices.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::session::pending::{InstanceKey, Stage, Ticket};
use crate::session::spare;

/// See the module. They stand in the tables of their channels until they are answered.
#[derive(Debug, Default)]
pub(super) struct Lost {
    tickets: RefCell<VecDeque<Rc<Ticket>>>,
    changed: Notify,
}

impl Lost {
    /// The link it was sent to `instance` over broke: no answer of a service fits it any more.
    pub(super) fn add(&self, ticket: &Rc<Ticket>, instance: InstanceKey) {
        ticket.set_stage(Stage::Lost(instance));
        let mut tickets = self.tickets.borrow_mut();
        if tickets.is_empty() {
            self.changed.notify_one();
        }
        tickets.push_back(Rc::clone(ticket));
    }

    /// The one that was lost first; it may have been answered meanwhile.
    pub(super) fn take(&self) -> Option<Rc<Ticket>> {
        let mut tickets = self.tickets.borrow_mut();
        let ticket = tickets.pop_front();
        spare::shrink_queue(&mut tickets);
        ticket
    }

    /// Waits until something was added behind nothing. Cancel safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
