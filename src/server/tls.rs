//! The TLS side of the listeners: built here, never by a library's default (ARCHITECTURE §14).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls::version::TLS13;

/// The protocol's name in the TLS handshake (protocol §7).
pub(crate) const ALPN: &[u8] = b"x-im/1";

/// TLS 1.3 only, ALPN ours, early data off (rows C16, C20).
///
/// # Errors
/// rustls was built without TLS 1.3.
pub(crate) fn server_config(certificate: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    // Resumption is not offered: a client that comes back shows its token again, and a ticket costs each login two
    // packets.
    config.send_tls13_tickets = 0;
    Ok(config)
}
