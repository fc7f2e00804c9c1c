//! `[tls]`: a chain that clients accept, and its key.

use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::checker::Checker;
use super::error::ConfigError;
use super::read;
use crate::keys::TicketKeys;
use crate::keys::pem::{self, Label, PemError};
use crate::{certs, files};

const CERT: &str = "tls.cert";

const KEY: &str = "tls.key";

const TICKETS: &str = "tls.ticket_key_file";

const CHAIN: &str = "allowed is a PEM chain, leaf first";

const KEY_ALLOWED: &str = "allowed is PEM: PKCS#8, SEC1 or PKCS#1";

/// A certificate chain and its private key.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl TlsIdentity {
    /// Both, as TLS takes them.
    ///
    /// # Errors
    /// They do not belong together, or TLS cannot use them.
    pub fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider)
    }

    /// The second since 1970 after which the first certificate of the chain is no longer valid; none if one cannot be
    /// read.
    pub fn not_after(&self) -> Option<i64> {
        certs::not_after(&self.chain)
    }
}

impl Checker<'_> {
    /// Reads the identity of the encrypted listeners.
    pub(super) fn identity(&mut self) -> Result<TlsIdentity, ConfigError> {
        let file = &self.file.tls;
        let path = self.options.base.join(&file.cert);
        let chain = files::unmarked(&path)
            .map_err(|problem| self.error(CERT, format!("{problem}{}", read::or_make(&path, CHAIN))))?;
        let chain = pem::certificates(&chain)
            .map_err(|problem| self.refuse_part(CERT, &format!("{problem}; {CHAIN}")))?;
        let key = self.read_private(KEY, &file.key, KEY_ALLOWED)?;
        let key = pem::private_key(&key).map_err(|problem| match problem {
            PemError::Holds(Label::EncryptedPrivateKey) => {
                let hint =
                    "and nobody is there to give the password; `openssl pkey -in FILE -out NEW` takes it off";
                self.error(KEY, format!("{} {problem}, {hint}", file.key.display()))
            }
            problem => self.refuse_part(KEY, &format!("{problem}; {KEY_ALLOWED}")),
        })?;
        let identity = pair(chain, key).map_err(|(part, problem)| self.refuse_part(part, problem))?;
        let told = certs::inspect(&identity.chain, SystemTime::now()).map_err(|problem| {
            self.refuse_part(CERT, &format!("{problem}; allowed is one that clients accept"))
        })?;
        let shown = file.cert.display();
        self.warnings.extend(told.iter().map(|told| format!("tls.cert: {shown}: {told}")));
        Ok(identity)
    }

    /// Reads the keys of TLS tickets, where there is a use for them.
    pub(super) fn ticket_keys(&mut self, is_used: bool) -> Result<Option<TicketKeys>, ConfigError> {
        const ALLOWED: &str = "allowed is the file that `gateway certs --rotate-tickets` makes";
        let Some(path) = self.file.tls.ticket_key_file.as_ref().filter(|_| is_used) else { return Ok(None) };
        let text = String::from_utf8(self.read_private(TICKETS, path, ALLOWED)?);
        let problem = match text.as_ref().map(|text| TicketKeys::parse(text)) {
            Ok(Ok(keys)) => return Ok(Some(keys)),
            Ok(Err(problem)) => problem.to_string(),
            Err(_) => "is not text".to_owned(),
        };
        Err(self.error(TICKETS, format!("{}: {problem}; {ALLOWED}", path.display())))
    }

    /// An error for one of the two files, by its key.
    fn refuse_part(&self, key: &str, problem: &str) -> ConfigError {
        let path = if key == KEY { &self.file.tls.key } else { &self.file.tls.cert };
        let hint = read::or_remake(&self.options.base.join(path));
        self.error(key, format!("{} {problem}{hint}", path.display()))
    }
}

/// A chain and its key, which must belong together; else the key of the setting that is wrong, and why.
fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsIdentity, (&'static str, &'static str)> {
    let identity = TlsIdentity { chain, key };
    match identity.certified_key() {
        Ok(_) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err((KEY, "does not belong to tls.cert; allowed is the key of its first certificate"))
        }
        Err(_) => Err((
            CERT,
            "holds a certificate or key that TLS cannot use; allowed is X.509 with an ECDSA, Ed25519 or RSA key",
        )),
    }
}
