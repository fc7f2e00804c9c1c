//! Why a gateway could not start.

use std::io;
use std::net::SocketAddr;

use super::state::StateError;
use crate::admin::AdminStartError;
use crate::bans::BansFileError;
use crate::config::NoRandomness;
use crate::discovery::DiscoveryStartError;
use crate::http_client::EndpointError as WebhookError;
use crate::jwks::JwksStartError;
use crate::monitor::events::sender::SenderStartError;
use crate::monitor::http::MonitorStartError;

/// The gateway could not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{setting}: cannot listen on {address}: {}", explain(error))]
    Bind {
        /// The key of the configuration.
        setting: &'static str,
        /// The address it holds.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Certificate and key, where they were not read from files.
    #[error("tls.cert and tls.key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// There are no keys for TLS tickets.
    #[error("no keys for TLS tickets can be made: {0}")]
    Tickets(#[from] NoRandomness),
    /// The machine gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The clock is wrong, or what must not be forgotten cannot be written down.
    #[error(transparent)]
    State(#[from] StateError),
    /// The monitor could not start.
    #[error(transparent)]
    Monitor(#[from] MonitorStartError),
    /// The administrator cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminStartError),
    /// The bans of earlier processes cannot be had.
    #[error(transparent)]
    Bans(#[from] BansFileError),
    /// The source of instances could not start.
    #[error(transparent)]
    Discovery(#[from] DiscoveryStartError),
    /// Keys cannot be fetched.
    #[error(transparent)]
    Jwks(#[from] JwksStartError),
    /// Nobody would look after events.
    #[error(transparent)]
    Events(#[from] SenderStartError),
    /// The webhook has an address or roots that are of no use.
    #[error("events.webhook: {0}")]
    Webhook(WebhookError),
    /// The collector has an address or roots that are of no use.
    #[error("tracing.endpoint: {0}")]
    Collector(WebhookError),
}

/// What went wrong and what to do, in words.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use by another process; stop it, or choose another port".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 need privileges, choose a higher one".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_that_cannot_start_is_reported_once() {
        let cause = MonitorStartError::Listener(io::Error::other("no such luck"));
        let text = format!("{:#}", anyhow::Error::from(StartError::from(cause)));
        assert_eq!(text, "monitor.listen: the socket cannot be used: no such luck");
    }
}
