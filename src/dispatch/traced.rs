//! What the administrator is shown of packets that pass the dispatcher.

use std::time::Instant;

use crate::dispatch::Dispatch;
use crate::dispatch::delivery::Delivery;
use crate::dispatch::link::Link;
use crate::packet_trace::{PacketKind, TracedPacket};
use crate::session::channel::{Channel, Ticket};
use crate::session::outgoing::Full;
use crate::wire::pb::Status;

impl Dispatch {
    /// A request, or a sign-in, was forwarded.
    pub(crate) fn trace_forwarded(&self, channel: &Channel, ticket: &Ticket, packet: TracedPacket<'_>) {
        if channel.is_traced() {
            let link = ticket.placed_with().and_then(|instance| self.services.links.get(instance));
            let instance = link.as_ref().map(|link| &*link.instance.id);
            self.channels.trace(channel, || TracedPacket { instance, outcome: "forwarded", ..packet });
        }
    }

    /// It gets an answer of the gateway instead of one of its service.
    pub(super) fn trace_failure(
        &self,
        channel: &Channel,
        ticket: &Ticket,
        bytes: usize,
        (status, text): (Status, &str),
    ) {
        self.channels.trace(channel, || {
            let (queued, served) = ticket.times(Instant::now());
            TracedPacket {
                kind: PacketKind::Answer,
                command: ticket.header.command(),
                sequence: Some(ticket.header.sequence()),
                bytes: Some(bytes),
                status: Some(status as i32),
                outcome: text,
                queued,
                served,
                ..TracedPacket::default()
            }
        });
    }
}

impl Delivery {
    pub(super) fn traced_push<'a>(
        &'a self,
        link: &'a Link,
        bytes: usize,
        queued: Result<(), Full>,
    ) -> TracedPacket<'a> {
        TracedPacket { kind: PacketKind::Push, outcome: outcome(queued), ..self.traced(link, bytes) }
    }

    pub(super) fn traced_answer<'a>(
        &'a self,
        link: &'a Link,
        ticket: &Ticket,
        bytes: usize,
        taken: Result<(), Full>,
    ) -> TracedPacket<'a> {
        // Not the time at which the link's turn began: its request may have been written in the same turn.
        let (queued, served) = ticket.times(Instant::now());
        TracedPacket {
            kind: PacketKind::Answer,
            status: Some(self.header.status()),
            outcome: outcome(taken),
            queued,
            served,
            ..self.traced(link, bytes)
        }
    }

    fn traced<'a>(&'a self, link: &'a Link, bytes: usize) -> TracedPacket<'a> {
        TracedPacket {
            command: self.header.command(),
            sequence: Some(self.header.sequence()),
            bytes: Some(bytes),
            body_bytes: Some(self.body.len()),
            instance: Some(&link.instance.id),
            ..TracedPacket::default()
        }
    }
}

/// What became of what is for a client.
pub(crate) const fn outcome(queued: Result<(), Full>) -> &'static str {
    match queued {
        Ok(()) => "queued for the client",
        Err(Full::Slow) => "dropped: the client is slow",
        Err(Full::Closing) => "dropped: the channel is closing",
        Err(Full::Gone | Full::TryAgain) => "dropped: its stream is gone",
    }
}
