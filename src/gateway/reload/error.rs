//! Why a reload is refused.

use crate::config::ConfigError;
use crate::discovery::DiscoveryStartError;
use crate::http_client::EndpointError;

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// This gateway was started without a configuration file, as `gateway dev` is.
    #[error("this gateway has no configuration file to read again")]
    NoFile,
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS takes certificate and key no more than a start would.
    #[error("tls.cert and tls.key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The webhook has an address or roots that are of no use.
    #[error("events.webhook: {0}")]
    Webhook(EndpointError),
    /// The source of instances cannot work by it.
    #[error(transparent)]
    Discovery(#[from] DiscoveryStartError),
}
