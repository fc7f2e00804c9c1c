//! From an accepted socket to TLS over it, or to the reason why not.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::limits::{LINGER, TLS_BUFFER};
use crate::monitor::metrics::{Reject, WorkerMetrics};
use crate::server::admission::Handshakes;
use crate::server::connection::{Accepted, ConnectionContext};
use crate::server::tcp_stream::{CountedSocket, TlsOverTcp};
use crate::server::tcp_transport::linger;
use crate::wire::close::CloseReason;

/// A whole alert of TLS: fatal, internal_error, which is for what has nothing to do with the peer, such as a want of memory
/// (RFC 8446 section 6.2). It needs no keys until the handshake has begun.
pub(crate) const TURNED_AWAY: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Why there is no TLS.
enum TlsFailure {
    /// With the socket if the handshake had begun.
    Failed(io::Error, Option<CountedSocket>),
    /// It had not begun when the drain did.
    Draining,
}

/// Shakes hands within the deadline of those in progress (`handshakes`), if there is room for so long. A failure is counted,
/// and the client is told by TLS's alert.
pub(crate) async fn shake_hands(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    handshakes: &Handshakes,
    accepted: &Accepted,
    shared: &ConnectionContext,
    drain: &CancellationToken,
) -> Option<TlsOverTcp> {
    // Reads the first message before there is any state for more.
    let mut hello = LazyConfigAcceptor::new(Acceptor::default(), CountedSocket::new(socket));
    let Accepted { admitted, newcomer, .. } = accepted;
    let outcome = tokio::select! {
        biased;
        outcome = handshakes.in_time(handshake(&mut hello, config, drain)) => outcome,
        () = newcomer.must_go() => {
            admitted.set_reason(CloseReason::Overloaded);
            // Who makes room for others is not waited for.
            let _best_effort = hello.take_io().map(|waiting| waiting.socket.try_write(&TURNED_AWAY));
            return None;
        }
    };
    match outcome {
        Some(Ok(stream)) => return Some(Box::new(stream)),
        Some(Err(TlsFailure::Failed(error, begun))) => {
            let socket = begun.or_else(|| hello.take_io());
            if socket.as_ref().is_some_and(|socket| !socket.was_used) {
                // Somebody who wanted to know whether the port is open: a balancer does every few seconds.
                admitted.set_reason(CloseReason::PeerClosed);
                return None;
            }
            admitted.set_reason(CloseReason::PeerLost);
            report(&error, &shared.metrics);
            // The alert was written if the socket took it.
            last_words(socket, &[]).await;
        }
        Some(Err(TlsFailure::Draining)) => {
            admitted.set_reason(CloseReason::Draining);
            last_words(hello.take_io(), &TURNED_AWAY).await;
        }
        None => {
            admitted.set_reason(CloseReason::LoginTimeout);
            shared.metrics.reject(Reject::HandshakeFailed);
        }
    }
    None
}

async fn handshake(
    hello: &mut LazyConfigAcceptor<CountedSocket>,
    config: &Arc<ServerConfig>,
    drain: &CancellationToken,
) -> Result<TlsStream<CountedSocket>, TlsFailure> {
    let begun = tokio::select! {
        biased;
        begun = &mut *hello => begun.map_err(|error| TlsFailure::Failed(error, None))?,
        () = drain.cancelled() => return Err(TlsFailure::Draining),
    };
    let handshake = begun.into_stream_with(Arc::clone(config), |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
    handshake.into_fallible().await.map_err(|(error, socket)| TlsFailure::Failed(error, Some(socket)))
}

/// What was written must not be destroyed by a reset (row D9).
async fn last_words(counted: Option<CountedSocket>, words: &[u8]) {
    let Some(CountedSocket { mut socket, .. }) = counted else { return };
    let said = async {
        socket.write_all(words).await?;
        socket.shutdown().await?;
        linger(&mut socket).await;
        io::Result::Ok(())
    };
    let _best_effort = timeout(LINGER, said).await;
}

/// A stranger can cause this as often as it likes, so it is no line of the normal log (threats §1).
fn report(error: &io::Error, metrics: &WorkerMetrics) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let is_alpn = matches!(tls, Some(rustls::Error::NoApplicationProtocol));
    metrics.reject(if is_alpn { Reject::Alpn } else { Reject::HandshakeFailed });
    debug!(%error, "TLS handshake failed");
}
