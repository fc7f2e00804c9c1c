//! Why there is no connection.

use std::fmt;
use std::io;

#[cfg(feature = "quic")]
use quinn::ConnectionError;

use crate::options::Transport;
use gateway_net::resolve::ResolveError;
use gateway_wire::close::CloseReason;

/// No connection came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was given is no `host:port`.
    #[error("{server:?} is no address; write HOST:PORT, for example 127.0.0.1:8000")]
    Address {
        /// As it was given.
        server: String,
    },
    /// The name has no address, or none is known in time.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// TCP connect failed.
    #[error("cannot connect to {server} over TCP: {error}; is the gateway running there?")]
    Tcp {
        /// As it was given.
        server: String,
        /// What the system said.
        error: io::Error,
    },
    /// Nothing answered in time.
    #[error("no answer from {server} over {transport} in time; is the gateway running there?{}", hint(*.transport))]
    TimedOut {
        /// As it was given.
        server: String,
        /// What was tried.
        transport: Transport,
    },
    /// The gateway takes no new connections.
    #[error("{server} refuses new connections: it is going away or full; try again later")]
    Refused {
        /// As it was given.
        server: String,
    },
    /// QUIC or TLS without a certificate authority.
    #[error(
        "an encrypted connection needs the CA that signed the gateway's certificate: give its PEM file (--ca)"
    )]
    NoCa,
    /// The server's certificate is not believed.
    #[error("the certificate of {server} is not believed: {reason}; give the CA that signed it (--ca)")]
    Certificate {
        /// As it was given.
        server: String,
        /// What TLS said.
        reason: String,
    },
    /// The server speaks QUIC or TLS, but not this protocol.
    #[error("{server} does not speak {}", other_protocol(*.transport))]
    NotAGateway {
        /// As it was given.
        server: String,
        /// What was tried.
        transport: Transport,
    },
    /// The server was asked for WebSocket and did not answer in HTTP.
    #[error(
        "{server} does not answer in HTTP; is it the port of websocket.{}?{}",
        listen_key(*.transport), plain_hint(*.transport)
    )]
    NotHttp {
        /// As it was given.
        server: String,
        /// What was tried.
        transport: Transport,
    },
    /// The server answered the upgrade to WebSocket with another status than 101.
    #[error("{server} answers {status} to the WebSocket upgrade{}; {}", quoted(.said.as_deref()), advice(*.status))]
    UpgradeRefused {
        /// As it was given.
        server: String,
        /// HTTP's (RFC 9110 section 15).
        status: u16,
        /// The first line of what it said, if that is plain text.
        said: Option<String>,
    },
    /// The server agreed to an upgrade, but not to this one.
    #[error("the upgrade with {server} went wrong: {reason}; something on the way answers in its place")]
    NotWebSocket {
        /// As it was given.
        server: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The gateway closed the connection at once.
    #[error("{server} closed the connection at once: {reason}")]
    Closed {
        /// As it was given.
        server: String,
        /// Why.
        reason: CloseReason,
    },
    #[cfg(feature = "quic")]
    /// Another fault of the QUIC handshake.
    #[error("no QUIC connection to {server}: {error}")]
    Quic {
        /// As it was given.
        server: String,
        /// What quinn said.
        error: ConnectionError,
    },
    #[cfg(feature = "tls")]
    /// Another fault of the TLS handshake.
    #[error("no TLS connection to {server}: {error}; {}", tls_hint(*.transport))]
    Tls {
        /// As it was given.
        server: String,
        /// What was tried.
        transport: Transport,
        /// What TLS or the system said.
        error: io::Error,
    },
    /// Nothing came through, on any transport (`Auto`).
    #[error(transparent)]
    NoTransport(NoTransport),
    /// This program was built without the transport.
    #[error("{transport} is not compiled in: build gateway-client with its {}", transport.features())]
    NotCompiledIn {
        /// What was asked for.
        transport: Transport,
    },
    /// The local side cannot be set up: no socket, or options that cannot be used.
    #[error("cannot set up the connection on this side: {0}")]
    Local(String),
}

impl ConnectError {
    /// Why there is no connection, without what to do about it: for those who tried several transports.
    pub fn cause(&self) -> String {
        match self {
            Self::TimedOut { .. } => "no answer in time".to_owned(),
            Self::Tcp { server, error } => format!("cannot connect to {server}: {error}"),
            Self::Certificate { server, reason } => {
                format!("the certificate of {server} is not believed: {reason}")
            }
            #[cfg(feature = "tls")]
            Self::Tls { server, error, .. } => format!("no TLS with {server}: {error}"),
            Self::NotHttp { server, .. } => format!("{server} does not answer in HTTP"),
            other => other.to_string(),
        }
    }
}

const fn hint(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => " If UDP is blocked on the way, try --transport tls, or auto",
        Transport::Tls => " If only the web gets through, try --transport wss, or auto",
        Transport::Tcp | Transport::Ws | Transport::Wss => "",
    }
}

const fn other_protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Ws | Transport::Wss => {
            "HTTP over TLS: it is not the port of websocket.tls_listen, or no gateway (--wss-port)"
        }
        _ => "x-im/1: it is no gateway",
    }
}

/// The key of the listener that belongs to a transport of WebSocket.
const fn listen_key(transport: Transport) -> &'static str {
    match transport {
        Transport::Wss => "tls_listen",
        _ => "listen",
    }
}

const fn plain_hint(transport: Transport) -> &'static str {
    match transport {
        Transport::Wss => "",
        _ => " A port for TLS needs --transport wss",
    }
}

#[cfg(feature = "tls")]
const fn tls_hint(transport: Transport) -> &'static str {
    match transport {
        Transport::Wss => {
            "is it the port of websocket.tls_listen (--wss-port)? One without TLS needs --transport ws"
        }
        _ => "is it the port for TLS (--tls-port)?",
    }
}

fn quoted(said: Option<&str>) -> String {
    said.map(|said| format!(" ({said:?})")).unwrap_or_default()
}

/// What to do when an upgrade is answered with this status.
const fn advice(status: u16) -> &'static str {
    match status {
        200..=399 => {
            "a web server is there and no gateway: is it the port of websocket.listen or tls_listen?"
        }
        400 => "it does not understand the request: a port for TLS needs --transport wss",
        401 | 407 => "a proxy on the way wants to know who asks",
        403 => "this origin is none of websocket.allowed_origins (--origin)",
        404 => "this path is none of websocket.paths (--path)",
        426 => "a proxy on the way removes the upgrade: let it pass the headers Upgrade and Connection",
        429 => "it is asked too often; try again later",
        502 | 504 => "the balancer there reaches no gateway; is one running?",
        _ => "is it the port of websocket.listen or tls_listen?",
    }
}

/// What became of plain TCP when nothing got through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plain {
    /// It was tried.
    Tried,
    /// It was not: the server is on another machine.
    NotAllowed,
    /// It was not: the server was reached, and was not believed or refused; or nobody said whom to believe.
    Withheld,
}

/// No transport came through.
#[derive(Debug)]
#[non_exhaustive]
pub struct NoTransport {
    /// As it was given.
    pub server: String,
    /// The port for TLS.
    pub tls_port: u16,
    /// The port for WebSocket over TLS.
    pub wss_port: u16,
    /// What was tried, and why it failed.
    pub tried: Vec<(Transport, ConnectError)>,
    /// What became of plain TCP.
    pub plain: Plain,
}

impl std::error::Error for NoTransport {}

impl fmt::Display for NoTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {}", self.server)?;
        for (at, (transport, error)) in self.tried.iter().enumerate() {
            write!(f, "{} {transport}: {}", if at == 0 { ":" } else { ";" }, error.cause())?;
        }
        let forged = self.tried.iter().any(|(_, error)| matches!(error, ConnectError::Certificate { .. }));
        let here = || {
            let (tls, wss) = (self.tls_port, self.wss_port);
            format!("with TLS on port {tls} (--tls-port) or WebSocket over TLS on port {wss} (--wss-port)")
        };
        match self.plain {
            Plain::Withheld if forged => f.write_str(
                ". Either another CA signed the certificate (--ca), or somebody on the way pretends to be the gateway: \
                 plain TCP was not tried",
            ),
            Plain::Withheld => f.write_str(". Plain TCP was not tried: it only follows where nothing answers"),
            Plain::NotAllowed => write!(
                f,
                ". Is the gateway running there, {}? Plain TCP was not tried: it shows the token to everyone on the way \
                 (--allow-plain)",
                here()
            ),
            Plain::Tried => write!(f, ". Is the gateway running there, {}?", here()),
        }
    }
}

/// Returns `true` if nothing that speaks TLS answered. Whoever did answer, and was not believed or refused, must not be
/// given the token in clear instead: that is what an attacker on the way would wait for.
pub(super) fn is_not_reached(transport: Transport, error: &ConnectError) -> bool {
    match error {
        ConnectError::Tcp { .. } | ConnectError::TimedOut { .. } => true,
        #[cfg(feature = "quic")]
        ConnectError::Quic { error, .. } => !matches!(
            error,
            ConnectionError::ConnectionClosed(_)
                | ConnectionError::TransportError(_)
                | ConnectionError::VersionMismatch
        ),
        #[cfg(feature = "tls")]
        // A gateway that is full ends the stream; one that speaks TLS and disagrees says so in TLS.
        ConnectError::Tls { error, .. } => {
            let spoke_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
            !spoke_tls && error.kind() != io::ErrorKind::UnexpectedEof
        }
        // Without a socket for UDP there is still TLS; an option that TLS, too, cannot use is no reason to do without.
        ConnectError::Local(_) => transport == Transport::Quic,
        ConnectError::Certificate { .. }
        | ConnectError::NotAGateway { .. }
        | ConnectError::NotHttp { .. }
        | ConnectError::UpgradeRefused { .. }
        | ConnectError::NotWebSocket { .. }
        | ConnectError::Refused { .. }
        | ConnectError::Closed { .. }
        | ConnectError::NoCa
        | ConnectError::Address { .. }
        | ConnectError::Resolve { .. }
        | ConnectError::NotCompiledIn { .. }
        | ConnectError::NoTransport(_) => false,
    }
}

#[cfg(test)]
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod tests {
    use super::*;
    use crate::CaError;

    #[test]
    fn whoever_speaks_tls_or_quic_was_reached_and_is_not_given_the_token_in_clear() {
        let server = || "gate:8443".to_owned();
        let tls = |error| ConnectError::Tls { server: server(), transport: Transport::Tls, error };
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        let quic = |error| ConnectError::Quic { server: server(), error };
        let closed = quinn::ConnectionClose {
            error_code: quinn::TransportErrorCode::INTERNAL_ERROR,
            frame_type: None,
            reason: bytes::Bytes::new(),
        };
        for (error, is_silent) in [
            (tls(io::Error::new(io::ErrorKind::InvalidData, alert)), false),
            (tls(io::ErrorKind::UnexpectedEof.into()), false),
            (tls(io::ErrorKind::ConnectionReset.into()), true),
            (quic(ConnectionError::ConnectionClosed(closed)), false),
            (quic(ConnectionError::VersionMismatch), false),
            (quic(ConnectionError::Reset), true),
            (ConnectError::TimedOut { server: server(), transport: Transport::Quic }, true),
        ] {
            assert_eq!(is_not_reached(Transport::Tls, &error), is_silent, "{error:?}");
        }
        let local = ConnectError::Local("a bad name".to_owned());
        assert!(is_not_reached(Transport::Quic, &local) && !is_not_reached(Transport::Tls, &local));
    }

    #[test]
    fn the_error_names_every_attempt_and_what_to_do() {
        let server = || "gate:8000".to_owned();
        let silent =
            || (Transport::Quic, ConnectError::TimedOut { server: server(), transport: Transport::Quic });
        let refused = |transport, server: &str| {
            let error = io::Error::from(io::ErrorKind::ConnectionRefused);
            (transport, ConnectError::Tcp { server: server.to_owned(), error })
        };
        let text = |tried, plain| {
            NoTransport { server: server(), tls_port: 8443, wss_port: 8444, tried, plain }.to_string()
        };

        let without_plain = text(vec![silent(), refused(Transport::Tls, "gate:8443")], Plain::NotAllowed);
        assert_eq!(
            without_plain,
            "no connection to gate:8000: quic: no answer in time; tls: cannot connect to gate:8443: connection refused. \
             Is the gateway running there, with TLS on port 8443 (--tls-port) or WebSocket over TLS on port 8444 \
             (--wss-port)? Plain TCP was not tried: it shows the token to everyone on the way (--allow-plain)"
        );
        let all = [silent(), refused(Transport::Tls, "gate:8443"), refused(Transport::Tcp, "gate:8000")];
        let all = text(all.into(), Plain::Tried);
        assert!(
            all.contains("; tcp: cannot connect to gate:8000") && !all.contains("--allow-plain"),
            "{all}"
        );
        let forged = ConnectError::Certificate { server: "gate:8443".to_owned(), reason: "who?".to_owned() };
        let forged = text(vec![silent(), (Transport::Tls, forged)], Plain::Withheld);
        assert!(forged.contains("tls: the certificate of gate:8443 is not believed: who?"), "{forged}");
        assert!(forged.contains("--ca") && forged.contains("pretends to be the gateway"), "{forged}");
        let full = (Transport::Quic, ConnectError::Refused { server: server() });
        let full = text(vec![full, refused(Transport::Tls, "gate:8443")], Plain::Withheld);
        assert!(
            full.contains("quic: gate:8000 refuses new connections") && !full.contains("pretends"),
            "{full}"
        );
    }

    /// Programs print an error with its causes; what its own text says must not come twice.
    #[test]
    fn errors_say_their_cause_once() {
        let cause = || io::Error::other("no such luck");
        let server = || "h:1".to_owned();
        let path = std::path::PathBuf::from("ca.pem");
        for error in [
            anyhow::Error::from(ConnectError::from(ResolveError::Failed {
                host: "h".to_owned(),
                reason: cause().to_string(),
            })),
            ConnectError::Tcp { server: server(), error: cause() }.into(),
            CaError::Pem { path, error: rustls::pki_types::pem::Error::Io(cause()) }.into(),
            CaError::Rejected(rustls::Error::General("no such luck".to_owned())).into(),
        ] {
            let text = format!("{error:#}");
            assert_eq!(text.matches("no such luck").count(), 1, "{text}");
        }
    }
}
