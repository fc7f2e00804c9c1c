//! From an accepted socket to TLS over it, or to the reason why not.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::limits::{LINGER, TLS_BUFFER};
use crate::monitor::metrics::{Reject, WorkerMetrics};
use crate::server::connection::{Accepted, Shared};
use crate::server::tcp_stream::{CountedSocket, TlsOverTcp};
use crate::server::tcp_transport::linger;
use crate::wire::close::CloseReason;

/// Shakes hands within the deadline, if there is room for so long. A failure is counted, and the client is told by TLS's
/// alert.
pub(crate) async fn shake_hands(
    socket: TcpStream,
    acceptor: &TlsAcceptor,
    accepted: &Accepted,
    shared: &Shared,
) -> Option<TlsOverTcp> {
    let handshake = acceptor
        .accept_with(CountedSocket::new(socket), |tls| tls.set_buffer_limit(Some(TLS_BUFFER)))
        .into_fallible();
    let Accepted { admitted, newcomer, .. } = accepted;
    let outcome = tokio::select! {
        biased;
        outcome = shared.entrance.tls.in_time(handshake) => outcome,
        () = newcomer.must_go() => {
            admitted.set_reason(CloseReason::Overloaded);
            return None;
        }
    };
    match outcome {
        Some(Ok(stream)) => Some(Box::new(stream)),
        Some(Err((error, counted))) => {
            admitted.set_reason(CloseReason::PeerLost);
            report(&error, &shared.metrics);
            // The alert was written if the socket took it; it must not be destroyed by a reset (row D9).
            let mut socket = counted.socket;
            let last_words = async {
                socket.shutdown().await?;
                linger(&mut socket).await;
                io::Result::Ok(())
            };
            let _best_effort = timeout(LINGER, last_words).await;
            None
        }
        None => {
            admitted.set_reason(CloseReason::LoginTimeout);
            shared.metrics.reject(Reject::HandshakeFailed);
            None
        }
    }
}

/// A stranger can cause this as often as it likes, so it is no line of the normal log (reliability §2).
fn report(error: &io::Error, metrics: &WorkerMetrics) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let is_alpn = matches!(tls, Some(rustls::Error::NoApplicationProtocol));
    metrics.reject(if is_alpn { Reject::Alpn } else { Reject::HandshakeFailed });
    debug!(%error, "TLS handshake failed");
}
