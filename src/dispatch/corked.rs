//! Connections that have got pushes of one link and were not woken yet.
//!
//! Were each woken at once, a burst of pushes to a crowd would be written one by one: the link has to let others run
//! long before it has delivered a burst, and those woken would run first. So a link wakes a few connections in each of
//! its turns, those that have waited longest. Until then what follows is queued behind what is there, and all of it
//! leaves in one write. Nothing waits for a clock: when nothing else is to be done, a turn follows a turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits::{CHANNELS_PER_TURN, CORKED_BYTES, WAKES_PER_TURN};
use crate::session::outgoing::Outgoing;
use crate::session::spare;

/// See the module. Each receiver stands here once, whoever has put it in.
#[derive(Debug, Default)]
pub(crate) struct Corked {
    /// The longest waiting first.
    receivers: RefCell<VecDeque<Rc<Outgoing>>>,
    /// What was queued for them, as far as it can be told without asking them.
    bytes: Cell<usize>,
}

impl Corked {
    /// So many bytes were queued for this connection, which is woken later, unless something else wakes it before.
    pub(crate) fn add(&self, outgoing: &Rc<Outgoing>, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if outgoing.cork() {
            self.receivers.borrow_mut().push_back(Rc::clone(outgoing));
        }
    }

    /// Returns `true` if none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.receivers.borrow().is_empty()
    }

    /// Returns `true` if so much is queued for them that nothing may be added before some of them have written.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.get() >= CORKED_BYTES
    }

    /// Wakes as many as may be in one turn. Those that had a turn of their own meanwhile are passed over.
    pub(crate) fn release_some(&self) {
        let mut receivers = self.receivers.borrow_mut();
        let before = receivers.len();
        let mut wakes = WAKES_PER_TURN;
        for _ in 0..CHANNELS_PER_TURN {
            if wakes == 0 {
                break;
            }
            let Some(outgoing) = receivers.pop_front() else { break };
            wakes -= usize::from(outgoing.uncork());
        }
        // Each is taken to have had its share.
        let left = self.bytes.get().checked_div(before).unwrap_or(0).saturating_mul(receivers.len());
        self.bytes.set(left);
        spare::shrink_queue(&mut receivers);
    }

    /// All that wait with another one wait here.
    pub(crate) fn take_over(&self, other: &Self) {
        self.receivers.borrow_mut().append(&mut other.receivers.borrow_mut());
        self.bytes.set(self.bytes.get().saturating_add(other.bytes.take()));
    }
}

impl Drop for Corked {
    /// None waits for ever.
    fn drop(&mut self) {
        self.receivers.get_mut().drain(..).for_each(|outgoing| {
            outgoing.uncork();
        });
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

        /// Woken by something else.
        fn has_a_turn(&self) {
            self.outgoing.begin_poll(&Context::from_waker(&Arc::clone(&self.woken).into()));
            let written = self.outgoing.write_with(StreamId::LOGIN, |frames| frames.map(Encoded::len).sum());
            self.outgoing.advance(StreamId::LOGIN, written);
            self.outgoing.end_poll();
        }

        fn push(&self, corked: &Corked) {
            self.outgoing.push_corked(Encoded::whole(Bytes::from_static(b"push"))).unwrap();
            corked.add(&self.outgoing, b"push".len());
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

    #[test]
    fn e5_receivers_that_have_turns_of_their_own_neither_fill_the_list_nor_keep_others_waiting() {
        let test_metrics = TestMetrics::new();
        let busy: Vec<_> = (0..4 * WAKES_PER_TURN).map(|_| Receiver::new(&test_metrics)).collect();
        let (quiet, corked) = (Receiver::new(&test_metrics), Corked::default());
        quiet.push(&corked);
        for _ in 0..100 {
            for receiver in &busy {
                receiver.has_a_turn();
                receiver.push(&corked);
            }
            corked.release_some();
            assert!(corked.receivers.borrow().len() <= busy.len() + 1);
        }
        assert_eq!(quiet.woken.rung(), 1);
        busy.iter().for_each(Receiver::has_a_turn);
        quiet.push(&corked);
        corked.release_some();
        assert_eq!(quiet.woken.rung(), 2, "those who need no waking do not count");
    }

    #[test]
    fn e19_so_much_is_queued_before_some_have_written_and_no_more() {
        let test_metrics = TestMetrics::new();
        let crowd: Vec<_> = (0..2 * WAKES_PER_TURN).map(|_| Receiver::new(&test_metrics)).collect();
        let corked = Corked::default();
        crowd.iter().for_each(|receiver| corked.add(&receiver.outgoing, CORKED_BYTES / crowd.len()));
        assert!(corked.is_full());
        corked.release_some();
        assert!(!corked.is_full() && corked.bytes.get() > 0);
        corked.release_some();
        assert_eq!(corked.bytes.get(), 0);
    }

    #[test]
    fn e7_who_waited_with_a_link_that_is_gone_is_woken_all_the_same() {
        let test_metrics = TestMetrics::new();
        let [alice, bob] = [Receiver::new(&test_metrics), Receiver::new(&test_metrics)];
        let (of_link, of_worker) = (Corked::default(), Corked::default());
        alice.push(&of_link);
        of_worker.take_over(&of_link);
        drop(of_link);
        assert_eq!(alice.woken.rung(), 0);
        of_worker.release_some();
        assert_eq!(alice.woken.rung(), 1);
        bob.push(&of_worker);
        drop(of_worker);
        assert_eq!(bob.woken.rung(), 1);
    }
}
