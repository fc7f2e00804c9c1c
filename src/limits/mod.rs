//! What an operator can set, under `[limits]`, and what the process lets its peers take, each with its unit and reason.
//!
//! Sizes are bytes, counts are items, times are durations ("10s", "250ms"). A rate of 0 is switched off. The
//! constants below the struct are bounds that no operator needs to move.

mod admin;
mod ending;
mod inputs;
mod live;
mod monitor;
mod overload;
mod quic;
mod strangers;
mod tickets;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::admin::*;
pub use self::ending::*;
pub use self::inputs::*;
pub(crate) use self::live::LiveLimits;
pub use self::monitor::*;
pub use self::overload::*;
pub use self::quic::*;
pub use self::strangers::*;
pub use self::tickets::*;
use crate::wire::header::HeaderLimits;

pub use gateway_net::limits::*;
pub use gateway_wire::frame::MAX_FRAME_HARD;

/// The limits an operator can set.
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
    /// The same while more than half of `max_handshakes` are in progress: two round trips over a satellite, one of them
    /// lost.
    #[serde(with = "humantime_serde")]
    pub handshake_deadline_crowded: Duration,
    /// A frame, from its first byte to its last.
    #[serde(with = "humantime_serde")]
    pub frame_deadline: Duration,
    /// Nothing read from a client: two heartbeats of 55 s and 20 s of grace.
    #[serde(with = "humantime_serde")]
    pub read_idle: Duration,
    /// From the last byte of a request to its answer; clients give up at 5 s.
    #[serde(with = "humantime_serde")]
    pub request_deadline: Duration,
    /// A client whose socket takes nothing while something is queued, or that goes on sending over QUIC and acknowledges
    /// nothing.
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// Bytes on their way to a TCP client, or a probe of the kernel, that nobody acknowledges: the client is gone.
    #[serde(with = "humantime_serde")]
    pub tcp_user_timeout: Duration,

    /// Client connections of the process; the open-file limit, less what the gateway needs itself, applies as well.
    pub max_connections: usize,
    /// Handshakes in progress, per worker: so many over QUIC, and so many of TLS on TCP; further ones are refused.
    pub max_handshakes: usize,
    /// QUIC handshakes in progress from which on addresses must be validated first (Retry).
    pub retry_from: usize,
    /// Attempts to connect over QUIC per second and worker, from addresses that are not validated, from which on they
    /// must be: what a worker does beside its work. Validation costs a client a round trip. 0: off.
    pub retry_from_rate: u32,
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
    /// Memory of connections that have not signed in, bytes, counted by [`NEWCOMER_TCP`] and its like. From 80 % of it
    /// those that came first are closed 3003, above it new ones are refused. 0: 10 % of `memory`.
    pub before_login_bytes: usize,
    /// New connections per second, of the process; further ones are refused 3003. 0: off.
    pub connections_per_second: u32,
    /// New connections per second from one address (IPv4 /24, IPv6 /56; not loopback). 0: off.
    pub address_connections_per_second: u32,
    /// New connections from one address at once, before that rate applies.
    pub address_connection_burst: u32,
    /// Of `max_connections`, percent that one address (as above) may have open. A carrier's NAT has many honest users
    /// behind one /24, and still others must get in. 100: all.
    pub address_connections_share: u32,
    /// Of `max_handshakes`, percent that one address (as above) may have in progress: at 500 new connections a second it
    /// is enough for a quarter of a second each. 100: all.
    pub address_handshakes_share: u32,
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
    /// A link on which nothing came for so long is sent a ping, and another one for each such time. None is sent while
    /// bytes come: the Go services write pongs into the middle of what they are just writing.
    #[serde(with = "humantime_serde")]
    pub backend_ping: Duration,
    /// So many times [`Limits::backend_ping`] without any byte, and a link is dead; at least 2, of which the first is
    /// over when the first ping goes.
    pub backend_misses: u32,
    /// A frame of a logic service, from its first byte to its last; then its link is dead, whatever came within it.
    #[serde(with = "humantime_serde")]
    pub backend_frame_deadline: Duration,
    /// Queue towards one logic instance, bytes; above: 300.
    pub backend_queued_bytes: usize,
    /// Queue towards one logic instance, packets; above: 300. Sign-outs have a place of their own.
    pub backend_queued_packets: usize,
    /// TCP connect to a logic instance, and its first sign of life after the handshake.
    #[serde(with = "humantime_serde")]
    pub backend_dial: Duration,
    /// For so long a logic instance that is new, or was away, gets requests only while its service has no healthy one.
    #[serde(with = "humantime_serde")]
    pub backend_warming: Duration,
    /// A link lost and back within this leaves its instance as healthy as it was; after more it is warming again.
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
            handshake_deadline_crowded: Duration::from_secs(2),
            frame_deadline: Duration::from_secs(10),
            read_idle: Duration::from_secs(130),
            request_deadline: Duration::from_millis(4500),
            write_stall: Duration::from_secs(10),
            tcp_user_timeout: Duration::from_secs(30),
            max_connections: 100_000,
            max_handshakes: 512,
            retry_from: 100,
            retry_from_rate: 200,
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
            before_login_bytes: 0,
            connections_per_second: 2500,
            address_connections_per_second: 500,
            address_connection_burst: 2000,
            address_connections_share: 50,
            address_handshakes_share: 25,
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
            backend_frame_deadline: Duration::from_secs(10),
            backend_queued_bytes: 8 * 1024 * KIB,
            backend_queued_packets: 4096,
            backend_dial: Duration::from_secs(3),
            backend_warming: Duration::from_secs(10),
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

/// Granularity of request deadlines: they are rounded down to it, so that timers coalesce, milliseconds.
pub const DEADLINE_TICK_MS: u64 = 50;

/// Frames read from one channel before what is queued for it is written (ARCHITECTURE §4.3).
pub const FRAMES_PER_TURN: usize = 32;

/// How often a channel that is not read from is asked whether its client is still there.
pub const PAUSED_LOOK: Duration = Duration::from_millis(250);

/// How long a link delivers before it yields (ARCHITECTURE §4.2): one push may name 100,000 channels.
pub const LINK_TURN: Duration = Duration::from_micros(200);

/// Packets, and channels of a push, between two looks at the clock: each takes some 100 ns.
pub const STEPS_PER_LOOK: usize = 32;

/// Answers that a link delivers in a turn. Each wakes a connection, which writes before the link, or another one, goes on;
/// the requests that come meanwhile leave in one write.
pub const ANSWERS_PER_TURN: usize = 64;

/// Connections that a link wakes in a turn for pushes. The fewer, the more is queued for each before it writes.
pub const WAKES_PER_TURN: usize = 16;

/// Bytes of pushes that a link queues for connections it has not woken: 64 of 128 bytes for 600 clients. What is shared counts
/// for each of them, as it does in their queues.
pub const CORKED_BYTES: usize = 8 * 1024 * KIB;

/// Channels that are looked at before others have a turn, where all of a worker have to be.
pub const CHANNELS_PER_TURN: usize = 1024;

/// Sign-outs a worker places before it yields to everything else: a crowd that leaves at once may owe 100,000.
pub const SIGNOUTS_PER_TURN: usize = 512;

/// Requests of links that broke that a worker answers, and channels in which it looks for them, before it yields: a
/// crowd may wait for one instance.
pub const LOST_PER_TURN: usize = 512;

/// Bytes offered to one QUIC stream at once: so that none takes all the room that an acknowledgement made while others
/// wait.
pub const STREAM_SHARE: usize = 16 * KIB;

/// An instance that sent a push above [`Limits::max_push`] is told of until it has sent none for so long.
pub const PUSH_TOO_LARGE_HOLDS: Duration = Duration::from_secs(60);

/// What TLS may hold back when a socket does not take it, bytes before encryption: one full record. The next write
/// waits until it is gone.
pub const TLS_BUFFER: usize = 16 * KIB;

/// Growth of the pause between redials, and of that between questions to a Consul that fails.
pub const BACKOFF_FACTOR: f64 = 1.6;

/// Jitter of these pauses, as a share of each, both ways.
pub const BACKOFF_JITTER: f64 = 0.2;

/// Time over which a drain spreads its closes, unless `drain.window` says otherwise: 2,000 clients are 100 a second.
pub const DRAIN_WINDOW: Duration = Duration::from_secs(20);

/// From the signal to the exit of a draining process, unless `drain.hard_stop` says otherwise.
pub const DRAIN_HARD_STOP: Duration = Duration::from_secs(30);

/// A silent TCP client is probed by the kernel after the first of these, and again after the second (row D1): sooner
/// than [`Limits::read_idle`] a client that is gone is found, and NATs keep the connection.
pub const TCP_PROBES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// File descriptors kept back from clients: logs, the monitor and its clients, clients that are being turned away, files
/// that are read. Links and listeners come on top. Where the limit is small it is a quarter of it, and never less than
/// [`MIN_RESERVED_FILES`].
pub const RESERVED_FILES: u64 = 512;

/// Instances for which file descriptors are kept back where nobody knows yet how many there will be.
pub const DISCOVERED_INSTANCES: usize = 64;

/// File descriptors of a worker beside its links and listeners: its event queue and its parts.
pub const WORKER_FILES: u64 = 8;

/// Worker threads: more than the cores of a large machine. The first byte of a QUIC connection id names the worker, so
/// 256 would be the end.
pub const MAX_WORKERS: usize = 64;

/// An open-file limit that leaves room for fewer clients is warned about.
pub const FEW_CONNECTIONS: u64 = 64;

/// Soft violations (a second login) within [`STRIKE_WINDOW`] that become abuse (row B6).
pub const STRIKES: usize = 3;

/// See [`STRIKES`].
pub const STRIKE_WINDOW: Duration = Duration::from_secs(60);

/// A login service missing for longer makes the gateway not ready.
pub const LOGIN_OUTAGE: Duration = Duration::from_secs(10);

/// A gateway whose id another one uses is not ready for so long after the last sign of it: two gateways that throw each
/// other out of a service take turns of [`Limits::backoff_max`] and its jitter, 12 s for both.
pub const CONTESTED: Duration = Duration::from_secs(20);
