//! From options to a connection whose handshake is done, and why there is none.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
#[cfg(feature = "tls")]
use tokio_rustls::client::TlsStream;

use crate::connect_error::{ConnectError, is_not_reached};
use crate::options::{ConnectOptions, Transport};
#[cfg(feature = "quic")]
use crate::quic::{self, QuicConnection};
use crate::tcp;
#[cfg(feature = "tls")]
use crate::tls;
#[cfg(feature = "websocket")]
use crate::websocket::{self, WebSocketHalves};
use gateway_net::resolve::{attempt_delay, first_of, host_and_port};

/// A connection before any frame. Dropped, it is closed.
#[derive(Debug)]
pub(super) enum Established {
    #[cfg(feature = "quic")]
    Quic(QuicConnection),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(feature = "websocket")]
    WebSocket(Box<WebSocketHalves>),
}

impl Established {
    /// What carries it.
    pub(super) const fn transport(&self) -> Transport {
        match self {
            #[cfg(feature = "quic")]
            Self::Quic(_) => Transport::Quic,
            Self::Tcp(_) => Transport::Tcp,
            #[cfg(feature = "tls")]
            Self::Tls(_) => Transport::Tls,
            #[cfg(feature = "websocket")]
            Self::WebSocket(socket) => socket.transport,
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
        #[cfg(feature = "quic")]
        Transport::Quic => Ok(Established::Quic(quic::connect(options, address).await?)),
        Transport::Tcp => Ok(Established::Tcp(tcp::connect(options, address).await?)),
        #[cfg(feature = "tls")]
        Transport::Tls => Ok(Established::Tls(Box::new(tls::connect(options, address).await?))),
        #[cfg(feature = "websocket")]
        Transport::Ws => Ok(Established::WebSocket(Box::new(websocket::connect(options, address).await?))),
        #[cfg(all(feature = "websocket", feature = "tls"))]
        Transport::Wss => Ok(Established::WebSocket(Box::new(websocket::connect(options, address).await?))),
        #[cfg(not(all(feature = "quic", feature = "tls", feature = "websocket")))]
        transport => Err(ConnectError::NotCompiledIn { transport }),
    }
}
