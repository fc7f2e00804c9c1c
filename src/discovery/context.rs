//! What a source of instances is given.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::resolve::Resolver;

/// The gateway as its source of instances sees it.
#[derive(Clone)]
pub(crate) struct DiscoveryContext {
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) listening: BoundPorts,
    pub(crate) resolver: Resolver,
    /// Begins the drain, once the source has said goodbye.
    pub(crate) drain: CancellationToken,
}

/// The ports that were bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoundPorts {
    pub(crate) tcp: Option<u16>,
    pub(crate) tls: Option<u16>,
    pub(crate) ws: Option<u16>,
    pub(crate) wss: Option<u16>,
    pub(crate) quic: Option<u16>,
    pub(crate) monitor: Option<SocketAddr>,
}
