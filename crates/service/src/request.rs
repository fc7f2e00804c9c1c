//! What a handler gets, and how it answers.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::links::{Links, Push};
use crate::send_queue::SendQueue;
use gateway_wire::dialect::Dialect;
use gateway_wire::header::{HeaderLimits, HeaderView};
use gateway_wire::packet::{LogicPacket, encode_message};
use gateway_wire::pb;

/// One request of one channel. Identity (account, app, channel, gateway) is the gateway's word, never the
/// client's (G7).
///
/// It is answered at most once: [`reply`](Self::reply) and its two short forms take the request away. A handler
/// that drops it unanswered leaves the client to the gateway's deadline; that is right only for commands whose
/// answer nobody awaits, such as `login.signout`.
#[derive(Debug)]
pub struct Request {
    command: String,
    channel_id: Arc<str>,
    sequence: u32,
    dest: String,
    metas: Vec<(String, String)>,
    body: Bytes,
    origin: RequestOrigin,
}

/// The link a request came by, and goes back by.
#[derive(Debug, Clone)]
pub(super) struct RequestOrigin {
    /// From the handshake.
    pub(super) gateway: Arc<str>,
    pub(super) send_queue: Arc<SendQueue>,
    pub(super) links: Links,
}

impl Request {
    /// Reads a packet; none if its header cannot be read or it is no request.
    pub(super) fn read(packet: LogicPacket, origin: &RequestOrigin) -> Option<Self> {
        let view = HeaderView::scan(&packet.header, &HeaderLimits::BACKEND).ok()?;
        if view.flag != pb::Flag::Request as i32 || packet.dialect != origin.links.dialect() {
            return None;
        }
        Some(Self {
            command: view.command.to_owned(),
            channel_id: view.channel_id.into(),
            sequence: view.sequence,
            dest: view.dest.to_owned(),
            metas: view
                .metas()
                .map(|meta| (meta.key_text().to_owned(), meta.value_text().to_owned()))
                .collect(),
            body: packet.body,
            origin: origin.clone(),
        })
    }

    /// For example `chat.user.talk`.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The channel that asks.
    pub fn channel_id(&self) -> &str {
        &self.channel_id
    }

    /// The client's number of this request; unique to nothing.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// What the request is directed at: an account, a group, or nothing.
    pub fn dest(&self) -> &str {
        &self.dest
    }

    /// The account that asks; empty if the gateway did not say.
    pub fn account(&self) -> &str {
        self.meta("account").unwrap_or_default()
    }

    /// The app of the account; empty if the gateway did not say.
    pub fn app(&self) -> &str {
        self.meta("app").unwrap_or_default()
    }

    /// The gateway that holds the channel: its meta, or the id of the link where it has none.
    pub fn gateway(&self) -> &str {
        self.meta(self.dialect().gateway_key()).unwrap_or(&self.origin.gateway)
    }

    /// The value of a meta; of several with this key the last one counts (protocol §4.6).
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metas().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }

    /// Every meta, in order.
    pub fn metas(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metas.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The body as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as a protobuf message.
    ///
    /// # Errors
    /// The client's fault: answer 101 `InvalidPacketBody`.
    pub fn decode<M: Message + Default>(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.body.clone())
    }

    /// The body of `login.signin`.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn session(&self) -> Result<pb::Session, prost::DecodeError> {
        self.decode()
    }

    /// What the link speaks.
    pub fn dialect(&self) -> Dialect {
        self.origin.links.dialect()
    }

    /// All links of the service, for pushes. Keep a clone to push after the reply.
    pub fn links(&self) -> &Links {
        &self.origin.links
    }

    /// A push with command, channel, sequence and dest of this request.
    pub fn as_push(&self, body: impl Into<Bytes>) -> Push {
        Push {
            command: self.command.clone(),
            channel_id: self.channel_id.to_string(),
            sequence: self.sequence,
            dest: self.dest.clone(),
            body: body.into(),
        }
    }

    /// Answers the channel that asks, by the link it asked by. Never waits.
    ///
    /// Where that link is gone the answer is dropped and counted: the gateway has answered 210 by then. A
    /// status from 400 on makes clients close their connection.
    pub fn reply(self, status: pb::Status, body: impl Into<Bytes>) {
        let RequestOrigin { links, send_queue, gateway } = &self.origin;
        let meta = links.destination(self.gateway(), &[self.channel_id()]);
        let header = pb::Header {
            channel_id: self.channel_id.to_string(),
            sequence: self.sequence,
            flag: pb::Flag::Response as i32,
            status: status as i32,
            meta,
            command: self.command,
            dest: self.dest,
        };
        links.send(send_queue, gateway, encode_message(links.dialect(), &header, body), 1);
    }

    /// Answers with status 0 and a protobuf body.
    pub fn succeed(self, message: &impl Message) {
        self.reply(pb::Status::Success, message.encode_to_vec());
    }

    /// Answers with another status and a short fixed text for people.
    pub fn fail(self, status: pb::Status, text: &'static str) {
        self.reply(status, pb::ErrorResp { message: text.to_owned() }.encode_to_vec());
    }

    /// The key of its queue.
    pub(super) fn channel(&self) -> &Arc<str> {
        &self.channel_id
    }
}
