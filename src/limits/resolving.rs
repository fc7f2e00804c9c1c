//! Bounds of name look-ups, and of the attempts to connect that follow them.

use std::time::Duration;

/// A second address of a name is tried so long after the first while that one does not answer: the recommendation of RFC
/// 8305, more than a handshake with the other side of the world takes.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried; each is a socket. Resolvers shuffle, so those beyond have their turn later.
pub const RESOLVED_ADDRESSES: usize = 32;

/// Names whose addresses are remembered, of the process: far above the instances of any configuration. Above it the one
/// nobody asked for the longest time is forgotten.
pub const RESOLVED_NAMES: usize = 1024;

/// Threads that ask the system's resolver, of the process. Each may hang in it for half a minute and more; with four, a
/// name whose servers are silent does not hold up the others.
pub const LOOKUP_THREADS: usize = 4;

/// An answer of the resolver is used for so long without asking again: no name is looked up by every worker, and who
/// moves is followed within the longest pause between redials.
pub const LOOKUP_KEPT: Duration = Duration::from_secs(5);

/// And so long a failure: a name that was just entered is found soon, and no redial of a link makes a query.
pub const LOOKUP_FAILURE_KEPT: Duration = Duration::from_secs(1);

/// Who has an old answer waits so long for a new one: a resolver that is well answers in a tenth of it.
pub const LOOKUP_PATIENCE: Duration = Duration::from_millis(500);

/// And at most this share of its time, so that the rest is left for connecting.
pub const LOOKUP_SHARE: u32 = 4;

/// TCP connect to Consul or to the webhook, look-up included; what is left of a request's time applies as well. A
/// question to Consul stays open for minutes, and an address that swallows packets would use them up.
pub const HTTP_CONNECT: Duration = Duration::from_secs(3);
