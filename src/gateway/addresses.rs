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
    /// HTTP: `/health`, `/ready`, `/metrics`.
    pub monitor: Option<SocketAddr>,
}

impl Addresses {
    pub(super) fn listening(&self) -> BoundPorts {
        let port = |bound: &[SocketAddr]| bound.first().map(SocketAddr::port);
        let [tcp, tls, quic] = [&self.tcp, &self.tls, &self.quic].map(|bound| port(bound));
        BoundPorts { tcp, tls, quic, monitor: self.monitor }
    }
}
