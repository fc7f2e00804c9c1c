//! What a gateway runs with and may be given anew while it runs. A [`Live`] is immutable: a change is another one, made
//! and checked before anybody sees it, and then handed to each worker, which swaps its own copies between two of its
//! tasks. No packet waits for it, and none meets one half of a change.

mod certificate;
mod feed;
mod reader;

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::auth::{KeySet, Verifier};
use crate::config::{Config, TlsIdentity, TokenKey};

pub(crate) use self::feed::{LiveFeed, LiveSource};

/// Everything that a reload may change.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// The configuration in effect. What needs a restart is as it was at the start.
    pub(crate) config: Arc<Config>,
    /// Keys of tokens that were fetched. They are no part of the configuration, and outlast it.
    pub(crate) fetched: Arc<[TokenKey]>,
    /// Judges tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// What encrypted listeners show; none without them.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
}

impl Live {
    /// What follows from a configuration, before any keys were fetched.
    ///
    /// # Errors
    /// Certificate and key cannot be used; a configuration that was read from files has been checked for it.
    pub(crate) fn new(config: Arc<Config>) -> Result<Self, rustls::Error> {
        let certificate = config.certificate().map(TlsIdentity::certified_key).transpose()?.map(Arc::new);
        let verifier = Arc::new(verifier(&config, &[]));
        Ok(Self { config, fetched: Arc::default(), verifier, certificate })
    }

    /// Returns `true` if there is a key that tokens can be judged by.
    pub(crate) fn has_token_keys(&self) -> bool {
        !self.config.token_keys.is_empty() || !self.fetched.is_empty()
    }

    /// The same with these keys beside those of the configuration.
    pub(crate) fn with_fetched(mut self, fetched: Arc<[TokenKey]>) -> Self {
        self.verifier = Arc::new(verifier(&self.config, &fetched));
        self.fetched = fetched;
        self
    }

    /// The same with all that others than a reload may have changed since it was made: the route's weights and fetched keys.
    pub(crate) fn keeping(mut self, last: &Self) -> Self {
        let route = Arc::clone(&last.config.route);
        self.config = Arc::new(Config { route, ..Config::clone(&self.config) });
        self.with_fetched(Arc::clone(&last.fetched))
    }
}

/// Where ids are the same, the keys of the configuration count.
fn verifier(config: &Config, fetched: &[TokenKey]) -> Verifier {
    let keys: Vec<_> = config.token_keys.iter().chain(fetched).cloned().collect();
    Verifier::new(KeySet::new(&keys), &config.expected_claims)
        .with_leeway(config.leeway)
        .with_on_expiry(config.on_expiry)
}
