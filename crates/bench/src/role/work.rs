//! What a load is asked to do.

use std::net::SocketAddr;
use std::path::PathBuf;

use gateway_wire::dialect::Dialect;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TcpLoad {
    /// Whom it talks to.
    pub(crate) target: SocketAddr,
    pub(crate) clients: usize,
    /// Messages of one client in flight.
    pub(crate) depth: usize,
    /// Bytes of a message's body.
    pub(crate) body: usize,
    pub(crate) speaks: Speaks,
    /// So many of the clients, the first ones, never read.
    pub(crate) stalled: usize,
    /// Whether frames are messages of a WebSocket.
    pub(crate) websocket: bool,
    /// Whose certificates are believed, where there is TLS.
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) work: LoadWork,
    /// Messages a second of an open loop, each at its time; 0 for a closed one.
    pub(crate) rate: f64,
    /// What a gateway is spoken to in: `x_im` or `kim`.
    pub(crate) dialect: String,
    /// The key of tokens, as text.
    pub(crate) secret: String,
    /// What the accounts' names begin with.
    pub(crate) accounts: String,
}

impl TcpLoad {
    /// The dialect its name says.
    pub(crate) fn dialect(&self) -> Result<Dialect, BenchError> {
        let named = self.dialect.parse::<Dialect>();
        named.map_err(|error| BenchError::failed(format!("dialect {:?} {error}", self.dialect)))
    }
}

/// What is done, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LoadWork {
    /// Each client has `depth` messages in flight, and sends the next when an answer came.
    Echo,
    /// Clients send heartbeats.
    Beat,
    /// One client asks for so many pushes to everybody, and again when everybody has them.
    Push {
        /// Pushes at once.
        count: u32,
    },
}

impl LoadWork {
    /// Pushes at once.
    pub(crate) const fn count(self) -> u32 {
        match self {
            Self::Echo | Self::Beat => 0,
            Self::Push { count } => count,
        }
    }
}

/// What the other end understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Speaks {
    /// It sends back, or to everybody, what it gets: no login.
    Bytes,
    /// A gateway.
    Gateway,
    /// A NATS server, behind which a service answers.
    Nats,
    /// A Redis server: publishing alone.
    Redis,
    /// An MQTT 3.1.1 server: publishing alone.
    Mqtt,
}
