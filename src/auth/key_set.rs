//! The keys tokens are verified with, and which of them a token is checked with.

use std::collections::BTreeSet;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::token_error::TokenError;
use crate::config::{TokenKey, VerifyingKey};

/// The keys of a gateway, prepared. Never changed: a new set takes its place.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<PreparedKey>,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct PreparedKey {
    id: Option<String>,
    key: DecodingKey,
    algorithm: Algorithm,
    /// The only value of `alg` in the header of its tokens, case and all (row B10).
    name: &'static str,
    apps: Option<BTreeSet<String>>,
    not_after: Option<u64>,
}

/// What is read of a token's header. Other hints at keys (`jku`, `jwk`, `x5u`, …) are not even looked at (row B11).
#[derive(Deserialize)]
pub(super) struct TokenHeader {
    #[serde(default)]
    alg: Value,
    #[serde(default)]
    kid: Value,
    /// `Some` even for `null`: its mere presence is refused.
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

impl KeySet {
    /// Prepares keys. Of several with one id the first counts.
    pub fn new(keys: &[TokenKey]) -> Self {
        Self { keys: keys.iter().map(PreparedKey::new).collect() }
    }

    /// Returns `true` if the header names a key that is not there, no key without an id could be meant, and it is of a kind
    /// that identity services publish.
    pub(super) fn lacks_key_of(&self, header: &TokenHeader) -> bool {
        let Some(kid) = header.kid.as_str() else { return false };
        let published = ["RS256", "ES256", "EdDSA"].iter().any(|name| header.alg == *name);
        let could_be = |key: &PreparedKey| match &key.id {
            Some(id) => id == kid,
            None => header.alg == key.name,
        };
        published && header.crit.is_none() && !self.keys.iter().any(could_be)
    }

    /// Finds the key that signed a message.
    ///
    /// A `kid` names one key, and no other is tried. Without it, all keys of the token's algorithm are; with one that no
    /// key has, those of them that have no id. So a token costs one signature check, unless keys have no ids or tokens name
    /// none.
    pub(super) fn verify(
        &self,
        header: &TokenHeader,
        message: &str,
        signature: &str,
        now_unix: u64,
    ) -> Result<&PreparedKey, TokenError> {
        let kid = match &header.kid {
            Value::Null => None,
            Value::String(kid) => Some(kid.as_str()),
            _ => return Err(TokenError::Format),
        };
        let is_of = |key: &&PreparedKey| header.alg == key.name;
        if header.crit.is_some() || !self.keys.iter().any(|key| is_of(&key)) {
            return Err(TokenError::Algorithm);
        }
        let named = kid.and_then(|kid| self.keys.iter().find(|key| key.id.as_deref() == Some(kid)));
        if let Some(key) = named {
            if !is_of(&key) {
                return Err(TokenError::Algorithm);
            }
            key.verify(message, signature, now_unix)?;
            return Ok(key);
        }
        let mut refusal = TokenError::Key;
        for key in self.keys.iter().filter(is_of).filter(|key| kid.is_none() || key.id.is_none()) {
            match key.verify(message, signature, now_unix) {
                Ok(()) => return Ok(key),
                Err(TokenError::Key) => {}
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

impl PreparedKey {
    fn new(key: &TokenKey) -> Self {
        let (decoding, algorithm, name) = match &key.key {
            VerifyingKey::Hs256(secret) => (DecodingKey::from_secret(&secret.0), Algorithm::HS256, "HS256"),
            VerifyingKey::Rs256(key) => (DecodingKey::from_rsa_der(&key.bits), Algorithm::RS256, "RS256"),
            VerifyingKey::Es256(key) => (DecodingKey::from_ec_der(&key.bits), Algorithm::ES256, "ES256"),
            VerifyingKey::EdDsa(key) => (DecodingKey::from_ed_der(&key.bits), Algorithm::EdDSA, "EdDSA"),
        };
        let TokenKey { id, apps, not_after, .. } = key.clone();
        Self { id, key: decoding, algorithm, name, apps, not_after }
    }

    /// Returns `true` if its tokens may be for this app.
    pub(super) fn speaks_for(&self, app: &str) -> bool {
        self.apps.as_ref().is_none_or(|apps| apps.contains(app))
    }

    /// A key that has ended is not tried: then it is as if it had been removed.
    fn verify(&self, message: &str, signature: &str, now_unix: u64) -> Result<(), TokenError> {
        if self.not_after.is_some_and(|end| now_unix >= end) {
            return Err(TokenError::Key);
        }
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TokenError::Signature),
            Err(_) => Err(TokenError::Format),
        }
    }
}

/// Tells a field that is `null` from one that is absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
