//! Keys that are fetched go into effect beside those of the configuration.

use std::sync::Arc;

use super::start_error::StartError;
use crate::config::{Config, TokenKey};
use crate::jwks::{JwksThread, KeyRefresh};
use crate::limits::KEYS_TAKEN;
use crate::live::LiveSource;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::resolve::Resolver;

/// Starts to fetch keys, if that is configured.
pub(super) fn fetch_keys(
    config: &Config,
    live: &LiveSource,
    metrics: &Metrics,
    readiness: &Arc<Readiness>,
    resolver: &Resolver,
) -> Result<(Option<JwksThread>, Option<KeyRefresh>), StartError> {
    let Some(url) = &config.jwks else { return Ok((None, None)) };
    readiness.keyless(!live.current().has_token_keys());
    let (live, readiness) = (live.clone(), Arc::clone(readiness));
    let publish = move |keys: &[TokenKey]| {
        let fetched: Arc<[TokenKey]> = keys.into();
        live.change(|last| last.clone().with_fetched(fetched));
        live.wait_taken(KEYS_TAKEN);
        readiness.keyless(!live.current().has_token_keys());
    };
    let (thread, refresh) = JwksThread::start(url, metrics, resolver.clone(), publish)?;
    Ok((Some(thread), Some(refresh)))
}
