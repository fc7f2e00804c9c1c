//! The span of a channel's connection.

use crate::session::channel::Channel;
use crate::session::channels::Channels;
use crate::spans::SpanKind;
use crate::wire::close::CloseReason;

impl Channels {
    /// Its connection is over.
    pub(super) fn end_connection_span(&self, channel: &Channel, reason: CloseReason) {
        let Some(connection) = channel.span() else { return };
        let lasted = connection.open.since.elapsed();
        let span = connection
            .open
            .end("connection", SpanKind::Server, lasted)
            .text("gateway.app", &*channel.identity.app)
            .text("gateway.channel", &*channel.id)
            .text("gateway.transport", connection.transport)
            .text("gateway.close_reason", reason.token());
        self.tracer.record(span);
    }
}
