//! The TLS side of the listeners: built here, never by a library's default (ARCHITECTURE §14).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;

use crate::config::TlsIdentity;
use crate::limits::TICKETS;
use crate::server::tickets::Tickets;

/// The protocol's name in the TLS handshake (protocol §7).
pub(crate) const ALPN: &[u8] = b"x-im/1";

/// That of HTTP, as which WebSocket begins.
pub(crate) const HTTP_ALPN: &[u8] = b"http/1.1";

/// TLS 1.3 only, this ALPN if the client offers any, early data off (rows C16, C20), with tickets (row C28).
///
/// # Errors
/// Certificate and key do not belong together, or rustls cannot use them.
pub(crate) fn server_config(
    identity: &TlsIdentity,
    alpn: &[u8],
    tickets: &Arc<Tickets>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.max_early_data_size = 0;
    config.ticketer = Arc::clone(tickets) as _;
    config.send_tls13_tickets = TICKETS;
    // Tickets hold what is to be remembered, so the server remembers nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
