//! An HTTP server that the gateway asks or tells something: where it is, what it is shown, whose certificate it must have.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::checker::Checker;
use super::error::ConfigError;
use super::secret::{Secret, SecretKeys};
use crate::files;

/// Where systems keep the certificates they trust: Debian, Red Hat, SUSE, and macOS and Alpine.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An HTTP server that the gateway asks or tells something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Whether it is asked over TLS.
    pub tls: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Shown with every request; graphic ASCII.
    pub token: Option<Secret>,
    /// Whom its certificate must come from; empty without TLS.
    pub roots: Vec<CertificateDer<'static>>,
}

impl HttpTarget {
    /// One that is shown nothing and needs no certificate.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self { tls: false, host: host.into(), port, token: None, roots: Vec::new() }
    }

    /// Returns `true` if it is on this machine.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whom its certificate must come from; `None` without TLS.
    pub fn tls_roots(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.then_some(&self.roots)
    }
}

/// What the file says of a target beside its address, and under which keys.
pub(super) struct TargetParts<'a> {
    pub(super) address_key: &'static str,
    /// None for one that is shown no token.
    pub(super) token_keys: Option<&'static SecretKeys<'static>>,
    pub(super) token: Option<&'a String>,
    pub(super) token_file: Option<&'a PathBuf>,
    pub(super) ca_file_key: &'static str,
    pub(super) ca_file: Option<&'a PathBuf>,
    /// Whether a target over TLS without a file may have a certificate that the system trusts.
    pub(super) trusts_system: bool,
    /// What is wrong where a target over TLS has neither.
    pub(super) no_roots: &'static str,
}

impl Checker<'_> {
    /// Reads what belongs to a target of which the address is known.
    pub(super) fn complete(
        &mut self,
        target: HttpTarget,
        parts: &TargetParts<'_>,
    ) -> Result<HttpTarget, ConfigError> {
        let roots = self.roots(target.tls, parts)?;
        let token = self.token(parts)?;
        Ok(HttpTarget { token, roots, ..target })
    }

    fn token(&mut self, parts: &TargetParts<'_>) -> Result<Option<Secret>, ConfigError> {
        let Some(keys) = parts.token_keys else { return Ok(None) };
        let found = self.secret_of(keys, parts.token, parts.token_file)?;
        let Some((key, token)) = found else { return Ok(None) };
        if token.0.is_empty() || !token.0.iter().all(u8::is_ascii_graphic) {
            let problem = "holds no token; allowed are letters, digits and signs, without spaces";
            return Err(self.error(key, problem));
        }
        Ok(Some(token))
    }

    fn roots(&self, tls: bool, parts: &TargetParts<'_>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let key = parts.ca_file_key;
        let Some(path) = parts.ca_file else {
            if !tls {
                return Ok(Vec::new());
            }
            return parts
                .trusts_system
                .then(system_roots)
                .flatten()
                .ok_or_else(|| self.error(key, parts.no_roots));
        };
        if !tls {
            let (address, name) = (parts.address_key, key.rsplit('.').next().unwrap_or(key));
            let problem =
                format!("is set, but {address} begins with http://; allowed is {name} with https://");
            return Err(self.error(key, problem));
        }
        let allowed = "allowed is a PEM file with certificates";
        let path = self.options.base.join(path);
        let pem =
            files::unmarked(&path).map_err(|problem| self.error(key, format!("{problem}; {allowed}")))?;
        usable_roots(&pem).ok_or_else(|| {
            self.error(key, format!("{} holds none that can be used; {allowed}", path.display()))
        })
    }
}

fn system_roots() -> Option<Vec<CertificateDer<'static>>> {
    SYSTEM_ROOTS.iter().find_map(|path| usable_roots(&files::unmarked(Path::new(path)).ok()?))
}

/// The certificates of a PEM file that TLS can use; none if there is none. A system's list may hold one or another
/// that it cannot.
fn usable_roots(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let usable: Vec<_> = certificates.filter(|root| store.add(root.clone()).is_ok()).collect();
    (!usable.is_empty()).then_some(usable)
}
