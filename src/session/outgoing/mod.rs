//! What waits to be written to one client, split by stream (ARCHITECTURE §4.2, §4.4).
//!
//! Anything in the worker may enqueue, with a call that never waits. Only the connection's task takes out. Pushes and
//! replies have budgets of their own, so neither makes the other slow:
//!
//! * Pushes that wait behind the one being written have a soft bound, which they may exceed for a while, and a hard one,
//!   which they may not. The client is slow when they do.
//! * Replies are owed (G1) and always taken. Each stream has room for some; while it has none, its requests are not read,
//!   so what is still asked bounds what is still to come.

mod queues;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Context;

use self::queues::Queues;
pub(crate) use self::queues::{Amount, Full, Kind, StreamId};

use crate::limits::Limits;
use crate::monitor::metrics::WorkerMetrics;
use crate::session::inspection::InspectionSlot;
use crate::session::local_waker::LocalWaker;
use crate::wire::close::CloseReason;
use crate::wire::packet::Encoded;

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutgoingBounds {
    /// Pushes may exceed this for a while. The replies of one stream that leave room for more requests.
    pub(crate) soft: Amount,
    /// Pushes may not exceed this.
    pub(crate) hard: Amount,
}

impl OutgoingBounds {
    pub(crate) const fn of(limits: &Limits) -> Self {
        Self {
            soft: Amount { messages: limits.max_queued_messages, bytes: limits.max_queued_bytes },
            hard: Amount { messages: limits.max_queued_messages_hard, bytes: limits.max_queued_bytes_hard },
        }
    }
}

/// The outgoing side of one connection, shared by its task, its channel and the worker's drain.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queues: RefCell<Queues>,
    closing: Cell<Option<CloseReason>>,
    /// The connection's task is at work and will look at everything itself before it waits.
    in_poll: Cell<bool>,
    /// Something is queued that its task was not woken for.
    is_corked: Cell<bool>,
    /// It stands in a list of those who are to be woken.
    is_listed: Cell<bool>,
    /// Of what it sends.
    pub(crate) partial: PartialFrames,
    /// Where the administrator asks its task for a look.
    pub(crate) inspection: InspectionSlot,
    wake: LocalWaker,
    bounds: Cell<OutgoingBounds>,
    metrics: Arc<WorkerMetrics>,
}

impl Outgoing {
    pub(crate) fn new(bounds: OutgoingBounds, metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            queues: RefCell::default(),
            closing: Cell::new(None),
            in_poll: Cell::new(false),
            is_corked: Cell::new(false),
            is_listed: Cell::new(false),
            partial: PartialFrames::new(Arc::clone(&metrics)),
            inspection: InspectionSlot::default(),
            wake: LocalWaker::default(),
            bounds: Cell::new(bounds),
            metrics,
        }
    }

    /// These bounds from now on. What waits already is not dropped.
    pub(crate) fn set_bounds(&self, bounds: OutgoingBounds) {
        self.bounds.set(bounds);
    }

    /// The connection's task begins a turn; it waits here afterwards.
    pub(crate) fn begin_poll(&self, cx: &Context<'_>) {
        self.in_poll.set(true);
        self.is_corked.set(false);
        self.wake.register(cx);
    }

    /// Has the connection's task look again.
    pub(crate) fn wake(&self) {
        if !self.in_poll.get() {
            self.wake.wake();
        }
    }

    /// Something was [pushed](Outgoing::push_corked), and the connection's task is woken by [`Outgoing::uncork`]. Returns `false`
    /// if somebody is to call that already.
    pub(crate) fn cork(&self) -> bool {
        self.is_corked.set(true);
        !self.is_listed.replace(true)
    }

    /// Has the connection's task look; returns `false` if it did meanwhile.
    pub(crate) fn uncork(&self) -> bool {
        self.is_listed.set(false);
        let is_corked = self.is_corked.replace(false);
        if is_corked {
            self.wake();
        }
        is_corked
    }

    /// Asks the connection's task to end the connection. The first reason stands, unless it is a drain or a slow client
    /// and this is a kick: who is kicked must not come back, whatever else was about to end the channel (protocol §4.8).
    pub(crate) fn close(&self, reason: CloseReason) {
        let stands = match self.closing.get() {
            None => false,
            Some(CloseReason::Draining | CloseReason::SlowConsumer) => reason != CloseReason::Kicked,
            Some(_) => true,
        };
        if !stands {
            self.closing.set(Some(reason));
            self.wake();
        }
    }

    /// The reason to end, once there is one.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.closing.get()
    }

    /// A stream came into being.
    pub(crate) fn add_stream(&self, id: StreamId) {
        self.queues.borrow_mut().add_stream(id);
    }

    /// A stream is gone; what was queued for it is lost. Returns how many messages that were.
    pub(crate) fn remove_stream(&self, id: StreamId) -> usize {
        let lost = self.queues.borrow_mut().remove_stream(id);
        self.count_off(lost);
        lost.messages
    }

    fn count_off(&self, gone: Amount) {
        self.metrics.queued(-signed(gone.messages), -signed(gone.bytes));
    }

    /// Queues a reply on the stream of its request.
    ///
    /// # Errors
    /// [`Full::Closing`] or [`Full::Gone`].
    pub(crate) fn reply(&self, stream: StreamId, frame: Encoded) -> Result<(), Full> {
        self.enqueue(Some(stream), frame, Kind::Reply)
    }

    /// Queues the answer to the sign-in, behind which pushes may go out.
    ///
    /// # Errors
    /// As [`Outgoing::reply`].
    pub(crate) fn reply_login(&self, frame: Encoded) -> Result<(), Full> {
        self.enqueue(Some(StreamId::LOGIN), frame, Kind::Login)
    }

    /// Queues a push, or parks it while the channel is not open.
    ///
    /// # Errors
    /// [`Full`]; after `TryAgain` the caller must yield to the connection's task before the next try.
    #[cfg(test)]
    pub(crate) fn push(&self, frame: Encoded) -> Result<(), Full> {
        self.push_corked(frame).inspect(|()| self.wake())
    }

    /// Queues a push, or parks it while the channel is not open. The connection's task is not woken: the caller has it
    /// [corked](Outgoing::cork).
    ///
    /// # Errors
    /// [`Full`]; after `TryAgain` the caller must yield to the connection's task before the next try.
    pub(crate) fn push_corked(&self, frame: Encoded) -> Result<(), Full> {
        if self.closing.get().is_some() {
            // A push is missing from here on, so that not even the notice of a kick may follow (G2).
            self.queues.borrow_mut().has_gap = true;
            return Err(Full::Closing);
        }
        self.check_room(frame.len())?;
        self.put(None, frame, Kind::Push)
    }

    /// Closes the channel as kicked and queues the push that says so, whatever room there is.
    ///
    /// # Errors
    /// [`Full::Gone`]; or [`Full::Closing`], where something that is no better to come back from ends the channel, or a
    /// push is missing already: the code of the close has to do.
    pub(crate) fn kick(&self, frame: Encoded) -> Result<(), Full> {
        // Before its push is queued: a queue that is full would have closed it as slow (row H4).
        self.close(CloseReason::Kicked);
        let can_follow = !self.is_torn() && !self.queues.borrow().has_gap;
        if self.closing.get() != Some(CloseReason::Kicked) || !can_follow {
            return Err(Full::Closing);
        }
        self.put(None, frame, Kind::Push).inspect(|()| self.wake())
    }

    /// Queues a frame of the gateway's own that answers nothing. It goes where pushes go, and like them not before the
    /// channel is open.
    ///
    /// # Errors
    /// As [`Outgoing::reply`].
    pub(crate) fn announce(&self, frame: Encoded) -> Result<(), Full> {
        self.enqueue(None, frame, Kind::Reply)
    }

    fn enqueue(&self, stream: Option<StreamId>, frame: Encoded, kind: Kind) -> Result<(), Full> {
        if self.closing.get().is_some_and(|reason| reason != CloseReason::Draining) {
            return Err(Full::Closing);
        }
        let put = self.put(stream, frame, kind);
        // Also without a stream: a connection that waits for its last answers has one less to wait for.
        self.wake();
        put
    }

    /// Fails if the pushes have no room for one more; one that is alone has. A client that is slow is closed.
    fn check_room(&self, bytes: usize) -> Result<(), Full> {
        let room = self.queues.borrow_mut().check_room(bytes, self.bounds.get().hard);
        match room {
            Ok(()) => return Ok(()),
            Err(Full::Slow) => self.close(CloseReason::SlowConsumer),
            Err(_) => {}
        }
        self.wake();
        room
    }

    fn put(&self, stream: Option<StreamId>, frame: Encoded, kind: Kind) -> Result<(), Full> {
        let bytes = frame.len();
        let put = self.queues.borrow_mut().put(stream, frame, kind);
        if put.is_ok() {
            self.metrics.queued(1, signed(bytes));
        }
        put
    }

    /// Bytes that its end makes free: those waiting to be written, and the parts of frames.
    pub(crate) fn held_bytes(&self) -> usize {
        self.queues.borrow().all.bytes + self.partial.bytes()
    }

    /// Ends a client for the sake of the others (row F11). What it holds is dropped or counted off now: its task may get
    /// its turn only after the next look. Returns how many bytes that frees; one that is closing already is left to its
    /// end, and one that holds nothing is not closed. One that sends more than it was to read was not slow to read.
    pub(crate) fn shed(&self) -> usize {
        if self.closing.get().is_some() || self.held_bytes() == 0 {
            return 0;
        }
        // Counted off here and not by its task, or the next look would shed others for the same bytes.
        let dropped = self.queues.borrow_mut().discard(|_| true);
        self.count_off(dropped);
        let partial = self.partial.bytes();
        self.close(if partial > dropped.bytes { CloseReason::Overloaded } else { CloseReason::SlowConsumer });
        self.partial.set(0);
        dropped.bytes + partial
    }

    /// What waits to be written.
    pub(crate) fn queued(&self) -> Amount {
        self.queues.borrow().all
    }

    /// Drops what has not begun to be written: it would keep a connection that ends from saying why.
    pub(crate) fn discard_unbegun(&self) {
        let dropped = self.queues.borrow_mut().discard(|queued| !queued.has_begun);
        self.count_off(dropped);
    }

    /// Returns `true` if a frame was dropped after it had begun. Its stream can carry nothing more.
    pub(crate) fn is_torn(&self) -> bool {
        self.queues.borrow().is_torn
    }

    /// Returns `true` if this stream has room for the reply to one more request. Its requests are not read while it has
    /// none.
    pub(crate) fn has_room(&self, id: StreamId) -> bool {
        self.queues.borrow().has_room(id, self.bounds.get().soft)
    }

    /// Returns `true` if there are more pushes than there should be, and it is their turn to be written. While a reply is
    /// ahead of them on the only stream it is not they who are slow.
    pub(crate) fn is_over_soft_bound(&self) -> bool {
        self.queues.borrow().is_over(self.bounds.get().soft)
    }

    /// Pushes go to this stream from now on, the parked ones first.
    pub(crate) fn set_push_stream(&self, id: StreamId) {
        self.queues.borrow_mut().set_push_stream(id);
    }

    /// How many streams there are.
    pub(crate) fn stream_count(&self) -> usize {
        self.queues.borrow().stream_count()
    }

    /// The stream at this position, the login stream first.
    pub(crate) fn stream_at(&self, position: usize) -> Option<StreamId> {
        self.queues.borrow().stream_at(position)
    }

    /// Returns `true` if the login response was handed to the transport.
    pub(crate) fn is_login_written(&self) -> bool {
        self.queues.borrow().login_written
    }

    /// Returns `true` if there is nothing to write to this stream.
    pub(crate) fn is_stream_empty(&self, id: StreamId) -> bool {
        self.queues.borrow().is_stream_empty(id)
    }

    /// Returns `true` if there is nothing to write at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.borrow().is_empty()
    }

    /// Shows the first frames of a stream to a writer. `write` returns how many bytes it took.
    pub(crate) fn write_with<R>(
        &self,
        id: StreamId,
        write: impl FnOnce(&mut dyn Iterator<Item = &Encoded>) -> R,
    ) -> R {
        write(&mut self.queues.borrow().frames(id))
    }

    /// `written` bytes of a stream's queue are on their way.
    pub(crate) fn advance(&self, id: StreamId, written: usize) {
        let (gone, pushes) = self.queues.borrow_mut().advance(id, written);
        self.count_off(gone);
        self.metrics.push_delivered(pushes);
    }

    /// The writer wrote all it could: a queue that is still full now is slow.
    pub(crate) fn end_poll(&self) {
        self.in_poll.set(false);
        self.queues.borrow_mut().polls += 1;
    }

    /// Pushes that are queued and will not be written any more, and those that were dropped.
    pub(crate) fn unwritten_pushes(&self) -> u64 {
        self.queues.borrow().unwritten_pushes()
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let left = self.queues.get_mut().all;
        self.count_off(left);
    }
}

/// The bytes that came from one client as parts of frames and wait for the rest (row A15), counted while they are kept.
#[derive(Debug)]
pub(crate) struct PartialFrames {
    bytes: Cell<usize>,
    metrics: Arc<WorkerMetrics>,
}

impl PartialFrames {
    /// Of a client that has sent nothing.
    fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self { bytes: Cell::new(0), metrics }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// So many are kept now.
    pub(crate) fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if before != bytes {
            self.metrics.partial(signed(bytes) - signed(before));
        }
    }
}

impl Drop for PartialFrames {
    fn drop(&mut self) {
        self.set(0);
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::monitor::metrics::PushDrop;
    use crate::session::fixtures::{CountingWaker, TestMetrics};

    const STREAM: StreamId = StreamId(4);

    /// One whose bounds, soft and hard, are the same.
    fn outgoing(test_metrics: &TestMetrics, messages: usize, bytes: usize) -> Outgoing {
        let bound = Amount { messages, bytes };
        let outgoing =
            Outgoing::new(OutgoingBounds { soft: bound, hard: bound }, Arc::clone(&test_metrics.worker));
        outgoing.add_stream(StreamId::LOGIN);
        outgoing
    }

    fn frame(fill: u8, len: usize) -> Encoded {
        Encoded { head: vec![fill; len / 2].into(), body: vec![fill; len - len / 2].into() }
    }

    /// What waits on a stream, in order: first byte and bytes left of each frame.
    fn waiting(outgoing: &Outgoing, stream: StreamId) -> Vec<(u8, usize)> {
        outgoing.write_with(stream, |frames| frames.map(|frame| (frame.to_bytes()[0], frame.len())).collect())
    }

    /// A turn in which the writer takes so many bytes of a stream.
    fn poll(outgoing: &Outgoing, stream: StreamId, written: usize) {
        let (_, waker) = CountingWaker::new();
        outgoing.begin_poll(&Context::from_waker(&waker));
        outgoing.advance(stream, written);
        outgoing.end_poll();
    }

    #[test]
    fn h1_pushes_and_the_replies_of_each_stream_have_bounds_of_their_own() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 2, 100);
        outgoing.add_stream(STREAM);
        outgoing.add_stream(StreamId::PUSH);
        outgoing.set_push_stream(StreamId::PUSH);
        outgoing.reply(STREAM, frame(1, 5000)).unwrap();
        assert!(!outgoing.has_room(STREAM) && outgoing.has_room(StreamId::LOGIN), "each stream for itself");
        outgoing.push(frame(2, 10)).unwrap();
        outgoing.push(frame(3, 10)).unwrap();
        assert_eq!(outgoing.push(frame(4, 10)), Err(Full::TryAgain));
        for fill in 5..50 {
            poll(&outgoing, STREAM, 10);
            assert_eq!(outgoing.reply(StreamId::LOGIN, frame(fill, 10)), Ok(()), "replies are owed");
        }
        assert!(!outgoing.has_room(StreamId::LOGIN));
        poll(&outgoing, StreamId::PUSH, 10);
        assert_eq!(outgoing.push(frame(4, 10)), Ok(()), "the pushes took their time, and that alone counts");
        assert_eq!(outgoing.closing(), None);
        let streams: Vec<_> = (0..4).map_while(|position| outgoing.stream_at(position)).collect();
        assert_eq!((streams.len(), outgoing.stream_count()), (3, 3));
        assert_eq!(streams, [StreamId::LOGIN, STREAM, StreamId::PUSH]);
    }

    #[test]
    fn h1_a_push_of_any_size_is_taken_alone_and_does_not_make_those_behind_it_too_many() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 3, 100);
        outgoing.set_push_stream(StreamId::LOGIN);
        outgoing.push(frame(1, 5000)).unwrap();
        assert!(!outgoing.is_over_soft_bound());
        poll(&outgoing, StreamId::LOGIN, 10);
        outgoing.push(frame(2, 60)).unwrap();
        assert_eq!(outgoing.push(frame(3, 41)), Err(Full::TryAgain), "101 behind it");
        assert_eq!(outgoing.push(frame(3, 40)), Ok(()), "100 behind it");
        assert!(!outgoing.is_over_soft_bound());
        poll(&outgoing, StreamId::LOGIN, 4990);
        assert_eq!(outgoing.push(frame(4, 60)), Ok(()), "now the second is the one being written");
        assert_eq!(outgoing.push(frame(5, 1)), Err(Full::TryAgain), "four messages");
        poll(&outgoing, StreamId::LOGIN, 160);
        assert_eq!(test_metrics.queued(), (0, 0));
        assert_eq!(outgoing.push(frame(6, 5000)), Ok(()));
        assert_eq!(outgoing.closing(), None);
    }

    #[test]
    fn c8_pushes_at_their_hard_bound_are_too_many_only_after_a_turn_that_left_them_there() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 2, 1000);
        outgoing.set_push_stream(StreamId::LOGIN);
        // A turn before it filled does not count.
        poll(&outgoing, StreamId::LOGIN, 0);
        outgoing.push(frame(1, 10)).unwrap();
        outgoing.push(frame(2, 10)).unwrap();
        poll(&outgoing, StreamId::LOGIN, 0);
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::TryAgain), "it is found full only now");
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::TryAgain), "and had no turn since");
        assert_eq!(outgoing.closing(), None);
        poll(&outgoing, StreamId::LOGIN, 9);
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::Slow), "not one whole message in a turn");
        assert_eq!(outgoing.closing(), Some(CloseReason::SlowConsumer));
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::Closing));
        assert_eq!(outgoing.reply(StreamId::LOGIN, frame(3, 10)), Err(Full::Closing));
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(1, 1), (2, 10)], "what was taken stays in order");
    }

    #[test]
    fn h1_the_soft_bound_is_exceeded_only_while_pushes_are_what_is_being_written() {
        let test_metrics = TestMetrics::new();
        let (soft, hard) = (Amount { messages: 2, bytes: 100 }, Amount { messages: 10, bytes: 500 });
        let outgoing = Outgoing::new(OutgoingBounds { soft, hard }, Arc::clone(&test_metrics.worker));
        outgoing.add_stream(StreamId::LOGIN);
        for _ in 0..3 {
            outgoing.push(frame(1, 10)).unwrap();
        }
        assert!(!outgoing.is_over_soft_bound(), "they are parked: it is the login service that is slow");
        outgoing.reply_login(frame(0, 20)).unwrap();
        outgoing.set_push_stream(StreamId::LOGIN);
        assert!(!outgoing.is_over_soft_bound(), "a reply is ahead of them");
        poll(&outgoing, StreamId::LOGIN, 20);
        assert!(outgoing.is_over_soft_bound(), "three messages");
        poll(&outgoing, StreamId::LOGIN, 10);
        assert!(!outgoing.is_over_soft_bound());
        outgoing.reply(StreamId::LOGIN, frame(2, 20)).unwrap();
        outgoing.push(frame(3, 91)).unwrap();
        assert!(outgoing.is_over_soft_bound(), "101 bytes behind the first; the reply is behind it, too");
        poll(&outgoing, StreamId::LOGIN, 20);
        assert!(!outgoing.is_over_soft_bound());
        poll(&outgoing, StreamId::LOGIN, 20);
        assert_eq!((outgoing.closing(), waiting(&outgoing, StreamId::LOGIN)), (None, vec![(3, 91)]));
        poll(&outgoing, StreamId::LOGIN, 91);
        assert_eq!(test_metrics.queued(), (0, 0));
    }

    #[test]
    fn g1_replies_are_taken_without_a_bound_and_room_is_for_more_requests() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 100, 1000);
        for fill in 0..10 {
            assert!(outgoing.has_room(StreamId::LOGIN), "so the request is read");
            outgoing.reply(StreamId::LOGIN, frame(fill, 105)).unwrap();
        }
        for fill in 10..50 {
            assert!(!outgoing.has_room(StreamId::LOGIN), "1050 are queued");
            poll(&outgoing, StreamId::LOGIN, 105);
            assert!(outgoing.has_room(StreamId::LOGIN), "945 are queued: the client took what it could");
            assert_eq!(outgoing.reply(StreamId::LOGIN, frame(fill, 105)), Ok(()));
        }
        for fill in 50..90 {
            poll(&outgoing, StreamId::LOGIN, 0);
            assert_eq!(
                outgoing.reply(StreamId::LOGIN, frame(fill, 105)),
                Ok(()),
                "asked before reading stopped"
            );
        }
        assert_eq!(outgoing.closing(), None);
    }

    #[test]
    fn g1_a_draining_channel_takes_replies_and_no_pushes() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        outgoing.set_push_stream(StreamId::LOGIN);
        outgoing.close(CloseReason::Draining);
        assert_eq!(outgoing.push(frame(1, 5)), Err(Full::Closing));
        assert_eq!(outgoing.reply(StreamId::LOGIN, frame(2, 5)), Ok(()));
        outgoing.close(CloseReason::Bye);
        assert_eq!(outgoing.closing(), Some(CloseReason::Draining), "the first reason stands");
        assert_eq!(test_metrics.queued(), (1, 5));
    }

    #[test]
    fn h4_a_kick_stands_above_a_drain_and_a_slow_client_and_above_nothing_else() {
        for reason in CloseReason::ALL {
            let test_metrics = TestMetrics::new();
            let outgoing = outgoing(&test_metrics, 1, 1000);
            outgoing.set_push_stream(StreamId::LOGIN);
            outgoing.push(frame(1, 5)).unwrap();
            outgoing.close(reason);
            let kicked = outgoing.kick(frame(2, 5));
            if matches!(reason, CloseReason::Draining | CloseReason::SlowConsumer | CloseReason::Kicked) {
                assert_eq!((kicked, outgoing.closing()), (Ok(()), Some(CloseReason::Kicked)), "{reason}");
                assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(1, 5), (2, 5)], "though the queue is full");
            } else {
                assert_eq!((kicked, outgoing.closing()), (Err(Full::Closing), Some(reason)));
            }
        }
    }

    #[test]
    fn h4_a_full_queue_is_no_obstacle_to_a_kick() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 1, 1000);
        outgoing.set_push_stream(StreamId::LOGIN);
        outgoing.push(frame(1, 5)).unwrap();
        assert_eq!(outgoing.push(frame(2, 5)), Err(Full::TryAgain));
        poll(&outgoing, StreamId::LOGIN, 0);
        assert_eq!(outgoing.kick(frame(3, 5)), Ok(()));
        assert_eq!(outgoing.closing(), Some(CloseReason::Kicked));
    }

    #[test]
    fn h3_what_has_begun_is_kept_when_the_rest_is_given_up_for_the_reason_of_a_close() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        outgoing.add_stream(STREAM);
        outgoing.push(frame(1, 10)).unwrap();
        outgoing.set_push_stream(StreamId::LOGIN);
        outgoing.push(frame(2, 10)).unwrap();
        outgoing.reply(STREAM, frame(3, 10)).unwrap();
        outgoing.advance(StreamId::LOGIN, 4);
        outgoing.discard_unbegun();
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(1, 6)]);
        assert_eq!((waiting(&outgoing, STREAM), test_metrics.queued()), (vec![], (1, 6)));
        assert_eq!((outgoing.unwritten_pushes(), outgoing.is_torn()), (2, false));
        assert!(outgoing.has_room(STREAM));
        outgoing.advance(StreamId::LOGIN, 6);
        assert_eq!((outgoing.unwritten_pushes(), test_metrics.queued()), (1, (0, 0)));
    }

    #[test]
    fn h4_nothing_is_written_behind_a_frame_that_was_cut_off_and_no_push_behind_a_missing_one() {
        for begun in [0, 4] {
            let test_metrics = TestMetrics::new();
            let outgoing = outgoing(&test_metrics, 10, 1000);
            outgoing.push(frame(1, 10)).unwrap();
            outgoing.set_push_stream(StreamId::LOGIN);
            outgoing.advance(StreamId::LOGIN, begun);
            outgoing.shed();
            assert_eq!(outgoing.is_torn(), begun > 0);
            let kicked = (outgoing.kick(frame(2, 10)), outgoing.closing());
            assert_eq!(kicked, (Err(Full::Closing), Some(CloseReason::Kicked)));
        }
        for missing in [1, 2] {
            let test_metrics = TestMetrics::new();
            let outgoing = outgoing(&test_metrics, 1, 1000);
            outgoing.set_push_stream(StreamId::LOGIN);
            outgoing.push(frame(1, 10)).unwrap();
            assert_eq!(outgoing.push(frame(2, 10)), Err(Full::TryAgain), "not refused yet");
            poll(&outgoing, StreamId::LOGIN, 0);
            if missing == 1 {
                assert_eq!(outgoing.push(frame(2, 10)), Err(Full::Slow));
            } else {
                outgoing.close(CloseReason::Draining);
                assert_eq!(outgoing.push(frame(2, 10)), Err(Full::Closing));
            }
            let kicked = (outgoing.kick(frame(3, 10)), outgoing.closing());
            assert_eq!(kicked, (Err(Full::Closing), Some(CloseReason::Kicked)));
            assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(1, 10)]);
        }
    }

    #[test]
    fn f11_a_client_that_is_shed_frees_everything_at_once_and_one_that_ends_is_left_alone() {
        let test_metrics = TestMetrics::new();
        let shed = outgoing(&test_metrics, 10, 1000);
        shed.add_stream(STREAM);
        shed.push(frame(1, 10)).unwrap();
        shed.set_push_stream(StreamId::LOGIN);
        for _ in 0..2 {
            shed.push(frame(2, 20)).unwrap();
        }
        shed.reply(STREAM, frame(3, 30)).unwrap();
        shed.advance(StreamId::LOGIN, 4);
        assert_eq!(shed.held_bytes(), 76);
        assert_eq!(shed.shed(), 76);
        assert!(shed.is_empty() && waiting(&shed, STREAM).is_empty());
        assert_eq!((shed.closing(), shed.unwritten_pushes()), (Some(CloseReason::SlowConsumer), 3));
        assert_eq!((test_metrics.queued(), shed.shed()), ((0, 0), 0));

        let draining = outgoing(&test_metrics, 10, 1000);
        draining.reply(StreamId::LOGIN, frame(1, 10)).unwrap();
        draining.close(CloseReason::Draining);
        assert_eq!((draining.shed(), draining.held_bytes()), (0, 10), "its last answers are flushed");
    }

    #[test]
    fn c8_progress_makes_room_again() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 2, 1000);
        outgoing.set_push_stream(StreamId::LOGIN);
        for round in 0..5 {
            outgoing.push(frame(round, 10)).unwrap();
            outgoing.push(frame(round, 10)).unwrap();
            assert_eq!(outgoing.push(frame(9, 10)), Err(Full::TryAgain), "round {round}");
            poll(&outgoing, StreamId::LOGIN, 10);
            assert_eq!(outgoing.push(frame(9, 10)), Ok(()), "round {round}");
            assert_eq!(outgoing.push(frame(9, 10)), Err(Full::TryAgain), "full anew, round {round}");
            poll(&outgoing, StreamId::LOGIN, 20);
        }
        assert_eq!(outgoing.closing(), None);
        assert_eq!(test_metrics.queued(), (0, 0));
        assert_eq!(test_metrics.value("gateway_pushes_delivered_total"), 15);
    }

    #[test]
    fn b22_parked_pushes_go_out_behind_the_login_response_and_in_order() {
        for stream in [StreamId::LOGIN, StreamId::PUSH] {
            let test_metrics = TestMetrics::new();
            let outgoing = outgoing(&test_metrics, 10, 1000);
            outgoing.push(frame(1, 5)).unwrap();
            outgoing.push(frame(2, 5)).unwrap();
            assert!(outgoing.is_empty(), "parked ones cannot be written");
            assert_eq!(test_metrics.queued(), (2, 10), "but they count");
            outgoing.reply(StreamId::LOGIN, frame(0, 5)).unwrap();
            if stream == StreamId::PUSH {
                outgoing.add_stream(stream);
            }
            outgoing.set_push_stream(stream);
            outgoing.push(frame(3, 5)).unwrap();
            let login = waiting(&outgoing, StreamId::LOGIN);
            if stream == StreamId::LOGIN {
                assert_eq!(login, [(0, 5), (1, 5), (2, 5), (3, 5)]);
            } else {
                assert_eq!(login, [(0, 5)]);
                assert_eq!(waiting(&outgoing, stream), [(1, 5), (2, 5), (3, 5)]);
            }
            assert_eq!(test_metrics.queued(), (4, 20));
        }
    }

    #[test]
    fn b22_the_login_response_is_written_with_its_last_byte() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        outgoing.reply(StreamId::LOGIN, frame(1, 5)).unwrap();
        outgoing.reply_login(frame(2, 5)).unwrap();
        outgoing.advance(StreamId::LOGIN, 5);
        outgoing.advance(StreamId::LOGIN, 4);
        assert!(!outgoing.is_login_written());
        outgoing.advance(StreamId::LOGIN, 1);
        assert!(outgoing.is_login_written());
    }

    #[test]
    fn b22_parked_pushes_are_bounded() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 2, 1000);
        outgoing.push(frame(1, 5)).unwrap();
        outgoing.push(frame(2, 5)).unwrap();
        assert_eq!(outgoing.push(frame(3, 5)), Err(Full::TryAgain));
        poll(&outgoing, StreamId::LOGIN, 0);
        assert_eq!(outgoing.push(frame(3, 5)), Err(Full::Slow));
        assert_eq!(outgoing.unwritten_pushes(), 2);
    }

    #[test]
    fn writes_end_anywhere() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        outgoing.reply(StreamId::LOGIN, frame(1, 10)).unwrap();
        outgoing.reply(StreamId::LOGIN, frame(2, 6)).unwrap();
        outgoing.reply(StreamId::LOGIN, frame(3, 4)).unwrap();
        outgoing.advance(StreamId::LOGIN, 7);
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(1, 3), (2, 6), (3, 4)]);
        assert_eq!(test_metrics.queued(), (3, 13), "what was written no longer counts");
        outgoing.advance(StreamId::LOGIN, 3);
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(2, 6), (3, 4)]);
        assert_eq!(test_metrics.queued(), (2, 10));
        outgoing.advance(StreamId::LOGIN, 9);
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(3, 1)]);
        outgoing.advance(StreamId::LOGIN, 1);
        assert!(outgoing.is_stream_empty(StreamId::LOGIN) && outgoing.is_empty());
        assert_eq!(test_metrics.queued(), (0, 0));
        assert_eq!(test_metrics.value("gateway_pushes_delivered_total"), 0, "replies are no pushes");
    }

    #[test]
    fn a_stream_that_is_gone_gives_its_count_back() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 3, 1000);
        outgoing.add_stream(STREAM);
        outgoing.reply(STREAM, frame(1, 10)).unwrap();
        outgoing.advance(STREAM, 4);
        outgoing.reply(STREAM, frame(2, 10)).unwrap();
        outgoing.reply(StreamId::LOGIN, frame(3, 10)).unwrap();
        assert_eq!(outgoing.remove_stream(STREAM), 2);
        assert_eq!(test_metrics.queued(), (1, 10));
        assert_eq!(outgoing.reply(STREAM, frame(4, 10)), Err(Full::Gone));
        assert_eq!(outgoing.remove_stream(STREAM), 0);
        assert_eq!(test_metrics.queued(), (1, 10), "a frame for a stream that is gone is not counted");
        assert_eq!(waiting(&outgoing, StreamId::LOGIN), [(3, 10)]);
    }

    #[test]
    fn streams_keep_their_order_when_one_goes() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        for id in 1..5 {
            outgoing.add_stream(StreamId(id));
        }
        outgoing.remove_stream(StreamId(2));
        let streams: Vec<_> =
            (0..9).map_while(|position| outgoing.stream_at(position)).map(|stream| stream.0).collect();
        assert_eq!(streams, [0, 1, 3, 4]);
    }

    #[test]
    fn any_other_closing_channel_takes_nothing() {
        for reason in CloseReason::ALL.into_iter().filter(|reason| *reason != CloseReason::Draining) {
            let test_metrics = TestMetrics::new();
            let outgoing = outgoing(&test_metrics, 10, 1000);
            outgoing.set_push_stream(StreamId::LOGIN);
            outgoing.close(reason);
            assert_eq!(outgoing.push(frame(1, 5)), Err(Full::Closing), "{reason}");
            assert_eq!(outgoing.reply(StreamId::LOGIN, frame(2, 5)), Err(Full::Closing), "{reason}");
            assert_eq!(test_metrics.queued(), (0, 0));
        }
    }

    #[test]
    fn f10_what_was_queued_is_given_back_with_the_queue() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 10, 1000);
        outgoing.push(frame(1, 5)).unwrap();
        outgoing.reply(StreamId::LOGIN, frame(2, 7)).unwrap();
        outgoing.advance(StreamId::LOGIN, 3);
        assert_eq!(outgoing.unwritten_pushes(), 1);
        assert_eq!(test_metrics.queued(), (2, 9));
        drop(outgoing);
        assert_eq!(test_metrics.queued(), (0, 0));
        assert_eq!(test_metrics.push_drops(PushDrop::Closing), 0, "dropped pushes are counted by the guard");
    }

    #[test]
    fn the_connection_is_woken_unless_it_is_at_work() {
        let test_metrics = TestMetrics::new();
        let outgoing = outgoing(&test_metrics, 1, 1000);
        outgoing.set_push_stream(StreamId::LOGIN);
        let (bell, waker) = CountingWaker::new();
        outgoing.begin_poll(&Context::from_waker(&waker));
        outgoing.reply(StreamId::LOGIN, Bytes::from_static(b"pong").into()).unwrap();
        outgoing.advance(StreamId::LOGIN, 4);
        assert_eq!(bell.rung(), 0, "it looks at everything before it waits");
        outgoing.end_poll();
        outgoing.push(frame(1, 5)).unwrap();
        assert_eq!(bell.rung(), 1);
        assert_eq!(outgoing.push(frame(2, 5)), Err(Full::TryAgain));
        assert_eq!(bell.rung(), 2, "a full queue is given its turn");
        outgoing.close(CloseReason::Kicked);
        outgoing.close(CloseReason::Kicked);
        assert_eq!(bell.rung(), 3);
    }
}
