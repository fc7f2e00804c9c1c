//! What the gateway sends unasked, in order, bounded in messages and bytes.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::state::ConnectionState;
use gateway_net::limits::KIB;
use gateway_wire::{command, pb};

/// Bytes of pushes held for a consumer that is busy; then reading stops and the gateway feels it. One larger push is held
/// alone.
const MAX_HELD: usize = 1024 * KIB;

/// What a push counts at least, bytes: so that not more than 256 are held.
const MIN_COST: usize = 4 * KIB;

/// Places in the queue: more than the room above leaves to pushes, and than a stream window holds of the smallest ones.
const MAX_QUEUED: usize = 1 << 16;

/// A packet that answers no request of this client.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    /// As it arrived.
    pub header: pb::Header,
    /// As it arrived.
    pub body: Bytes,
}

/// What happened to a group of this account, or to this account's place in it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GroupNotice {
    /// A group was made with this account in it.
    Created(pb::GroupCreateNotify),
    /// An account joined.
    Joined(pb::GroupJoinNotify),
    /// An account quit, or was taken out.
    Quit(pb::GroupQuitNotify),
}

impl Push {
    /// The message of a talk to this user or one of its groups; `None` for other pushes and unreadable bodies.
    pub fn message(&self) -> Option<pb::MessagePush> {
        matches!(self.header.command.as_str(), command::CHAT_USER_TALK | command::CHAT_GROUP_TALK)
            .then(|| pb::MessagePush::decode(self.body.clone()).ok())
            .flatten()
    }

    /// The notice about a group; `None` for other pushes and unreadable bodies.
    pub fn group_notice(&self) -> Option<GroupNotice> {
        let body = self.body.clone();
        match self.header.command.as_str() {
            command::CHAT_GROUP_CREATE => pb::GroupCreateNotify::decode(body).ok().map(GroupNotice::Created),
            command::CHAT_GROUP_JOIN => pb::GroupJoinNotify::decode(body).ok().map(GroupNotice::Joined),
            command::CHAT_GROUP_QUIT => pb::GroupQuitNotify::decode(body).ok().map(GroupNotice::Quit),
            _ => None,
        }
    }

    /// The notice that the account signed in elsewhere; the gateway closes with `kicked` after it.
    pub fn kick(&self) -> Option<pb::KickOutNotify> {
        (self.header.command == command::LOGIN_SIGNIN)
            .then(|| pb::KickOutNotify::decode(self.body.clone()).ok())
            .flatten()
    }
}

/// The pushes of one connection, in the order in which they arrived.
///
/// A consumer that stops taking them stops the reading of the stream they come on: on QUIC answers still flow, on
/// TCP nothing does. One that does not want them drops this, and they are discarded.
#[derive(Debug)]
pub struct Pushes {
    queue: mpsc::Receiver<(Push, OwnedSemaphorePermit)>,
    state: Arc<ConnectionState>,
}

impl Pushes {
    /// The next push, or `None` when the connection is over and all that arrived was taken.
    ///
    /// Pushes that overtake the login response are held back until it has come (protocol §7). Cancel safe.
    pub async fn recv(&mut self) -> Option<Push> {
        self.state.opened_or_closed().await;
        if !self.state.is_open() {
            return None;
        }
        self.queue.recv().await.map(|(push, _room)| push)
    }

    /// A push that is already here; `None` when there is none at the moment.
    pub fn try_recv(&mut self) -> Option<Push> {
        if !self.state.is_open() {
            return None;
        }
        self.queue.try_recv().ok().map(|(push, _room)| push)
    }

    /// Returns `true` if reading has stopped until some of them are taken.
    #[cfg(test)]
    pub(super) fn is_behind(&self) -> bool {
        self.state.is_held()
    }
}

/// The readers' end.
#[derive(Debug, Clone)]
pub(super) struct PushSender {
    queue: mpsc::Sender<(Push, OwnedSemaphorePermit)>,
    room: PushRoom,
}

/// What bounds the queue, bytes.
#[derive(Debug, Clone)]
pub(super) struct PushRoom(Arc<Semaphore>);

impl PushRoom {
    /// The connection is over: what was received of it, a stream window at most, need not wait for the consumer.
    pub(super) fn lift(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS - MAX_HELD);
    }
}

impl PushSender {
    /// Waits for room; a push nobody wants is discarded. When the consumer goes, its queue goes with it, and so a
    /// reader that waits here gets its room.
    pub(super) async fn send(&self, push: Push, state: &ConnectionState) {
        let cost = push.body.len().clamp(MIN_COST, MAX_HELD) as u32;
        let room = match Arc::clone(&self.room.0).try_acquire_many_owned(cost) {
            Ok(room) => room,
            Err(_) => {
                let _held = state.hold();
                let Ok(room) = Arc::clone(&self.room.0).acquire_many_owned(cost).await else { return };
                room
            }
        };
        let _ = self.queue.send((push, room)).await;
    }

    pub(super) fn room(&self) -> PushRoom {
        self.room.clone()
    }
}

/// Both ends.
pub(super) fn channel(state: Arc<ConnectionState>) -> (PushSender, Pushes) {
    let (sender, queue) = mpsc::channel(MAX_QUEUED);
    let room = PushRoom(Arc::new(Semaphore::new(MAX_HELD)));
    (PushSender { queue: sender, room }, Pushes { queue, state })
}
