//! The certificate that is in effect when a client comes.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::reader::LiveReader;

/// Shows each client the certificate that is in effect when it shakes hands. Whoever is connected is not touched, and
/// everything else of the listeners stays, so tickets of sessions stay good.
#[derive(Debug)]
pub(super) struct LiveCertificate(pub(super) LiveReader);

impl ResolvesServerCert for LiveCertificate {
    /// The lock under it is shared by the workers and held for one copy of a pointer; the handshake takes a thousand times
    /// as long.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current().certificate.clone()
    }
}
