//! Connections that have got pushes of one link and were not woken yet.
//!
//! Were each woken at once, a burst of pushes to a crowd would be written one by one: the link has to let others run
//! long before it has delivered a burst, and those woken would run first. So a link wakes a few connections in each of
//! its turns, those that have waited longest. Until then what follows is queued behind what is there, and all of it
//! leaves in one write. Nothing waits for a clock: when nothing else is to be done, a turn follows a turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits::WAKES_PER_TURN;
use crate::session::outgoing::Outgoing;
use crate::session::spare;

/// See the module. Oldest first.
#[derive(Debug, Default)]
pub(crate) struct Corked(RefCell<VecDeque<Rc<Outgoing>>>);

impl Corked {
    /// This connection is woken later, unless something else wakes it before.
    pub(crate) fn add(&self, outgoing: &Rc<Outgoing>) {
        if outgoing.cork() {
            self.0.borrow_mut().push_back(Rc::clone(outgoing));
        }
    }

    /// Returns `true` if none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Wakes as many as may be in one turn.
    pub(crate) fn release_some(&self) {
        let mut corked = self.0.borrow_mut();
        let woken = WAKES_PER_TURN.min(corked.len());
        corked.drain(..woken).for_each(|outgoing| outgoing.uncork());
        spare::shrink_queue(&mut corked);
    }
}
