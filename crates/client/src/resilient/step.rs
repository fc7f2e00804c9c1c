//! What happens to a session that lasts, and what is to be done about it.

use std::time::Duration;

use crate::go_away::GoAway;
use crate::resilient::retry_policy::Retry;
use gateway_wire::close::CloseReason;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Start.
    Begin,
    /// The time of [`StateMachine::alarm`](super::state_machine::StateMachine::alarm) has come.
    Alarm,
    /// [`Act::Connect`] is done.
    Connected,
    /// Its handshake failed.
    ConnectFailed(Retry),
    /// There was no token for it.
    NoToken(Retry),
    /// [`Act::SignIn`] succeeded.
    SignedIn,
    /// It did not.
    SignInFailed(Retry),
    /// The connection that was signed in is over.
    Closed(CloseReason),
    /// The gateway will close it.
    GoAway(GoAway),
    /// It stands, and takes no requests any more.
    Broken,
    /// No request is under way on it.
    Idle,
    /// [`Act::Leave`] is done; the gateway may have closed first.
    Left(CloseReason),
    /// The program wants to end.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Get a token, a new one if so, and shake hands with this server, beside the connection there may be. The token
    /// comes first: a gateway gives a connection little time to sign in.
    Connect { server: usize, renew: bool },
    /// Sign in on the connection made last.
    SignIn,
    /// Say bye on the connection that is signed in.
    Leave,
    /// Tell it.
    Draining(GoAway),
    /// Tell it.
    Lost(CloseReason),
    /// Tell it.
    Kicked,
    /// Tell it.
    Reconnecting { attempt: u32, after: Duration, server: usize },
    /// End, and say why.
    Over(Why),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Stopped,
    Closed(CloseReason),
    /// For what the last connect or sign-in failed with.
    LastError,
}
