//! Reading the files a configuration names. Errors say what is wrong with them, without the key.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsIdentity;

/// Larger than any certificate, key, secret or route that makes sense, bytes. It keeps a wrong path (a device, a
/// log) from filling the memory.
const MAX_FILE: u64 = 16 * 1024 * 1024;

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let describe = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} does not exist", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    };
    let metadata = fs::metadata(path).map_err(describe)?;
    if !metadata.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if metadata.len() > MAX_FILE {
        return Err(format!("{} has more than {MAX_FILE} bytes", path.display()));
    }
    fs::read(path).map_err(describe)
}

pub(super) fn text(path: &Path) -> Result<String, String> {
    String::from_utf8(bytes(path)?).map_err(|_| format!("{} is not UTF-8", path.display()))
}

/// What to do about a bad file that `gateway certs` makes: it keeps what is there unless it is told otherwise.
pub(super) fn or_remake(problem: &str) -> String {
    format!("{problem}; `gateway certs --force` makes everything anew")
}

/// What to do about a missing file that `gateway certs` makes.
pub(super) fn or_make(problem: &str) -> String {
    format!("{problem}; `gateway certs` makes it")
}

/// A chain and its key, which must belong together; else the key of the setting that is wrong, and why.
pub(super) fn identity(cert: &[u8], key: &[u8]) -> Result<TlsIdentity, (&'static str, &'static str)> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|_| ("tls.cert", "holds broken PEM; allowed is a PEM chain, leaf first"))?;
    if chain.is_empty() {
        return Err(("tls.cert", "holds no certificate; allowed is a PEM chain, leaf first"));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| ("tls.key", "holds no private key; allowed is PEM: PKCS#8, SEC1 or PKCS#1"))?;
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider) {
        // A key that cannot tell its public half cannot be compared.
        Ok(_) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(TlsIdentity { chain, key })
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(("tls.key", "does not belong to tls.cert; allowed is the key of its first certificate"))
        }
        Err(_) => Err((
            "tls.cert",
            "holds a certificate or key that TLS cannot use; allowed is X.509 with an \
                        ECDSA, Ed25519 or RSA key",
        )),
    }
}

/// When the leaf ended, if it has. A certificate that cannot be read is not known to have.
pub(super) fn expired_at(identity: &TlsIdentity) -> Option<String> {
    let end = u64::try_from(identity.not_after()?).unwrap_or(0);
    let end = UNIX_EPOCH + Duration::from_secs(end);
    (SystemTime::now() > end).then(|| humantime::format_rfc3339_seconds(end).to_string())
}

#[cfg(unix)]
pub(super) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    /// Read permission of the group and of everybody.
    const OTHERS_READ: u32 = 0o044;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0)
}

#[cfg(not(unix))]
pub(super) fn is_open_to_others(_path: &Path) -> bool {
    false
}
