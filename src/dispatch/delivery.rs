//! What a logic service sends: a push to many channels, or a response to one (protocol §4.6–§4.8).
//!
//! A delivery can be interrupted between two channels, so that neither a long list nor a channel whose writer
//! needs its turn holds up the link or the worker.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;

use crate::dispatch::Dispatch;
use crate::dispatch::health::HealthEvent;
use crate::dispatch::link::Link;
use crate::dispatch::turn::LinkTurn;
use crate::limits::Limits;
use crate::monitor::metrics::{AnswerOrigin, Direction, LoginResult, PushDrop, Reject};
use crate::session::channel::{Channel, ChannelState, Ticket};
use crate::session::outgoing::Full;
use crate::wire::close::CloseReason;
use crate::wire::command;
use crate::wire::dialect::Dialect;
use crate::wire::header::{HeaderLimits, HeaderView};
use crate::wire::packet::{Encoded, LogicPacket};
use crate::wire::pb;
use crate::wire::rewrite;
use crate::wire::scanned_header::ScannedHeader;

/// The meta that names the receivers.
const CHANNELS_KEY: &[u8] = b"dest.channels";

/// One packet of a logic service on its way to its channels.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(super) header: ScannedHeader,
    pub(super) body: Bytes,
    is_response: bool,
    /// Ids joined by commas, a slice of the header.
    channels: Bytes,
    /// Where the next id begins; beyond the end when all are served.
    position: usize,
    /// The packet for clients, per dialect, encoded when the first receiver needs it.
    frames: [Option<Encoded>; 2],
    /// The channel this push throws out.
    kicks: Option<String>,
    serial: u64,
}

/// How far a delivery came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryStep {
    /// To its end.
    Done,
    /// The link must yield, then go on.
    Yield,
}

impl Delivery {
    /// Reads who is to get the packet, within these bounds. `serial` tells pushes apart.
    ///
    /// # Errors
    /// Why it is dropped whole.
    pub(crate) fn parse(
        packet: LogicPacket,
        gate_id: &str,
        limits: &Limits,
        serial: u64,
    ) -> Result<Self, PushDrop> {
        let (mut gateway, mut channels) = (None, None);
        let gateway_key = packet.dialect.gateway_key().as_bytes();
        let view = HeaderView::scan_with(&packet.header, &HeaderLimits::BACKEND, |meta| {
            if meta.key == gateway_key {
                gateway = Some(meta.value);
            } else if meta.key == CHANNELS_KEY {
                channels = Some(meta.value);
            }
        })
        .map_err(|_| PushDrop::BadPacket)?;
        if gateway != Some(gate_id.as_bytes()) {
            return Err(PushDrop::WrongGateway);
        }
        let channels = channels.filter(|list| !list.is_empty()).ok_or(PushDrop::NoDestination)?;
        if channels.iter().filter(|byte| **byte == b',').count() >= limits.backend_max_channels {
            return Err(PushDrop::TooMany);
        }
        let is_response = view.flag == pb::Flag::Response as i32;
        if !is_response && packet.frame_len() > limits.max_push {
            return Err(PushDrop::TooLarge);
        }
        let kicks = (view.command == command::LOGIN_SIGNIN && view.flag == pb::Flag::Push as i32)
            .then(|| pb::KickOutNotify::decode(packet.body.clone()).ok())
            .flatten()
            .map(|notify| notify.channel_id);
        Ok(Self {
            header: ScannedHeader::share(&view, &packet.header),
            is_response,
            channels: packet.header.slice_ref(channels),
            position: 0,
            frames: [None, None],
            kicks,
            serial,
            body: packet.body,
        })
    }

    /// Returns `true` if it is a push, which a link counts.
    pub(crate) fn is_push(&self) -> bool {
        !self.is_response
    }

    /// Serves the next channels, until the turn is over.
    pub(crate) fn run(
        &mut self,
        dispatch: &Dispatch,
        link: &Link,
        turn: &mut LinkTurn,
        now: Instant,
    ) -> DeliveryStep {
        // One handle for the whole list, not one per id.
        let list = self.channels.clone();
        while self.position < list.len() {
            // Asked for ids that lead nowhere, too: looking them up is the work.
            if turn.is_over() || link.corked.is_full() {
                return DeliveryStep::Yield;
            }
            let rest = &list[self.position..];
            let len = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            let id = &rest[..len];
            if !id.is_empty() && self.serve(id, dispatch, link, turn, now) == DeliveryStep::Yield {
                return DeliveryStep::Yield;
            }
            self.position += len + 1;
        }
        DeliveryStep::Done
    }

    fn serve(
        &mut self,
        id: &[u8],
        dispatch: &Dispatch,
        link: &Link,
        turn: &mut LinkTurn,
        now: Instant,
    ) -> DeliveryStep {
        let channel = dispatch.channels.get(id);
        if self.is_response {
            turn.answered();
            self.respond(id, channel.as_ref(), dispatch, link, now);
            return DeliveryStep::Done;
        }
        let Some(channel) = channel else {
            dispatch.metrics.push_received(1);
            dispatch.metrics.push_dropped(PushDrop::NoChannel, 1);
            return DeliveryStep::Done;
        };
        self.push(&channel, dispatch, link)
    }

    fn push(&mut self, channel: &Channel, dispatch: &Dispatch, link: &Link) -> DeliveryStep {
        let frame = self.shared_frame(channel.dialect).clone();
        let bytes = frame.len();
        // A mark in the channel instead of a set of ids: a list of 100,000 costs no memory (row E5).
        if !channel.is_first_of_push(self.serial) {
            return DeliveryStep::Done;
        }
        let outgoing = &channel.outgoing;
        let is_kicked = self.kicks.as_deref() == Some(&*channel.id);
        if is_kicked {
            // Whatever becomes of its notice: the service needs no sign-out of it.
            channel.set_kicked_by_service();
        }
        // The kick is noted with its push, so no reason that comes between them can win (row H4).
        let queued = if is_kicked { outgoing.kick(frame) } else { outgoing.push_corked(frame) };
        if queued != Err(Full::TryAgain) {
            dispatch.metrics.push_received(1);
            dispatch.channels.trace(channel, || self.traced_push(link, bytes, queued));
        }
        match queued {
            Ok(()) => {
                link.corked.add(outgoing, bytes);
                dispatch.metrics.packet(Direction::Out, self.label(), bytes);
            }
            Err(Full::TryAgain) => {
                // The link comes back to this id: it must not look like the second one of this push.
                channel.forget_push();
                return DeliveryStep::Yield;
            }
            Err(Full::Slow) => dispatch.metrics.push_dropped(PushDrop::SlowConsumer, 1),
            Err(Full::Closing | Full::Gone) => dispatch.metrics.push_dropped(PushDrop::Closing, 1),
        }
        DeliveryStep::Done
    }

    fn respond(
        &mut self,
        id: &[u8],
        channel: Option<&Rc<Channel>>,
        dispatch: &Dispatch,
        link: &Link,
        now: Instant,
    ) {
        let command = self.header.command();
        let Some((channel, ticket)) = channel.and_then(|channel| {
            let ticket =
                channel.pending.borrow_mut().take_match(link.key, self.header.sequence(), command)?;
            Some((channel, ticket))
        }) else {
            return self.without_ticket(id, command, dispatch, link);
        };
        // Asked first, because this runs for every answer and almost never has anything to say.
        if link.health().awaits_proof() {
            dispatch.on(link, HealthEvent::Answered, now);
        }
        dispatch.metrics.pending_closed();
        dispatch.metrics.latency(now.saturating_duration_since(ticket.arrived()));
        // An answer has one receiver: nothing is kept of its frame.
        let frame = rewrite::deliver(&self.header.view(), channel.dialect, self.body.clone());
        let bytes = frame.len();
        // Only a login that succeeded opens the way for pushes that wait behind it.
        let queued = if ticket.is_signin && self.header.status() == pb::Status::Success as i32 {
            channel.outgoing.reply_login(frame)
        } else {
            channel.outgoing.reply(ticket.stream, frame)
        };
        dispatch.channels.trace(channel, || self.traced_answer(link, &ticket, bytes, queued));
        match queued {
            Ok(()) => {
                dispatch.metrics.packet(Direction::Out, self.label(), bytes);
                dispatch.metrics.answered(self.header.status(), AnswerOrigin::Service);
            }
            Err(full) => dispatch.answer_lost(full),
        }
        if ticket.is_signin {
            self.login_answered(channel, &ticket, dispatch, now);
        }
    }

    /// An answer to nothing that a client waits for: to the sign-in of one that has gone, to a sign-out, or to nothing.
    fn without_ticket(&self, id: &[u8], command: &str, dispatch: &Dispatch, link: &Link) {
        match command {
            command::LOGIN_SIGNIN
                if dispatch.signouts.signin_answered(str::from_utf8(id).unwrap_or_default()) => {}
            command::LOGIN_SIGNOUT if link.signout_answered() => {
                dispatch.metrics.signout_answered(self.header.status());
            }
            _ => dispatch.metrics.reject(Reject::ResponseUnmatched),
        }
    }

    /// The login response is queued first; only then may anything else follow it (G5).
    fn login_answered(&self, channel: &Channel, ticket: &Ticket, dispatch: &Dispatch, now: Instant) {
        debug_assert!(ticket.is_signin, "only a sign-in opens a channel");
        if self.header.status() == pb::Status::Success as i32 {
            dispatch.metrics.login(LoginResult::Ok);
            channel.set_state(ChannelState::Open(now));
            return;
        }
        dispatch.metrics.login(LoginResult::Refused);
        channel.set_state(ChannelState::Refused);
        let unavailable = (300..400).contains(&self.header.status());
        let reason = if unavailable { CloseReason::LoginUnavailable } else { CloseReason::Unauthenticated };
        channel.outgoing.close(reason);
    }

    fn label(&self) -> usize {
        command::label_index(self.header.command())
    }

    /// For one of many receivers.
    fn shared_frame(&mut self, dialect: Dialect) -> &Encoded {
        let (header, body) = (&self.header, &self.body);
        let encode = || rewrite::deliver(&header.view(), dialect, body.clone());
        self.frames[dialect.index()].get_or_insert_with(encode)
    }
}
