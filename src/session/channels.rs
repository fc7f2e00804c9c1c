//! The registry of a worker's channels, and the guard that takes a channel out of it however it ends.

use std::array;
use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::limits::CHANNELS_PER_TURN;
use crate::monitor::metrics::{PushDrop, WorkerMetrics};
use crate::packet_trace::{PacketKind, Taps, TracedPacket};
use crate::session::channel::{Channel, ChannelState, Identity};
use crate::session::connected::{ConnectedClient, ConnectionOrigin};
use crate::session::id_hasher::IdHasher;
use crate::session::outgoing::Outgoing;
use crate::session::signout::SignOut;
use crate::session::signouts::SignOuts;
use crate::session::spare;
use crate::spans::Tracer;
use crate::wire::close::CloseReason;

/// Parts of the registry. Each is small even for a crowd, so that no sign-in waits for a large table to grow, and one
/// after the other can be looked at.
pub(crate) const PARTS: usize = 256;

type Part = RefCell<HashSet<RegisteredChannel, BuildHasherDefault<IdHasher>>>;

/// A channel, found by the bytes of its id: a push names many, and nobody has to see whether they are texts.
#[derive(Debug)]
struct RegisteredChannel(Rc<Channel>);

impl Borrow<[u8]> for RegisteredChannel {
    fn borrow(&self) -> &[u8] {
        self.0.id.as_bytes()
    }
}

impl Hash for RegisteredChannel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

impl PartialEq for RegisteredChannel {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for RegisteredChannel {}

/// Every connection of the worker, and every registered channel by its id.
#[derive(Debug)]
pub(crate) struct Channels {
    by_id: [Part; PARTS],
    /// By number, oldest first.
    connections: RefCell<BTreeMap<u64, ConnectedClient>>,
    next_connection: Cell<u64>,
    opening: Cell<usize>,
    /// Why every connection is being closed, those that still come included.
    closing: Cell<Option<CloseReason>>,
    /// Those that still come are closed as by a drain, and that may end.
    turns_away: Cell<bool>,
    /// Channels that are closing do not wait for their last answers any more.
    cut_short: Cell<bool>,
    /// Nor for clients that do not take what is queued.
    flushing_over: CancellationToken,
    disconnected: Notify,
    /// Whose packets the administrator watches.
    pub(crate) taps: Taps,
    /// What is recorded for a collector.
    pub(crate) tracer: Tracer,
    signouts: Rc<SignOuts>,
    metrics: Arc<WorkerMetrics>,
}

impl Channels {
    pub(crate) fn new(signouts: Rc<SignOuts>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            by_id: array::from_fn(|_| RefCell::default()),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            opening: Cell::new(0),
            closing: Cell::new(None),
            turns_away: Cell::new(false),
            cut_short: Cell::new(false),
            flushing_over: CancellationToken::new(),
            disconnected: Notify::new(),
            taps: Taps::default(),
            tracer: Tracer::default(),
            signouts,
            metrics,
        })
    }

    /// The channel with this id, unless it ended.
    pub(crate) fn get(&self, id: &[u8]) -> Option<Rc<Channel>> {
        self.part_of(id).borrow().get(id).map(|RegisteredChannel(channel)| Rc::clone(channel))
    }

    /// Returns `true` if it is registered and has not ended.
    pub(crate) fn is_registered(&self, channel: &Channel) -> bool {
        let id = channel.id.as_bytes();
        self.part_of(id).borrow().contains(id)
    }

    /// An id ends with a number that counts up. Whatever a service asks for, it adds nothing here.
    fn part_of(&self, id: &[u8]) -> &Part {
        let end = id.iter().rev().take(4).fold(0, |part, byte| part * 10 + usize::from(*byte & 0xF));
        &self.by_id[end % PARTS]
    }

    /// Shows every registered channel; `visit` must not register or end one.
    #[cfg(test)]
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Rc<Channel>)) {
        for part in 0..PARTS {
            self.for_each_in(part, &mut visit);
        }
    }

    /// Shows the channels of one of [`PARTS`] and returns how many there are; `visit` must not register or end one.
    pub(crate) fn for_each_in(&self, part: usize, visit: impl FnMut(&Rc<Channel>)) -> usize {
        let channels = self.by_id[part].borrow();
        channels.iter().map(|RegisteredChannel(channel)| channel).for_each(visit);
        channels.len()
    }

    /// Shows every connection, oldest first and some in a turn; `visit` must not begin or end one. Those that come
    /// meanwhile may be missed.
    pub(crate) async fn for_each_connection(&self, mut visit: impl FnMut(&Rc<Outgoing>)) {
        let mut from = Bound::Unbounded;
        let mut see = |_, connected: &ConnectedClient| visit(&connected.outgoing);
        while let Some(last) = self.for_connections(from, CHANNELS_PER_TURN, &mut see) {
            from = Bound::Excluded(last);
            yield_now().await;
        }
    }

    /// Shows so many connections with their numbers, oldest first; `visit` must not begin or end one. Returns the last that
    /// was shown, if there may be more.
    pub(crate) fn for_connections(
        &self,
        from: Bound<u64>,
        at_most: usize,
        mut visit: impl FnMut(u64, &ConnectedClient),
    ) -> Option<u64> {
        let connections = self.connections.borrow();
        let mut last = None;
        for (number, connected) in connections.range((from, Bound::Unbounded)).take(at_most) {
            visit(*number, connected);
            last = Some((*number, last.map_or(1, |(_, seen)| seen + 1)));
        }
        last.filter(|(_, seen)| *seen == at_most).map(|(number, _)| number)
    }

    /// Shows every connection, newest first, until `visit` returns false; it must not begin or end one.
    pub(crate) fn for_newest(&self, mut visit: impl FnMut(&Rc<Outgoing>) -> bool) {
        let _all = self.connections.borrow().values().rev().all(|connected| visit(&connected.outgoing));
    }

    /// Channels whose login is not answered yet.
    pub(crate) fn opening(&self) -> usize {
        self.opening.get()
    }

    /// Waits until every connection that was there before [`Channels::begin_drain`] or [`Channels::close_all`] has
    /// ended. Cancel safe.
    pub(crate) async fn all_ended(&self) {
        while !self.connections.borrow().is_empty() {
            self.disconnected.notified().await;
        }
    }

    /// From now on asks every connection that comes to end, as a drain does, or does so no more.
    pub(crate) fn turn_away(&self, turns_away: bool) {
        self.turns_away.set(turns_away);
    }

    /// Asks every connection without a channel to end, some in a turn, and from the first moment on every one that still
    /// comes. Returns the channels: they are served as before until [`Channels::close`].
    pub(crate) async fn begin_drain(&self) -> Vec<Rc<Channel>> {
        self.closing.set(Some(CloseReason::Draining));
        self.close_strangers().await
    }

    /// Asks every connection without a channel to end, some in a turn, and returns the channels.
    pub(crate) async fn close_strangers(&self) -> Vec<Rc<Channel>> {
        let registered = self.by_id.iter().map(|part| part.borrow().len()).sum();
        let (mut channels, mut signed_in) =
            (Vec::with_capacity(registered), HashSet::with_capacity(registered));
        let mut looked_at = 0;
        for part in 0..PARTS {
            looked_at += self.for_each_in(part, |channel| {
                signed_in.insert(Rc::as_ptr(&channel.outgoing));
                channels.push(Rc::clone(channel));
            });
            if looked_at >= CHANNELS_PER_TURN {
                looked_at = 0;
                yield_now().await;
            }
        }
        let close_stranger = |outgoing: &Rc<Outgoing>| {
            if !signed_in.contains(&Rc::as_ptr(outgoing)) {
                outgoing.close(CloseReason::Draining);
            }
        };
        self.for_each_connection(close_stranger).await;
        channels
    }

    /// Asks a channel to end, unless it has ended.
    pub(crate) fn close(&self, id: &str, reason: CloseReason) {
        if let Some(channel) = self.get(id.as_bytes()) {
            channel.outgoing.close(reason);
        }
    }

    /// Asks every connection to end, some in a turn, and from the first moment on every one that still comes.
    pub(crate) async fn close_all(&self, reason: CloseReason) {
        self.closing.set(Some(reason));
        self.for_each_connection(|outgoing| outgoing.close(reason)).await;
    }

    /// Has every connection end now, whatever it still waits for: only so its sign-out comes in time.
    pub(crate) async fn cut_short(&self) {
        self.cut_short.set(true);
        self.close_all(CloseReason::Draining).await;
        // Those that were ending already look at it too.
        self.for_each_connection(|outgoing| outgoing.wake()).await;
    }

    /// Has connections that end wait no longer for clients to take what is queued.
    pub(crate) fn stop_flushing(&self) {
        self.flushing_over.cancel();
    }

    /// Waits for [`Channels::stop_flushing`]. Cancel safe.
    pub(crate) async fn flushing_over(&self) {
        self.flushing_over.cancelled().await;
    }

    /// Returns `true` if connections must end now.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }

    /// How many connections there are, without those that came during a drain.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Makes a connection known to [`Channels::begin_drain`] and [`Channels::close_all`] for as long as the guard lives.
    pub(crate) fn connect(
        self: &Rc<Self>,
        outgoing: &Rc<Outgoing>,
        origin: ConnectionOrigin,
    ) -> ConnectionGuard {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        let turned_away = || self.turns_away.get().then_some(CloseReason::Draining);
        match self.closing.get().or_else(turned_away) {
            // Told to go at once, and not waited for: clients that come back again and again hold up no drain.
            Some(reason) => outgoing.close(reason),
            None => {
                let connected = ConnectedClient { outgoing: Rc::clone(outgoing), origin, channel: None };
                self.connections.borrow_mut().insert(number, connected);
                self.metrics.connections_served(1);
            }
        }
        ConnectionGuard { channels: Rc::clone(self), number }
    }

    /// Registers a channel that is about to sign in (protocol §4.3) and reserves the place of its sign-out.
    pub(crate) fn register(self: &Rc<Self>, channel: Rc<Channel>) -> ChannelGuard {
        // First, while it can still be refused: at the end there must be a place, whatever else is full then.
        self.signouts.reserve();
        self.opening.set(self.opening.get() + 1);
        self.part_of(channel.id.as_bytes()).borrow_mut().insert(RegisteredChannel(Rc::clone(&channel)));
        ChannelGuard { channels: Rc::clone(self), channel, counted_as_opening: true, reason: None }
    }
}

/// A connection's place among the worker's connections.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    channels: Rc<Channels>,
    number: u64,
}

impl ConnectionGuard {
    /// When it was accepted; none for one that came during a drain.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.channels.connections.borrow().get(&self.number).map(|connected| connected.origin.since)
    }

    /// Its client signs in, with this channel.
    pub(crate) fn signs_in(&self, channel: &Rc<Channel>) {
        if let Some(connected) = self.channels.connections.borrow_mut().get_mut(&self.number) {
            connected.channel = Some(Rc::downgrade(channel));
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if self.channels.connections.borrow_mut().remove(&self.number).is_some() {
            self.channels.metrics.connections_served(-1);
        }
        self.channels.disconnected.notify_one();
    }
}

/// A registered channel. Its drop takes the channel out of the registry and leaves its sign-out in the place that
/// was reserved for it: on every path, panics included, without waiting and without failing (ARCHITECTURE §4.7).
#[derive(Debug)]
pub(crate) struct ChannelGuard {
    channels: Rc<Channels>,
    /// The channel it guards.
    pub(crate) channel: Rc<Channel>,
    counted_as_opening: bool,
    reason: Option<CloseReason>,
}

impl ChannelGuard {
    /// The login was answered, one way or the other.
    pub(crate) fn end_opening(&mut self) {
        if std::mem::take(&mut self.counted_as_opening) {
            self.channels.opening.set(self.channels.opening.get() - 1);
        }
    }

    /// Why the channel ends; without it the end is the gateway's own fault.
    pub(crate) fn set_reason(&mut self, reason: CloseReason) {
        self.reason = Some(reason);
    }
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.end_opening();
        // No reason was given: the task panicked, or was dropped.
        let reason = self.reason.unwrap_or(CloseReason::InternalError);
        // A link may still hold the channel in the middle of a delivery; it must not queue anything behind this (G5).
        self.channel.outgoing.close(reason);
        let id = self.channel.id.as_bytes();
        let mut part = self.channels.part_of(id).borrow_mut();
        part.remove(id);
        spare::shrink_set(&mut part);
        drop(part);
        let pending = self.channel.pending.borrow().len();
        for _ in 0..pending {
            self.channels.metrics.pending_closed();
        }
        let unwritten = self.channel.outgoing.unwritten_pushes();
        if unwritten > 0 {
            let why =
                if reason == CloseReason::SlowConsumer { PushDrop::SlowConsumer } else { PushDrop::Closing };
            self.channels.metrics.push_dropped(why, unwritten);
        }
        let end =
            TracedPacket { kind: PacketKind::Closed, outcome: reason.token(), ..TracedPacket::default() };
        self.channels.trace(&self.channel, || end);
        self.channels.end_connection_span(&self.channel, reason);
        let now = Instant::now();
        if let ChannelState::Open(since) = self.channel.state() {
            let Identity { app, account } = &self.channel.identity;
            self.channels.metrics.statistics().see(app, account, self.channel.take_requests());
            self.channels.metrics.session_ended(now.saturating_duration_since(since));
        }
        self.channels.signouts.fill(SignOut::of(&self.channel, reason, now));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::task::Context;
    use std::time::{Duration, Instant};

    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::JoinSet;

    use super::*;
    use crate::limits::Limits;
    use crate::session::fixtures::{CountingWaker, TestMetrics, channel, origin, ticket};
    use crate::session::outgoing::{Full, OutgoingBounds, StreamId};
    use crate::session::pending::{InstanceKey, RequestStage};
    use crate::session::signouts::Placed;
    use crate::wire::frame::{self, Opcode};

    const A: InstanceKey = InstanceKey(0);

    fn registry(test_metrics: &TestMetrics) -> Rc<Channels> {
        let bounds = crate::session::signouts::SignOutBounds {
            places: 10,
            hold: Duration::from_secs(4),
            retry: Duration::from_secs(60),
        };
        let signouts = SignOuts::new(bounds, Arc::default(), Arc::clone(&test_metrics.worker));
        Channels::new(signouts, Arc::clone(&test_metrics.worker))
    }

    /// A registered channel whose sign-in was handed over, with this many requests that wait for their answers.
    fn register(
        test_metrics: &TestMetrics,
        channels: &Rc<Channels>,
        account: &str,
        requests: u32,
    ) -> ChannelGuard {
        let channel = channel(test_metrics, account);
        let signin = ticket(&channel, "login.signin", 0);
        signin.set_stage(RequestStage::Sent(A));
        channel.set_signin(signin);
        for sequence in 0..requests {
            channel.pending.borrow_mut().push(ticket(&channel, "chat.user.talk", sequence));
            test_metrics.worker.pending_opened();
        }
        channels.register(channel)
    }

    fn open(guard: &mut ChannelGuard) {
        guard.channel.set_state(ChannelState::Open(Instant::now()));
        guard.end_opening();
    }

    /// Ids and reasons of the sign-outs that are owed, held back or not.
    fn signouts(channels: &Channels) -> Vec<(Rc<str>, CloseReason)> {
        let mut due = Vec::new();
        let now = Instant::now();
        for at in [now, now + Duration::from_secs(10)] {
            channels.signouts.place_due(at, |signout| {
                due.push((Rc::clone(&signout.channel_id), signout.reason));
                Placed::NotOwed
            });
        }
        due
    }

    fn ping() -> crate::wire::packet::Encoded {
        frame::encode(Opcode::Ping, b"12345").into()
    }

    #[test]
    fn g5_the_guard_takes_everything_back_and_signs_out_once() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let mut guard = register(&test_metrics, &channels, "alice", 3);
        let other = register(&test_metrics, &channels, "bob", 0);
        let id = Rc::clone(&guard.channel.id);
        assert_eq!(channels.opening(), 2);
        open(&mut guard);
        guard.end_opening();
        assert_eq!(channels.opening(), 1, "counted once");
        assert!(channels.get(id.as_bytes()).is_some_and(|found| Rc::ptr_eq(&found, &guard.channel)));
        guard.channel.outgoing.push(ping()).unwrap();
        guard.channel.outgoing.reply(StreamId::LOGIN, ping()).unwrap();
        assert_eq!((test_metrics.pending(), test_metrics.queued()), (3, (2, 20)));
        assert!(signouts(&channels).is_empty());

        guard.set_reason(CloseReason::Bye);
        drop(guard);
        assert!(channels.get(id.as_bytes()).is_none());
        assert_eq!(channels.opening(), 1);
        assert_eq!((test_metrics.pending(), test_metrics.queued()), (0, (0, 0)));
        assert_eq!(test_metrics.push_drops(PushDrop::Closing), 1);
        assert_eq!(test_metrics.signouts_waiting(), 1);
        assert_eq!(signouts(&channels), [(id, CloseReason::Bye)]);
        assert!(signouts(&channels).is_empty(), "exactly one");
        let mut left = Vec::new();
        channels.for_each(|channel| left.push(Rc::clone(&channel.id)));
        assert_eq!(left, [Rc::clone(&other.channel.id)]);
    }

    #[test]
    fn pushes_that_a_slow_client_did_not_take_are_counted_as_such() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let mut guard = register(&test_metrics, &channels, "alice", 0);
        guard.channel.outgoing.push(ping()).unwrap();
        guard.set_reason(CloseReason::SlowConsumer);
        drop(guard);
        let counted =
            (test_metrics.push_drops(PushDrop::SlowConsumer), test_metrics.push_drops(PushDrop::Closing));
        assert_eq!(counted, (1, 0));
    }

    #[test]
    fn g5_a_channel_that_ends_takes_no_push_from_whoever_still_holds_it() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let guard = register(&test_metrics, &channels, "alice", 0);
        let held = Rc::clone(&guard.channel);
        drop(guard);
        assert_eq!(held.outgoing.push(ping()), Err(Full::Closing));
        assert_eq!(held.outgoing.closing(), Some(CloseReason::InternalError));
        assert_eq!(channels.opening(), 0, "the guard of one still opening takes that back, too");
    }

    #[test]
    fn f10_a_panic_that_unwinds_through_the_guard() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let guard = register(&test_metrics, &channels, "alice", 2);
        let id = Rc::clone(&guard.channel.id);
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let _held = guard;
            panic!("on purpose");
        }));
        assert!(unwound.is_err());
        assert_eq!(signouts(&channels), [(id, CloseReason::InternalError)]);
        assert_eq!((test_metrics.pending(), channels.opening()), (0, 0));
    }

    #[test]
    fn f10_a_panic_of_a_task_ends_its_channel_and_no_other() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let mut guard = register(&test_metrics, &channels, "alice", 2);
        open(&mut guard);
        let id = Rc::clone(&guard.channel.id);
        guard.channel.outgoing.push(ping()).unwrap();
        let mut other = register(&test_metrics, &channels, "bob", 1);
        open(&mut other);
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let panicked = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            tasks.spawn_local(async move {
                yield_now().await;
                // The worst moment: in the middle of a change of the channel's own tables.
                let _pending = guard.channel.pending.borrow_mut();
                guard.channel.outgoing.write_with(StreamId::LOGIN, |_| panic!("on purpose"));
            });
            tasks.join_next().await.unwrap().unwrap_err().is_panic()
        });
        assert!(panicked);
        assert_eq!(signouts(&channels), [(id, CloseReason::InternalError)]);
        assert_eq!((test_metrics.pending(), test_metrics.queued(), channels.opening()), (1, (0, 0), 0));
        assert!(channels.get(other.channel.id.as_bytes()).is_some());
        assert_eq!(other.channel.outgoing.closing(), None);
    }

    #[test]
    fn h22_a_drain_of_a_crowd_begins_in_slices_and_new_connections_are_told_at_once() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let bounds = OutgoingBounds::of(&Limits::default());
        let new = || Rc::new(Outgoing::new(bounds, Arc::clone(&test_metrics.worker)));
        let strangers: Vec<_> = (0..3 * CHANNELS_PER_TURN).map(|_| new()).collect();
        let mut guards: Vec<_> =
            strangers.iter().map(|outgoing| channels.connect(outgoing, origin())).collect();
        let signed_in = register(&test_metrics, &channels, "alice", 0);
        guards.push(channels.connect(&signed_in.channel.outgoing, origin()));
        let (_, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let closed = || strangers.iter().filter(|outgoing| outgoing.closing().is_some()).count();
        let mut draining = pin!(channels.begin_drain());
        let (mut before, mut turns) = (0, 0);
        let runtime = Builder::new_current_thread().build().unwrap();
        let _context = runtime.enter();
        let found = loop {
            let polled = draining.as_mut().poll(&mut cx);
            let late = new();
            let _late = channels.connect(&late, origin());
            assert_eq!(late.closing(), Some(CloseReason::Draining), "from the first turn on");
            assert!(closed() - before <= CHANNELS_PER_TURN);
            (before, turns) = (closed(), turns + 1);
            if let std::task::Poll::Ready(found) = polled {
                break found;
            }
        };
        assert_eq!((before, found.len()), (strangers.len(), 1));
        assert!(turns > 3);
        assert_eq!(signed_in.channel.outgoing.closing(), None);
    }

    #[test]
    fn h22_the_end_of_a_crowd_is_told_in_slices_and_its_room_given_back() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let crowd = 10 * CHANNELS_PER_TURN;
        let guards: Vec<_> = (0..crowd).map(|_| register(&test_metrics, &channels, "alice", 0)).collect();
        let _connections: Vec<_> =
            guards.iter().map(|guard| channels.connect(&guard.channel.outgoing, origin())).collect();
        let largest = channels.by_id.iter().map(|part| part.borrow().len()).max().unwrap();
        assert!(largest <= 4 * crowd / PARTS, "{largest} in one part");
        let runtime = Builder::new_current_thread().build().unwrap();
        let _context = runtime.enter();
        let (_, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut cutting = pin!(channels.cut_short());
        let closed = || guards.iter().filter(|guard| guard.channel.outgoing.closing().is_some()).count();
        let mut before = 0;
        while cutting.as_mut().poll(&mut cx).is_pending() {
            assert!(closed() - before <= CHANNELS_PER_TURN);
            before = closed();
        }
        assert_eq!((before, channels.is_cut_short()), (crowd, true));
        drop(guards);
        let room: usize = channels.by_id.iter().map(|part| part.borrow().capacity()).sum();
        assert!(room <= PARTS * 2 * spare::KEPT, "{room}");
    }

    #[test]
    fn f1_every_connection_is_asked_to_end_and_the_last_end_is_seen() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let bounds = OutgoingBounds::of(&Limits::default());
        let connections: Vec<_> =
            (0..3).map(|_| Rc::new(Outgoing::new(bounds, Arc::clone(&test_metrics.worker)))).collect();
        let mut guards: Vec<_> =
            connections.iter().map(|outgoing| channels.connect(outgoing, origin())).collect();
        let (_, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut all_ended = pin!(channels.all_ended());
        assert!(all_ended.as_mut().poll(&mut cx).is_pending());
        drop(guards.remove(0));
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(channels.close_all(CloseReason::Draining));
        let reasons: Vec<_> = connections.iter().map(|outgoing| outgoing.closing()).collect();
        assert_eq!(reasons, [None, Some(CloseReason::Draining), Some(CloseReason::Draining)]);
        assert!(all_ended.as_mut().poll(&mut cx).is_pending());
        let late = Rc::new(Outgoing::new(bounds, Arc::clone(&test_metrics.worker)));
        let _late = channels.connect(&late, origin());
        assert_eq!(late.closing(), Some(CloseReason::Draining), "one that comes still is told to go");
        guards.clear();
        assert!(all_ended.as_mut().poll(&mut cx).is_ready(), "and not waited for");
    }

    #[test]
    fn f1_f17_who_comes_is_turned_away_only_for_as_long_as_an_operator_says() {
        let test_metrics = TestMetrics::new();
        let channels = registry(&test_metrics);
        let bounds = OutgoingBounds::of(&Limits::default());
        let comes = || {
            let outgoing = Rc::new(Outgoing::new(bounds, Arc::clone(&test_metrics.worker)));
            let guard = channels.connect(&outgoing, origin());
            (outgoing.closing(), guard)
        };
        let (early, _stays) = comes();
        channels.turn_away(true);
        let (turned_away, _gone) = comes();
        assert_eq!((early, turned_away, channels.connections()), (None, Some(CloseReason::Draining), 1));
        channels.turn_away(false);
        let (late, _stays_too) = comes();
        assert_eq!((late, channels.connections()), (None, 2));
        Builder::new_current_thread().build().unwrap().block_on(channels.begin_drain());
        channels.turn_away(false);
        assert_eq!(comes().0, Some(CloseReason::Draining), "the end of the process is for good");
    }
}
