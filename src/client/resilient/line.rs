//! The requests that wait for a connection, or for their next try.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::client::answer::{Answer, NotSent, RequestError};
use crate::wire::pb;

/// A request that was accepted and is not answered.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) header: pb::Header,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Answer, RequestError>>,
    /// What it was answered when it was refused last.
    pub(super) refused: Option<Answer>,
    /// How often it was.
    pub(super) refusals: u32,
    /// Its place among the requests without an answer, and its share of their bytes.
    pub(super) _room: [OwnedSemaphorePermit; 2],
}

impl Order {
    /// Tells the caller, who may be gone.
    pub(super) fn end(self, result: Result<Answer, RequestError>) {
        let _ = self.reply.send(result);
    }

    /// Its end when nothing is under way: what it was refused with, if it was.
    pub(super) fn give_up(mut self, why: NotSent) {
        let result = self.refused.take().ok_or(RequestError::NotSent(why));
        self.end(result);
    }
}

/// Oldest first. Bounded by the room of its orders.
#[derive(Debug, Default)]
pub(super) struct Line {
    next: u64,
    orders: BTreeMap<u64, Order>,
    /// May be sent.
    ready: BTreeSet<u64>,
    /// May be sent from then on.
    later: BTreeSet<(Instant, u64)>,
    deadlines: BTreeSet<(Instant, u64)>,
}

impl Line {
    /// A new request, behind all others.
    pub(super) fn accept(&mut self, order: Order) {
        let ticket = self.next;
        self.next += 1;
        self.put_back(ticket, order);
    }

    /// A request of which nothing was sent, to its old place.
    pub(super) fn put_back(&mut self, ticket: u64, order: Order) {
        self.ready.insert(ticket);
        self.keep(ticket, order);
    }

    /// A request that may be sent again from `at` on.
    pub(super) fn put_off(&mut self, ticket: u64, order: Order, at: Instant) {
        self.later.insert((at, ticket));
        self.keep(ticket, order);
    }

    fn keep(&mut self, ticket: u64, order: Order) {
        self.deadlines.insert((order.deadline, ticket));
        self.orders.insert(ticket, order);
    }

    /// Lets those go on whose pause is over, and takes out those whose time is.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Order> {
        while let Some(&(at, ticket)) = self.later.first()
            && at <= now
        {
            self.later.pop_first();
            self.ready.insert(ticket);
        }
        let mut expired = Vec::new();
        while let Some(&(deadline, ticket)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.ready.remove(&ticket);
            self.later.retain(|(_, waiting)| *waiting != ticket);
            expired.extend(self.orders.remove(&ticket));
        }
        expired
    }

    /// The oldest that may be sent.
    pub(super) fn take(&mut self) -> Option<(u64, Order)> {
        let ticket = self.ready.pop_first()?;
        let order = self.orders.remove(&ticket)?;
        self.deadlines.remove(&(order.deadline, ticket));
        Some((ticket, order))
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let first = |times: &BTreeSet<(Instant, u64)>| times.first().map(|(at, _)| *at);
        first(&self.later).into_iter().chain(first(&self.deadlines)).min()
    }

    /// Everything, oldest first.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Order> + use<> {
        std::mem::take(self).orders.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Semaphore;

    type Reply = oneshot::Receiver<Result<Answer, RequestError>>;

    fn order(name: &str, deadline: Instant) -> (Order, Reply) {
        let (reply, result) = oneshot::channel();
        let room = Arc::new(Semaphore::new(2));
        let permit = || Arc::clone(&room).try_acquire_owned().unwrap();
        let header = pb::Header { command: name.to_owned(), ..Default::default() };
        let (refused, refusals) = (None, 0);
        let order = Order {
            header,
            body: Bytes::new(),
            deadline,
            reply,
            refused,
            refusals,
            _room: [permit(), permit()],
        };
        (order, result)
    }

    fn names(line: &mut Line) -> Vec<String> {
        std::iter::from_fn(|| line.take()).map(|(_, order)| order.header.command).collect()
    }

    #[test]
    fn g3_what_comes_back_unsent_stands_at_its_old_place() {
        let end = Instant::now() + Duration::from_secs(9);
        let mut line = Line::default();
        for name in ["a", "b", "c"] {
            line.accept(order(name, end).0);
        }
        let (first, a) = line.take().unwrap();
        let (second, b) = line.take().unwrap();
        line.accept(order("d", end).0);
        line.put_back(second, b);
        line.put_back(first, a);
        assert_eq!(names(&mut line), ["a", "b", "c", "d"]);
        assert_eq!(line.alarm(), None, "nothing is left behind");
    }

    #[test]
    fn g6_a_deadline_ends_what_waits_and_nothing_else() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut line = Line::default();
        let (short, mut short_reply) = order("short", now + second);
        let (long, mut long_reply) = order("long", now + 3 * second);
        line.accept(long);
        line.accept(short);
        assert_eq!(line.alarm(), Some(now + second));
        assert!(line.expire(now).is_empty());
        line.expire(now + second).into_iter().for_each(|order| order.give_up(NotSent::TimedOut));
        assert_eq!(short_reply.try_recv().unwrap(), Err(RequestError::NotSent(NotSent::TimedOut)));
        assert!(long_reply.try_recv().is_err());
        assert_eq!(line.alarm(), Some(now + 3 * second));
        assert_eq!(names(&mut line), ["long"]);
    }

    #[test]
    fn what_was_refused_waits_for_its_pause_and_ends_with_its_refusal() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut line = Line::default();
        let (order, mut reply) = order("refused", now + 2 * second);
        line.accept(order);
        let (ticket, mut order) = line.take().unwrap();
        order.refused = Some(Answer::new(pb::Header { status: 300, ..Default::default() }, Bytes::new()));
        line.put_off(ticket, order, now + second);
        assert!(!line.is_ready());
        assert_eq!(line.alarm(), Some(now + second));
        assert!(line.expire(now + second).is_empty());
        assert!(line.is_ready());
        line.expire(now + 2 * second).into_iter().for_each(|order| order.give_up(NotSent::TimedOut));
        assert_eq!(reply.try_recv().unwrap().unwrap().status, 300);
        assert!(!line.is_ready() && line.alarm().is_none());
    }

    #[test]
    fn everything_can_be_given_up_at_once() {
        let end = Instant::now() + Duration::from_secs(9);
        let mut line = Line::default();
        let mut replies = Vec::new();
        for name in ["a", "b"] {
            let (order, reply) = order(name, end);
            line.accept(order);
            replies.push(reply);
        }
        line.clear().for_each(|order| order.give_up(NotSent::Over));
        for reply in &mut replies {
            assert_eq!(reply.try_recv().unwrap(), Err(RequestError::NotSent(NotSent::Over)));
        }
        assert!(!line.is_ready() && line.alarm().is_none());
    }
}
