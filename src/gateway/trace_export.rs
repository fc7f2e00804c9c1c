//! What takes spans to the collector, made from the configuration.

use super::start_error::StartError;
use crate::config::Config;
use crate::http_client::Endpoint;
use crate::monitor::metrics::Metrics;
use crate::resolve::Resolver;
use crate::spans::{Collector, SpanExporter, SpanQueue};

/// Starts the thread; none where there is no collector.
pub(super) fn start_export(
    config: &Config,
    metrics: &Metrics,
    resolver: &Resolver,
) -> Result<Option<(SpanExporter, SpanQueue)>, StartError> {
    let Some((target, path)) = &config.tracing.collector else { return Ok(None) };
    let endpoint = Endpoint::new(&target.host, target.port, target.tls_roots(), resolver.clone())
        .map_err(StartError::Collector)?;
    let collector = Collector { endpoint, path: path.clone(), gateway: config.id.clone() };
    SpanExporter::start(collector, metrics.traces()).map(Some).map_err(StartError::Thread)
}
