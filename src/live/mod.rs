//! What a gateway runs with and may be given anew while it runs. A [`Live`] is immutable: a change is another one, made
//! and checked before anybody sees it, and then handed to each worker, which swaps its own copies between two of its
//! tasks. No packet waits for it, and none meets one half of a change.

mod certificate;
mod feed;
mod reader;

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::auth::{KeySet, Verifier};
use crate::config::{Config, TlsIdentity};

pub(crate) use self::feed::{LiveFeed, LiveSource};

/// Everything that a reload may change.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// The configuration in effect. What needs a restart is as it was at the start.
    pub(crate) config: Arc<Config>,
    /// Judges tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// What encrypted listeners show; none without them.
    pub(crate) certificate: Option<Arc<CertifiedKey>>,
}

impl Live {
    /// What follows from a configuration.
    ///
    /// # Errors
    /// Certificate and key cannot be used; a configuration that was read from files has been checked for it.
    pub(crate) fn new(config: Arc<Config>) -> Result<Self, rustls::Error> {
        let certificate = config.certificate().map(TlsIdentity::certified_key).transpose()?.map(Arc::new);
        let verifier = Verifier::new(KeySet::new(&config.token_keys), &config.expected_claims)
            .with_leeway(config.leeway)
            .with_on_expiry(config.on_expiry);
        Ok(Self { config, verifier: Arc::new(verifier), certificate })
    }
}
