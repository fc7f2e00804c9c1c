//! How long the secrets of a TLS session are good for another one.

use std::time::Duration;

/// How long a ticket is taken: a phone that was away over night shakes hands in full, one that changed its network does not.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Between two rotations of the keys of a process that has no file of them. A key is kept for two more, so that each ticket
/// has its whole lifetime.
pub const TICKET_ROTATION: Duration = Duration::from_secs(6 * 60 * 60);

/// How far the clock of the gateway that made a ticket may be ahead of ours.
pub const TICKET_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Tickets given to a client for each handshake: it uses one to come back, and gets another then. A second one would be a
/// packet more in each login.
pub const TICKETS: usize = 1;
