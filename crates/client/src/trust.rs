//! Whose certificates a client believes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::CipherSuite;
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use gateway_net::files::{self, FileError};

/// The ALPN protocol of this wire (protocol §7).
const ALPN: &[u8] = b"x-im/1";

/// The ALPN protocol of what is upgraded to WebSocket (RFC 7301 section 6).
#[cfg(all(feature = "websocket", feature = "tls"))]
const ALPN_HTTP: &[u8] = b"http/1.1";

/// Tickets that are kept: eight of each server name, of eight names.
const TICKETS: usize = 64;

/// Certificate authorities a server's certificate must descend from. Cheap to clone; read once, used for any
/// number of connections. Clones share the tickets by which a client that comes back to a server is spared most of the
/// handshake.
#[derive(Clone)]
pub struct TrustedCa {
    #[cfg(feature = "tls")]
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// The same for WebSocket.
    #[cfg(all(feature = "websocket", feature = "tls"))]
    pub(super) http: Arc<rustls::ClientConfig>,
    #[cfg(feature = "quic")]
    pub(super) quic: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for TrustedCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustedCa")
    }
}

/// The certificate authority cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The file cannot be read.
    #[error("cannot read the CA file: {0}; `gateway dev` and `gateway certs` make one")]
    File(#[from] FileError),
    /// The file is no PEM.
    #[error("the CA file {path} holds broken PEM: {error}")]
    Pem {
        /// As it was given.
        path: PathBuf,
        /// What the reader said.
        error: rustls::pki_types::pem::Error,
    },
    /// There is no certificate.
    #[error("there is no certificate in the CA file")]
    Empty,
    /// A certificate cannot be used as an authority, or TLS cannot be set up with it.
    #[error("the CA certificate cannot be used: {0}")]
    Rejected(rustls::Error),
}

impl TrustedCa {
    /// Reads every certificate of a PEM file.
    ///
    /// # Errors
    /// [`CaError`] when the file cannot be read or holds no usable certificate.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, CaError> {
        let pem = files::unmarked(path.as_ref())?;
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        Self::from_der(certificates.map_err(|error| CaError::Pem { path: path.as_ref().to_owned(), error })?)
    }

    /// Takes certificates in DER.
    ///
    /// # Errors
    /// [`CaError`] when there is none, or one that cannot be used.
    pub fn from_der(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, CaError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(CaError::Rejected)?;
        }
        if roots.is_empty() {
            return Err(CaError::Empty);
        }
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // A login is hashes as much as anything, and processors have instructions for SHA-256, but not for SHA-384.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let provider = Arc::new(provider);
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CaError::Rejected)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A ticket of one transport says nothing of the parameters of another, so each has its own.
        let for_protocol = |alpn: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            config.resumption = Resumption::in_memory_sessions(TICKETS);
            Arc::new(config)
        };
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: for_protocol(ALPN),
            #[cfg(all(feature = "websocket", feature = "tls"))]
            http: for_protocol(ALPN_HTTP),
            #[cfg(feature = "quic")]
            quic: for_protocol(ALPN),
        })
    }
}
