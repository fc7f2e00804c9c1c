//! What the frames of a connection travel on.

use std::future::pending;
use std::io;

#[cfg(feature = "quic")]
use quinn::ConnectionError;
use tokio::io::AsyncRead;
#[cfg(feature = "quic")]
use tokio::time::timeout;

#[cfg(feature = "quic")]
use crate::quic;
#[cfg(feature = "quic")]
use gateway_net::limits::QUIC_FLUSH;
use gateway_wire::close::CloseReason;

/// The stream that the gateway opens for pushes.
pub(super) type PushStream = Box<dyn AsyncRead + Unpin + Send>;

/// What the frames travel on. Dropped, it is closed.
pub(super) enum Wire {
    /// Plain or under TLS.
    Tcp,
    /// The same.
    #[cfg(feature = "websocket")]
    WebSocket,
    #[cfg(feature = "quic")]
    Quic {
        connection: quinn::Connection,
        /// The endpoint, when it belongs to this client alone.
        own: Option<quinn::Endpoint>,
    },
}

impl Wire {
    /// Returns `true` if the connection is one stream, which ends with it.
    pub(super) const fn is_one_stream(&self) -> bool {
        match self {
            Self::Tcp => true,
            #[cfg(feature = "websocket")]
            Self::WebSocket => true,
            #[cfg(feature = "quic")]
            Self::Quic { .. } => false,
        }
    }

    /// Returns `true` if a close frame is answered with another one (RFC 6455 section 5.5.1).
    pub(super) const fn answers_close(&self) -> bool {
        match self {
            #[cfg(feature = "websocket")]
            Self::WebSocket => true,
            _ => false,
        }
    }

    /// Why a QUIC connection is over, once it is. Elsewhere the reader finds out.
    pub(super) async fn closed(&self) -> CloseReason {
        match self {
            Self::Tcp => pending().await,
            #[cfg(feature = "websocket")]
            Self::WebSocket => pending().await,
            #[cfg(feature = "quic")]
            Self::Quic { connection, .. } => reason_of(&connection.closed().await),
        }
    }

    /// `None` once the connection is over. It comes on QUIC alone.
    pub(super) async fn accept_push_stream(&self) -> Option<PushStream> {
        match self {
            Self::Tcp => pending().await,
            #[cfg(feature = "websocket")]
            Self::WebSocket => pending().await,
            #[cfg(feature = "quic")]
            Self::Quic { connection, .. } => Some(Box::new(connection.accept_uni().await.ok()?)),
        }
    }

    /// Closes a QUIC connection at once. Elsewhere a frame says so, and then the streams are dropped.
    #[cfg_attr(not(feature = "quic"), expect(unused_variables, reason = "TCP has no code"))]
    pub(super) fn close(&self, reason: CloseReason) {
        match self {
            Self::Tcp => {}
            #[cfg(feature = "websocket")]
            Self::WebSocket => {}
            #[cfg(feature = "quic")]
            Self::Quic { connection, .. } => quic::close(connection, reason),
        }
    }

    /// Gives the close of a QUIC connection a moment to leave.
    pub(super) async fn flush(&self) {
        match self {
            #[cfg(feature = "quic")]
            Self::Quic { own: Some(endpoint), .. } => drop(timeout(QUIC_FLUSH, endpoint.wait_idle()).await),
            _ => {}
        }
    }
}

impl Drop for Wire {
    /// Before the streams are dropped, which would finish them one by one.
    fn drop(&mut self) {
        self.close(CloseReason::Bye);
    }
}

/// The code with which the gateway reset a QUIC stream.
#[cfg(feature = "quic")]
pub(super) fn reset_code(error: &io::Error) -> Option<u64> {
    match error.get_ref()?.downcast_ref()? {
        quinn::ReadError::Reset(code) => Some(code.into_inner()),
        _ => None,
    }
}

/// The code with which the gateway reset a QUIC stream: there is none without QUIC.
#[cfg(not(feature = "quic"))]
pub(super) const fn reset_code(_: &io::Error) -> Option<u64> {
    None
}

#[cfg(feature = "quic")]
fn reason_of(error: &ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            CloseReason::from_any_code(close.error_code.into_inner())
        }
        ConnectionError::LocallyClosed => CloseReason::Bye,
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::CidsExhausted => CloseReason::PeerLost,
    }
}
