//! What a worker records.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::Sender;

use super::context::TraceContext;
use super::span::{FinishedSpan, OpenSpan, RequestSpan};
use crate::monitor::trace_spans::{SpanOutcome, TraceMetrics};
use gateway_net::rng::Rng;

/// What is recorded, and whom clients are believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TracerPolicy {
    /// The share of requests, connections and pushes, 0 to 1.
    pub(crate) ratio: f64,
    /// Accounts of which everything is.
    pub(crate) accounts: Arc<HashSet<String>>,
    /// A client's `traceparent` is taken for what it says.
    pub(crate) trusts_clients: bool,
}

/// Where spans go that have ended. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct SpanQueue {
    pub(super) spans: Sender<FinishedSpan>,
    pub(super) metrics: Arc<TraceMetrics>,
}

/// The decisions of one worker. By default it records nothing and believes nobody.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    /// Something may have to be done: it is asked for each packet.
    is_on: Cell<bool>,
    policy: RefCell<TracerPolicy>,
    /// Without it nothing is recorded.
    queue: OnceCell<SpanQueue>,
    rng: RefCell<Rng>,
}

impl Tracer {
    /// Spans go there from now on.
    pub(crate) fn start(&self, queue: SpanQueue) {
        let _the_first_stays = self.queue.set(queue);
        self.is_on.set(true);
    }

    /// From now on.
    pub(crate) fn follow(&self, policy: TracerPolicy) {
        self.is_on.set(self.queue.get().is_some() || policy.trusts_clients);
        self.policy.replace(policy);
    }

    /// Returns `true` unless there is nothing to do for anybody.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Returns `true` if clients may set a `traceparent`.
    pub(crate) fn trusts_clients(&self) -> bool {
        self.is_on() && self.policy.borrow().trusts_clients
    }

    /// A span of somebody of whom a `traceparent` says where it belongs. One that is not recorded is handed on as it is, so
    /// none is not the same as nothing to hand on.
    pub(crate) fn begin(&self, account: &str, told: Option<TraceContext>) -> Option<OpenSpan> {
        let is_sampled = told.is_some_and(|told| told.is_sampled);
        if self.queue.get().is_none() || !(is_sampled || self.samples(account)) {
            return None;
        }
        // In its trace, even if whoever told of it does not record that.
        Some(self.child(told.unwrap_or(TraceContext { trace: 0, span: 0, is_sampled: true })))
    }

    /// A span that belongs to another one; of a trace of its own where that has none.
    pub(crate) fn child(&self, of: TraceContext) -> OpenSpan {
        let trace =
            if of.trace == 0 { u128::from(self.id()) << 64 | u128::from(self.id()) } else { of.trace };
        let context = TraceContext { trace, span: self.id(), is_sampled: true };
        OpenSpan { context, parent: of.span, start: SystemTime::now(), since: Instant::now() }
    }

    /// What a request is to carry, and what is recorded of it. With a `parent`, of whose trace it is a part, it is recorded as
    /// well; nothing for one of which nobody wants to know.
    pub(crate) fn request(
        &self,
        account: &str,
        told: Option<TraceContext>,
        parent: Option<TraceContext>,
    ) -> Option<Box<RequestSpan>> {
        let open = parent.map(|parent| self.child(parent)).or_else(|| self.begin(account, told));
        let Some(open) = open else { return told.map(RequestSpan::handing_on) };
        let handed_on = TraceContext { span: self.id(), ..open.context };
        Some(Box::new(RequestSpan { open: Some(open), handed_on }))
    }

    /// An id that is not 0.
    fn id(&self) -> u64 {
        self.rng.borrow_mut().id()
    }

    /// A span has ended. Waits for nobody.
    pub(crate) fn record(&self, span: FinishedSpan) {
        if let Some(queue) = self.queue.get()
            && queue.spans.try_send(span).is_err()
        {
            queue.metrics.count(SpanOutcome::Dropped, 1);
        }
    }

    fn samples(&self, account: &str) -> bool {
        let policy = self.policy.borrow();
        policy.accounts.contains(account)
            || policy.ratio > 0.0 && self.rng.borrow_mut().share() < policy.ratio
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn tracer(ratio: f64) -> (Tracer, Receiver<FinishedSpan>) {
        let (spans, receiver) = channel(1);
        let accounts = Arc::new(HashSet::from(["alice".to_owned()]));
        let tracer = Tracer::default();
        tracer.start(SpanQueue { spans, metrics: Arc::default() });
        tracer.follow(TracerPolicy { ratio, accounts, trusts_clients: false });
        (tracer, receiver)
    }

    #[test]
    fn f17_what_is_recorded_follows_ratio_accounts_and_who_is_believed() {
        let (none, _queue) = tracer(0.0);
        assert!(none.begin("bob", None).is_none() && none.begin("alice", None).is_some());
        let (all, _queue) = tracer(1.0);
        assert!(all.begin("bob", None).is_some());
        let (some, _queue) = tracer(0.25);
        let recorded = (0..10_000).filter(|_| some.begin("bob", None).is_some()).count();
        assert!((2_000..3_000).contains(&recorded), "{recorded}");
        let told = TraceContext { trace: 7, span: 8, is_sampled: true };
        let span = none.begin("bob", Some(told)).unwrap();
        assert_eq!((span.context.trace, span.parent), (7, 8));
        let unsampled = TraceContext { is_sampled: false, ..told };
        let asked = all.request("bob", Some(unsampled), None).unwrap();
        let open = asked.open.unwrap();
        assert_eq!((asked.handed_on.trace, asked.handed_on.is_sampled, open.parent), (7, true, 8));
        assert!(none.begin("bob", Some(unsampled)).is_none());
        let off = Tracer::default();
        off.follow(TracerPolicy { ratio: 1.0, ..TracerPolicy::default() });
        assert!(!off.is_on() && off.begin("bob", None).is_none());
        off.follow(TracerPolicy { trusts_clients: true, ..TracerPolicy::default() });
        assert!(off.is_on() && off.trusts_clients());
        assert_eq!(off.request("bob", Some(unsampled), None).unwrap().handed_on, unsampled);
        assert!(off.request("bob", None, None).is_none());
        let asked = none.request("bob", Some(told), None).unwrap();
        let open = asked.open.unwrap();
        assert_eq!((asked.handed_on.trace, open.parent), (7, 8));
        assert!(asked.handed_on.span != open.context.span && asked.handed_on.span != 8);
    }

    #[test]
    fn f17_spans_that_find_no_place_are_counted_and_nobody_waits() {
        let (tracer, _queue) = tracer(1.0);
        for _ in 0..3 {
            let span = tracer.begin("bob", None).unwrap();
            tracer.record(span.end("request", super::super::SpanKind::Server, std::time::Duration::ZERO));
        }
        assert_eq!(tracer.queue.get().unwrap().metrics.get(SpanOutcome::Dropped), 2);
    }
}
