//! What whoever may open the admin socket may take of the gateway.

use std::time::Duration;

use super::KIB;

/// Connections served at once: people and scripts, each with a question. Others wait.
pub const ADMIN_VISITORS: usize = 16;

/// The head of a request, bytes.
pub const ADMIN_HEAD: usize = 16 * KIB;

/// The body of a request, bytes: it names a file, and one day a few more things.
pub const ADMIN_BODY: usize = 64 * KIB;

/// For the head of a request, and for its body.
pub const ADMIN_PATIENCE: Duration = Duration::from_secs(10);

/// Connections over TCP that are served at once. Others wait.
pub const ADMIN_NETWORK_VISITORS: usize = 64;

/// Connections of one address over TCP, so that it does not keep others out. A browser makes six.
pub const ADMIN_OF_ONE: usize = 12;

/// For a handshake over TCP, and for the head of each request there.
pub const ADMIN_HEAD_DEADLINE: Duration = Duration::from_secs(5);

/// What the kernel keeps of an answer over TCP that its reader has not taken, bytes; Linux doubles it.
pub const ADMIN_SEND_BUFFER: usize = 64 * KIB;

/// Requests of one address over TCP without the token that are counted; more of them get 429 for a while. A token is far beyond
/// any number of guesses; this keeps the log quiet.
pub const ADMIN_FAILURES: u32 = 20;

/// The while.
pub const ADMIN_FAILURES_WITHIN: Duration = Duration::from_secs(60);

/// Addresses of which that is remembered.
pub const ADMIN_FAILURES_KEPT: usize = 4096;

/// How often those who look on are shown what is new.
pub const ADMIN_STREAM_EVERY: Duration = Duration::from_secs(1);

/// How many may look on: people with the console before them.
pub const ADMIN_READERS: usize = 8;

/// Events that one of them may be behind, some kilobytes each, before it is dropped.
pub const ADMIN_READER_BEHIND: usize = 8;

/// Connections looked at in one turn of a worker, for a list of them or to close some: what a message waits for behind it.
pub const ADMIN_PER_TURN: usize = 500;

/// Rows of one page.
pub const ADMIN_PAGE: usize = 1000;

/// Questions that wait for a worker. It takes one after the other.
pub const ADMIN_QUESTIONS: usize = 16;

/// For the answer of a worker.
pub const ADMIN_ANSWER: Duration = Duration::from_secs(5);

/// For the look of one connection at itself: one that is ending takes none.
pub const ADMIN_LOOK: Duration = Duration::from_secs(1);

/// Accounts, apps and networks that are banned: some 100 bytes each, and each change writes all of them to the file.
pub const MAX_BANS: usize = 100_000;

/// An app or account that somebody names in an order, bytes. No account that may be configured is longer.
pub const ADMIN_NAME: usize = 1024;

/// How long the drain of an operator may take. Clients are told of seconds in 16 bits, and who waits longer has forgotten it.
pub const OPERATOR_DRAIN_WINDOW: Duration = Duration::from_secs(3600);

/// The command of a notice, bytes: those of all services are shorter.
pub const NOTICE_COMMAND: usize = 64;

/// The reason somebody gives, bytes.
pub const ADMIN_REASON: usize = 256;

/// Accounts whose packets are watched at once, each by one reader.
pub const TRACES_AT_ONCE: usize = 4;

/// The longest time for which one is watched, seconds.
pub const TRACE_SECONDS: u64 = 60;

/// Lines that may wait for the reader of a trace, some 400 bytes each. Further ones are dropped and counted.
pub const TRACE_LINES: usize = 1024;

/// Ends of channels that each worker remembers, and events that the process does: some 300 bytes each.
pub const RECENT_CLOSES: usize = 1000;

/// See [`RECENT_CLOSES`].
pub const RECENT_EVENTS: usize = 1000;

/// How often certificates and keys are looked at: Kubernetes swaps the links to them, which no watch of a file sees, and a
/// certificate is renewed weeks before its end.
pub const FILES_LOOK: Duration = Duration::from_secs(10);
