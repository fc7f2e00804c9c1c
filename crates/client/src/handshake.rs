//! From options to a connection whose handshake is done, and why there is none.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, TransportConfig, VarInt};
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect_error::{ConnectError, is_not_reached};
use crate::options::{ConnectOptions, Streams, Transport};
use gateway_net::congestion;
use gateway_net::resolve::{attempt_delay, first_of, host_and_port};
use gateway_net::udp::{QUIC_VERSION, unmarked};
use gateway_wire::close::CloseReason;

/// Streams of [`Streams::Separate`].
const SEPARATE: usize = 3;

/// Receive window of a QUIC connection, in stream windows: stalled pushes must leave room for answers.
const CONNECTION_WINDOWS: u32 = 8;

/// QUIC transport error: the server takes no new connection.
const CONNECTION_REFUSED: u64 = 0x2;

/// QUIC transport errors 0x100–0x1ff are TLS alerts; this one is `no_application_protocol`.
const ALERT_NO_ALPN: u64 = 0x100 + 120;

/// A UDP endpoint from which `server` can be reached; it can be shared by any number of clients.
///
/// # Errors
/// The system's, when no socket can be bound. Must be called on a tokio runtime.
pub fn quic_endpoint(server: SocketAddr) -> io::Result<quinn::Endpoint> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    if server.is_ipv6() {
        // Where the system has it, one endpoint reaches both kinds of servers.
        let _one_kind_alone = socket.set_only_v6(false);
    }
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let socket = unmarked(socket.into())?;
    let mut config = quinn::EndpointConfig::default();
    config.supported_versions(vec![QUIC_VERSION]);
    quinn::Endpoint::new_with_abstract_socket(config, None, socket, Arc::new(quinn::TokioRuntime))
}

/// A connection before any frame. Dropped, it is closed.
#[derive(Debug)]
pub(super) enum Established {
    Quic {
        connection: quinn::Connection,
        /// The endpoint, when it belongs to this connection alone.
        own: Option<quinn::Endpoint>,
        streams: Vec<(quinn::SendStream, quinn::RecvStream)>,
    },
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Established {
    /// Says goodbye in order. On TCP that is to drop it.
    pub(super) fn discard(self) {
        if let Self::Quic { connection, .. } = &self {
            // Before the streams are dropped, which would finish them one by one.
            let bye = CloseReason::Bye;
            congestion::close(connection, VarInt::from(bye.code().unwrap_or(0)), bye.token().as_bytes());
        }
    }
}

/// The addresses of the server, in the order in which they are to be tried.
pub(super) async fn resolve(
    options: &ConnectOptions,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let bad = |_| ConnectError::Address { server: options.server.clone() };
    let (host, port) = host_and_port(&options.server).map_err(bad)?;
    Ok(options.resolver.resolve(host, port, deadline).await?)
}

/// Shakes hands with the first address that does so: they are tried side by side, each a little later than the one before.
/// What is told is the error of one that answered, if any did.
pub(super) async fn establish(
    options: &ConnectOptions,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<Established, ConnectError> {
    let delay = attempt_delay(addresses.len(), deadline.saturating_duration_since(Instant::now()));
    let attempt = |address| async move {
        let done = timeout_at(deadline, shake_hands(options, address)).await;
        done.unwrap_or_else(|_| Err(timed_out(options)))
    };
    let attempts: Vec<_> = addresses.iter().copied().map(attempt).collect();
    first_of(attempts, || sleep(delay)).await.map_err(|mut errors| {
        let answered = errors.iter().position(|error| !is_not_reached(options.transport, error));
        match answered {
            Some(at) => errors.swap_remove(at),
            None => errors.pop().unwrap_or_else(|| timed_out(options)),
        }
    })
}

pub(super) fn timed_out(options: &ConnectOptions) -> ConnectError {
    ConnectError::TimedOut { server: options.server.clone(), transport: options.transport }
}

async fn shake_hands(options: &ConnectOptions, address: SocketAddr) -> Result<Established, ConnectError> {
    match options.transport {
        Transport::Quic => quic(options, address).await,
        Transport::Tcp => Ok(Established::Tcp(tcp(options, address).await?)),
        Transport::Tls => tls(options, address).await,
    }
}

async fn tcp(options: &ConnectOptions, address: SocketAddr) -> Result<TcpStream, ConnectError> {
    let failed = |error| ConnectError::Tcp { server: options.server.clone(), error };
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

async fn tls(options: &ConnectOptions, address: SocketAddr) -> Result<Established, ConnectError> {
    let ca = options.ca.as_ref().ok_or(ConnectError::NoCa)?;
    let name = server_name(options).to_owned();
    let name = ServerName::try_from(name).map_err(|error| ConnectError::Local(error.to_string()))?;
    let socket = tcp(options, address).await?;
    let connector = TlsConnector::from(Arc::clone(&ca.config));
    let stream = connector.connect(name, socket).await.map_err(|error| tls_error(options, error))?;
    Ok(Established::Tls(Box::new(stream)))
}

async fn quic(options: &ConnectOptions, address: SocketAddr) -> Result<Established, ConnectError> {
    let config = client_config(options)?;
    let (endpoint, own) = match &options.endpoint {
        Some(endpoint) => (endpoint.clone(), None),
        None => {
            let endpoint = quic_endpoint(address).map_err(|error| ConnectError::Local(error.to_string()))?;
            (endpoint.clone(), Some(endpoint))
        }
    };
    let name = server_name(options);
    let connecting = endpoint
        .connect_with(config, address, name)
        .map_err(|error| ConnectError::Local(error.to_string()))?;
    let failed = |error| quic_error(options, error);
    let connection = connecting.await.map_err(failed)?;
    let count = if options.streams == Streams::Single { 1 } else { SEPARATE };
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(connection.open_bi().await.map_err(failed)?);
    }
    Ok(Established::Quic { connection, own, streams })
}

/// What the server's certificate must name.
fn server_name(options: &ConnectOptions) -> &str {
    options.server_name.as_deref().unwrap_or_else(|| host_of(&options.server))
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(server: &str) -> &str {
    host_and_port(server).map_or(server, |(host, _)| host)
}

fn client_config(options: &ConnectOptions) -> Result<quinn::ClientConfig, ConnectError> {
    let local = |reason: &dyn std::fmt::Display| ConnectError::Local(reason.to_string());
    let ca = options.ca.as_ref().ok_or(ConnectError::NoCa)?;
    let crypto = QuicClientConfig::try_from(Arc::clone(&ca.config)).map_err(|error| local(&error))?;
    let idle = options.idle.try_into().map_err(|error| local(&error))?;
    let connection_window = options.stream_window.saturating_mul(CONNECTION_WINDOWS);
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(congestion::lifting())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(options.keep_alive)
        .initial_rtt(options.initial_rtt)
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(options.push_stream.into()))
        .stream_receive_window(VarInt::from_u32(options.stream_window))
        .receive_window(VarInt::from_u32(connection_window));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn quic_error(options: &ConnectOptions, error: ConnectionError) -> ConnectError {
    let server = options.server.clone();
    match error {
        ConnectionError::TimedOut => ConnectError::TimedOut { server, transport: options.transport },
        ConnectionError::TransportError(ref fault) if u64::from(fault.code) >= 0x100 => {
            ConnectError::Certificate { server, reason: fault.reason.clone() }
        }
        ConnectionError::ConnectionClosed(ref close) => match u64::from(close.error_code) {
            CONNECTION_REFUSED => ConnectError::Refused { server },
            ALERT_NO_ALPN => ConnectError::NotAGateway { server },
            _ => ConnectError::Quic { server, error },
        },
        ConnectionError::ApplicationClosed(close) => {
            ConnectError::Closed { server, reason: CloseReason::from_any_code(close.error_code.into_inner()) }
        }
        error => ConnectError::Quic { server, error },
    }
}

fn tls_error(options: &ConnectOptions, error: io::Error) -> ConnectError {
    let server = options.server.clone();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(fault @ rustls::Error::InvalidCertificate(_)) => {
            ConnectError::Certificate { server, reason: fault.to_string() }
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            ConnectError::NotAGateway { server }
        }
        // What a gateway answers that is full, or that drains: it could not say 3003 or 3000 before a handshake.
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)) => {
            ConnectError::Refused { server }
        }
        _ => ConnectError::Tls { server, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gateway_is_told_from_a_port_that_is_not_for_tls() {
        let options = ConnectOptions::tcp("h:1");
        let error = |alert| tls_error(&options, io::Error::other(rustls::Error::AlertReceived(alert)));
        let refused = error(rustls::AlertDescription::InternalError);
        assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
        let other = error(rustls::AlertDescription::HandshakeFailure);
        assert!(matches!(other, ConnectError::Tls { .. }), "{other}");
    }

    #[test]
    fn the_host_of_a_server_is_what_its_certificate_names() {
        assert_eq!(host_of("127.0.0.1:8000"), "127.0.0.1");
        assert_eq!(host_of("[::1]:8000"), "::1");
        assert_eq!(host_of("gate.example.org:443"), "gate.example.org");
    }
}
