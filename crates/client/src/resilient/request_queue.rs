//! The requests that wait for a connection, or for their next try.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::answer::{Answer, NotSent, RequestError};
use gateway_wire::pb;

/// A request that was accepted and is not answered.
#[derive(Debug)]
pub(super) struct QueuedRequest {
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

impl QueuedRequest {
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

/// Oldest first. Bounded by the room of its requests.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    next: u64,
    requests: BTreeMap<u64, QueuedRequest>,
    /// May be sent.
    ready: BTreeSet<u64>,
    /// May be sent from then on.
    later: BTreeSet<(Instant, u64)>,
    deadlines: BTreeSet<(Instant, u64)>,
}

impl RequestQueue {
    /// A new request, behind all others.
    pub(super) fn accept(&mut self, queued: QueuedRequest) {
        let ticket = self.next;
        self.next += 1;
        self.put_back(ticket, queued);
    }

    /// A request of which nothing was sent, to its old place.
    pub(super) fn put_back(&mut self, ticket: u64, queued: QueuedRequest) {
        self.ready.insert(ticket);
        self.keep(ticket, queued);
    }

    /// A request that may be sent again from `at` on.
    pub(super) fn put_off(&mut self, ticket: u64, queued: QueuedRequest, at: Instant) {
        self.later.insert((at, ticket));
        self.keep(ticket, queued);
    }

    fn keep(&mut self, ticket: u64, queued: QueuedRequest) {
        self.deadlines.insert((queued.deadline, ticket));
        self.requests.insert(ticket, queued);
    }

    /// Lets those go on whose pause is over, and takes out those whose time is.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<QueuedRequest> {
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
            expired.extend(self.requests.remove(&ticket));
        }
        expired
    }

    /// The oldest that may be sent.
    pub(super) fn take(&mut self) -> Option<(u64, QueuedRequest)> {
        let ticket = self.ready.pop_first()?;
        let queued = self.requests.remove(&ticket)?;
        self.deadlines.remove(&(queued.deadline, ticket));
        Some((ticket, queued))
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
    pub(super) fn clear(&mut self) -> impl Iterator<Item = QueuedRequest> + use<> {
        std::mem::take(self).requests.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Semaphore;

    type Reply = oneshot::Receiver<Result<Answer, RequestError>>;

    fn queued(name: &str, deadline: Instant) -> (QueuedRequest, Reply) {
        let (reply, result) = oneshot::channel();
        let room = Arc::new(Semaphore::new(2));
        let permit = || Arc::clone(&room).try_acquire_owned().unwrap();
        let header = pb::Header { command: name.to_owned(), ..Default::default() };
        let (refused, refusals) = (None, 0);
        let queued = QueuedRequest {
            header,
            body: Bytes::new(),
            deadline,
            reply,
            refused,
            refusals,
            _room: [permit(), permit()],
        };
        (queued, result)
    }

    fn names(queue: &mut RequestQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.take()).map(|(_, queued)| queued.header.command).collect()
    }

    #[test]
    fn g3_what_comes_back_unsent_stands_at_its_old_place() {
        let end = Instant::now() + Duration::from_secs(9);
        let mut queue = RequestQueue::default();
        for name in ["a", "b", "c"] {
            queue.accept(queued(name, end).0);
        }
        let (first, a) = queue.take().unwrap();
        let (second, b) = queue.take().unwrap();
        queue.accept(queued("d", end).0);
        queue.put_back(second, b);
        queue.put_back(first, a);
        assert_eq!(names(&mut queue), ["a", "b", "c", "d"]);
        assert_eq!(queue.alarm(), None, "nothing is left behind");
    }

    #[test]
    fn g6_a_deadline_ends_what_waits_and_nothing_else() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut queue = RequestQueue::default();
        let (short, mut short_reply) = queued("short", now + second);
        let (long, mut long_reply) = queued("long", now + 3 * second);
        queue.accept(long);
        queue.accept(short);
        assert_eq!(queue.alarm(), Some(now + second));
        assert!(queue.expire(now).is_empty());
        queue.expire(now + second).into_iter().for_each(|queued| queued.give_up(NotSent::TimedOut));
        assert_eq!(short_reply.try_recv().unwrap(), Err(RequestError::NotSent(NotSent::TimedOut)));
        assert!(long_reply.try_recv().is_err());
        assert_eq!(queue.alarm(), Some(now + 3 * second));
        assert_eq!(names(&mut queue), ["long"]);
    }

    #[test]
    fn what_was_refused_waits_for_its_pause_and_ends_with_its_refusal() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut queue = RequestQueue::default();
        let (queued, mut reply) = queued("refused", now + 2 * second);
        queue.accept(queued);
        let (ticket, mut queued) = queue.take().unwrap();
        queued.refused = Some(Answer::new(pb::Header { status: 300, ..Default::default() }, Bytes::new()));
        queue.put_off(ticket, queued, now + second);
        assert!(!queue.is_ready());
        assert_eq!(queue.alarm(), Some(now + second));
        assert!(queue.expire(now + second).is_empty());
        assert!(queue.is_ready());
        queue.expire(now + 2 * second).into_iter().for_each(|queued| queued.give_up(NotSent::TimedOut));
        assert_eq!(reply.try_recv().unwrap().unwrap().status, 300);
        assert!(!queue.is_ready() && queue.alarm().is_none());
    }

    #[test]
    fn everything_can_be_given_up_at_once() {
        let end = Instant::now() + Duration::from_secs(9);
        let mut queue = RequestQueue::default();
        let mut replies = Vec::new();
        for name in ["a", "b"] {
            let (queued, reply) = queued(name, end);
            queue.accept(queued);
            replies.push(reply);
        }
        queue.clear().for_each(|queued| queued.give_up(NotSent::Over));
        for reply in &mut replies {
            assert_eq!(reply.try_recv().unwrap(), Err(RequestError::NotSent(NotSent::Over)));
        }
        assert!(!queue.is_ready() && queue.alarm().is_none());
    }
}
