//! Opens a connection to a logic instance and shakes hands on it (protocol §5).

use std::io;
use std::time::Duration;

use prost::Message as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::frame::{self, Opcode};
use crate::wire::pb;

/// No connection came about. The instance's side is at fault, or the network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Dials logic services as one gateway id.
#[derive(Debug)]
pub(crate) struct TcpDialer {
    gate_id: String,
    deadline: Duration,
    /// Unacknowledged bytes for this long break the connection (row E18).
    user_timeout: Duration,
}

impl TcpDialer {
    pub(crate) const fn new(gate_id: String, deadline: Duration, user_timeout: Duration) -> Self {
        Self { gate_id, deadline, user_timeout }
    }

    /// Connects, says who this gateway is, and asks for a first sign of life with a ping: the handshake itself is
    /// never answered.
    ///
    /// # Errors
    /// [`DialError`]. Cancel safe: a connection that was not returned is closed.
    pub(crate) async fn dial_and_handshake(&self, address: &str) -> Result<TcpStream, DialError> {
        let dial = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.user_timeout))?;
            let handshake = pb::InnerHandshakeReq { service_id: self.gate_id.clone() };
            stream.write_all(&frame::encode(Opcode::Binary, &handshake.encode_to_vec())).await?;
            stream.write_all(&frame::encode(Opcode::Ping, &[])).await?;
            Ok(stream)
        };
        timeout(self.deadline, dial).await.map_err(|_| DialError::Timeout(self.deadline))?
    }
}
