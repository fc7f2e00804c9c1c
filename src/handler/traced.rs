//! What the administrator is shown of a client's packets.

use prost::Message as _;

use super::{Arrival, Handler};
use crate::auth::claimed;
use crate::packet_trace::{PacketKind, TracedPacket};
use crate::session::channel::{Channel, Ticket};
use crate::wire::header::HeaderView;
use crate::wire::packet::LogicPacket;
use crate::wire::pb::{self, Status};

impl Handler {
    pub(super) fn trace_forwarded(
        &self,
        channel: &Channel,
        ticket: &Ticket,
        view: &HeaderView<'_>,
        packet: &LogicPacket,
    ) {
        if channel.is_traced() {
            self.dispatch.trace_forwarded(channel, ticket, received(view, packet));
        }
    }

    pub(super) fn trace_goodbye(&self, channel: &Channel, view: &HeaderView<'_>, packet: &LogicPacket) {
        self.channels
            .trace(channel, || TracedPacket { outcome: "the client leaves", ..received(view, packet) });
    }

    /// A request that is not forwarded, and its answer.
    pub(super) fn trace_refused(
        &self,
        channel: &Channel,
        view: &HeaderView<'_>,
        packet: &LogicPacket,
        (status, text): (Status, &str),
    ) {
        if channel.is_traced() {
            let received = received(view, packet);
            self.channels.trace(channel, || TracedPacket { outcome: "answered by the gateway", ..received });
            let (kind, status) = (PacketKind::Answer, Some(status as i32));
            let answer =
                TracedPacket { kind, status, outcome: text, bytes: None, body_bytes: None, ..received };
            self.channels.trace(channel, || answer);
        }
    }

    pub(super) fn trace_login(
        &self,
        channel: &Channel,
        ticket: &Ticket,
        arrival: &Arrival<'_>,
        view: &HeaderView<'_>,
    ) {
        if channel.is_traced() {
            self.dispatch.trace_forwarded(channel, ticket, login(arrival, view));
        }
    }

    /// A login that is refused, shown with whom its token claims to be of: whose token is good is not known.
    pub(super) fn trace_refused_login(&self, arrival: &Arrival<'_>, view: &HeaderView<'_>, reason: &str) {
        let taps = &self.channels.taps;
        if taps.is_empty() {
            return;
        }
        let request = pb::LoginReq::decode(arrival.packet.body.clone()).ok();
        let claims = request.and_then(|request| claimed(&request.token, self.limits().max_token));
        if let Some((app, account)) = claims
            && taps.is_any_about(&app, &account)
        {
            taps.tell((&app, &account), None, &TracedPacket { outcome: reason, ..login(arrival, view) });
        }
    }
}

fn login<'a>(arrival: &Arrival<'_>, view: &HeaderView<'a>) -> TracedPacket<'a> {
    TracedPacket {
        kind: PacketKind::Login,
        transport: Some(arrival.transport.label()),
        address: Some(arrival.peer),
        ..received(view, &arrival.packet)
    }
}

fn received<'a>(view: &HeaderView<'a>, packet: &LogicPacket) -> TracedPacket<'a> {
    TracedPacket {
        command: view.command,
        sequence: Some(view.sequence),
        bytes: Some(packet.frame_len()),
        body_bytes: Some(packet.body.len()),
        ..TracedPacket::default()
    }
}
