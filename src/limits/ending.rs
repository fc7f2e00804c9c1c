//! How long ends may take: of a connection, of a worker, of the process.

use std::time::Duration;

/// How long a closing channel may take to write what is queued, and over QUIC to have it acknowledged. What is left then is
/// given up, so that the reason for the close reaches the client.
pub const FLUSH: Duration = Duration::from_secs(1);

/// How long the end of the process waits for the webhook to take what is left: one answer of one that is well.
pub const EVENTS_FLUSH: Duration = Duration::from_secs(1);

/// How long a stopping worker waits for its last QUIC packets to leave, and for TLS handshakes to end.
pub const ENDPOINT_FLUSH: Duration = Duration::from_millis(200);

/// How long the end of a worker may take once its last task is gone: nothing of ours blocks in its runtime, and what does
/// all the same is left behind.
pub const RUNTIME_END: Duration = Duration::from_millis(100);

/// How long a process that is hurried by a second SIGINT may still take: close frames and sign-outs are written, and
/// nothing is waited for. What is not done by then is left undone.
pub const HURRY: Duration = Duration::from_secs(1);

/// The part of [`HURRY`] for clients: who has not taken what is queued for it by then is not told why it is closed.
pub const HURRIED_FLUSH: Duration = Duration::from_millis(250);

/// The part of [`HURRY`] for sign-outs, behind [`HURRIED_FLUSH`]. The rest, twice [`ENDPOINT_FLUSH`] and
/// [`RUNTIME_END`], is the worker's own.
pub const HURRIED_SIGNOUTS: Duration = Duration::from_millis(200);

/// How long a reload waits until every worker has taken it. One that is busier takes it later, and the answer says so.
pub const RELOAD_TAKEN: Duration = Duration::from_secs(2);
