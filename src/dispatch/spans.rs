//! What is recorded for a collector of what passes the dispatcher.

use std::time::Instant;

use crate::dispatch::Dispatch;
use crate::dispatch::delivery::Delivery;
use crate::dispatch::link::Link;
use crate::session::channel::{Channel, Ticket};
use crate::spans::{PushSpan, RequestSpan, SpanKind, TraceContext, Tracer};
use crate::wire::header::TRACEPARENT;
use crate::wire::pb::Status;

impl Dispatch {
    /// A request, or a sign-in, was answered: by the instance of `link`, or by the gateway.
    pub(super) fn end_request_span(
        &self,
        channel: &Channel,
        ticket: &Ticket,
        link: Option<&Link>,
        status: i32,
    ) {
        if let Some(span) = ticket.span() {
            self.record_request(channel, ticket, span, link, status);
        }
    }

    #[cold]
    fn record_request(
        &self,
        channel: &Channel,
        ticket: &Ticket,
        span: &RequestSpan,
        link: Option<&Link>,
        status: i32,
    ) {
        let RequestSpan { open: Some(open), handed_on } = span else { return };
        let tracer = &self.channels.tracer;
        let (queued, served) = ticket.times(Instant::now());
        let (waited, took) = (queued.unwrap_or_default(), served.unwrap_or_default());
        let has_failed = status != Status::Success as i32;
        if served.is_some() {
            let mut call = open.end("call", SpanKind::Client, waited + took).failed(has_failed);
            call.start += waited;
            (call.id, call.parent) = (handed_on.span, open.context.span);
            if let Some(link) = link {
                let instance = &link.instance;
                call = call
                    .text("gateway.service", &*instance.service)
                    .text("gateway.instance", &*instance.id)
                    .text("gateway.zone", &*instance.zone);
            }
            tracer.record(call);
        }
        let name = if ticket.is_signin { "login" } else { "request" };
        let span = open
            .end(name, SpanKind::Server, waited + took)
            .command(ticket.header.command())
            .integer("gateway.sequence", i64::from(ticket.header.sequence()))
            .text("gateway.app", &*channel.identity.app)
            .text("gateway.channel", &*channel.id)
            .integer("gateway.status", i64::from(status))
            .seconds("gateway.queue_seconds", queued)
            .seconds("gateway.service_seconds", served)
            .failed(has_failed);
        tracer.record(span);
    }
}

impl Delivery {
    /// A push begins. One that says which trace it belongs to is recorded if that is.
    pub(super) fn begin_span(&mut self, tracer: &Tracer) {
        if tracer.is_on() && self.is_push() {
            let told = self.header.view().last_meta(TRACEPARENT).and_then(TraceContext::parse);
            self.span = tracer.begin("", told).map(|open| Box::new(PushSpan { open, queued: 0, dropped: 0 }));
        }
    }

    /// One of its receivers has got it, or will not.
    pub(super) fn note_receiver(&mut self, is_queued: bool) {
        if let Some(span) = &mut self.span {
            let count = if is_queued { &mut span.queued } else { &mut span.dropped };
            *count = count.saturating_add(1);
        }
    }

    /// All of its receivers have been looked at.
    pub(super) fn end_span(&mut self, dispatch: &Dispatch, link: &Link) {
        let Some(push) = self.span.take() else { return };
        let lasted = push.open.since.elapsed();
        let span = push
            .open
            .end("push", SpanKind::Consumer, lasted)
            .command(self.header.command())
            .text("gateway.service", &*link.instance.service)
            .text("gateway.instance", &*link.instance.id)
            .integer("gateway.receivers", i64::from(push.queued))
            .integer("gateway.dropped", i64::from(push.dropped));
        dispatch.channels.tracer.record(span);
    }
}
