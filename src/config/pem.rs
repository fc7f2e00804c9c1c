//! The one section a key file must hold. What it holds instead has a name, so that an error can say it.

use std::fmt;

use rustls::pki_types::pem::{PemObject as _, SectionKind};

/// What a PEM section says of itself in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// SPKI, any algorithm.
    PublicKey,
    /// PKCS#8, any algorithm.
    PrivateKey,
    /// PKCS#8 behind a password.
    EncryptedPrivateKey,
    /// PKCS#1 or SEC1: a private key of one algorithm.
    OldPrivateKey,
    /// PKCS#1: an RSA public key.
    OldPublicKey,
    /// X.509.
    Certificate,
    /// Anything else.
    Other,
}

/// Why a file does not hold the one section it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No line begins a section.
    #[error("holds no PEM")]
    Nothing,
    /// Something else, alone or beside what should be there.
    #[error("holds {0}")]
    Holds(Label),
    /// More than one of what should be there.
    #[error("holds {0} keys")]
    Several(usize),
    /// A section that does not end, or is not base64.
    #[error("holds broken PEM")]
    Broken,
}

impl Label {
    fn parse(text: &str) -> Self {
        match text {
            "PUBLIC KEY" => Self::PublicKey,
            "PRIVATE KEY" => Self::PrivateKey,
            "ENCRYPTED PRIVATE KEY" => Self::EncryptedPrivateKey,
            "RSA PUBLIC KEY" => Self::OldPublicKey,
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Self::Certificate,
            other if other.ends_with("PRIVATE KEY") => Self::OldPrivateKey,
            _ => Self::Other,
        }
    }

    /// Is it a private key, in whatever form?
    pub(crate) const fn is_private(self) -> bool {
        matches!(self, Self::PrivateKey | Self::EncryptedPrivateKey | Self::OldPrivateKey)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PublicKey => "a public key",
            Self::PrivateKey => "a private key",
            Self::EncryptedPrivateKey => "an encrypted private key",
            Self::OldPrivateKey => "a private key in an older form (PKCS#1 or SEC1)",
            Self::OldPublicKey => "a public key in an older form (PKCS#1)",
            Self::Certificate => "a certificate",
            Self::Other => "PEM of another kind",
        })
    }
}

/// The DER of a file's only section, which must be of the kind `wanted`: a public or a private key.
pub(crate) fn only_section(pem: &[u8], wanted: Label) -> Result<Vec<u8>, PemError> {
    let labels: Vec<Label> = pem.split(|byte| *byte == b'\n').filter_map(label).collect();
    // What can be named is told before what cannot: EC parameters stand in front of an EC key.
    let others = || labels.iter().filter(|label| **label != wanted);
    if let Some(other) = others().find(|label| **label != Label::Other).or_else(|| others().next()) {
        return Err(PemError::Holds(*other));
    }
    match labels.len() {
        0 => return Err(PemError::Nothing),
        1 => {}
        several => return Err(PemError::Several(several)),
    }
    match <(SectionKind, Vec<u8>)>::from_pem_slice(pem) {
        Ok((SectionKind::PublicKey, der)) if wanted == Label::PublicKey => Ok(der),
        Ok((SectionKind::PrivateKey, der)) if wanted == Label::PrivateKey => Ok(der),
        _ => Err(PemError::Broken),
    }
}

fn label(line: &[u8]) -> Option<Label> {
    let text = line.trim_ascii_end().strip_prefix(b"-----BEGIN ")?.strip_suffix(b"-----")?;
    Some(std::str::from_utf8(text).map_or(Label::Other, Label::parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
    }

    #[test]
    fn the_only_section_is_decoded_and_text_around_it_is_skipped() {
        let text = format!("made for tests\r\n{}the end", section("PUBLIC KEY"));
        assert_eq!(only_section(text.as_bytes(), Label::PublicKey), Ok(vec![0; 3]));
        let text = section("PRIVATE KEY").replace('\n', "\r\n");
        assert_eq!(only_section(text.as_bytes(), Label::PrivateKey), Ok(vec![0; 3]));
    }

    #[test]
    fn what_else_a_file_holds_is_named() {
        for (text, expected) in [
            (section("PRIVATE KEY"), PemError::Holds(Label::PrivateKey)),
            (section("ENCRYPTED PRIVATE KEY"), PemError::Holds(Label::EncryptedPrivateKey)),
            (section("RSA PRIVATE KEY"), PemError::Holds(Label::OldPrivateKey)),
            (section("EC PARAMETERS") + &section("EC PRIVATE KEY"), PemError::Holds(Label::OldPrivateKey)),
            (section("PUBLIC KEY") + &section("PRIVATE KEY"), PemError::Holds(Label::PrivateKey)),
            (section("RSA PUBLIC KEY"), PemError::Holds(Label::OldPublicKey)),
            (section("CERTIFICATE"), PemError::Holds(Label::Certificate)),
            (section("X509 CRL"), PemError::Holds(Label::Other)),
            (section("PUBLIC KEY").repeat(2), PemError::Several(2)),
            (section("PUBLIC KEY").replace("AAAA", "!!!!"), PemError::Broken),
            (section("PUBLIC KEY").replace("-----END", "----"), PemError::Broken),
            (String::new(), PemError::Nothing),
            ("ssh-ed25519 AAAA me@here".to_owned(), PemError::Nothing),
        ] {
            assert_eq!(only_section(text.as_bytes(), Label::PublicKey), Err(expected), "{text}");
        }
        let public = section("PUBLIC KEY");
        assert_eq!(
            only_section(public.as_bytes(), Label::PrivateKey),
            Err(PemError::Holds(Label::PublicKey))
        );
    }
}
