//! The sections that files of keys and certificates hold. What one holds instead has a name, so that an error can say it.

use std::fmt;

use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a PEM section says of itself in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// SPKI, any algorithm.
    PublicKey,
    /// PKCS#8, any algorithm.
    PrivateKey,
    /// Any private key behind a password.
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
    /// The same in binary.
    #[error("holds DER, which is binary, and not PEM")]
    Der,
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

    /// Returns `true` if it is a private key, in whatever form.
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
    let labels = labels(pem);
    // What can be named is told before what cannot: EC parameters stand in front of an EC key.
    let others = || labels.iter().filter(|label| **label != wanted);
    if let Some(other) = others().find(|label| **label != Label::Other).or_else(|| others().next()) {
        return Err(PemError::Holds(*other));
    }
    match labels.len() {
        0 => return Err(nothing(pem)),
        1 => {}
        several => return Err(PemError::Several(several)),
    }
    match <(SectionKind, Vec<u8>)>::from_pem_slice(pem) {
        Ok((SectionKind::PublicKey, der)) if wanted == Label::PublicKey => Ok(der),
        Ok((SectionKind::PrivateKey, der)) if wanted == Label::PrivateKey => Ok(der),
        _ => Err(PemError::Broken),
    }
}

/// The certificates of a file, at least one. Other sections beside them are left alone; one that begins or ends like a
/// certificate and is none is refused, because a reader of PEM skips it in silence.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let labels = labels(pem);
    let marked =
        |mark: &[u8]| lines(pem).filter(|line| line.windows(mark.len()).any(|part| part == mark)).count();
    let (begun, ended) = (marked(b"BEGIN CERTIFICATE"), marked(b"END CERTIFICATE"));
    if begun + ended == 0 {
        return Err(instead(pem, &labels));
    }
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| PemError::Broken)?;
    let whole = certificates.len() == begun && begun == ended;
    if whole { Ok(certificates) } else { Err(PemError::Broken) }
}

/// The first private key of a file, whatever stands beside it.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let labels = labels(pem);
    match labels.iter().find(|label| label.is_private()) {
        Some(Label::EncryptedPrivateKey) => Err(PemError::Holds(Label::EncryptedPrivateKey)),
        Some(_) => PrivateKeyDer::from_pem_slice(pem).map_err(|_| PemError::Broken),
        None => Err(instead(pem, &labels)),
    }
}

/// What a file holds instead of what it should. What can be named is told before what cannot.
fn instead(pem: &[u8], labels: &[Label]) -> PemError {
    let other = labels.iter().find(|label| **label != Label::Other).or(labels.first());
    other.map_or_else(|| nothing(pem), |other| PemError::Holds(*other))
}

/// What a file without any section is: every key and certificate in DER is a sequence of more than 127 bytes, or nearly.
fn nothing(bytes: &[u8]) -> PemError {
    match bytes {
        [0x30, length, ..] if *length >= 0x80 || usize::from(*length) + 2 == bytes.len() => PemError::Der,
        _ => PemError::Nothing,
    }
}

/// The labels of all sections, in their order.
fn labels(pem: &[u8]) -> Vec<Label> {
    let mut following = lines(pem).skip(1);
    let labels = lines(pem).filter_map(|line| {
        let next = following.next().unwrap_or_default();
        // The older way of saying that a key is encrypted is a header below its first line.
        match label(line)? {
            Label::OldPrivateKey if next.starts_with(b"Proc-Type: 4,ENCRYPTED") => {
                Some(Label::EncryptedPrivateKey)
            }
            label => Some(label),
        }
    });
    labels.collect()
}

fn lines(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    pem.split(|byte| *byte == b'\n')
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
            ("\u{30}\u{3}\u{2}\u{1}\u{7}".to_owned(), PemError::Der),
        ] {
            assert_eq!(only_section(text.as_bytes(), Label::PublicKey), Err(expected), "{text}");
        }
        let public = section("PUBLIC KEY");
        assert_eq!(
            only_section(public.as_bytes(), Label::PrivateKey),
            Err(PemError::Holds(Label::PublicKey))
        );
    }

    #[test]
    fn h18_a_section_that_would_be_skipped_in_silence_is_broken() {
        let one = section("CERTIFICATE");
        let key = section("PRIVATE KEY");
        assert_eq!(certificates(one.repeat(2).as_bytes()).unwrap().len(), 2);
        assert_eq!(certificates(format!("a\n{one}\nb\n{key}").as_bytes()).unwrap().len(), 1);
        for (from, to) in [
            ("-----BEGIN", "----BEGIN"),
            ("-----BEGIN", " -----BEGIN"),
            ("-----END", "----END"),
            ("AAAA", "A!A"),
        ] {
            let second = one.replace(from, to);
            assert_eq!(certificates(format!("{one}{second}").as_bytes()), Err(PemError::Broken), "{second}");
        }
        assert_eq!(
            certificates(format!("{one}-----BEGIN CERTIFICATE-----\nAAAA\n").as_bytes()),
            Err(PemError::Broken)
        );
        assert_eq!(certificates(key.as_bytes()), Err(PemError::Holds(Label::PrivateKey)));
        assert_eq!(certificates(b"\x30\x82\x01\x00"), Err(PemError::Der));
        assert_eq!(certificates(b"0 means no"), Err(PemError::Nothing));
    }

    #[test]
    fn h18_a_key_behind_a_password_is_called_that() {
        let taken = |text: &str| private_key(text.as_bytes()).map(drop);
        let old = section("EC PRIVATE KEY");
        assert_eq!(taken(&section("PRIVATE KEY")), Ok(()));
        assert_eq!(taken(&format!("{}{}{old}", section("CERTIFICATE"), section("EC PARAMETERS"))), Ok(()));
        let header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA";
        for text in [section("ENCRYPTED PRIVATE KEY"), old.replace("AAAA", header)] {
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                assert_eq!(taken(&text), Err(PemError::Holds(Label::EncryptedPrivateKey)), "{text}");
            }
        }
        assert_eq!(taken(&section("CERTIFICATE")), Err(PemError::Holds(Label::Certificate)));
        assert_eq!(taken(&old.replace("AAAA", "!")), Err(PemError::Broken));
        assert_eq!(taken(""), Err(PemError::Nothing));
    }
}
