//! Which gateways are linked to a logic service, and pushes to the channels they hold.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tracing::{debug, warn};

use crate::send_queue::{SendError, SendQueue};
use gateway_wire::close::{LINK_REPEATED, LINK_REPLACED};
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{self, Opcode};
use gateway_wire::packet::{Encoded, encode_message};
use gateway_wire::pb;

/// Meta key that names the receiving channels (protocol §4.6).
const CHANNELS_KEY: &str = "dest.channels";

/// Channel ids in one push packet; a gateway drops a longer list whole.
const CHANNELS_PER_PUSH: usize = 100_000;

/// Bytes of channel ids in one push packet: half of what a gateway takes as a frame, the rest is for the body.
const CHANNEL_BYTES_PER_PUSH: usize = 8 * 1024 * 1024;

/// What is done with a gateway whose id is linked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KnownGateway {
    /// The old link is closed: a gateway dials again only when it has given its old link up.
    #[default]
    Replace,
    /// The new link is closed, as the Go systems do. After a partition such a gateway stays out until this side
    /// notices that the old link is dead.
    Refuse,
}

/// What a logic service counts; read with [`Links::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// A gateway shook hands and was taken.
    Linked,
    /// A link was closed because its gateway opened a newer one.
    Replaced,
    /// A gateway was refused because its id was linked already.
    Refused,
    /// A connection did not shake hands in time, or not with a usable id.
    BadHandshake,
    /// A link ended because what came was no frame.
    BadFrame,
    /// A good frame held no request for this service and was dropped.
    BadPacket,
    /// A frame of an opcode that means nothing on a link was ignored.
    IgnoredFrame,
    /// A request was answered 300 because too many were in progress on its link.
    Overloaded,
    /// A handler panicked; its request stays unanswered, which the gateway turns into 210.
    HandlerPanicked,
    /// A packet was dropped because its gateway is not linked; of a push, once per channel.
    DroppedNotLinked,
    /// A packet was dropped because its link was closing; of a push, once per channel.
    DroppedClosed,
    /// A packet was dropped and its link cut because the gateway did not take what it was sent.
    DroppedFull,
    /// A packet was queued and its link ended before it was written.
    LostUnwritten,
}

impl LinkEvent {
    /// Every event, in index order.
    pub const ALL: [Self; 13] = [
        Self::Linked,
        Self::Replaced,
        Self::Refused,
        Self::BadHandshake,
        Self::BadFrame,
        Self::BadPacket,
        Self::IgnoredFrame,
        Self::Overloaded,
        Self::HandlerPanicked,
        Self::DroppedNotLinked,
        Self::DroppedClosed,
        Self::DroppedFull,
        Self::LostUnwritten,
    ];
}

/// One receiver of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Id of the gateway that holds the channel: `Session.gateID`, or [`Request::gateway`].
    ///
    /// [`Request::gateway`]: crate::Request::gateway
    pub gateway: &'a str,
    /// The channel.
    pub channel: &'a str,
}

/// A packet that a logic service sends on its own account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Push {
    /// For example `chat.user.talk`.
    pub command: String,
    /// Whose request caused it; may be empty. Receivers are named apart.
    pub channel_id: String,
    /// Of the causing request; clients do not match pushes by it.
    pub sequence: u32,
    /// As the receiver shall see it.
    pub dest: String,
    /// Protobuf body of the command.
    pub body: Bytes,
}

/// The live links of one [`LogicServer`](crate::LogicServer), by gateway id. Clones share them.
#[derive(Clone)]
pub struct Links(Arc<SharedLinks>);

struct SharedLinks {
    dialect: Dialect,
    live: Mutex<HashMap<Arc<str>, Arc<SendQueue>>>,
    counts: [AtomicU64; LinkEvent::ALL.len()],
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("dialect", &self.0.dialect).field("gateways", &self.gateways()).finish()
    }
}

impl Links {
    pub(super) fn new(dialect: Dialect) -> Self {
        let shared = SharedLinks { dialect, live: Mutex::default(), counts: Default::default() };
        Self(Arc::new(shared))
    }

    /// What this service speaks on all its links.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// Ids of the gateways linked now, sorted.
    pub fn gateways(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.live().keys().map(|id| id.to_string()).collect();
        ids.sort();
        ids
    }

    /// How often something happened since the service was made.
    pub fn count(&self, event: LinkEvent) -> u64 {
        self.0.counts[event as usize].load(Ordering::Relaxed)
    }

    /// Sends one push to channels of any gateways: one packet per gateway. Never waits.
    ///
    /// Returns to how many channels it is on its way. A channel whose gateway is not linked is left out and
    /// counted; a gateway that does not take what it is sent loses its link, so that no later push can arrive
    /// with this one missing (G2).
    pub fn push(&self, push: &Push, targets: &[Target<'_>]) -> usize {
        let mut by_gateway: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for target in targets {
            by_gateway.entry(target.gateway).or_default().push(target.channel);
        }
        let queued = by_gateway.into_iter().map(|(gateway, channels)| self.push_to(push, gateway, &channels));
        queued.sum()
    }

    fn push_to(&self, push: &Push, gateway: &str, channels: &[&str]) -> usize {
        let Some(send_queue) = self.live().get(gateway).cloned() else {
            debug!(?gateway, command = ?push.command, "push dropped, this gateway is not linked");
            self.record_many(LinkEvent::DroppedNotLinked, channels.len());
            return 0;
        };
        let mut rest = channels;
        let mut queued = 0;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(packet_share(rest));
            let packet =
                encode_message(self.0.dialect, &self.push_header(push, gateway, part), push.body.clone());
            if !self.send(&send_queue, gateway, packet, part.len()) {
                self.record_many(LinkEvent::DroppedClosed, after.len());
                break;
            }
            queued += part.len();
            rest = after;
        }
        queued
    }

    fn push_header(&self, push: &Push, gateway: &str, channels: &[&str]) -> pb::Header {
        pb::Header {
            command: push.command.clone(),
            channel_id: push.channel_id.clone(),
            sequence: push.sequence,
            flag: pb::Flag::Push as i32,
            status: pb::Status::Success as i32,
            dest: push.dest.clone(),
            meta: self.destination(gateway, channels),
        }
    }

    /// The metas by which a gateway finds the channels (protocol §4.6): its own id, and theirs.
    pub(super) fn destination(&self, gateway: &str, channels: &[&str]) -> Vec<pb::Meta> {
        let meta = |key: &str, value: String| pb::Meta {
            key: key.to_owned(),
            value,
            r#type: pb::MetaType::String as i32,
        };
        vec![meta(self.0.dialect.gateway_key(), gateway.to_owned()), meta(CHANNELS_KEY, channels.join(","))]
    }

    /// Queues a packet and counts it `channels` times where it is dropped.
    pub(super) fn send(
        &self,
        send_queue: &SendQueue,
        gateway: &str,
        packet: Encoded,
        channels: usize,
    ) -> bool {
        match send_queue.send(packet) {
            Ok(()) => true,
            Err(SendError::Closed) => {
                self.record_many(LinkEvent::DroppedClosed, channels);
                false
            }
            Err(SendError::Full) => {
                warn!(?gateway, "link cut: the gateway does not take what it is sent");
                self.record_many(LinkEvent::DroppedFull, channels);
                false
            }
        }
    }

    /// Cuts the link of a gateway at once, unwritten packets included; it will dial again. Returns whether there
    /// was one. For tests of what a gateway does then.
    pub fn cut(&self, gateway: &str) -> bool {
        self.live().get(gateway).map(|send_queue| send_queue.cut()).is_some()
    }

    /// Makes the send_queue the one of this gateway, or answers with the text of the close frame to refuse it.
    pub(super) fn register(
        &self,
        gateway: &Arc<str>,
        send_queue: &Arc<SendQueue>,
        known: KnownGateway,
    ) -> Result<LinkRegistration, Bytes> {
        let mut live = self.live();
        if known == KnownGateway::Refuse && live.contains_key(gateway) {
            drop(live);
            self.record(LinkEvent::Refused);
            return Err(frame::encode(Opcode::Close, LINK_REPEATED));
        }
        let old = live.insert(Arc::clone(gateway), Arc::clone(send_queue));
        drop(live);
        if let Some(old) = old {
            self.record(LinkEvent::Replaced);
            old.close(frame::encode(Opcode::Close, LINK_REPLACED));
        }
        self.record(LinkEvent::Linked);
        Ok(LinkRegistration {
            links: self.clone(),
            gateway: Arc::clone(gateway),
            send_queue: Arc::clone(send_queue),
        })
    }

    pub(super) fn record(&self, event: LinkEvent) {
        self.record_many(event, 1);
    }

    pub(super) fn record_many(&self, event: LinkEvent, times: usize) {
        self.0.counts[event as usize].fetch_add(times as u64, Ordering::Relaxed);
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<SendQueue>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of these ids, at least one, go into one packet.
fn packet_share(channels: &[&str]) -> usize {
    let mut bytes = 0;
    let fitting = channels.iter().take(CHANNELS_PER_PUSH).take_while(|id| {
        bytes += id.len() + 1;
        bytes <= CHANNEL_BYTES_PER_PUSH
    });
    fitting.count().max(1)
}

/// A link's place among the live ones; dropping it gives the place up, unless a newer link has taken it.
#[derive(Debug)]
pub(super) struct LinkRegistration {
    links: Links,
    gateway: Arc<str>,
    send_queue: Arc<SendQueue>,
}

impl Drop for LinkRegistration {
    fn drop(&mut self) {
        let mut live = self.links.live();
        if live.get(&self.gateway).is_some_and(|current| Arc::ptr_eq(current, &self.send_queue)) {
            live.remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::LogicServer;
    use crate::testing::{TestGateway, meta_of, start};

    #[test]
    fn events_are_in_index_order() {
        for (position, event) in LinkEvent::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, position);
        }
    }

    #[tokio::test]
    async fn a_push_is_split_by_gateway_and_counted_where_none_is_linked() {
        let server = LogicServer::new("chat");
        let links = server.links();
        let (address, _task) = start(server).await;
        let mut first = TestGateway::link(address, "gate01-0", Dialect::XIm).await;
        let mut second = TestGateway::link(address, "gate01-1", Dialect::XIm).await;
        let push = Push {
            command: "chat.user.talk".to_owned(),
            channel_id: "gate01-0_alice_7".to_owned(),
            sequence: 42,
            dest: "bob".to_owned(),
            body: Bytes::from_static(b"hi"),
        };
        let targets = [
            Target { gateway: "gate01-0", channel: "a" },
            Target { gateway: "gate01-1", channel: "b" },
            Target { gateway: "gate01-0", channel: "c" },
            Target { gateway: "gate09", channel: "d" },
            Target { gateway: "gate09", channel: "e" },
        ];
        assert_eq!(links.push(&push, &targets), 3);
        assert_eq!(links.count(LinkEvent::DroppedNotLinked), 2);
        for (gateway, channels) in [(&mut first, "a,c"), (&mut second, "b")] {
            let (header, body) = gateway.packet().await;
            assert_eq!(meta_of(&header, "dest.logic"), Some(gateway.id.as_str()));
            assert_eq!(meta_of(&header, "dest.channels"), Some(channels));
            assert_eq!((header.flag, header.sequence, &body[..]), (pb::Flag::Push as i32, 42, &b"hi"[..]));
            gateway.ping().await;
        }
    }

    #[test]
    fn e5_a_push_to_more_channels_than_a_gateway_takes_is_sent_in_parts() {
        let ids = vec!["c"; CHANNELS_PER_PUSH + 1];
        assert_eq!(packet_share(&ids), CHANNELS_PER_PUSH);
        let long = "x".repeat(CHANNEL_BYTES_PER_PUSH / 2);
        assert_eq!(packet_share(&[&long, &long, &long]), 1);
        let longer = "x".repeat(CHANNEL_BYTES_PER_PUSH + 1);
        assert_eq!(packet_share(&[&longer, "c"]), 1);
        assert_eq!(packet_share(&["a", "b"]), 2);
    }
}
