//! Requests of the chat service, typed.

use prost::Message as _;

use crate::client::answer::{CallError, RequestError};
use crate::client::handle::Client;
use crate::client::pending_answer::PendingAnswer;
use crate::client::resilient::{PendingReply, ResilientClient};
use crate::wire::{command, pb};

/// Text, the only type of message this client writes.
const TEXT: i32 = 1;

/// The same requests for a connection and for a session that lasts: each has `request`, `send` and `own_account`.
macro_rules! typed_requests {
    ($client:ty, $pending:ty) => {
        impl $client {
            /// Sends a text to an account and waits until it is stored.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn talk(&self, to: &str, text: &str) -> Result<pb::MessageResp, CallError> {
                self.send_talk(to, text).await?.await?.decode()
            }

            /// Sends a text to an account; [`Answer::decode`](crate::client::Answer::decode) its answer as
            /// `pb::MessageResp`.
            ///
            /// # Errors
            /// [`RequestError`] when it cannot be sent.
            pub async fn send_talk(&self, to: &str, text: &str) -> Result<$pending, RequestError> {
                let body = pb::MessageReq { r#type: TEXT, body: text.to_owned(), extra: String::new() };
                self.send(command::CHAT_USER_TALK, to, body.encode_to_vec()).await
            }

            /// Acknowledges every message up to this id, seen or not: the service then no longer lists the ones before it as
            /// missed. Before acknowledging a push, fetch what is missing below it with
            /// [`offline_index`](Self::offline_index) and [`offline_content`](Self::offline_content): messages may have been
            /// missed while away, and pushes of two instances of a service have no common order.
            ///
            /// # Errors
            /// [`CallError`]; until it succeeds the messages count as missed.
            pub async fn ack(&self, message_id: i64) -> Result<(), CallError> {
                let body = pb::MessageAckReq { message_id };
                self.order(command::CHAT_TALK_ACK, body.encode_to_vec()).await
            }

            /// What was sent (direction 1) and received (direction 0) after a message, at most 2,000, oldest first; 0: after
            /// the last acknowledged one.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn offline_index(&self, after: i64) -> Result<Vec<pb::MessageIndex>, CallError> {
                let body = pb::MessageIndexReq { message_id: after };
                let answer = self.request(command::CHAT_OFFLINE_INDEX, "", body.encode_to_vec()).await?;
                Ok(answer.decode::<pb::MessageIndexResp>()?.indexes)
            }

            /// The texts of at most 200 messages.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn offline_content(&self, ids: Vec<i64>) -> Result<Vec<pb::MessageContent>, CallError> {
                let body = pb::MessageContentReq { message_i_ds: ids };
                let answer = self.request(command::CHAT_OFFLINE_CONTENT, "", body.encode_to_vec()).await?;
                Ok(answer.decode::<pb::MessageContentResp>()?.contents)
            }

            /// Makes a group of this account, which owns it, and these others. Returns its id. The other members who are
            /// signed in get a [`GroupNotice`](crate::client::GroupNotice).
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn create_group(&self, name: &str, members: &[&str]) -> Result<String, CallError> {
                let owner = &self.own_account();
                // Some services take the list as it is, without the owner.
                let own = (!members.contains(&owner.as_str())).then_some(owner.as_str());
                let body = pb::GroupCreateReq {
                    name: name.to_owned(),
                    owner: owner.clone(),
                    members: own.iter().chain(members).map(|&account| account.to_owned()).collect(),
                    ..pb::GroupCreateReq::default()
                };
                let answer = self.request(command::CHAT_GROUP_CREATE, "", body.encode_to_vec()).await?;
                Ok(answer.decode::<pb::GroupCreateResp>()?.group_id)
            }

            /// Joins a group by its id; nothing changes when the account is in it already. What was said before is not
            /// among what was missed.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn join_group(&self, group: &str) -> Result<(), CallError> {
                self.add_to_group(group, &self.own_account()).await
            }

            /// Puts an account into a group. The embedded service allows it to the owner of the group.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn add_to_group(&self, group: &str, account: &str) -> Result<(), CallError> {
                let body = pb::GroupJoinReq { account: account.to_owned(), group_id: group.to_owned() };
                self.order(command::CHAT_GROUP_JOIN, body.encode_to_vec()).await
            }

            /// Leaves a group; nothing changes when the account is not in it.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn quit_group(&self, group: &str) -> Result<(), CallError> {
                self.remove_from_group(group, &self.own_account()).await
            }

            /// Takes an account out of a group. The embedded service allows it to the owner of the group.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn remove_from_group(&self, group: &str, account: &str) -> Result<(), CallError> {
                let body = pb::GroupQuitReq { account: account.to_owned(), group_id: group.to_owned() };
                self.order(command::CHAT_GROUP_QUIT, body.encode_to_vec()).await
            }

            /// All about a group: name, owner, members. Its times are in seconds since 1970.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn group_detail(&self, group: &str) -> Result<pb::GroupGetResp, CallError> {
                self.group_get(command::CHAT_GROUP_DETAIL, group).await
            }

            /// The members of a group, in the order in which they joined.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn group_members(&self, group: &str) -> Result<Vec<pb::Member>, CallError> {
                Ok(self.group_get(command::CHAT_GROUP_MEMBERS, group).await?.members)
            }

            /// Sends a text to the members of a group and waits until it is stored. Only members may.
            ///
            /// # Errors
            /// [`CallError`].
            pub async fn talk_group(&self, group: &str, text: &str) -> Result<pb::MessageResp, CallError> {
                self.send_talk_group(group, text).await?.await?.decode()
            }

            /// Sends a text to a group; [`Answer::decode`](crate::client::Answer::decode) its answer as
            /// `pb::MessageResp`.
            ///
            /// # Errors
            /// [`RequestError`] when it cannot be sent.
            pub async fn send_talk_group(&self, group: &str, text: &str) -> Result<$pending, RequestError> {
                let body = pb::MessageReq { r#type: TEXT, body: text.to_owned(), extra: String::new() };
                self.send(command::CHAT_GROUP_TALK, group, body.encode_to_vec()).await
            }

            async fn group_get(&self, command: &str, group: &str) -> Result<pb::GroupGetResp, CallError> {
                let body = pb::GroupGetReq { group_id: group.to_owned() };
                self.request(command, "", body.encode_to_vec()).await?.decode()
            }

            /// A request whose answer has no body.
            async fn order(&self, command: &str, body: Vec<u8>) -> Result<(), CallError> {
                let answer = self.request(command, "", body).await?;
                if answer.is_success() {
                    return Ok(());
                }
                Err(CallError::Refused { status: answer.status, message: answer.message() })
            }
        }
    };
}

typed_requests!(Client, PendingAnswer);
typed_requests!(ResilientClient, PendingReply);

impl Client {
    /// Empty before the login.
    fn own_account(&self) -> String {
        self.session().map_or_else(String::new, |login| login.account.clone())
    }
}

impl ResilientClient {
    /// Empty before the first login.
    fn own_account(&self) -> String {
        self.account().unwrap_or_default()
    }
}
