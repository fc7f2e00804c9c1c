//! What a client connects to and how it behaves there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

#[cfg(any(feature = "quic", feature = "tls"))]
use crate::trust::TrustedCa;
use gateway_net::limits::KIB;
use gateway_net::resolve::Resolver;
#[cfg(any(feature = "quic", feature = "tls"))]
use gateway_net::resolve::host_and_port;
use gateway_wire::dialect::Dialect;

/// Name resolution, connect and handshake together; the gateway gives a handshake 5 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway answers a login within 4.5 s of forwarding it, and closes 10 s after the accept at the latest.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The gateway answers within 4.5 s (G1); half a second is left for the way.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Two of them and 20 s of grace make the gateway's read-idle time of 130 s.
const HEARTBEAT: Duration = Duration::from_secs(55);

/// Keeps the mapping of a home router alive: many forget a quiet UDP flow after 30 s.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Idle timeout offered by both sides (protocol §7).
const IDLE: Duration = Duration::from_secs(120);

/// quinn assumes 333 ms, which makes a lost first packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Receive window of one QUIC stream, bytes: what the gateway may have under way on it.
const STREAM_WINDOW: u32 = 256 * KIB as u32;

/// What carries the frames. All of them can be named; one that is not compiled in ends in
/// [`ConnectError::NotCompiledIn`](crate::ConnectError::NotCompiledIn).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// QUIC over UDP, always encrypted. Feature `quic`.
    #[default]
    Quic,
    /// Plain TCP: the token travels in clear.
    Tcp,
    /// TLS over TCP, always encrypted. Feature `tls`.
    Tls,
    /// WebSocket over plain TCP: the token travels in clear. Feature `websocket`.
    Ws,
    /// WebSocket over TLS, always encrypted; it passes where only the web does. Features `websocket` and `tls`.
    Wss,
}

impl Transport {
    /// The name used on the command line and in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The features of this crate that compile it in, for people.
    pub(super) const fn features(self) -> &'static str {
        match self {
            Self::Quic => "feature \"quic\"",
            Self::Tcp => "no feature",
            Self::Tls => "feature \"tls\"",
            Self::Ws => "feature \"websocket\"",
            Self::Wss => "features \"websocket\" and \"tls\"",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no transport.
#[derive(Debug, thiserror::Error)]
#[error("is none of \"quic\", \"tls\", \"wss\", \"ws\" and \"tcp\"")]
pub struct UnknownTransport;

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "quic" => Ok(Self::Quic),
            "tcp" => Ok(Self::Tcp),
            "tls" => Ok(Self::Tls),
            "ws" => Ok(Self::Ws),
            "wss" => Ok(Self::Wss),
            _ => Err(UnknownTransport),
        }
    }
}

/// How a QUIC client spreads its frames over streams (protocol §7). Meaningless on TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Streams {
    /// Login, heartbeats and messages share stream 0.
    Single,
    /// Login on stream 0, heartbeats on a second stream, messages on a third.
    #[default]
    Separate,
}

/// Which of the two independent heartbeats the client sends by itself. It answers both in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Heartbeat {
    /// Frame ping (0x9), answered with a frame pong.
    #[default]
    Frame,
    /// BasicPkt ping, answered with a BasicPkt pong.
    Basic,
    /// Both at every interval.
    Both,
}

/// Where and how to connect. Make one with `quic`, `tls`, `wss`, `ws` or [`tcp`](Self::tcp) and change what differs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// `host:port`; an IPv6 address stands in brackets.
    pub server: String,
    /// What carries the frames.
    pub transport: Transport,
    /// The name the server's certificate must carry; default: the host of `server`.
    pub server_name: Option<String>,
    /// Who signed the server's certificate. QUIC and all that runs over TLS need it, the others do not look at it.
    #[cfg(any(feature = "quic", feature = "tls"))]
    pub ca: Option<TrustedCa>,
    /// Which magics the client speaks.
    pub dialect: Dialect,
    /// How frames are spread over QUIC streams.
    pub streams: Streams,
    /// Whether the gateway may open its stream for pushes (QUIC). Without it pushes come on the login stream.
    pub push_stream: bool,
    /// Path of a WebSocket upgrade, with its query if it has one. Default `/`.
    #[cfg(feature = "websocket")]
    pub path: String,
    /// `Origin` of a WebSocket upgrade, such as `https://chat.example.org`: a gateway may be told whose pages it serves.
    /// Default: none is sent.
    #[cfg(feature = "websocket")]
    pub origin: Option<String>,
    /// A UDP endpoint shared with others, or kept by the caller who wants to rebind it; default: one of its own.
    #[cfg(feature = "quic")]
    pub endpoint: Option<quinn::Endpoint>,
    /// How the name becomes addresses. Default: as the system says.
    pub resolver: Resolver,
    /// Name resolution, connect and handshake together. Default 5 s.
    pub connect_timeout: Duration,
    /// From the sending of a login to its answer. Default 10 s.
    pub login_timeout: Duration,
    /// From the sending of a request to its answer. Default 5 s.
    pub request_timeout: Duration,
    /// Between two heartbeats of the client; `None` sends none. Default 55 s.
    pub heartbeat: Option<Duration>,
    /// Which heartbeat is sent.
    pub heartbeat_kind: Heartbeat,
    /// Between two QUIC keep-alives while nothing else is sent; `None` sends none. Default 20 s.
    pub keep_alive: Option<Duration>,
    /// QUIC idle timeout offered. Default 120 s.
    pub idle: Duration,
    /// Round-trip time assumed before one was measured (QUIC). Default 100 ms.
    pub initial_rtt: Duration,
    /// Receive window of each QUIC stream, bytes; the connection's is eight times it. Default 256 KiB.
    pub stream_window: u32,
}

impl ConnectOptions {
    #[cfg(feature = "quic")]
    /// QUIC to `host:port`, whose certificate was signed by `ca`.
    pub fn quic(server: impl Into<String>, ca: TrustedCa) -> Self {
        Self { ca: Some(ca), ..Self::new(server.into(), Transport::Quic) }
    }

    #[cfg(feature = "tls")]
    /// TLS over TCP to `host:port`, whose certificate was signed by `ca`.
    pub fn tls(server: impl Into<String>, ca: TrustedCa) -> Self {
        Self { ca: Some(ca), ..Self::new(server.into(), Transport::Tls) }
    }

    #[cfg(feature = "websocket")]
    /// WebSocket over plain TCP to `host:port`.
    pub fn ws(server: impl Into<String>) -> Self {
        Self::new(server.into(), Transport::Ws)
    }

    #[cfg(all(feature = "websocket", feature = "tls"))]
    /// WebSocket over TLS to `host:port`, whose certificate was signed by `ca`.
    pub fn wss(server: impl Into<String>, ca: TrustedCa) -> Self {
        Self { ca: Some(ca), ..Self::new(server.into(), Transport::Wss) }
    }

    /// Plain TCP to `host:port`.
    pub fn tcp(server: impl Into<String>) -> Self {
        Self::new(server.into(), Transport::Tcp)
    }

    fn new(server: String, transport: Transport) -> Self {
        Self {
            server,
            transport,
            server_name: None,
            #[cfg(any(feature = "quic", feature = "tls"))]
            ca: None,
            dialect: Dialect::default(),
            streams: Streams::default(),
            push_stream: true,
            #[cfg(feature = "websocket")]
            path: "/".to_owned(),
            #[cfg(feature = "websocket")]
            origin: None,
            #[cfg(feature = "quic")]
            endpoint: None,
            resolver: Resolver::default(),
            connect_timeout: CONNECT_TIMEOUT,
            login_timeout: LOGIN_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            heartbeat: Some(HEARTBEAT),
            heartbeat_kind: Heartbeat::default(),
            keep_alive: Some(KEEP_ALIVE),
            idle: IDLE,
            initial_rtt: INITIAL_RTT,
            stream_window: STREAM_WINDOW,
        }
    }

    /// What the server's certificate must name: by default the host, without the brackets of an IPv6 address.
    #[cfg(any(feature = "quic", feature = "tls"))]
    pub(super) fn certificate_name(&self) -> &str {
        let host = || host_and_port(&self.server).map_or(self.server.as_str(), |(host, _)| host);
        self.server_name.as_deref().unwrap_or_else(host)
    }
}

#[cfg(test)]
#[cfg(any(feature = "quic", feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_server_is_what_its_certificate_names() {
        for (server, name) in [
            ("127.0.0.1:8000", "127.0.0.1"),
            ("[::1]:8000", "::1"),
            ("gate.example.org:443", "gate.example.org"),
        ] {
            assert_eq!(ConnectOptions::tcp(server).certificate_name(), name);
        }
    }
}
