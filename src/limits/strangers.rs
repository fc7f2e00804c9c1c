//! Bounds on what those cost who have not signed in, or are not let in.

use std::time::Duration;

use super::{KIB, MONITOR_FILES};

/// Standard streams and the runtimes' parts (10), the monitor's ([`MONITOR_FILES`]), clients that are being turned away
/// ([`TURNED_AWAY`]).
pub const MIN_RESERVED_FILES: u64 = (10 + MONITOR_FILES + TURNED_AWAY) as u64;

/// Connections that wait for a TCP listener to accept them (row D3).
pub const LISTEN_BACKLOG: i32 = 1024;

/// Clients that were refused and are waited for until they know, of the process. Each holds a file for at most
/// [`LINGER`](super::LINGER); others are told and not waited for.
pub const TURNED_AWAY: usize = 12;

/// Header of the PROXY protocol, bytes: addresses of 216 at most, and fields of which the largest is a client's certificate.
pub const PROXY_HEADER: usize = 4 * KIB;

/// From the accept to the end of that header, for a balancer sends it with the first packet; the login deadline, in which it
/// lies, may be shorter.
pub const PROXY_HEADER_DEADLINE: Duration = Duration::from_secs(3);

/// At most one line in this time says that nothing can be accepted, of the process (row D5), and one that a
/// balancer sends no proper header.
pub const ACCEPT_LINE_EVERY: Duration = Duration::from_secs(10);

/// Lines of the log about logins, and about closes of one reason, per second and worker.
pub const ACCESS_LINES_PER_SECOND: u32 = 10;

/// Between two looks whether a handshake that takes long stands in the way of others.
pub const CROWD_LOOK: Duration = Duration::from_millis(250);

/// What a client costs until it has signed in, bytes of the process's memory as measured: on TCP.
pub const NEWCOMER_TCP: usize = 2_660;

/// And of WebSocket, whose upgrade leaves a task around that of the connection.
pub const NEWCOMER_WS: usize = 4 * KIB;

/// The same under TLS, during the handshake.
pub const NEWCOMER_TLS_HANDSHAKE: usize = 24 * KIB;

/// And behind it.
pub const NEWCOMER_TLS: usize = 11 * KIB;

/// The same over QUIC, during the handshake.
pub const NEWCOMER_QUIC_HANDSHAKE: usize = 60 * KIB;

/// And behind it.
pub const NEWCOMER_QUIC: usize = 36 * KIB;

/// The head of a WebSocket upgrade, bytes, unless `websocket.max_head` says otherwise: browsers send about 500, and as much
/// as some kilobytes of cookies.
pub const MAX_UPGRADE_HEAD: usize = 8 * KIB;

/// Bytes of it that are taken from the socket at once.
pub const UPGRADE_READ: usize = KIB;

/// Headers of a WebSocket upgrade: browsers send some twenty, proxies add a few.
pub const UPGRADE_HEADERS: usize = 64;

/// From the end of the TLS handshake, or from accept, to the end of that head, unless `websocket.head_deadline` says
/// otherwise.
pub const UPGRADE_DEADLINE: Duration = Duration::from_secs(5);

/// Percent of the memory of those who have not signed in from which on those who came first are closed: so most of the
/// time there is room for the next.
pub const NEWCOMERS_LEAVE_AT: usize = 80;

/// Addresses or accounts whose rate is remembered, of the process (24 bytes each). Those beyond are let in unseen; the
/// rate of all connections bounds them still.
pub const REMEMBERED_RATES: usize = 1 << 18;

/// Burst of the rate of all connections, seconds of it: clients that lost a gateway come at the same second.
pub const CONNECTION_BURST_SECONDS: u32 = 2;
