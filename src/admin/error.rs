//! Why the administrator cannot be served.

use std::io;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminStartError {
    /// Somebody answers there.
    #[error("admin.socket: another process listens on {0}; stop it, or choose another path")]
    InUse(String),
    /// Something stands there that is no socket.
    #[error("admin.socket: {0} is there and is no socket; choose another path")]
    Taken(String),
    /// Something stands where the socket is made.
    #[error("admin.socket: {0} is in the way: the socket is made in a directory of that name; remove it")]
    InTheWay(String),
    /// The system does not allow it.
    #[error("admin.socket: cannot listen on {path}: {error}")]
    Bind {
        /// Where.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// No thread or event queue could be had.
    #[error("admin: no thread of its own could be started: {0}")]
    Thread(io::Error),
}
