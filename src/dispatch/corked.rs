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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Context;

    use bytes::Bytes;

    use super::*;
    use crate::limits::Limits;
    use crate::session::fixtures::{CountingWaker, TestMetrics};
    use crate::session::outgoing::{OutgoingBounds, StreamId};
    use crate::wire::packet::Encoded;

    struct Receiver {
        outgoing: Rc<Outgoing>,
        woken: Arc<CountingWaker>,
    }

    impl Receiver {
        /// Whose task has had its first turn.
        fn new(test_metrics: &TestMetrics) -> Self {
            let bounds = OutgoingBounds::of(&Limits::default());
            let outgoing = Rc::new(Outgoing::new(bounds, Arc::clone(&test_metrics.worker)));
            outgoing.add_stream(StreamId::LOGIN);
            outgoing.set_push_stream(StreamId::LOGIN);
            let (woken, waker) = CountingWaker::new();
            outgoing.begin_poll(&Context::from_waker(&waker));
            outgoing.end_poll();
            Self { outgoing, woken }
        }

        fn push(&self, corked: &Corked) {
            self.outgoing.push_corked(Encoded::whole(Bytes::from_static(b"push"))).unwrap();
            corked.add(&self.outgoing);
        }
    }

    #[test]
    fn e5_a_burst_wakes_each_receiver_once_and_few_of_them_in_a_turn() {
        let test_metrics = TestMetrics::new();
        let crowd: Vec<_> = (0..3 * WAKES_PER_TURN).map(|_| Receiver::new(&test_metrics)).collect();
        let corked = Corked::default();
        for _ in 0..64 {
            crowd.iter().for_each(|receiver| receiver.push(&corked));
        }
        let woken = || crowd.iter().map(|receiver| receiver.woken.rung()).collect::<Vec<_>>();
        assert!(woken().iter().all(|count| *count == 0), "what follows is to be in the same write");
        for turn in 1..=3 {
            corked.release_some();
            let expected: Vec<_> = (0..crowd.len()).map(|n| usize::from(n < turn * WAKES_PER_TURN)).collect();
            assert_eq!(woken(), expected, "the longest waiting first");
        }
        assert!(corked.is_empty());
    }

    #[test]
    fn e5_a_receiver_that_had_a_turn_meanwhile_is_not_woken_for_what_it_has_written() {
        let test_metrics = TestMetrics::new();
        let (alice, corked) = (Receiver::new(&test_metrics), Corked::default());
        alice.push(&corked);
        let (woken, waker) = CountingWaker::new();
        alice.outgoing.begin_poll(&Context::from_waker(&waker));
        alice.outgoing.end_poll();
        corked.release_some();
        assert_eq!(woken.rung(), 0);
        alice.push(&corked);
        corked.release_some();
        assert_eq!(woken.rung(), 1);
    }
}
