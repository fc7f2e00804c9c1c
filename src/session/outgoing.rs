//! What waits to be written to one client, split by stream, bounded in messages and bytes (architecture §4.2, §4.3).
//!
//! Anything in the worker may enqueue, with a call that never waits. Only the connection's task takes out. A client
//! is *slow* only when its queue is still full after that task had a turn since it filled.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use crate::monitor::metrics::WorkerMetrics;
use crate::session::partial::Partial;
use crate::session::wake::Wake;
use crate::wire::close::CloseReason;
use crate::wire::packet::Encoded;

/// A stream of one connection, numbered in the order of its opening; TCP has only [`LaneId::LOGIN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneId(pub(crate) u32);

impl LaneId {
    /// QUIC stream 0, or the TCP connection.
    pub(crate) const LOGIN: Self = Self(0);
    /// The unidirectional stream for pushes.
    pub(crate) const PUSH: Self = Self(u32::MAX);
}

/// What a queued frame is, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A response or a frame of the gateway's own.
    Reply,
    /// The response that opens the channel: pushes follow it.
    Login,
    /// A push: lost ones are counted.
    Push,
}

/// Why nothing was enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The writer had no turn since the queue filled: let it have one and try again.
    TryAgain,
    /// It had: the client is slow, and its channel is closing now.
    Slow,
    /// The channel is closing; nothing more is taken.
    Closing,
    /// The stream is gone.
    Gone,
}

/// How many times the bounds replies may take.
const REPLY_ROOM: usize = 2;

/// Places an empty queue keeps for the next messages.
const KEPT_PLACES: usize = 16;

#[derive(Debug)]
struct Queued {
    frame: Encoded,
    kind: Kind,
    /// What is not written of it.
    bytes: usize,
}

#[derive(Debug)]
struct Lane {
    id: LaneId,
    queue: VecDeque<Queued>,
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Messages over all lanes.
    pub(crate) messages: usize,
    /// Bytes over all lanes.
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Queues {
    lanes: Vec<Lane>,
    /// Pushes that came before the channel was open (row B22).
    parked: VecDeque<Queued>,
    /// Where pushes go once the channel is open.
    push_lane: Option<LaneId>,
    login_written: bool,
    messages: usize,
    bytes: usize,
    /// The writer's turn during which the queue was first found full.
    full_in_turn: Option<u64>,
    turn: u64,
    /// Pushes that were dropped to make room for others.
    shed_pushes: u64,
}

/// The outgoing side of one connection, shared by its task, its channel and the worker's drain.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queues: RefCell<Queues>,
    closing: Cell<Option<CloseReason>>,
    /// The connection's task is at work and will look at everything itself before it waits.
    in_turn: Cell<bool>,
    /// Of what it sends.
    pub(crate) partial: Partial,
    wake: Wake,
    bounds: Bounds,
    metrics: Arc<WorkerMetrics>,
}

impl Outgoing {
    pub(crate) fn new(bounds: Bounds, metrics: Arc<WorkerMetrics>) -> Self {
        let queues = Queues {
            lanes: Vec::new(),
            parked: VecDeque::new(),
            push_lane: None,
            login_written: false,
            messages: 0,
            bytes: 0,
            full_in_turn: None,
            turn: 0,
            shed_pushes: 0,
        };
        Self {
            queues: RefCell::new(queues),
            closing: Cell::new(None),
            in_turn: Cell::new(false),
            partial: Partial::new(Arc::clone(&metrics)),
            wake: Wake::default(),
            bounds,
            metrics,
        }
    }

    /// The connection's task begins a turn; it waits here afterwards.
    pub(crate) fn begin_turn(&self, cx: &Context<'_>) {
        self.in_turn.set(true);
        self.wake.register(cx);
    }

    /// Has the connection's task look again.
    pub(crate) fn wake(&self) {
        if !self.in_turn.get() {
            self.wake.wake();
        }
    }

    /// Asks the connection's task to end the connection; the first reason stands.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closing.get().is_none() {
            self.closing.set(Some(reason));
            self.wake();
        }
    }

    /// The reason to end, once there is one.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.closing.get()
    }

    /// A stream came into being.
    pub(crate) fn add_lane(&self, id: LaneId) {
        self.queues.borrow_mut().lanes.push(Lane { id, queue: VecDeque::new() });
    }

    /// A stream is gone; what was queued for it is lost. Returns how many messages that were.
    pub(crate) fn remove_lane(&self, id: LaneId) -> usize {
        let mut queues = self.queues.borrow_mut();
        let Some(position) = queues.lanes.iter().position(|lane| lane.id == id) else { return 0 };
        let lane = queues.lanes.remove(position);
        for lost in &lane.queue {
            queues.messages -= 1;
            queues.bytes -= lost.bytes;
            self.metrics.queued(-1, -signed(lost.bytes));
        }
        lane.queue.len()
    }

    /// Queues a reply on the stream of its request. Replies are owed (G1), so a queue that stays full closes the
    /// channel; one whose writer had no turn yet takes them beyond its bound: requests are not read while there is no room.
    ///
    /// # Errors
    /// [`Full`], never `TryAgain`.
    pub(crate) fn reply(&self, lane: LaneId, frame: Encoded) -> Result<(), Full> {
        self.enqueue(Some(lane), frame, Kind::Reply)
    }

    /// Queues the answer to the sign-in, behind which pushes may go out.
    ///
    /// # Errors
    /// As [`Outgoing::reply`].
    pub(crate) fn reply_login(&self, frame: Encoded) -> Result<(), Full> {
        self.enqueue(Some(LaneId::LOGIN), frame, Kind::Login)
    }

    /// Queues a push, or parks it while the channel is not open.
    ///
    /// # Errors
    /// [`Full`]; after `TryAgain` the caller must yield to the connection's task before the next try.
    pub(crate) fn push(&self, frame: Encoded) -> Result<(), Full> {
        self.enqueue(None, frame, Kind::Push)
    }

    /// Queues a frame of the gateway's own that answers nothing. It goes where pushes go, and like them not before the
    /// channel is open.
    ///
    /// # Errors
    /// As [`Outgoing::reply`].
    pub(crate) fn announce(&self, frame: Encoded) -> Result<(), Full> {
        self.enqueue(None, frame, Kind::Reply)
    }

    fn enqueue(&self, lane: Option<LaneId>, frame: Encoded, kind: Kind) -> Result<(), Full> {
        if self.closing.get().is_some_and(|reason| kind == Kind::Push || reason != CloseReason::Draining) {
            return Err(Full::Closing);
        }
        let bytes = frame.len();
        let mut queues = self.queues.borrow_mut();
        // Replies are owed, and requests are read only while there is room: what they may take beyond it is bounded.
        let factor = if kind == Kind::Push { 1 } else { REPLY_ROOM };
        let bounds = Bounds { messages: self.bounds.messages * factor, bytes: self.bounds.bytes * factor };
        match queues.check_room(bytes, bounds) {
            Err(Full::TryAgain) if kind != Kind::Push => {}
            Err(full) => {
                drop(queues);
                if full == Full::Slow {
                    self.close(CloseReason::SlowConsumer);
                }
                self.wake();
                return Err(full);
            }
            Ok(()) => {}
        }
        let target = lane.or(queues.push_lane);
        let queue = match target {
            None => Some(&mut queues.parked),
            Some(id) => queues.lanes.iter_mut().find(|lane| lane.id == id).map(|lane| &mut lane.queue),
        };
        let Some(queue) = queue else {
            // A connection that waits for its last answers has one less to wait for.
            self.wake();
            return Err(Full::Gone);
        };
        queue.push_back(Queued { frame, kind, bytes });
        queues.messages += 1;
        queues.bytes += bytes;
        self.metrics.queued(1, signed(bytes));
        drop(queues);
        self.wake();
        Ok(())
    }

    /// Bytes that its end makes free: those waiting to be written, and the parts of frames.
    pub(crate) fn held_bytes(&self) -> usize {
        self.queues.borrow().bytes + self.partial.bytes()
    }

    /// Ends a client for the sake of the others (row F11). What it holds is dropped or counted off now: its task may get
    /// its turn only after the next look. Returns how many bytes that frees; one that is closing already is left to its
    /// end. One that sends more than it was to read was not slow to read.
    pub(crate) fn shed(&self) -> usize {
        if self.closing.get().is_some() {
            return 0;
        }
        let pushes = self.unwritten_pushes();
        let mut queues = self.queues.borrow_mut();
        queues.shed_pushes = pushes;
        queues.lanes.iter_mut().for_each(|lane| lane.queue = VecDeque::new());
        queues.parked = VecDeque::new();
        let (messages, bytes) = (std::mem::take(&mut queues.messages), std::mem::take(&mut queues.bytes));
        drop(queues);
        self.metrics.queued(-signed(messages), -signed(bytes));
        let partial = self.partial.bytes();
        self.close(if partial > bytes { CloseReason::Overloaded } else { CloseReason::SlowConsumer });
        self.partial.set(0);
        bytes + partial
    }

    /// Is the queue within its bounds? Reading stops while it is not.
    pub(crate) fn has_room(&self) -> bool {
        let queues = self.queues.borrow();
        queues.messages < self.bounds.messages && queues.bytes < self.bounds.bytes
    }

    /// Pushes go to this stream from now on, the parked ones first.
    pub(crate) fn set_push_lane(&self, id: LaneId) {
        let mut queues = self.queues.borrow_mut();
        let parked = std::mem::take(&mut queues.parked);
        queues.push_lane = Some(id);
        if let Some(lane) = queues.lanes.iter_mut().find(|lane| lane.id == id) {
            lane.queue.extend(parked);
        }
    }

    /// The stream at this position, the login stream first.
    pub(crate) fn lane_at(&self, position: usize) -> Option<LaneId> {
        self.queues.borrow().lanes.get(position).map(|lane| lane.id)
    }

    /// Was the login response handed to the transport?
    pub(crate) fn is_login_written(&self) -> bool {
        self.queues.borrow().login_written
    }

    /// Is there nothing to write to this stream?
    pub(crate) fn is_lane_empty(&self, id: LaneId) -> bool {
        self.queues.borrow().lanes.iter().find(|lane| lane.id == id).is_none_or(|lane| lane.queue.is_empty())
    }

    /// Is there nothing to write at all?
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.borrow().lanes.iter().all(|lane| lane.queue.is_empty())
    }

    /// Shows the first frames of a stream to a writer. `write` returns how many bytes it took.
    pub(crate) fn write_with<R>(
        &self,
        id: LaneId,
        write: impl FnOnce(&mut dyn Iterator<Item = &Encoded>) -> R,
    ) -> R {
        let queues = self.queues.borrow();
        let lane = queues.lanes.iter().find(|lane| lane.id == id);
        write(&mut lane.into_iter().flat_map(|lane| lane.queue.iter().map(|queued| &queued.frame)))
    }

    /// `written` bytes of a stream's queue are on their way.
    pub(crate) fn advance(&self, id: LaneId, mut written: usize) {
        let mut guard = self.queues.borrow_mut();
        let queues = &mut *guard;
        let Some(lane) = queues.lanes.iter_mut().find(|lane| lane.id == id) else { return };
        let (mut messages, mut pushes) = (0, 0);
        let bytes = written;
        while let Some(front) = lane.queue.front_mut() {
            let taken = front.frame.advance(written);
            written -= taken;
            front.bytes -= taken;
            if !front.frame.is_empty() {
                break;
            }
            messages += 1;
            pushes += u64::from(front.kind == Kind::Push);
            queues.login_written |= front.kind == Kind::Login;
            lane.queue.pop_front();
        }
        if lane.queue.is_empty() && lane.queue.capacity() > KEPT_PLACES {
            // A burst is over: an idle channel keeps little.
            lane.queue = VecDeque::new();
        }
        queues.messages -= messages;
        queues.bytes -= bytes;
        self.metrics.queued(-signed(messages), -signed(bytes));
        self.metrics.push_delivered(pushes);
    }

    /// The writer wrote all it could: a queue that is still full now is slow.
    pub(crate) fn end_turn(&self) {
        self.in_turn.set(false);
        self.queues.borrow_mut().turn += 1;
    }

    /// Pushes that are queued and will not be written any more.
    pub(crate) fn unwritten_pushes(&self) -> u64 {
        let queues = self.queues.borrow();
        let queued = queues.lanes.iter().flat_map(|lane| &lane.queue).chain(&queues.parked);
        queues.shed_pushes + queued.filter(|queued| queued.kind == Kind::Push).count() as u64
    }
}

impl Queues {
    /// An empty queue takes one packet of any size.
    fn check_room(&mut self, bytes: usize, bounds: Bounds) -> Result<(), Full> {
        let fits = self.messages < bounds.messages && self.bytes.saturating_add(bytes) <= bounds.bytes;
        if fits || self.messages == 0 {
            self.full_in_turn = None;
            return Ok(());
        }
        match self.full_in_turn {
            Some(turn) if turn < self.turn => Err(Full::Slow),
            Some(_) => Err(Full::TryAgain),
            None => {
                self.full_in_turn = Some(self.turn);
                Err(Full::TryAgain)
            }
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let queues = self.queues.get_mut();
        self.metrics.queued(-signed(queues.messages), -signed(queues.bytes));
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
    use crate::session::fixtures::{Bell, Books};

    const STREAM: LaneId = LaneId(4);

    fn outgoing(books: &Books, messages: usize, bytes: usize) -> Outgoing {
        let outgoing = Outgoing::new(Bounds { messages, bytes }, Arc::clone(&books.worker));
        outgoing.add_lane(LaneId::LOGIN);
        outgoing
    }

    fn frame(fill: u8, len: usize) -> Encoded {
        Encoded { head: vec![fill; len / 2].into(), body: vec![fill; len - len / 2].into() }
    }

    /// What waits on a stream, in order: first byte and bytes left of each frame.
    fn waiting(outgoing: &Outgoing, lane: LaneId) -> Vec<(u8, usize)> {
        outgoing.write_with(lane, |frames| frames.map(|frame| (frame.to_bytes()[0], frame.len())).collect())
    }

    /// A turn in which the writer takes so many bytes of a stream.
    fn turn(outgoing: &Outgoing, lane: LaneId, written: usize) {
        let (_, waker) = Bell::new();
        outgoing.begin_turn(&Context::from_waker(&waker));
        outgoing.advance(lane, written);
        outgoing.end_turn();
    }

    #[test]
    fn g6_messages_are_bounded_over_all_streams() {
        let books = Books::new();
        let outgoing = outgoing(&books, 3, 1000);
        outgoing.add_lane(STREAM);
        outgoing.add_lane(LaneId::PUSH);
        outgoing.set_push_lane(LaneId::PUSH);
        assert_eq!(outgoing.reply(LaneId::LOGIN, frame(1, 10)), Ok(()));
        assert_eq!(outgoing.reply(STREAM, frame(2, 10)), Ok(()));
        assert!(outgoing.has_room());
        assert_eq!(outgoing.push(frame(3, 10)), Ok(()));
        assert!(!outgoing.has_room());
        assert_eq!(outgoing.push(frame(4, 1)), Err(Full::TryAgain));
        assert_eq!(books.queued(), (3, 30));
        let lanes: Vec<_> = (0..4).map_while(|position| outgoing.lane_at(position)).collect();
        assert_eq!(lanes, [LaneId::LOGIN, STREAM, LaneId::PUSH]);
    }

    #[test]
    fn f11_a_client_that_is_shed_frees_everything_at_once_and_one_that_ends_is_left_alone() {
        let books = Books::new();
        let shed = outgoing(&books, 10, 1000);
        shed.add_lane(STREAM);
        shed.push(frame(1, 10)).unwrap();
        shed.set_push_lane(LaneId::LOGIN);
        for _ in 0..2 {
            shed.push(frame(2, 20)).unwrap();
        }
        shed.reply(STREAM, frame(3, 30)).unwrap();
        shed.advance(LaneId::LOGIN, 4);
        assert_eq!(shed.held_bytes(), 76);
        assert_eq!(shed.shed(), 76);
        assert!(shed.is_empty() && waiting(&shed, STREAM).is_empty());
        assert_eq!((shed.closing(), shed.unwritten_pushes()), (Some(CloseReason::SlowConsumer), 3));
        assert_eq!((books.queued(), shed.shed()), ((0, 0), 0));

        let draining = outgoing(&books, 10, 1000);
        draining.reply(LaneId::LOGIN, frame(1, 10)).unwrap();
        draining.close(CloseReason::Draining);
        assert_eq!((draining.shed(), draining.held_bytes()), (0, 10), "its last answers are flushed");
    }

    #[test]
    fn g6_bytes_are_bounded_over_all_streams() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 100);
        outgoing.add_lane(STREAM);
        outgoing.set_push_lane(LaneId::LOGIN);
        assert_eq!(outgoing.reply(STREAM, frame(1, 60)), Ok(()));
        assert_eq!(outgoing.push(frame(2, 41)), Err(Full::TryAgain), "101 in all");
        assert_eq!(outgoing.push(frame(2, 40)), Ok(()), "100 in all");
        assert!(!outgoing.has_room());
        assert_eq!(outgoing.push(frame(3, 1)), Err(Full::TryAgain));
        assert_eq!(books.queued(), (2, 100));
    }

    #[test]
    fn an_empty_queue_takes_one_packet_of_any_size() {
        let books = Books::new();
        let outgoing = outgoing(&books, 3, 100);
        outgoing.set_push_lane(LaneId::LOGIN);
        assert_eq!(outgoing.push(frame(1, 5000)), Ok(()));
        assert_eq!(outgoing.push(frame(2, 1)), Err(Full::TryAgain));
        turn(&outgoing, LaneId::LOGIN, 5000);
        assert_eq!(books.queued(), (0, 0));
        assert_eq!(outgoing.reply(LaneId::LOGIN, frame(3, 5000)), Ok(()));
        assert_eq!(outgoing.closing(), None);
    }

    #[test]
    fn c8_a_queue_is_slow_only_after_a_turn_that_left_it_full() {
        let books = Books::new();
        let outgoing = outgoing(&books, 2, 1000);
        outgoing.set_push_lane(LaneId::LOGIN);
        // A turn before it filled does not count.
        turn(&outgoing, LaneId::LOGIN, 0);
        outgoing.push(frame(1, 10)).unwrap();
        outgoing.push(frame(2, 10)).unwrap();
        turn(&outgoing, LaneId::LOGIN, 0);
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::TryAgain), "it is found full only now");
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::TryAgain), "and had no turn since");
        assert_eq!(outgoing.closing(), None);
        turn(&outgoing, LaneId::LOGIN, 9);
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::Slow), "not one whole message in a turn");
        assert_eq!(outgoing.closing(), Some(CloseReason::SlowConsumer));
        assert_eq!(outgoing.push(frame(3, 10)), Err(Full::Closing));
        assert_eq!(outgoing.reply(LaneId::LOGIN, frame(3, 10)), Err(Full::Closing));
        assert_eq!(waiting(&outgoing, LaneId::LOGIN), [(1, 1), (2, 10)], "what was taken stays in order");
    }

    #[test]
    fn c8_progress_makes_room_again() {
        let books = Books::new();
        let outgoing = outgoing(&books, 2, 1000);
        outgoing.set_push_lane(LaneId::LOGIN);
        for round in 0..5 {
            outgoing.push(frame(round, 10)).unwrap();
            outgoing.push(frame(round, 10)).unwrap();
            assert_eq!(outgoing.push(frame(9, 10)), Err(Full::TryAgain), "round {round}");
            turn(&outgoing, LaneId::LOGIN, 10);
            assert_eq!(outgoing.push(frame(9, 10)), Ok(()), "round {round}");
            assert_eq!(outgoing.push(frame(9, 10)), Err(Full::TryAgain), "full anew, round {round}");
            turn(&outgoing, LaneId::LOGIN, 20);
        }
        assert_eq!(outgoing.closing(), None);
        assert_eq!(books.queued(), (0, 0));
        assert_eq!(books.value("gateway_pushes_delivered_total"), 15);
    }

    #[test]
    fn g1_replies_may_take_twice_the_bounds_and_more_until_the_writer_had_its_turn() {
        let books = Books::new();
        let outgoing = outgoing(&books, 2, 1000);
        outgoing.set_push_lane(LaneId::LOGIN);
        for fill in 0..3 {
            assert_eq!(outgoing.reply(LaneId::LOGIN, frame(fill, 10)), Ok(()));
            turn(&outgoing, LaneId::LOGIN, 0);
        }
        assert!(!outgoing.has_room(), "nothing more is read");
        assert_eq!(outgoing.push(frame(9, 10)), Err(Full::TryAgain), "and no push is taken");
        for fill in 3..6 {
            assert_eq!(outgoing.reply(LaneId::LOGIN, frame(fill, 10)), Ok(()));
        }
        turn(&outgoing, LaneId::LOGIN, 20);
        assert_eq!(outgoing.reply(LaneId::LOGIN, frame(6, 10)), Err(Full::Slow), "four are left");
        assert_eq!(outgoing.closing(), Some(CloseReason::SlowConsumer));
        assert_eq!(books.queued(), (4, 40));
    }

    #[test]
    fn g6_a_reply_to_what_was_read_while_there_was_room_is_no_sign_of_a_slow_client() {
        let books = Books::new();
        let outgoing = outgoing(&books, 100, 1000);
        for fill in 0..10 {
            assert!(outgoing.has_room(), "so the request is read");
            outgoing.reply(LaneId::LOGIN, frame(fill, 105)).unwrap();
        }
        for fill in 10..50 {
            assert!(!outgoing.has_room(), "1050 are queued");
            turn(&outgoing, LaneId::LOGIN, 105);
            assert!(outgoing.has_room(), "945 are queued: the client took what it could");
            assert_eq!(outgoing.reply(LaneId::LOGIN, frame(fill, 105)), Ok(()));
        }
        assert_eq!(outgoing.closing(), None);
    }

    #[test]
    fn b22_parked_pushes_go_out_behind_the_login_response_and_in_order() {
        for lane in [LaneId::LOGIN, LaneId::PUSH] {
            let books = Books::new();
            let outgoing = outgoing(&books, 10, 1000);
            outgoing.push(frame(1, 5)).unwrap();
            outgoing.push(frame(2, 5)).unwrap();
            assert!(outgoing.is_empty(), "parked ones cannot be written");
            assert_eq!(books.queued(), (2, 10), "but they count");
            outgoing.reply(LaneId::LOGIN, frame(0, 5)).unwrap();
            if lane == LaneId::PUSH {
                outgoing.add_lane(lane);
            }
            outgoing.set_push_lane(lane);
            outgoing.push(frame(3, 5)).unwrap();
            let login = waiting(&outgoing, LaneId::LOGIN);
            if lane == LaneId::LOGIN {
                assert_eq!(login, [(0, 5), (1, 5), (2, 5), (3, 5)]);
            } else {
                assert_eq!(login, [(0, 5)]);
                assert_eq!(waiting(&outgoing, lane), [(1, 5), (2, 5), (3, 5)]);
            }
            assert_eq!(books.queued(), (4, 20));
        }
    }

    #[test]
    fn b22_the_login_response_is_written_with_its_last_byte() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 1000);
        outgoing.reply(LaneId::LOGIN, frame(1, 5)).unwrap();
        outgoing.reply_login(frame(2, 5)).unwrap();
        outgoing.advance(LaneId::LOGIN, 5);
        outgoing.advance(LaneId::LOGIN, 4);
        assert!(!outgoing.is_login_written());
        outgoing.advance(LaneId::LOGIN, 1);
        assert!(outgoing.is_login_written());
    }

    #[test]
    fn b22_parked_pushes_are_bounded() {
        let books = Books::new();
        let outgoing = outgoing(&books, 2, 1000);
        outgoing.push(frame(1, 5)).unwrap();
        outgoing.push(frame(2, 5)).unwrap();
        assert_eq!(outgoing.push(frame(3, 5)), Err(Full::TryAgain));
        turn(&outgoing, LaneId::LOGIN, 0);
        assert_eq!(outgoing.push(frame(3, 5)), Err(Full::Slow));
        assert_eq!(outgoing.unwritten_pushes(), 2);
    }

    #[test]
    fn writes_end_anywhere() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 1000);
        outgoing.reply(LaneId::LOGIN, frame(1, 10)).unwrap();
        outgoing.reply(LaneId::LOGIN, frame(2, 6)).unwrap();
        outgoing.reply(LaneId::LOGIN, frame(3, 4)).unwrap();
        outgoing.advance(LaneId::LOGIN, 7);
        assert_eq!(waiting(&outgoing, LaneId::LOGIN), [(1, 3), (2, 6), (3, 4)]);
        assert_eq!(books.queued(), (3, 13), "what was written no longer counts");
        outgoing.advance(LaneId::LOGIN, 3);
        assert_eq!(waiting(&outgoing, LaneId::LOGIN), [(2, 6), (3, 4)]);
        assert_eq!(books.queued(), (2, 10));
        outgoing.advance(LaneId::LOGIN, 9);
        assert_eq!(waiting(&outgoing, LaneId::LOGIN), [(3, 1)]);
        outgoing.advance(LaneId::LOGIN, 1);
        assert!(outgoing.is_lane_empty(LaneId::LOGIN) && outgoing.is_empty());
        assert_eq!(books.queued(), (0, 0));
        assert_eq!(books.value("gateway_pushes_delivered_total"), 0, "replies are no pushes");
    }

    #[test]
    fn a_stream_that_is_gone_gives_its_count_back() {
        let books = Books::new();
        let outgoing = outgoing(&books, 3, 1000);
        outgoing.add_lane(STREAM);
        outgoing.reply(STREAM, frame(1, 10)).unwrap();
        outgoing.advance(STREAM, 4);
        outgoing.reply(STREAM, frame(2, 10)).unwrap();
        outgoing.reply(LaneId::LOGIN, frame(3, 10)).unwrap();
        assert!(!outgoing.has_room());
        assert_eq!(outgoing.remove_lane(STREAM), 2);
        assert_eq!(books.queued(), (1, 10));
        assert!(outgoing.has_room());
        assert_eq!(outgoing.reply(STREAM, frame(4, 10)), Err(Full::Gone));
        assert_eq!(outgoing.remove_lane(STREAM), 0);
        assert_eq!(books.queued(), (1, 10), "a frame for a stream that is gone is not counted");
        assert_eq!(waiting(&outgoing, LaneId::LOGIN), [(3, 10)]);
    }

    #[test]
    fn streams_keep_their_order_when_one_goes() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 1000);
        for id in 1..5 {
            outgoing.add_lane(LaneId(id));
        }
        outgoing.remove_lane(LaneId(2));
        let lanes: Vec<_> =
            (0..9).map_while(|position| outgoing.lane_at(position)).map(|lane| lane.0).collect();
        assert_eq!(lanes, [0, 1, 3, 4]);
    }

    #[test]
    fn g1_a_draining_channel_takes_replies_and_no_pushes() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 1000);
        outgoing.set_push_lane(LaneId::LOGIN);
        outgoing.close(CloseReason::Draining);
        assert_eq!(outgoing.push(frame(1, 5)), Err(Full::Closing));
        assert_eq!(outgoing.reply(LaneId::LOGIN, frame(2, 5)), Ok(()));
        outgoing.close(CloseReason::Kicked);
        assert_eq!(outgoing.closing(), Some(CloseReason::Draining), "the first reason stands");
        assert_eq!(books.queued(), (1, 5));
    }

    #[test]
    fn any_other_closing_channel_takes_nothing() {
        for reason in CloseReason::ALL.into_iter().filter(|reason| *reason != CloseReason::Draining) {
            let books = Books::new();
            let outgoing = outgoing(&books, 10, 1000);
            outgoing.set_push_lane(LaneId::LOGIN);
            outgoing.close(reason);
            assert_eq!(outgoing.push(frame(1, 5)), Err(Full::Closing), "{reason}");
            assert_eq!(outgoing.reply(LaneId::LOGIN, frame(2, 5)), Err(Full::Closing), "{reason}");
            assert_eq!(books.queued(), (0, 0));
        }
    }

    #[test]
    fn f10_what_was_queued_is_given_back_with_the_queue() {
        let books = Books::new();
        let outgoing = outgoing(&books, 10, 1000);
        outgoing.push(frame(1, 5)).unwrap();
        outgoing.reply(LaneId::LOGIN, frame(2, 7)).unwrap();
        outgoing.advance(LaneId::LOGIN, 3);
        assert_eq!(outgoing.unwritten_pushes(), 1);
        assert_eq!(books.queued(), (2, 9));
        drop(outgoing);
        assert_eq!(books.queued(), (0, 0));
        assert_eq!(books.push_drops(PushDrop::Closing), 0, "dropped pushes are counted by the guard");
    }

    #[test]
    fn the_connection_is_woken_unless_it_is_at_work() {
        let books = Books::new();
        let outgoing = outgoing(&books, 1, 1000);
        outgoing.set_push_lane(LaneId::LOGIN);
        let (bell, waker) = Bell::new();
        outgoing.begin_turn(&Context::from_waker(&waker));
        outgoing.reply(LaneId::LOGIN, Bytes::from_static(b"pong").into()).unwrap();
        outgoing.advance(LaneId::LOGIN, 4);
        assert_eq!(bell.rung(), 0, "it looks at everything before it waits");
        outgoing.end_turn();
        outgoing.push(frame(1, 5)).unwrap();
        assert_eq!(bell.rung(), 1);
        assert_eq!(outgoing.push(frame(2, 5)), Err(Full::TryAgain));
        assert_eq!(bell.rung(), 2, "a full queue is given its turn");
        outgoing.close(CloseReason::Kicked);
        outgoing.close(CloseReason::Kicked);
        assert_eq!(bell.rung(), 3);
    }
}
