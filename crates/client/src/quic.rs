//! QUIC: the endpoint, the connection and its streams, and what its end means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::connect_error::ConnectError;
use crate::options::{ConnectOptions, Streams};
use gateway_net::ack_frequency::ack_frequency;
use gateway_net::congestion;
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
pub(super) struct QuicConnection {
    pub(super) connection: quinn::Connection,
    /// The endpoint, when it belongs to this connection alone.
    pub(super) own: Option<quinn::Endpoint>,
    pub(super) streams: Vec<(quinn::SendStream, quinn::RecvStream)>,
}

/// Closes a connection at once, with the code and the token of the reason if it has any.
pub(super) fn close(connection: &quinn::Connection, reason: CloseReason) {
    if let Some(code) = reason.code() {
        congestion::close(connection, VarInt::from(code), reason.token().as_bytes());
    }
}

/// Connects, shakes hands and opens the streams.
pub(super) async fn connect(
    options: &ConnectOptions,
    address: SocketAddr,
) -> Result<QuicConnection, ConnectError> {
    let config = client_config(options)?;
    let (endpoint, own) = match &options.endpoint {
        Some(endpoint) => (endpoint.clone(), None),
        None => {
            let endpoint = quic_endpoint(address).map_err(|error| ConnectError::Local(error.to_string()))?;
            (endpoint.clone(), Some(endpoint))
        }
    };
    let name = options.certificate_name();
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
    Ok(QuicConnection { connection, own, streams })
}

fn client_config(options: &ConnectOptions) -> Result<quinn::ClientConfig, ConnectError> {
    let local = |reason: &dyn std::fmt::Display| ConnectError::Local(reason.to_string());
    let ca = options.ca.as_ref().ok_or(ConnectError::NoCa)?;
    let crypto = QuicClientConfig::try_from(Arc::clone(&ca.quic)).map_err(|error| local(&error))?;
    let idle = options.idle.try_into().map_err(|error| local(&error))?;
    let connection_window = options.stream_window.saturating_mul(CONNECTION_WINDOWS);
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(ack_frequency()))
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
            ALERT_NO_ALPN => ConnectError::NotAGateway { server, transport: options.transport },
            _ => ConnectError::Quic { server, error },
        },
        ConnectionError::ApplicationClosed(close) => {
            ConnectError::Closed { server, reason: CloseReason::from_any_code(close.error_code.into_inner()) }
        }
        error => ConnectError::Quic { server, error },
    }
}
