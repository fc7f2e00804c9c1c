//! What takes spans to the collector, made from the configuration.

use super::start_error::StartError;
use crate::config::Config;
use crate::monitor::metrics::Metrics;
use crate::resolve::Resolver;
use crate::spans::SpanQueue;

/// Owns the thread, where there is a collector.
pub(super) struct TraceExport {
    /// Where the workers put spans.
    pub(super) queue: Option<SpanQueue>,
    #[cfg(feature = "trace-export")]
    _thread: Option<crate::spans::SpanExporter>,
}

impl TraceExport {
    #[cfg(feature = "trace-export")]
    pub(super) fn start(config: &Config, metrics: &Metrics, resolver: &Resolver) -> Result<Self, StartError> {
        use crate::http_client::Endpoint;
        use crate::spans::{Collector, SpanExporter};

        let Some((target, path)) = &config.tracing.collector else {
            return Ok(Self { queue: None, _thread: None });
        };
        let endpoint = Endpoint::new(&target.host, target.port, target.tls_roots(), resolver.clone())
            .map_err(StartError::Collector)?;
        let collector = Collector { endpoint, path: path.clone(), gateway: config.id.clone() };
        let started = SpanExporter::start(collector, metrics.traces()).map_err(StartError::Thread)?;
        Ok(Self { queue: Some(started.1), _thread: Some(started.0) })
    }

    /// The configuration has refused every collector.
    #[cfg(not(feature = "trace-export"))]
    pub(super) fn start(_: &Config, _: &Metrics, _: &Resolver) -> Result<Self, StartError> {
        Ok(Self { queue: None })
    }
}
