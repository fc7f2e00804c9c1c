//! Order without blocking: the requests of one channel are handled one after another, those of different
//! channels do not wait for each other.
//!
//! A handler is first polled where its request was read. One that needs no waiting is done then, in order, and
//! costs no task. One that does wait goes on in a task of its own, and as long as it runs the later requests of
//! its channel, and only those, wait behind it.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinSet;
use tracing::error;

use crate::links::{LinkEvent, Links};
use crate::request::Request;
use crate::routes::{Routes, Work};
use gateway_wire::pb::Status;

/// The requests of one link that are being handled.
pub(super) struct ChannelQueues {
    routes: Arc<Routes>,
    links: Links,
    running: JoinSet<Arc<str>>,
    /// A key for every channel with a running handler; its requests that came later.
    waiting: HashMap<Arc<str>, VecDeque<Request>>,
    held: usize,
    max: usize,
}

impl ChannelQueues {
    /// Takes up to `max` requests whose handlers wait, or that wait behind those.
    pub(super) fn new(routes: Arc<Routes>, links: Links, max: usize) -> Self {
        Self { routes, links, running: JoinSet::new(), waiting: HashMap::new(), held: 0, max }
    }

    /// Handles a request, now or behind the earlier ones of its channel; answers 300 where too many wait.
    pub(super) fn accept(&mut self, request: Request) {
        if self.running.len() + self.held >= self.max {
            self.links.record(LinkEvent::Overloaded);
            return request.fail(Status::SystemException, "the service has too many requests in progress");
        }
        if let Some(queue) = self.waiting.get_mut(request.channel()) {
            queue.push_back(request);
            self.held += 1;
        } else {
            self.start(request);
        }
    }

    /// Waits until a running handler ends and starts what waits behind it. None when none is running.
    ///
    /// Cancel safe.
    pub(super) async fn advance(&mut self) -> Option<()> {
        // A task can only fail by being aborted, which happens when this set is dropped.
        let channel = self.running.join_next().await?.ok()?;
        while let Some(request) = self.next_of(&channel) {
            if !self.start(request) {
                return Some(());
            }
        }
        Some(())
    }

    /// The next request of a channel whose handler ended; the last one takes the queue away.
    fn next_of(&mut self, channel: &Arc<str>) -> Option<Request> {
        let next = self.waiting.get_mut(channel).and_then(VecDeque::pop_front);
        match next {
            Some(_) => self.held -= 1,
            None => drop(self.waiting.remove(channel)),
        }
        next
    }

    /// Returns `true` if any handler is running.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Runs a handler up to where it first waits. Returns whether it is done.
    fn start(&mut self, request: Request) -> bool {
        let channel = Arc::clone(request.channel());
        let mut work = guarded(&self.routes, self.links.clone(), request);
        // The task polls it again at once, so the wake-up it might ask for here is not missed.
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return true;
        }
        self.waiting.entry(Arc::clone(&channel)).or_default();
        self.running.spawn(async move {
            work.await;
            channel
        });
        false
    }
}

/// A handler whose panic ends nothing but itself.
fn guarded(routes: &Arc<Routes>, links: Links, request: Request) -> Work {
    let routes = Arc::clone(routes);
    let mut request = Some(request);
    let mut work: Option<Work> = None;
    Box::pin(poll_fn(move |context| {
        let step = catch_unwind(AssertUnwindSafe(|| {
            if let Some(request) = request.take() {
                work = Some(routes.handle(request));
            }
            work.as_mut().map_or(Poll::Ready(()), |work| work.as_mut().poll(context))
        }));
        step.unwrap_or_else(|_| {
            error!("a handler of this logic service panicked; its request stays unanswered");
            links.record(LinkEvent::HandlerPanicked);
            Poll::Ready(())
        })
    }))
}
