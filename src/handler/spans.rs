//! What of a client's packets is recorded for a collector.

use super::{Arrival, Handler};
use crate::session::channel::Channel;
use crate::spans::{ConnectionSpan, RequestSpan, TraceContext};
use crate::wire::header::{HeaderView, TRACEPARENT, TRACESTATE};

impl Handler {
    /// What a request is to carry, and what is recorded of it.
    pub(super) fn begin_request_span(
        &self,
        channel: &Channel,
        view: &HeaderView<'_>,
    ) -> Option<Box<RequestSpan>> {
        let tracer = &self.channels.tracer;
        if !tracer.is_on() {
            return None;
        }
        tracer.request(&channel.identity.account, self.told(view), None)
    }

    /// The same for a sign-in, with which the span of its connection begins.
    pub(super) fn begin_login_span(
        &self,
        channel: &Channel,
        arrival: &Arrival<'_>,
        view: &HeaderView<'_>,
    ) -> Option<Box<RequestSpan>> {
        let tracer = &self.channels.tracer;
        if !tracer.is_on() {
            return None;
        }
        let (account, told) = (&channel.identity.account, self.told(view));
        let Some(mut open) = tracer.begin(account, told) else {
            return told.map(RequestSpan::handing_on);
        };
        // It began when it was accepted.
        open.start -= open.since.saturating_duration_since(arrival.since);
        open.since = arrival.since;
        let of = open.context;
        channel.set_span(ConnectionSpan { open, transport: arrival.transport.label() });
        tracer.request(account, None, Some(of))
    }

    /// What a client says of the trace it is in, if it may say so.
    fn told(&self, view: &HeaderView<'_>) -> Option<TraceContext> {
        if view.meta_count == 0 || !self.channels.tracer.trusts_clients() {
            return None;
        }
        view.last_meta(TRACEPARENT).and_then(TraceContext::parse)
    }

    /// Returns `true` if the reserved metas of a header are only what its client may set.
    pub(super) fn may_set_reserved(&self, view: &HeaderView<'_>) -> bool {
        self.channels.tracer.trusts_clients()
            && view
                .metas()
                .all(|meta| !meta.is_reserved() || matches!(meta.key_text(), TRACEPARENT | TRACESTATE))
    }
}
