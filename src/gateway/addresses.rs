//! Where a running gateway can be reached.

use std::net::SocketAddr;

use crate::discovery::BoundPorts;

/// Where a running gateway can be reached; with port 0 in the configuration, the ports that were chosen.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// UDP.
    pub quic: Vec<SocketAddr>,
    /// Plain TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS on TCP.
    pub tls: Vec<SocketAddr>,
    /// WebSocket on plain TCP.
    pub ws: Vec<SocketAddr>,
    /// WebSocket over TLS.
    pub wss: Vec<SocketAddr>,
    /// HTTP: `/health`, `/ready`, `/metrics`.
    pub monitor: Option<SocketAddr>,
    /// HTTP for the administrator.
    pub admin: Option<SocketAddr>,
}

impl Addresses {
    /// Those for clients, each kind with its name.
    pub fn for_clients(&self) -> [(&'static str, &[SocketAddr]); 5] {
        [("quic", &self.quic), ("tcp", &self.tcp), ("tls", &self.tls), ("ws", &self.ws), ("wss", &self.wss)]
    }

    pub(super) fn listening(&self) -> BoundPorts {
        let port = |bound: &[SocketAddr]| bound.first().map(SocketAddr::port);
        let [tcp, tls, ws, wss, quic] =
            [&self.tcp, &self.tls, &self.ws, &self.wss, &self.quic].map(|bound| port(bound));
        BoundPorts { tcp, tls, ws, wss, quic, monitor: self.monitor }
    }
}
