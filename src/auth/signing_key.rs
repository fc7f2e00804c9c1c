//! Makes tokens, for tools and tests: the gateway itself makes none.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::config::{ExpectedClaims, PublicKey, Secret, TokenKey, VerifyingKey};
use crate::keys::pem::{Label, PemError, only_section};

/// A key that signs tokens under one algorithm, with what a gateway needs to verify them.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    header: Header,
    verifies: VerifyingKey,
}

/// Why a file of a private key is refused; no text holds any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// It does not hold just one private key in PKCS#8 form.
    #[error("{0}; allowed is one private key in PEM, PKCS#8 (BEGIN PRIVATE KEY){hint}", hint = hint(*.0))]
    Section(PemError),
    /// A key that no algorithm here can use, or that is broken.
    #[error(
        "holds a key that signs no token; allowed are RSA of 2048 to 8192 bits (RS256), EC on P-256 (ES256) \
         and Ed25519 (EdDSA)"
    )]
    Kind,
}

/// How to convert what a file holds instead.
fn hint(error: PemError) -> &'static str {
    match error {
        PemError::Holds(Label::OldPrivateKey | Label::EncryptedPrivateKey) => {
            "; `openssl pkey -in FILE` converts it"
        }
        _ => "",
    }
}

#[derive(Serialize)]
struct Minted<'a> {
    acc: &'a str,
    app: &'a str,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

impl SigningKey {
    /// HS256.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self {
            key: EncodingKey::from_secret(secret),
            header: Header::new(Algorithm::HS256),
            verifies: VerifyingKey::Hs256(Secret(secret.to_vec())),
        }
    }

    /// Reads the text of a PEM file with one PKCS#8 section. The kind of the key says the algorithm: RS256, ES256 or
    /// EdDSA.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let der = only_section(pem, Label::PrivateKey).map_err(SigningKeyError::Section)?;
        let public = |bits: &[u8]| PublicKey { bits: bits.to_vec() };
        let (algorithm, key, verifies) = if let Ok(pair) = RsaKeyPair::from_pkcs8(&der) {
            let verifies = VerifyingKey::Rs256(public(pair.public_key().as_ref()));
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem), verifies)
        } else if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der) {
            let verifies = VerifyingKey::Es256(public(pair.public_key().as_ref()));
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem), verifies)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8(&der) {
            let verifies = VerifyingKey::EdDsa(public(pair.public_key().as_ref()));
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem), verifies)
        } else {
            return Err(SigningKeyError::Kind);
        };
        let header = Header::new(algorithm);
        let key = Self { key: key.map_err(|_| SigningKeyError::Kind)?, header, verifies };
        // Whatever a key can be refused for later is found here, so that signing cannot fail.
        key.sign(&Minted { acc: "", app: "", exp: 0, iss: None, aud: None })
            .map_err(|_| SigningKeyError::Kind)?;
        Ok(key)
    }

    /// The same, but its tokens name it in their header (`kid`).
    #[must_use]
    pub fn with_id(mut self, id: Option<String>) -> Self {
        self.header.kid = id;
        self
    }

    /// What a gateway must be configured with to accept the tokens.
    pub fn token_key(&self) -> TokenKey {
        TokenKey { id: self.header.kid.clone(), ..self.verifies.clone().into() }
    }

    /// A token that is valid until the second `exp` since 1970, with `iss` and `aud` as expected.
    pub fn mint_until(&self, account: &str, app: &str, exp: u64, expected: &ExpectedClaims) -> String {
        let ExpectedClaims { issuer, audience } = expected;
        let claims = Minted { acc: account, app, exp, iss: issuer.as_deref(), aud: audience.as_deref() };
        self.sign(&claims).expect("strings and a number are JSON, and the key has signed before")
    }

    fn sign(&self, claims: &Minted<'_>) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;

    #[test]
    fn a_file_that_is_no_pkcs8_key_is_refused_with_what_it_holds() {
        let refused = |pem: &str| SigningKey::from_pem(pem.as_bytes()).err().unwrap().to_string();
        let other_curve = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(refused(&other_curve.serialize_pem()).contains("signs no token; allowed are RSA"));
        let message = refused(&other_curve.public_key_pem());
        assert!(message.starts_with("holds a public key; allowed is one private key"), "{message}");
        for label in ["RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let message = refused(&format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"));
            assert!(message.ends_with("`openssl pkey -in FILE` converts it"), "{message}");
        }
        let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(SigningKey::from_pem(broken.as_bytes()).err(), Some(SigningKeyError::Kind));
        assert!(refused("").starts_with("holds no PEM"));
    }
}
