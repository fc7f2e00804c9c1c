//! Every number that bounds something, with its unit and its reason; all can be set under `[limits]`.
//!
//! Sizes are bytes, counts are items, times are durations ("10s", "250ms"). A rate of 0 is switched off. The
//! constants below the struct are bounds that no operator needs to move.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::header::HeaderLimits;

pub use self::inputs::{MAX_FILE, MAX_TOKEN_LEEWAY, PIPE_WAIT, TOKEN_LEEWAY};

mod inputs;

/// The limits an operator can set. The defaults are those of reliability §2.0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Payload of a client's frame after login, bytes; at most [`MAX_FRAME_HARD`].
    pub max_frame: usize,
    /// Payload of a client's frame before login, bytes: a login packet is far below 1 KiB.
    pub max_frame_before_login: usize,
    /// Header of a client's packet, without its command, bytes.
    pub max_header: usize,
    /// Metas in a client's header: an empty one costs 2 bytes to send and 56 to decode.
    pub max_metas: usize,
    /// Any string of a client's header, bytes.
    pub max_string: usize,
    /// The channel id a client sends, bytes; it is never looked at.
    pub max_channel_id: usize,
    /// Token, bytes, before any decoding.
    pub max_token: usize,
    /// Account and app of a token, bytes: they become labels, log fields and keys.
    pub max_account: usize,

    /// From accept to a valid login packet, handshakes included.
    #[serde(with = "humantime_serde")]
    pub login_deadline: Duration,
    /// From hand-over of the sign-in to the login service's answer.
    #[serde(with = "humantime_serde")]
    pub login_answer: Duration,
    /// Logins waiting for the login service, per worker; above: 300 and close 3003.
    pub max_logins_waiting: usize,
    /// TLS or QUIC handshake.
    #[serde(with = "humantime_serde")]
    pub handshake_deadline: Duration,
    /// A frame, from its first byte to its last.
    #[serde(with = "humantime_serde")]
    pub frame_deadline: Duration,
    /// Nothing read from a client: two heartbeats of 55 s and 20 s of grace.
    #[serde(with = "humantime_serde")]
    pub read_idle: Duration,
    /// From the last byte of a request to its answer; clients give up at 5 s.
    #[serde(with = "humantime_serde")]
    pub request_deadline: Duration,
    /// A client's socket that takes nothing while something is queued.
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// Bytes on their way to a TCP client, or a probe of the kernel, that nobody acknowledges: the client is gone.
    #[serde(with = "humantime_serde")]
    pub tcp_user_timeout: Duration,

    /// Client connections of the process; the open-file limit, less what the gateway needs itself, applies as well.
    pub max_connections: usize,
    /// QUIC handshakes in progress, per worker; further ones are refused.
    pub max_handshakes: usize,
    /// QUIC handshakes in progress from which on addresses must be validated first (Retry).
    pub retry_from: usize,
    /// Frames per second and channel; reading stops while it is exceeded. 0: off.
    pub frames_per_second: u32,
    /// Bytes per second and channel; reading stops while it is exceeded. 0: off.
    pub bytes_per_second: u32,
    /// Requests of one channel without an answer; further ones are answered 300.
    pub max_pending: usize,
    /// Pushes that may wait for a channel for longer than `max_queued_time`, messages. A stream with as many replies
    /// waiting is not read from.
    pub max_queued_messages: usize,
    /// The same in bytes, without the push that is being written.
    pub max_queued_bytes: usize,
    /// For so long more pushes may wait than that: a burst, or a line of 40 ms and 1 MB/s that catches up.
    #[serde(with = "humantime_serde")]
    pub max_queued_time: Duration,
    /// Pushes that may wait for a channel at all, messages; one more makes its client a slow consumer at once.
    pub max_queued_messages_hard: usize,
    /// The same in bytes, without the push that is being written; one that is alone may be as large as `max_push`.
    pub max_queued_bytes_hard: usize,
    /// Largest push taken from a logic service, bytes of its packet; a larger one is dropped. Responses are bounded by
    /// `backend_max_frame`.
    pub max_push: usize,

    /// Memory the process may use, bytes. 0: 80 % of the cgroup's limit, else of the machine's memory.
    pub memory: usize,
    /// Bytes waiting to be written to all clients together. From 90 % of it logins are refused, from 95 % the largest
    /// queues are shed, from 98 % the newest connections are closed. 0: 25 % of `memory`.
    pub queued_bytes: usize,
    /// New connections per second, of the process; further ones are refused 3003. 0: off.
    pub connections_per_second: u32,
    /// New connections per second from one address (IPv4 /24, IPv6 /56; not loopback). 0: off.
    pub address_connections_per_second: u32,
    /// New connections from one address at once, before that rate applies.
    pub address_connection_burst: u32,
    /// Logins per second of one account; further ones are answered 300 and closed 3003. 0: off.
    pub account_logins_per_second: u32,
    /// Logins of one account at once, before that rate applies.
    pub account_login_burst: u32,

    /// QUIC idle timeout offered to clients.
    #[serde(with = "humantime_serde")]
    pub quic_idle: Duration,
    /// Bidirectional streams a QUIC client may have open at once.
    pub quic_streams: u32,
    /// Streams a QUIC client may open in a minute; more is abuse. 0: off.
    pub quic_streams_per_minute: u32,
    /// Receive window of a stream, bytes: two frames.
    pub quic_stream_window: u32,
    /// Receive window of a connection, bytes.
    pub quic_connection_window: u32,
    /// Unacknowledged bytes towards a QUIC client.
    pub quic_send_window: u32,

    /// Frame of a logic service, bytes.
    pub backend_max_frame: usize,
    /// Channel ids in one push; a longer list is dropped whole.
    pub backend_max_channels: usize,
    /// Between two pings on a link.
    #[serde(with = "humantime_serde")]
    pub backend_ping: Duration,
    /// Pings without any byte in return after which a link is dead.
    pub backend_misses: u32,
    /// Queue towards one logic instance, bytes; above: 300.
    pub backend_queued_bytes: usize,
    /// Queue towards one logic instance, packets; above: 300. Sign-outs have a place of their own.
    pub backend_queued_packets: usize,
    /// TCP connect to a logic instance, and its first sign of life after the handshake.
    #[serde(with = "humantime_serde")]
    pub backend_dial: Duration,
    /// For so long a logic instance that is new, or was away, gets requests only while its service has no adult one.
    #[serde(with = "humantime_serde")]
    pub backend_young: Duration,
    /// A link lost and back within this leaves its instance the adult it was; after more it is young again.
    #[serde(with = "humantime_serde")]
    pub backend_returned_within: Duration,
    /// Requests in a row that a logic instance does not answer in their time, after which it gets none for a while.
    /// 0: off.
    pub backend_timeouts: u32,
    /// For so long, times the number of times it happened.
    #[serde(with = "humantime_serde")]
    pub backend_ejected: Duration,
    /// And no longer than this.
    #[serde(with = "humantime_serde")]
    pub backend_ejected_max: Duration,
    /// First pause before a redial that follows a failed one.
    #[serde(with = "humantime_serde")]
    pub backoff_first: Duration,
    /// Longest pause between redials.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
    /// A sign-out that cannot be written is given up after this.
    #[serde(with = "humantime_serde")]
    pub signout_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 64 * KIB,
            max_frame_before_login: 8 * KIB,
            max_header: 8 * KIB,
            max_metas: 32,
            max_string: 256,
            max_channel_id: 512,
            max_token: 4 * KIB,
            max_account: 128,
            login_deadline: Duration::from_secs(10),
            login_answer: Duration::from_millis(4500),
            max_logins_waiting: 4096,
            handshake_deadline: Duration::from_secs(5),
            frame_deadline: Duration::from_secs(10),
            read_idle: Duration::from_secs(130),
            request_deadline: Duration::from_millis(4500),
            write_stall: Duration::from_secs(10),
            tcp_user_timeout: Duration::from_secs(30),
            max_connections: 100_000,
            max_handshakes: 512,
            retry_from: 100,
            frames_per_second: 200,
            bytes_per_second: 1024 * KIB as u32,
            max_pending: 256,
            max_queued_messages: 256,
            max_queued_bytes: 256 * KIB,
            max_queued_time: Duration::from_secs(3),
            max_queued_messages_hard: 1024,
            max_queued_bytes_hard: 1024 * KIB,
            max_push: 1024 * KIB,
            memory: 0,
            queued_bytes: 0,
            connections_per_second: 2500,
            address_connections_per_second: 500,
            address_connection_burst: 2000,
            account_logins_per_second: 1,
            account_login_burst: 5,
            quic_idle: Duration::from_secs(120),
            quic_streams: 8,
            quic_streams_per_minute: 60,
            quic_stream_window: 128 * KIB as u32,
            quic_connection_window: 192 * KIB as u32,
            quic_send_window: 256 * KIB as u32,
            backend_max_frame: 16 * 1024 * KIB,
            backend_max_channels: 100_000,
            backend_ping: Duration::from_secs(2),
            backend_misses: 3,
            backend_queued_bytes: 8 * 1024 * KIB,
            backend_queued_packets: 4096,
            backend_dial: Duration::from_secs(3),
            backend_young: Duration::from_secs(10),
            backend_returned_within: Duration::from_secs(5),
            backend_timeouts: 5,
            backend_ejected: Duration::from_secs(10),
            backend_ejected_max: Duration::from_secs(60),
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(5),
            signout_retry: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// What a client's header may cost.
    pub const fn header(&self) -> HeaderLimits {
        HeaderLimits {
            bytes: self.max_header,
            metas: self.max_metas,
            string: self.max_string,
            channel_id: self.max_channel_id,
        }
    }
}

/// 1,024 bytes.
pub const KIB: usize = 1024;

/// Largest client frame payload that can be configured, bytes.
pub const MAX_FRAME_HARD: usize = 1024 * KIB;

/// Granularity of request deadlines: they are rounded down to it, so that timers coalesce, milliseconds.
pub const DEADLINE_TICK_MS: u64 = 50;

/// Frames read from one channel before what is queued for it is written (architecture §1).
pub const FRAMES_PER_TURN: usize = 32;

/// How often a channel that is not read from is asked whether its client is still there.
pub const PAUSED_LOOK: Duration = Duration::from_millis(250);

/// Packets a link delivers before it yields to the channels (architecture §4.2).
pub const PUSHES_PER_TURN: usize = 64;

/// Channels a link serves before it yields: one push may name 100,000.
pub const DELIVERIES_PER_TURN: usize = 1024;

/// Slices handed to one vectored write; the kernel takes up to 1,024.
pub const SLICES_PER_WRITE: usize = 64;

/// Bytes offered to one QUIC stream at once: so that none takes all the room that an acknowledgement made while others
/// wait.
pub const STREAM_SHARE: usize = 16 * KIB;

/// An instance that sent a push above [`Limits::max_push`] is told of until it has sent none for so long.
pub const PUSH_TOO_LARGE_HOLDS: Duration = Duration::from_secs(60);

/// Bytes asked of a socket at once. A partial frame is copied out, so this is no cost per connection.
pub const READ_CHUNK: usize = 16 * KIB;

/// What TLS may hold back when a socket does not take it, bytes before encryption: one full record. The next write
/// waits until it is gone.
pub const TLS_BUFFER: usize = 16 * KIB;

/// Growth of the pause between redials.
pub const BACKOFF_FACTOR: f64 = 1.6;

/// Jitter of the pause between redials, as a share of it, both ways.
pub const BACKOFF_JITTER: f64 = 0.2;

/// Time over which a drain spreads its closes, unless `drain.window` says otherwise: 2,000 clients are 100 a second.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(20);

/// From the signal to the exit of a draining process, unless `drain.hard_stop` says otherwise.
pub const DRAIN_HARD_STOP: Duration = Duration::from_secs(30);

/// How long a QUIC client that says goodbye waits until what it sent is acknowledged (row D9).
pub const QUIC_FLUSH: Duration = Duration::from_millis(500);

/// How long a closing channel may take to write what is queued, and over QUIC to have it acknowledged: after that it is
/// dropped, so that the reason for the close can leave.
pub const FLUSH: Duration = Duration::from_millis(800);

/// And after that, how long the close of a QUIC connection may wait until nothing is ahead of it.
pub const CLOSE_LEAVES: Duration = Duration::from_millis(200);

/// Between two looks whether it is.
pub const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// After the last answer of a closing TCP channel: how long its peer may take to close (row D9).
pub const LINGER: Duration = Duration::from_secs(1);

/// And how many bytes it may still send meanwhile.
pub const LINGER_BYTES: usize = 64 * KIB;

/// A silent TCP client is probed by the kernel after the first of these, and again after the second (row D1): sooner
/// than [`Limits::read_idle`] a client that is gone is found, and NATs keep the connection.
pub const TCP_PROBES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// File descriptors kept back from clients: logs, the monitor and its clients, files that are read. Links and listeners
/// come on top.
pub const RESERVED_FILES: u64 = 512;

/// Instances for which file descriptors are kept back where nobody knows yet how many there will be.
pub const DISCOVERED_INSTANCES: usize = 64;

/// File descriptors of a worker beside its links and listeners: its event queue and its parts.
pub const WORKER_FILES: u64 = 8;

/// Worker threads: more than the cores of a large machine. The first byte of a QUIC connection id names the worker, so
/// 256 would be the end.
pub const MAX_WORKERS: usize = 64;

/// Connections that are tried even where the open-file limit leaves no room for them.
pub const MIN_CONNECTIONS: u64 = 64;

/// Soft violations (a second login) within [`STRIKE_WINDOW`] that become abuse (row B6).
pub const STRIKES: usize = 3;

/// See [`STRIKES`].
pub const STRIKE_WINDOW: Duration = Duration::from_secs(60);

/// A login service missing for longer makes the gateway not ready.
pub const LOGIN_OUTAGE: Duration = Duration::from_secs(10);

/// Pause before the next accept after the process ran out of files: doubled from the first to the second.
pub const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// First estimate of the round trip to a QUIC client: half of quinn's, so that a lost first flight is sent again
/// sooner.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Connection attempts quinn keeps that were not looked at yet (row C2); its default is 65,536.
pub const MAX_INCOMING: usize = 4096;

/// And the bytes they may hold; quinn's default is 100 MiB.
pub const MAX_INCOMING_BYTES: u64 = 8 * 1024 * KIB as u64;

/// Between two stateless resets of one endpoint: none, so that every former peer learns from its first packet that its
/// connection is gone (row C19). quinn's 20 ms would need 40 s to tell 2,000 of them. Any pause at all allows one in each
/// turn of quinn's loop, which reads the clock once a turn: with 100 µs half of the packets got none, and a client that
/// sends once a second learned after up to 4.5 s. A reset is always shorter than the packet it answers, so nobody can be
/// flooded with them.
pub const MIN_RESET_INTERVAL: Duration = Duration::ZERO;

/// How long the end of the process waits for the webhook to take what is left: one answer of one that is well.
pub const EVENTS_FLUSH: Duration = Duration::from_secs(1);

/// How long a stopping worker waits for its last QUIC packets to leave.
pub const ENDPOINT_FLUSH: Duration = Duration::from_millis(200);

/// Between two looks at the queued bytes of the process, and between two beats of a worker's loop (architecture §2).
pub const PRESSURE_LOOK: Duration = Duration::from_millis(100);

/// Resident memory changes slowly, and reading it costs a system call or three.
pub const RESIDENT_LOOK: Duration = Duration::from_secs(1);

/// Resident memory must be high for so long before it counts: what is freed goes back to the system only later.
pub const RESIDENT_HIGH_FOR: Duration = Duration::from_secs(5);

/// A lower overload level is told only once it has held for so long, so that no edge makes a line every look.
pub const LEVEL_HOLD: Duration = Duration::from_secs(1);

/// Queued bytes above their budget for longer stop the reading of logic services (row E19).
pub const PAUSE_AFTER: Duration = Duration::from_millis(100);

/// At the highest level a worker closes one in so many of its connections with every look: fast enough to help within
/// seconds, slow enough that the next reading can stop it.
pub const NEWEST_SHARE: usize = 100;

/// A worker's loop that is late by more makes a line in the log (row F16).
pub const LAG_ALARM: Duration = Duration::from_millis(200);

/// At most one such line per worker in this time.
pub const LAG_LINE_EVERY: Duration = Duration::from_secs(10);

/// The worst lag shown is that of the period now and of the one before: longer than between two scrapes.
pub const LAG_PERIOD: Duration = Duration::from_secs(15);

/// Addresses or accounts whose rate is remembered, of the process (24 bytes each). Those beyond are let in unseen; the
/// rate of all connections bounds them still.
pub const REMEMBERED_RATES: usize = 1 << 18;

/// Burst of the rate of all connections, seconds of it: clients that lost a gateway come at the same second.
pub const CONNECTION_BURST_SECONDS: u32 = 2;
