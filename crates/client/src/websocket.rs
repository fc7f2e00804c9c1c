//! WebSocket over TCP, plain or under TLS.

use std::fmt;
use std::io::Cursor;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, Chain, Empty, Join, ReadHalf, Sink, WriteHalf, empty, join,
    sink, split,
};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::connect_error::ConnectError;
use crate::messages::{MessageSink, MessageSource};
use crate::options::{ConnectOptions, Transport};
use crate::stream::MAX_FRAME;
use crate::tcp;
#[cfg(feature = "tls")]
use crate::tls;
use crate::upgrade::upgrade;
use gateway_net::limits::{KIB, READ_CHUNK};

/// Bytes gathered for one write.
const WRITE_GATHER: usize = 16 * KIB;

/// What carries the messages.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

type ReadSide = Join<Chain<Cursor<Bytes>, ReadHalf<Box<dyn Carrier>>>, Sink>;
type WriteSide = Join<Empty, WriteHalf<Box<dyn Carrier>>>;

/// A connection before any message. Each half has a state of its own, so that a write that fails takes nothing away
/// from what is still to be read, the close code among it (row H3).
pub(super) struct WebSocketHalves {
    /// One of the two for WebSocket.
    pub(super) transport: Transport,
    pub(super) from: MessageSource<ReadSide>,
    pub(super) to: MessageSink<WriteSide>,
}

impl fmt::Debug for WebSocketHalves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSocket")
    }
}

/// Connects, over TLS if that is asked for, and upgrades.
pub(super) async fn connect(
    options: &ConnectOptions,
    address: SocketAddr,
) -> Result<WebSocketHalves, ConnectError> {
    let mut carrier: Box<dyn Carrier> = match options.transport {
        #[cfg(feature = "tls")]
        Transport::Wss => Box::new(tls::connect(options, address).await?),
        _ => Box::new(tcp::connect(options, address).await?),
    };
    let arrived = upgrade(options, &mut carrier).await?;
    let (from, to) = split(carrier);
    let config = |read_chunk| {
        WebSocketConfig::default()
            .read_buffer_size(read_chunk)
            .write_buffer_size(WRITE_GATHER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME))
    };
    let from = join(Cursor::new(arrived).chain(from), sink());
    let from = WebSocketStream::from_raw_socket(from, Role::Client, Some(config(READ_CHUNK))).await;
    let to = WebSocketStream::from_raw_socket(join(empty(), to), Role::Client, Some(config(0))).await;
    let transport = options.transport;
    Ok(WebSocketHalves { transport, from: MessageSource(from), to: MessageSink::new(to) })
}
