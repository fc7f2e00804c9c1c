//! Bounds that hold at both ends: of name look-ups and the attempts to connect that follow them, of reads and writes, of
//! ends, of files.

use std::time::Duration;

/// 1,024 bytes.
pub const KIB: usize = 1024;

/// Bytes asked of a socket at once. A partial frame is copied out, so this is no cost per connection.
pub const READ_CHUNK: usize = 16 * KIB;

/// Slices handed to one vectored write; the kernel takes up to 1,024.
pub const SLICES_PER_WRITE: usize = 64;

/// How long a QUIC client that said goodbye waits for its endpoint to send the close.
pub const QUIC_FLUSH: Duration = Duration::from_millis(500);

/// After the last answer of a closing TCP channel: how long its peer may take to close (row D9).
pub const LINGER: Duration = Duration::from_secs(1);

/// And how many bytes it may still send meanwhile.
pub const LINGER_BYTES: usize = 64 * KIB;

/// Larger than any certificate, key, secret, route or configuration that makes sense, bytes. It keeps a wrong path from
/// filling the memory.
pub const MAX_FILE: usize = 16 * KIB * KIB;

/// How long a pipe that stands where a file should may take to be written and closed: long enough for a command that asks
/// another machine for a secret.
pub const PIPE_WAIT: Duration = Duration::from_secs(5);

/// Pause before the next accept after the process ran out of files: doubled from the first to the second.
pub const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

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
