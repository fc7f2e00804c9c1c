//! The public key that tokens are verified with: PEM, one key, of the kind its algorithm needs.

use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::keys::pem::{Label, PemError, only_section};

/// Shortest RSA modulus, bits: what is shorter can be factored within reach of the time keys live.
const MIN_RSA_BITS: usize = 2048;

/// Longest RSA modulus, bits: verifying with a longer one would cost every login too much.
const MAX_RSA_BITS: usize = 8192;

/// The kinds of keys, one for each algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// For RS256: 2048 to 8192 bits.
    Rsa,
    /// For ES256.
    P256,
    /// For EdDSA.
    Ed25519,
}

/// A public key that has been parsed once, so it can verify.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// As in the `subjectPublicKey` of an SPKI: PKCS#1 for RSA, else the point.
    pub(crate) bits: Vec<u8>,
}

/// Why a file of a public key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// It does not hold just one public key.
    #[error("{0}; allowed is one public key in PEM (BEGIN PUBLIC KEY){hint}", hint = hint(*.0))]
    Section(PemError),
    /// A key of another kind than the algorithm's.
    #[error("holds {found}; allowed is {wanted}")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What the algorithm needs.
        wanted: KeyKind,
    },
    /// An RSA key of this many bits.
    #[error("holds an RSA key of {0} bits; allowed is {kind}", kind = KeyKind::Rsa)]
    Size(usize),
    /// No key can be made of its bytes.
    #[error("holds a key that is broken; allowed is {0}")]
    Broken(KeyKind),
}

/// How to get at the public key of what a file holds instead.
fn hint(error: PemError) -> &'static str {
    match error {
        PemError::Holds(label) if label.is_private() => {
            "; `openssl pkey -in FILE -pubout` prints that of a private key"
        }
        PemError::Holds(Label::Certificate) => {
            "; `openssl x509 -in FILE -noout -pubkey` prints that of a certificate"
        }
        PemError::Holds(Label::OldPublicKey) => {
            "; `openssl rsa -RSAPublicKey_in -in FILE -pubout` converts it"
        }
        _ => "",
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa => write!(f, "an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"),
            Self::P256 => f.write_str("an EC key on P-256"),
            Self::Ed25519 => f.write_str("an Ed25519 key"),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bytes)", self.bits.len())
    }
}

impl PublicKey {
    /// Reads the text of a PEM file with one SPKI section.
    ///
    /// # Errors
    /// [`PublicKeyError`].
    pub fn from_pem(pem: &[u8], wanted: KeyKind) -> Result<Self, PublicKeyError> {
        let der = only_section(pem, Label::PublicKey).map_err(PublicKeyError::Section)?;
        Self::from_spki(&der, wanted)
    }

    /// An RSA key of its modulus and its exponent, big-endian. Zeros in front do not count.
    ///
    /// # Errors
    /// [`PublicKeyError::Size`], [`PublicKeyError::Broken`].
    pub(super) fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, PublicKeyError> {
        let [n, e] = [n, e].map(|number| {
            let zeros = number.iter().take_while(|byte| **byte == 0).count();
            &number[zeros..]
        });
        // Nothing is computed with numbers that are far too large.
        if n.len() > MAX_RSA_BITS / 8 || e.len() > n.len() {
            return Err(PublicKeyError::Size(n.len() * 8));
        }
        let spki: Result<PublicKeyX509Der<'_>, _> = RsaPublicKeyComponents { n, e }.as_der();
        let spki = spki.map_err(|_| PublicKeyError::Broken(KeyKind::Rsa))?;
        Self::from_spki(spki.as_ref(), KeyKind::Rsa)
    }

    /// A key as it stands in an SPKI; of P-256 and Ed25519 that is the point.
    ///
    /// # Errors
    /// [`PublicKeyError::Broken`].
    pub(super) fn from_bits(bits: Vec<u8>, kind: KeyKind) -> Result<Self, PublicKeyError> {
        ParsedPublicKey::new(kind.algorithm(), &bits).map_err(|_| PublicKeyError::Broken(kind))?;
        Ok(Self { bits })
    }

    fn from_spki(der: &[u8], wanted: KeyKind) -> Result<Self, PublicKeyError> {
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|_| PublicKeyError::Broken(wanted))?;
        if !rest.is_empty() {
            return Err(PublicKeyError::Broken(wanted));
        }
        match kind_of(&spki) {
            Ok(found) if found == wanted => {}
            Ok(KeyKind::Rsa) => return Err(PublicKeyError::Kind { found: "an RSA key", wanted }),
            Ok(KeyKind::P256) => return Err(PublicKeyError::Kind { found: "an EC key", wanted }),
            Ok(KeyKind::Ed25519) => return Err(PublicKeyError::Kind { found: "an Ed25519 key", wanted }),
            Err(found) => return Err(PublicKeyError::Kind { found, wanted }),
        }
        if wanted == KeyKind::Rsa {
            let bits = rsa_bits(&spki).ok_or(PublicKeyError::Broken(wanted))?;
            if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                return Err(PublicKeyError::Size(bits));
            }
        }
        Self::from_bits(spki.subject_public_key.data.to_vec(), wanted)
    }
}

impl KeyKind {
    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::Ed25519 => &ED25519,
        }
    }
}

/// The kind of a key, else the name of what no algorithm here can use.
fn kind_of(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyKind, &'static str> {
    let oid = &spki.algorithm.algorithm;
    if *oid == OID_PKCS1_RSAENCRYPTION {
        return Ok(KeyKind::Rsa);
    }
    if *oid == OID_SIG_ED25519 {
        return Ok(KeyKind::Ed25519);
    }
    if *oid != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Err("a key of another algorithm");
    }
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if curve == Some(OID_EC_P256) {
        Ok(KeyKind::P256)
    } else {
        Err("an EC key on another or an unnamed curve")
    }
}

fn rsa_bits(spki: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    let Ok(Parsed::RSA(key)) = spki.parsed() else { return None };
    let first = key.modulus.iter().position(|byte| *byte != 0)?;
    let modulus = &key.modulus[first..];
    Some(modulus.len() * 8 - modulus[0].leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
        SignatureAlgorithm,
    };
    use rstest::rstest;

    use super::*;

    /// RSA with 1024 bits, which no library makes any more.
    const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDMNxOHtKIWuInPwh6pAbyuKo9b
Sds/jtqT5rKPs6PLc6SnYXi/eANpb6iXHTfRR1RO9huT3mOcVBD+bxTas4omYbgN
4nxwvwMqpYiG0gGwI3bsEQavg5RPkyUUED83FmOX6zTaipMCgN0s3dLKpBuRuAx0
DexF1KSi1Ln6su+oBQIDAQAB
-----END PUBLIC KEY-----
";

    fn make(algorithm: &'static SignatureAlgorithm) -> KeyPair {
        KeyPair::generate_for(algorithm).unwrap()
    }

    fn read(pem: &str, wanted: KeyKind) -> Result<PublicKey, PublicKeyError> {
        PublicKey::from_pem(pem.as_bytes(), wanted)
    }

    #[rstest]
    #[case(&PKCS_RSA_SHA256, KeyKind::Rsa)]
    #[case(&PKCS_ECDSA_P256_SHA256, KeyKind::P256)]
    #[case(&PKCS_ED25519, KeyKind::Ed25519)]
    fn b11_a_key_is_taken_for_its_own_algorithm_only(
        #[case] algorithm: &'static SignatureAlgorithm,
        #[case] kind: KeyKind,
    ) {
        let key = make(algorithm);
        let pem = key.public_key_pem();
        assert_eq!(read(&pem, kind).unwrap().bits, key.public_key_raw());
        for wanted in [KeyKind::Rsa, KeyKind::P256, KeyKind::Ed25519] {
            if wanted != kind {
                let error = read(&pem, wanted).unwrap_err();
                assert!(matches!(error, PublicKeyError::Kind { .. }), "{error}");
            }
        }
        let message = read(&key.serialize_pem(), kind).unwrap_err().to_string();
        assert!(message.contains("holds a private key; allowed is one public key in PEM"), "{message}");
        assert!(message.contains("-pubout"), "{message}");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let message = read(&certificate, kind).unwrap_err().to_string();
        assert!(message.contains("holds a certificate; allowed is one public key in PEM"), "{message}");
    }

    #[test]
    fn b14_an_rsa_key_below_2048_bits_is_refused() {
        let error = read(SHORT_RSA, KeyKind::Rsa).unwrap_err();
        assert_eq!(error, PublicKeyError::Size(1024));
        assert_eq!(
            error.to_string(),
            "holds an RSA key of 1024 bits; allowed is an RSA key of 2048 to 8192 bits"
        );
    }

    #[test]
    fn another_curve_and_broken_keys_are_refused() {
        let other = make(&PKCS_ECDSA_P384_SHA384).public_key_pem();
        let message = read(&other, KeyKind::P256).unwrap_err().to_string();
        assert_eq!(message, "holds an EC key on another or an unnamed curve; allowed is an EC key on P-256");
        assert_eq!(
            read("", KeyKind::Rsa).unwrap_err().to_string(),
            "holds no PEM; allowed is one public key in PEM (BEGIN PUBLIC KEY)"
        );
        let empty = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert_eq!(read(empty, KeyKind::Ed25519), Err(PublicKeyError::Broken(KeyKind::Ed25519)));
        // A point that is not on the curve: only the last byte differs.
        let mut der = rcgen::PublicKeyData::subject_public_key_info(&make(&PKCS_ECDSA_P256_SHA256));
        *der.last_mut().unwrap() ^= 1;
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&der);
        let moved = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        assert_eq!(read(&moved, KeyKind::P256), Err(PublicKeyError::Broken(KeyKind::P256)));
    }
}
