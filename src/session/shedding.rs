//! Making room when the process has none: the clients that hold most go, or the newest (row F11). Costs as
//! much as there are connections, and is done only when overload demands it.

use std::collections::BinaryHeap;
use std::rc::Rc;

use tokio::task::yield_now;

use crate::limits::CHANNELS_PER_TURN;
use crate::session::channels::Channels;
use crate::session::outgoing::Outgoing;
use crate::wire::close::CloseReason;

/// Closes the clients that hold most, the largest first, until so many bytes are free. What those hold that are ending
/// already is as good as free: nobody else goes for it. Returns how many. Looks at some in a turn.
pub(crate) async fn shed_largest(channels: &Channels, bytes: u64) -> usize {
    let mut candidates: Vec<Rc<Outgoing>> = Vec::new();
    let (mut queues, mut freed) = (Vec::new(), 0);
    let look = |outgoing: &Rc<Outgoing>| {
        let queued = outgoing.held_bytes();
        if outgoing.closing().is_some() {
            freed += queued as u64;
        } else if queued > 0 {
            queues.push((queued, candidates.len()));
            candidates.push(Rc::clone(outgoing));
        }
    };
    channels.for_each_connection(look).await;
    // Sorting all of them would cost more than the few that are taken.
    let mut queues = BinaryHeap::from(queues);
    let (mut shed, mut turns) = (0, 0_usize);
    while freed < bytes
        && let Some((_, candidate)) = queues.pop()
    {
        // Nothing, if it ended or was read meanwhile.
        let dropped = candidates[candidate].shed();
        freed += dropped as u64;
        shed += usize::from(dropped > 0);
        turns += 1;
        if turns.is_multiple_of(CHANNELS_PER_TURN) {
            yield_now().await;
        }
    }
    shed
}

/// Closes this many of the connections that came last. Returns how many there were.
pub(crate) fn close_newest(channels: &Channels, count: usize) -> usize {
    let mut closed = 0;
    channels.for_newest(|outgoing| {
        if closed < count && outgoing.closing().is_none() {
            outgoing.close(CloseReason::Overloaded);
            closed += 1;
        }
        closed < count
    });
    closed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::monitor::metrics::PushDrop;
    use crate::session::channel::Channel;
    use crate::session::channels::{ChannelGuard, ConnectionGuard};
    use crate::session::fixtures::{TestMetrics, channel, origin};
    use crate::session::outgoing::{Full, StreamId};
    use crate::session::signouts::{SignOutBounds, SignOuts};
    use crate::wire::packet::Encoded;

    fn frame() -> Encoded {
        Encoded { head: vec![1; 4].into(), body: vec![2; 6].into() }
    }

    struct ChannelCrowd {
        test_metrics: TestMetrics,
        channels: Rc<Channels>,
        members: Vec<(Rc<Channel>, ChannelGuard, ConnectionGuard)>,
    }

    impl ChannelCrowd {
        /// Connections with so many bytes queued, in messages of 10.
        fn of(queues: &[usize]) -> Self {
            let test_metrics = TestMetrics::new();
            let bounds =
                SignOutBounds { places: 100, hold: Duration::from_secs(4), retry: Duration::from_secs(60) };
            let signouts = SignOuts::new(bounds, Arc::default(), Arc::clone(&test_metrics.worker));
            let channels = Channels::new(signouts, Arc::clone(&test_metrics.worker));
            let members = queues.iter().enumerate().map(|(n, bytes)| {
                let channel = channel(&test_metrics, "alice");
                // The others are still signing in: their pushes are parked.
                if n % 2 == 0 {
                    channel.outgoing.set_push_stream(StreamId::LOGIN);
                }
                let connected = channels.connect(&channel.outgoing, origin());
                let guard = channels.register(Rc::clone(&channel));
                for _ in 0..bytes / 10 {
                    channel.outgoing.push(frame()).unwrap();
                }
                (channel, guard, connected)
            });
            let members = members.collect();
            Self { test_metrics, channels, members }
        }

        fn closing(&self) -> Vec<Option<CloseReason>> {
            self.members.iter().map(|(channel, ..)| channel.outgoing.closing()).collect()
        }
    }

    fn shed(channels: &Channels, bytes: u64) -> usize {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(shed_largest(channels, bytes))
    }

    const SLOW: Option<CloseReason> = Some(CloseReason::SlowConsumer);
    const FULL: Option<CloseReason> = Some(CloseReason::Overloaded);

    #[test]
    fn f11_the_largest_queues_are_shed_first_until_there_is_room_and_no_other() {
        let mut crowd = ChannelCrowd::of(&[30, 200, 0, 100, 90]);
        assert_eq!(crowd.test_metrics.queued(), (42, 420));
        assert_eq!(shed(&crowd.channels, 201), 2);
        assert_eq!(crowd.closing(), [None, SLOW, None, SLOW, None]);
        assert_eq!(crowd.test_metrics.queued(), (12, 120), "at once, not when their tasks get a turn");
        assert_eq!(shed(&crowd.channels, 0), 0);
        assert_eq!(shed(&crowd.channels, 10_000), 2, "only where something is queued");
        assert_eq!(crowd.closing(), [SLOW, SLOW, None, SLOW, SLOW]);
        assert_eq!(shed(&crowd.channels, 10_000), 0);
        assert_eq!(crowd.test_metrics.queued(), (0, 0));
        for (channel, guard, _) in &mut crowd.members {
            assert_eq!(channel.outgoing.unwritten_pushes() > 0, channel.outgoing.closing() == SLOW);
            guard.set_reason(CloseReason::SlowConsumer);
        }
        crowd.members.clear();
        assert_eq!(crowd.test_metrics.queued(), (0, 0), "counted off once");
        assert_eq!(
            crowd.test_metrics.push_drops(PushDrop::SlowConsumer),
            42,
            "every push is accounted for (G9)"
        );
    }

    #[test]
    fn f11_a15_who_sends_parts_of_frames_is_shed_by_their_size_and_was_not_slow() {
        let crowd = ChannelCrowd::of(&[100, 50, 10]);
        for ((channel, ..), bytes) in crowd.members.iter().zip([20, 500, 0]) {
            channel.outgoing.partial.set(bytes);
        }
        let partial = || crowd.test_metrics.value("gateway_partial_bytes");
        assert_eq!(partial(), 520);
        assert_eq!(shed(&crowd.channels, 551), 2);
        assert_eq!(crowd.closing(), [SLOW, FULL, None]);
        assert_eq!((partial(), crowd.test_metrics.queued().1), (0, 10), "at once");
        crowd.members[2].0.outgoing.partial.set(7);
        drop(crowd.members);
        drop(crowd.channels);
        assert_eq!(crowd.test_metrics.value("gateway_partial_bytes"), 0);
    }

    #[test]
    fn f11_one_that_is_ending_already_is_left_to_its_end() {
        let crowd = ChannelCrowd::of(&[100, 50]);
        crowd.members[0].0.outgoing.close(CloseReason::Draining);
        assert_eq!(shed(&crowd.channels, 100), 0, "that much is about to be free");
        assert_eq!(shed(&crowd.channels, 101), 1);
        assert_eq!(crowd.closing(), [Some(CloseReason::Draining), SLOW]);
        assert_eq!(crowd.test_metrics.queued(), (10, 100), "its last answers are flushed");
        let (shed, ..) = &crowd.members[1];
        assert_eq!(shed.outgoing.push(frame()), Err(Full::Closing));
    }

    #[test]
    fn f11_the_newest_connections_are_closed_first() {
        let crowd = ChannelCrowd::of(&[10, 10, 10, 10, 10]);
        assert_eq!(close_newest(&crowd.channels, 2), 2);
        assert_eq!(crowd.closing(), [None, None, None, FULL, FULL]);
        assert_eq!(close_newest(&crowd.channels, 1), 1);
        assert_eq!(crowd.closing(), [None, None, FULL, FULL, FULL]);
        assert_eq!(close_newest(&crowd.channels, 10), 2);
        assert_eq!(close_newest(&crowd.channels, 10), 0);
    }
}
