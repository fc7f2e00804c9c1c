//! Requests of one channel that were accepted and not answered yet (G1, G4).
//!
//! A ticket stands in two places: here, and, until its first byte may have been written, in the queue of a link.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::session::outgoing::StreamId;
use crate::session::spare;
use crate::wire::scanned_header::ScannedHeader;

/// Names a logic instance at one address, in one zone, within a worker. Never used again, so what refers to an
/// instance that has left cannot mean another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InstanceKey(pub(crate) usize);

/// How many requests an instance owes an answer over one connection, those still in the queue of its link included.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: Cell<usize>,
    is_lost: Cell<bool>,
}

impl Load {
    /// As many as there are now.
    pub(crate) fn get(&self) -> usize {
        self.requests.get()
    }

    /// The connection broke: from now on, whatever was sent over it is [`RequestStage::Lost`], however many that are.
    pub(crate) fn lose(&self) {
        self.is_lost.set(true);
    }
}

/// One request of a [`Load`], until it is dropped.
#[derive(Debug)]
struct LoadGuard(Rc<Load>);

impl LoadGuard {
    fn new(load: &Rc<Load>) -> Self {
        load.requests.set(load.requests.get() + 1);
        Self(Rc::clone(load))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

/// Where a request stands. It only moves forward, except from one link's queue to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestStage {
    /// In no queue (yet): it may be placed, or answered 300.
    Unplaced,
    /// Waiting in the queue of this instance's link under this number: it may move, or be taken out.
    Queued(InstanceKey, u64),
    /// Its first byte may have been written to this instance: it is never sent again.
    Sent(InstanceKey),
    /// The link it was sent to this instance over has broken: it is about to be answered 210.
    Lost(InstanceKey),
}

/// Where the time of a request goes.
#[derive(Debug)]
struct RequestTimes {
    arrived: Instant,
    handed_over: Cell<Option<Instant>>,
}

/// One accepted request, or the sign-in of a channel. Whose it is, is not looked at here.
#[derive(Debug)]
pub(crate) struct Ticket<Channel> {
    /// Whose it is; gone when the channel ended.
    pub(crate) channel: Weak<Channel>,
    /// The stream it came on.
    pub(crate) stream: StreamId,
    /// Its header as the client sent it: what an answer of the gateway's own repeats. The sequence in it is the client's
    /// number; not unique (row A17).
    pub(crate) header: ScannedHeader,
    arrived: Cell<Instant>,
    /// The sign-in that opens the channel, not a request on it.
    pub(crate) is_signin: bool,
    stage: Cell<RequestStage>,
    /// Where its time goes, if somebody watches.
    times: Option<Box<RequestTimes>>,
    /// Its share of the load of the instance it was placed with.
    loaded: RefCell<Option<LoadGuard>>,
}

/// What a new ticket is about.
pub(crate) struct NewTicket {
    pub(crate) stream: StreamId,
    pub(crate) header: ScannedHeader,
    pub(crate) arrived: Instant,
    pub(crate) is_signin: bool,
    /// Somebody watches where its time goes.
    pub(crate) is_traced: bool,
}

impl<Channel> Ticket<Channel> {
    pub(crate) fn new(channel: &Rc<Channel>, request: NewTicket) -> Rc<Self> {
        let NewTicket { stream, header, arrived, is_signin, is_traced } = request;
        let channel = Rc::downgrade(channel);
        let times = is_traced.then(|| Box::new(RequestTimes { arrived, handed_over: Cell::new(None) }));
        let (arrived, stage) = (Cell::new(arrived), Cell::new(RequestStage::Unplaced));
        let loaded = RefCell::default();
        Rc::new(Self { channel, stream, header, arrived, is_signin, stage, times, loaded })
    }

    /// When its last byte arrived; a sign-in's time runs from its hand-over.
    pub(crate) fn arrived(&self) -> Instant {
        self.arrived.get()
    }

    /// The sign-in was handed over now: the login service has its full time (protocol §4.4).
    pub(crate) fn restart(&self, now: Instant) {
        self.arrived.set(now);
    }

    /// Its first byte may be with the instance. Asks for the time only if somebody watches.
    pub(crate) fn note_hand_over(&self, now: impl FnOnce() -> Instant) {
        if let Some(times) = &self.times {
            times.handed_over.set(Some(now()));
        }
    }

    /// How long it waited for its instance, and since then; nothing where nobody watches.
    pub(crate) fn times(&self, now: Instant) -> (Option<Duration>, Option<Duration>) {
        let Some(times) = &self.times else { return (None, None) };
        let handed_over = times.handed_over.get();
        let queued = handed_over.unwrap_or(now).saturating_duration_since(times.arrived);
        (Some(queued), handed_over.map(|then| now.saturating_duration_since(then)))
    }

    pub(crate) fn stage(&self) -> RequestStage {
        match self.stage.get() {
            RequestStage::Sent(instance) if self.is_lost() => RequestStage::Lost(instance),
            stage => stage,
        }
    }

    fn is_lost(&self) -> bool {
        self.loaded.borrow().as_ref().is_some_and(|LoadGuard(load)| load.is_lost.get())
    }

    pub(crate) fn set_stage(&self, stage: RequestStage) {
        self.stage.set(stage);
        if stage == RequestStage::Unplaced {
            self.complete();
        }
    }

    /// It was placed with an instance: that owes one answer more until this is completed or dropped.
    pub(crate) fn burden(&self, load: &Rc<Load>) {
        *self.loaded.borrow_mut() = Some(LoadGuard::new(load));
    }

    /// Nobody waits for its answer any more. What was lost stays lost.
    pub(crate) fn complete(&self) {
        self.stage.set(self.stage());
        self.loaded.take();
    }

    /// The instance it was placed with, while something may still come of that.
    pub(crate) fn placed_with(&self) -> Option<InstanceKey> {
        match self.stage() {
            RequestStage::Queued(instance, _) | RequestStage::Sent(instance) => Some(instance),
            RequestStage::Unplaced | RequestStage::Lost(_) => None,
        }
    }

    /// Returns `true` if its first byte may have been written.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.stage.get(), RequestStage::Sent(_) | RequestStage::Lost(_))
    }
}

/// The tickets of one channel, oldest first.
#[derive(Debug)]
pub(crate) struct Pending<Channel>(VecDeque<Rc<Ticket<Channel>>>);

impl<Channel> Default for Pending<Channel> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<Channel> Pending<Channel> {
    pub(crate) fn push(&mut self, ticket: Rc<Ticket<Channel>>) {
        self.0.push_back(ticket);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the oldest arrived: deadlines are as old as arrivals.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.0.front().map(|ticket| ticket.arrived())
    }

    /// Returns `true` if one is with this instance, or in its queue.
    pub(crate) fn is_any_with(&self, instance: InstanceKey) -> bool {
        self.0.iter().any(|ticket| ticket.placed_with() == Some(instance))
    }

    /// Returns `true` if one may have reached this instance.
    pub(crate) fn is_any_sent_to(&self, instance: InstanceKey) -> bool {
        self.0.iter().any(|ticket| ticket.stage() == RequestStage::Sent(instance))
    }

    /// How many came on this stream.
    pub(crate) fn on_stream(&self, stream: StreamId) -> usize {
        self.0.iter().filter(|ticket| ticket.stream == stream).count()
    }

    /// The oldest one that a response of `instance` with this sequence and command answers (protocol §4.7).
    pub(crate) fn take_match(
        &mut self,
        instance: InstanceKey,
        sequence: u32,
        command: &str,
    ) -> Option<Rc<Ticket<Channel>>> {
        let position = self.0.iter().position(|ticket| {
            ticket.header.sequence() == sequence
                && ticket.stage() == RequestStage::Sent(instance)
                && ticket.header.command() == command
        })?;
        self.remove(position)
    }

    /// Takes this very ticket out; false if it was answered before.
    pub(crate) fn take(&mut self, ticket: &Rc<Ticket<Channel>>) -> bool {
        let position = self.0.iter().position(|other| Rc::ptr_eq(other, ticket));
        position.and_then(|position| self.remove(position)).is_some()
    }

    /// Takes out the oldest. It still stands in its queue, or with its instance.
    pub(crate) fn take_oldest(&mut self) -> Option<Rc<Ticket<Channel>>> {
        let oldest = self.0.pop_front();
        spare::shrink_queue(&mut self.0);
        oldest
    }

    /// Takes out one whose answer is there, or is not to come.
    fn remove(&mut self, position: usize) -> Option<Rc<Ticket<Channel>>> {
        let ticket = self.0.remove(position)?;
        spare::shrink_queue(&mut self.0);
        ticket.complete();
        Some(ticket)
    }

    /// Those that were lost with a link, oldest first.
    pub(crate) fn lost(&self) -> impl Iterator<Item = &Rc<Ticket<Channel>>> {
        self.0.iter().filter(|ticket| matches!(ticket.stage(), RequestStage::Lost(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::channel::{Channel, Ticket};
    use crate::session::fixtures::{TestMetrics, channel, millis, packet, ticket, ticket_of};

    const A: InstanceKey = InstanceKey(0);
    const B: InstanceKey = InstanceKey(1);
    const TALK: &str = "chat.user.talk";

    fn sent(channel: &Rc<Channel>, command: &str, sequence: u32, to: InstanceKey) -> Rc<Ticket> {
        let ticket = ticket(channel, command, sequence);
        ticket.set_stage(RequestStage::Sent(to));
        ticket
    }

    fn filled(tickets: &[&Rc<Ticket>]) -> Pending<Channel> {
        let mut pending = Pending::default();
        for ticket in tickets {
            pending.push(Rc::clone(ticket));
        }
        pending
    }

    fn is(found: Option<Rc<Ticket>>, expected: &Rc<Ticket>) -> bool {
        found.is_some_and(|found| Rc::ptr_eq(&found, expected))
    }

    #[test]
    fn a17_equal_sequences_are_answered_oldest_first_and_both() {
        let channel = channel(&TestMetrics::new(), "alice");
        let first = sent(&channel, TALK, 0, A);
        let other = sent(&channel, TALK, 65_535, A);
        let second = sent(&channel, TALK, 0, A);
        let mut pending = filled(&[&first, &other, &second]);
        assert!(is(pending.take_match(A, 0, TALK), &first));
        assert!(is(pending.take_match(A, 0, TALK), &second));
        assert!(pending.take_match(A, 0, TALK).is_none(), "a third answer matches nothing");
        assert!(is(pending.take_match(A, 65_535, TALK), &other));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn only_what_was_sent_to_that_instance_with_that_command_is_matched() {
        let channel = channel(&TestMetrics::new(), "alice");
        let unplaced = ticket(&channel, TALK, 1);
        let queued = ticket(&channel, TALK, 1);
        queued.set_stage(RequestStage::Queued(A, 7));
        let to_b = sent(&channel, TALK, 1, B);
        let ack = sent(&channel, "chat.talk.ack", 1, A);
        let to_a = sent(&channel, TALK, 1, A);
        let mut pending = filled(&[&unplaced, &queued, &to_b, &ack, &to_a]);
        assert!(is(pending.take_match(A, 1, TALK), &to_a));
        assert!(pending.take_match(A, 1, TALK).is_none());
        assert!(pending.take_match(A, 2, TALK).is_none());
        assert!(pending.take_match(B, 1, "chat.user.talk ").is_none());
        assert!(is(pending.take_match(A, 1, "chat.talk.ack"), &ack));
        assert!(is(pending.take_match(B, 1, TALK), &to_b));
        assert_eq!(pending.len(), 2, "what was not sent waits for no answer of a service");
    }

    #[test]
    fn e1_what_a_lost_instance_had_is_found_and_answered_by_no_other() {
        let channel = channel(&TestMetrics::new(), "alice");
        let tickets: Vec<_> =
            (0..6).map(|n| sent(&channel, TALK, n, if n % 2 == 0 { A } else { B })).collect();
        let queued = ticket(&channel, TALK, 6);
        queued.set_stage(RequestStage::Queued(A, 1));
        let mut pending = filled(&tickets.iter().collect::<Vec<_>>());
        pending.push(Rc::clone(&queued));
        let (load_of_a, load_of_b) = (Rc::<Load>::default(), Rc::<Load>::default());
        for ticket in &pending.0 {
            ticket.burden(if ticket.placed_with() == Some(A) { &load_of_a } else { &load_of_b });
        }
        assert_eq!(pending.lost().count(), 0);
        load_of_a.lose();
        let lost: Vec<_> = pending.lost().map(|ticket| ticket.header.sequence()).collect();
        assert_eq!(lost, [0, 2, 4], "oldest first");
        assert_eq!(queued.stage(), RequestStage::Queued(A, 1), "it can go elsewhere");
        assert!(!pending.is_any_sent_to(A) && pending.is_any_sent_to(B));
        tickets[2].complete();
        assert_eq!((tickets[2].stage(), load_of_a.get()), (RequestStage::Lost(A), 3), "it stays lost");
        assert!(pending.take_match(A, 0, TALK).is_none(), "an answer comes too late");
        assert!(tickets[0].is_sent(), "it may have been written");
        assert!(is(pending.take_match(B, 1, TALK), &tickets[1]));
    }

    #[test]
    fn a_ticket_is_taken_once() {
        let channel = channel(&TestMetrics::new(), "alice");
        let (first, second) = (ticket(&channel, TALK, 1), ticket(&channel, TALK, 1));
        let mut pending = filled(&[&first, &second]);
        assert!(pending.take(&second));
        assert!(!pending.take(&second));
        assert!(is(pending.take_oldest(), &first));
        assert!(pending.take_oldest().is_none());
    }

    #[test]
    fn the_oldest_arrival_leads_and_a_sign_ins_time_begins_anew_at_its_hand_over() {
        let channel = channel(&TestMetrics::new(), "alice");
        let start = Instant::now();
        let signin = ticket_of(&channel, &packet("login.signin", 1, ""), StreamId::LOGIN, start);
        let mut pending = filled(&[&signin]);
        assert_eq!(pending.oldest(), Some(start));
        signin.restart(start + millis(300));
        assert_eq!(pending.oldest(), Some(start + millis(300)));
        let later = ticket_of(&channel, &packet(TALK, 2, ""), StreamId(4), start + millis(400));
        pending.push(later);
        assert_eq!(pending.oldest(), Some(start + millis(300)));
        assert_eq!((pending.on_stream(StreamId::LOGIN), pending.on_stream(StreamId(4))), (1, 1));
        assert_eq!(pending.on_stream(StreamId(8)), 0);
        pending.take_oldest();
        assert_eq!(pending.oldest(), Some(start + millis(400)));
    }
}
