//! What looks after events, made from the configuration.

use std::sync::Arc;

use super::start_error::StartError;
use crate::config::{Config, TlsIdentity, Webhook};
use crate::http_client::{Endpoint, EndpointError};
use crate::monitor::events::sender::{Duties, EventTargets, WebhookSender};
use crate::monitor::events::webhook::WebhookClient;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::resolve::Resolver;

/// Starts the thread that looks after events.
pub(super) fn start_courier(
    config: &Config,
    metrics: &Metrics,
    readiness: &Arc<Readiness>,
    resolver: &Resolver,
) -> Result<WebhookSender, StartError> {
    Ok(WebhookSender::start(Duties {
        events: metrics.events().clone(),
        readiness: Arc::clone(readiness),
        login_service: config.login_service.clone(),
        targets: event_targets(config, resolver).map_err(StartError::Webhook)?,
    })?)
}

/// Where events go, and what else of the configuration they are about.
pub(super) fn event_targets(config: &Config, resolver: &Resolver) -> Result<EventTargets, EndpointError> {
    let webhook = config.webhook.as_ref().map(|config| webhook(config, resolver.clone())).transpose()?;
    let certificate_ends = config.certificate().and_then(TlsIdentity::not_after);
    Ok(EventTargets { certificate_ends, webhook: webhook.map(Arc::new) })
}

/// Where events are posted.
fn webhook(config: &Webhook, resolver: Resolver) -> Result<WebhookClient, EndpointError> {
    let Webhook { target, path, timeout } = config;
    let endpoint = Endpoint::new(&target.host, target.port, target.tls_roots(), resolver)?;
    let token = target.token.as_ref().map(|token| token.0.as_slice());
    Ok(WebhookClient::new(endpoint, path, token, *timeout))
}
