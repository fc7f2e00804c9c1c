//! Requests of the chat service, typed.

use prost::Message as _;

use crate::client::answer::{PendingAnswer, RequestError};
use crate::client::handle::Client;
use crate::wire::{command, pb};

/// Text, the only type of message this client writes.
const TEXT: i32 = 1;

/// A typed request failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It got no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It was answered with a status other than 0.
    #[error("answered with status {status}: {message}")]
    Refused {
        /// See `pb::Status`.
        status: i32,
        /// What the answer says, for people.
        message: String,
    },
    /// It was answered with a body of another type.
    #[error("answered with an unreadable body")]
    BadBody(#[from] prost::DecodeError),
}

impl Client {
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
    pub async fn send_talk(&self, to: &str, text: &str) -> Result<PendingAnswer, RequestError> {
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
        let answer = self.request(command::CHAT_TALK_ACK, "", body.encode_to_vec()).await?;
        if answer.is_success() {
            return Ok(());
        }
        Err(CallError::Refused { status: answer.status, message: answer.message() })
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
}
