//! Requests of a signed-in account: those of any command, and those of the chat service, typed.

use std::future::Future;

use bytes::Bytes;
use prost::Message as _;

use crate::answer::{Answer, CallError, RequestError};
use gateway_wire::{command, pb};

/// Text, the only type of message this client writes.
const TEXT: i32 = 1;

/// What an account asks for, over a connection ([`Client`](crate::Client)) or in a session that lasts
/// ([`ResilientClient`](crate::ResilientClient)). Of both, all futures are `Send`.
#[expect(
    async_fn_in_trait,
    reason = "a task is started where the type is known, and then so is that it is Send"
)]
pub trait Requests: Sync {
    /// The answer to a request that was sent: a future. Dropped, the answer is thrown away when it comes.
    type Pending: Future<Output = Result<Answer, RequestError>> + Send;

    /// Sends a request; the answer is awaited through what it returns, or not at all. `dest` is an account, a group, or
    /// empty. Requests sent one after the other by one task leave in that order. Cancel safe: cancelled, the request was
    /// not sent.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be sent.
    fn send(
        &self,
        command: &str,
        dest: &str,
        body: impl Into<Bytes> + Send,
    ) -> impl Future<Output = Result<Self::Pending, RequestError>> + Send;

    /// The account as the login service knows it; `None` before the first login. It outlasts a connection.
    fn account(&self) -> Option<String>;

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`RequestError`]; an answer with a status other than 0 is not an error here.
    async fn request(
        &self,
        command: &str,
        dest: &str,
        body: impl Into<Bytes> + Send,
    ) -> Result<Answer, RequestError> {
        self.send(command, dest, body).await?.await
    }

    /// Sends a text to an account and waits until it is stored.
    ///
    /// # Errors
    /// [`CallError`].
    async fn talk(&self, to: &str, text: &str) -> Result<pb::MessageResp, CallError> {
        self.send_talk(to, text).await?.await?.decode()
    }

    /// Sends a text to an account; [`Answer::decode`] its answer as `pb::MessageResp`.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be sent.
    async fn send_talk(&self, to: &str, text: &str) -> Result<Self::Pending, RequestError> {
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
    async fn ack(&self, message_id: i64) -> Result<(), CallError> {
        let body = pb::MessageAckReq { message_id };
        order(self, command::CHAT_TALK_ACK, body.encode_to_vec()).await
    }

    /// What was sent (direction 1) and received (direction 0) after a message, at most 2,000, oldest first; 0: after
    /// the last acknowledged one.
    ///
    /// # Errors
    /// [`CallError`].
    async fn offline_index(&self, after: i64) -> Result<Vec<pb::MessageIndex>, CallError> {
        let body = pb::MessageIndexReq { message_id: after };
        let answer = self.request(command::CHAT_OFFLINE_INDEX, "", body.encode_to_vec()).await?;
        Ok(answer.decode::<pb::MessageIndexResp>()?.indexes)
    }

    /// The texts of at most 200 messages.
    ///
    /// # Errors
    /// [`CallError`].
    async fn offline_content(&self, ids: Vec<i64>) -> Result<Vec<pb::MessageContent>, CallError> {
        let body = pb::MessageContentReq { message_i_ds: ids };
        let answer = self.request(command::CHAT_OFFLINE_CONTENT, "", body.encode_to_vec()).await?;
        Ok(answer.decode::<pb::MessageContentResp>()?.contents)
    }

    /// Makes a group of this account, which owns it, and these others. Returns its id. The other members who are
    /// signed in get a [`GroupNotice`](crate::GroupNotice).
    ///
    /// # Errors
    /// [`CallError`].
    async fn create_group(&self, name: &str, members: &[&str]) -> Result<String, CallError> {
        let owner = &self.account().unwrap_or_default();
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
    async fn join_group(&self, group: &str) -> Result<(), CallError> {
        self.add_to_group(group, &self.account().unwrap_or_default()).await
    }

    /// Puts an account into a group. The embedded service allows it to the owner of the group.
    ///
    /// # Errors
    /// [`CallError`].
    async fn add_to_group(&self, group: &str, account: &str) -> Result<(), CallError> {
        let body = pb::GroupJoinReq { account: account.to_owned(), group_id: group.to_owned() };
        order(self, command::CHAT_GROUP_JOIN, body.encode_to_vec()).await
    }

    /// Leaves a group; nothing changes when the account is not in it.
    ///
    /// # Errors
    /// [`CallError`].
    async fn quit_group(&self, group: &str) -> Result<(), CallError> {
        self.remove_from_group(group, &self.account().unwrap_or_default()).await
    }

    /// Takes an account out of a group. The embedded service allows it to the owner of the group.
    ///
    /// # Errors
    /// [`CallError`].
    async fn remove_from_group(&self, group: &str, account: &str) -> Result<(), CallError> {
        let body = pb::GroupQuitReq { account: account.to_owned(), group_id: group.to_owned() };
        order(self, command::CHAT_GROUP_QUIT, body.encode_to_vec()).await
    }

    /// All about a group: name, owner, members. Its times are in seconds since 1970.
    ///
    /// # Errors
    /// [`CallError`].
    async fn group_detail(&self, group: &str) -> Result<pb::GroupGetResp, CallError> {
        group_get(self, command::CHAT_GROUP_DETAIL, group).await
    }

    /// The members of a group, in the order in which they joined.
    ///
    /// # Errors
    /// [`CallError`].
    async fn group_members(&self, group: &str) -> Result<Vec<pb::Member>, CallError> {
        Ok(group_get(self, command::CHAT_GROUP_MEMBERS, group).await?.members)
    }

    /// Sends a text to the members of a group and waits until it is stored. Only members may.
    ///
    /// # Errors
    /// [`CallError`].
    async fn talk_group(&self, group: &str, text: &str) -> Result<pb::MessageResp, CallError> {
        self.send_talk_group(group, text).await?.await?.decode()
    }

    /// Sends a text to a group; [`Answer::decode`] its answer as `pb::MessageResp`.
    ///
    /// # Errors
    /// [`RequestError`] when it cannot be sent.
    async fn send_talk_group(&self, group: &str, text: &str) -> Result<Self::Pending, RequestError> {
        let body = pb::MessageReq { r#type: TEXT, body: text.to_owned(), extra: String::new() };
        self.send(command::CHAT_GROUP_TALK, group, body.encode_to_vec()).await
    }
}

async fn group_get(
    client: &(impl Requests + ?Sized),
    command: &str,
    group: &str,
) -> Result<pb::GroupGetResp, CallError> {
    let body = pb::GroupGetReq { group_id: group.to_owned() };
    client.request(command, "", body.encode_to_vec()).await?.decode()
}

/// A request whose answer has no body.
async fn order(client: &(impl Requests + ?Sized), command: &str, body: Vec<u8>) -> Result<(), CallError> {
    let answer = client.request(command, "", body).await?;
    if answer.is_success() {
        return Ok(());
    }
    Err(CallError::Refused { status: answer.status, message: answer.message() })
}
