//! Answers, and why there may be none.

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use gateway_wire::close::CloseReason;
use gateway_wire::pb;

/// A successful login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The channel id the gateway gave.
    pub channel_id: String,
    /// The account as the login service knows it.
    pub account: String,
}

/// A Response.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// 0 is success; see `pb::Status` for the others.
    pub status: i32,
    /// As it arrived.
    pub header: pb::Header,
    /// As it arrived; an `ErrorResp` when the status is not 0.
    pub body: Bytes,
    /// When it was read from the connection.
    pub at: Instant,
}

impl Answer {
    pub(super) fn new(header: pb::Header, body: Bytes) -> Self {
        Self { status: header.status, header, body, at: Instant::now() }
    }

    /// Returns `true` if the status is 0.
    pub const fn is_success(&self) -> bool {
        self.status == pb::Status::Success as i32
    }

    /// The text of an `ErrorResp`; empty when there is none.
    pub fn message(&self) -> String {
        pb::ErrorResp::decode(self.body.clone()).map(|error| error.message).unwrap_or_default()
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    /// [`CallError::Refused`] for another status, [`CallError::BadBody`] when the body is not an `M`.
    pub fn decode<M: Message + Default>(&self) -> Result<M, CallError> {
        if self.is_success() {
            Ok(M::decode(self.body.clone())?)
        } else {
            Err(CallError::Refused { status: self.status, message: self.message() })
        }
    }
}

/// A request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// None came in time. Whether the request was carried out is unknown.
    #[error("no answer in time; whether the request was carried out is unknown")]
    TimedOut,
    /// The connection is over. Whether the request was carried out is unknown.
    #[error("the connection is over: {0}")]
    Closed(CloseReason),
    /// The gateway ended the stream the request went out on; the connection may go on.
    #[error("the gateway ended the stream of this request")]
    StreamEnded,
    /// The sequence chosen by the caller belongs to a request in flight.
    #[error("sequence {0} belongs to a request in flight")]
    SequenceInUse(u32),
    /// The body is larger than any gateway takes.
    #[error("a body of {0} bytes is more than any gateway takes")]
    TooLarge(usize),
    /// Nothing of it was sent, and nothing will be ([`ResilientClient`](crate::ResilientClient)).
    #[error("not sent: {0}")]
    NotSent(NotSent),
}

/// Why a request was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSent {
    /// There was no connection before its time was over.
    #[error("there was no connection in time")]
    TimedOut,
    /// Too many requests wait already, and there is no connection; or they waited until its time was over.
    #[error("too many requests are waiting")]
    QueueFull,
    /// The session is over for good.
    #[error("the session is over")]
    Over,
}

impl RequestError {
    /// Returns `true` if the request may have been carried out all the same. Then it must not be sent again blindly.
    pub const fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Closed(_) | Self::StreamEnded)
    }
}

/// A login failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The gateway or the login service said no; the gateway closes the connection after it.
    #[error("login refused with status {status}: {message}")]
    Refused {
        /// 105 token refused, 103 not a login, 3xx try again later.
        status: i32,
        /// What the answer says, for people.
        message: String,
    },
    /// The connection ended first.
    #[error("the connection was closed before the login was answered: {0}")]
    Closed(CloseReason),
    /// No answer in time.
    #[error("the login was not answered in time")]
    TimedOut,
    /// The answer of a login service that does not speak this protocol.
    #[error("the login was answered with what is no LoginResp")]
    BadAnswer,
}

impl From<RequestError> for LoginError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Closed(reason) => Self::Closed(reason),
            RequestError::StreamEnded => Self::Closed(CloseReason::PeerClosed),
            RequestError::TimedOut | RequestError::SequenceInUse(_) | RequestError::NotSent(_) => {
                Self::TimedOut
            }
            RequestError::TooLarge(_) => Self::Closed(CloseReason::FrameTooBig),
        }
    }
}

/// A typed request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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
