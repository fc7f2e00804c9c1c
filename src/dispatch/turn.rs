//! How much a link may do before others have their turn (ARCHITECTURE §4.2).

use std::time::Instant;

use crate::limits::{LINK_TURN, STEPS_PER_LOOK, WAKES_PER_TURN};

/// One turn of a link's task. What wakes a connection is counted, because each of those will write before the next turn;
/// the rest is bounded by time, because it only fills queues.
#[derive(Debug)]
pub(crate) struct LinkTurn {
    ends: Instant,
    /// Until the clock is looked at.
    steps: usize,
    wakes: usize,
}

impl LinkTurn {
    pub(crate) fn new(now: Instant) -> Self {
        Self { ends: now + LINK_TURN, steps: STEPS_PER_LOOK, wakes: WAKES_PER_TURN }
    }

    /// A connection was woken.
    pub(crate) const fn woke(&mut self) {
        self.wakes = self.wakes.saturating_sub(1);
    }

    /// One step more; true when there may be none. It may not be the first: a turn always brings something forward.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.wakes == 0 {
            return true;
        }
        match self.steps.checked_sub(1) {
            Some(steps) => self.steps = steps,
            None if Instant::now() >= self.ends => return true,
            None => self.steps = STEPS_PER_LOOK,
        }
        false
    }
}
