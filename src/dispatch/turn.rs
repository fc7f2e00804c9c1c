//! How much a link may do before others have their turn (ARCHITECTURE §4.2).

use std::time::Instant;

use crate::limits::{ANSWERS_PER_TURN, LINK_TURN, STEPS_PER_LOOK};

/// One turn of a link's task. Answers are counted, because each wakes a connection that will write before the next turn; the
/// rest is bounded by time, because it only fills queues.
#[derive(Debug)]
pub(crate) struct LinkTurn {
    ends: Instant,
    /// Until the clock is looked at.
    steps: usize,
    answers: usize,
}

impl LinkTurn {
    pub(crate) fn new(now: Instant) -> Self {
        Self { ends: now + LINK_TURN, steps: STEPS_PER_LOOK, answers: ANSWERS_PER_TURN }
    }

    /// An answer was delivered.
    pub(crate) const fn answered(&mut self) {
        self.answers = self.answers.saturating_sub(1);
    }

    /// One step more; true when there may be none. It may not be the first: a turn always brings something forward.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.answers == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e5_a_turn_that_fills_queues_ends_by_the_clock_and_brings_something_forward_however_late_it_is() {
        let now = Instant::now();
        let mut late = LinkTurn::new(now.checked_sub(LINK_TURN).unwrap());
        assert_eq!((0..1000).take_while(|_| !late.is_over()).count(), STEPS_PER_LOOK);
        let mut early = LinkTurn::new(now + LINK_TURN * 1_000_000);
        assert!((0..100 * STEPS_PER_LOOK).all(|_| !early.is_over()));
    }

    #[test]
    fn e5_a_turn_ends_with_the_connections_it_has_woken_for_answers() {
        let mut turn = LinkTurn::new(Instant::now() + LINK_TURN * 1_000_000);
        for _ in 0..ANSWERS_PER_TURN {
            assert!(!turn.is_over());
            turn.answered();
        }
        assert!(turn.is_over());
    }
}
