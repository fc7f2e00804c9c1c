//! What the driver does beside the connection that serves, and how it ends.

use std::future::Future;
use std::pin::Pin;

use crate::answer::{Login, LoginError};
use crate::connect_error::ConnectError;
use crate::connected::Connected;
use crate::resilient::tokens::NoToken;
use gateway_wire::close::CloseReason;

/// Something that takes time, and of which one goes on at once.
pub(super) type Doing = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How it ended.
pub(super) enum Done {
    Connected(Result<Made, NotMade>),
    SignedIn(Result<Login, LoginError>),
    Left(CloseReason),
}

/// A connection that has not signed in, and the token it will do so with.
pub(super) struct Made {
    pub(super) connected: Connected,
    pub(super) token: String,
}

/// Why there is none.
pub(super) enum NotMade {
    Token(NoToken),
    Connect(ConnectError),
}
