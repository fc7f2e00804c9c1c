//! Where a session is, between its first connection and its end.

use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionState {
    Pausing {
        server: usize,
        until: Instant,
    },
    Connecting {
        server: usize,
    },
    SigningIn {
        server: usize,
    },
    Online {
        server: usize,
        since: Instant,
        departure: Departure,
    },
    /// Bye is under way; then on to `server`, where the handshake may be done already.
    Leaving {
        server: usize,
        is_made: bool,
    },
    Over,
}

/// How far the move to another gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    None,
    /// The handshake begins then.
    At {
        to: usize,
        at: Instant,
    },
    Connecting {
        to: usize,
    },
    /// It is done; answers are waited for until then, and nothing new is sent.
    Ready {
        to: usize,
        until: Instant,
    },
}

/// Whether a new token was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    No,
    Wanted,
    Asked,
}
