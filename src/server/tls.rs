//! The TLS side of the listeners: built here, never by a library's default (ARCHITECTURE §14).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::version::TLS13;

use crate::limits::TICKETS;
use crate::server::tickets::Tickets;

/// The protocol's name in the TLS handshake (protocol §7).
pub(crate) const ALPN: &[u8] = b"x-im/1";

/// That of HTTP, as which WebSocket begins.
pub(crate) const HTTP_ALPN: &[u8] = b"http/1.1";

/// What a reload may change under the listeners, which keep all else of TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsParts {
    /// Knows the certificate that is in effect when a client comes.
    pub(crate) certificate: Arc<dyn ResolvesServerCert>,
    /// Of the process: a client may come back to another worker.
    pub(crate) tickets: Arc<Tickets>,
}

impl TlsParts {
    /// TLS 1.3 only, this ALPN if the client offers any, early data off (rows C16, C20), with tickets (row C28).
    ///
    /// # Errors
    /// rustls was built without TLS 1.3.
    pub(crate) fn config(&self, alpn: &[u8]) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.certificate));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.max_early_data_size = 0;
        config.ticketer = Arc::clone(&self.tickets) as _;
        config.send_tls13_tickets = TICKETS;
        // Tickets hold what is to be remembered, so the server remembers nothing.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}
