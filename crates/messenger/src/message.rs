//! What the directory keeps of a message: its text once, and an index entry for each account that has it.

use std::sync::Arc;

use crate::account::AccountKey;
use gateway_wire::pb;

/// What a message costs beside its text, bytes: the record, two index entries, and their share of the maps.
pub const MESSAGE_OVERHEAD: usize = 512;

/// What a message to a group costs for each member, bytes: an index entry, and a place in the list of those who
/// got it, which no other message shares if members come and go between them.
pub const MEMBER_OVERHEAD: usize = 128;

/// `MessageIndex.direction` of a received message.
pub const RECEIVED: i32 = 0;
/// `MessageIndex.direction` of a sent message.
pub const SENT: i32 = 1;

/// What the receivers of a stored message get.
pub(super) fn pushed(
    message: pb::MessageReq,
    sender: &AccountKey,
    stored: &pb::MessageResp,
) -> pb::MessagePush {
    pb::MessagePush {
        message_id: stored.message_id,
        r#type: message.r#type,
        body: message.body,
        extra: message.extra,
        sender: sender.account.to_string(),
        send_time: stored.send_time,
    }
}

/// One message in the index of one account.
#[derive(Debug)]
pub(super) struct IndexEntry {
    pub(super) message_id: i64,
    pub(super) direction: i32,
    pub(super) send_time: i64,
    pub(super) other: Arc<str>,
    pub(super) group: Option<Arc<str>>,
}

impl IndexEntry {
    pub(super) fn to_wire(&self) -> pb::MessageIndex {
        pb::MessageIndex {
            message_id: self.message_id,
            direction: self.direction,
            send_time: self.send_time,
            account_b: self.other.to_string(),
            group: self.group.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// A stored message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) readers: Readers,
    pub(super) content: pb::MessageReq,
}

/// Who has a message in the index: whoever sent it, and all it was for at that time.
#[derive(Debug)]
pub(super) enum Readers {
    Two([AccountKey; 2]),
    Group(Arc<[AccountKey]>),
}

impl Readers {
    pub(super) fn all(&self) -> &[AccountKey] {
        match self {
            Self::Two(two) => two,
            Self::Group(members) => members,
        }
    }
}

impl Message {
    /// For those who have it; none for others.
    pub(super) fn for_reader(&self, who: &AccountKey, message_id: i64) -> Option<pb::MessageContent> {
        let pb::MessageReq { r#type, body, extra } = &self.content;
        self.readers.all().contains(who).then(|| pb::MessageContent {
            message_id,
            r#type: *r#type,
            body: body.clone(),
            extra: extra.clone(),
        })
    }

    /// What it counts in [`Bounds::message_bytes`](crate::directory::DirectoryBounds).
    pub(super) fn bytes(&self) -> usize {
        let members = match &self.readers {
            Readers::Two(_) => 0,
            Readers::Group(members) => members.len(),
        };
        MESSAGE_OVERHEAD + members * MEMBER_OVERHEAD + self.content.body.len() + self.content.extra.len()
    }
}
