//! `[auth]`: from what a person writes to the one key that verifies tokens.

use std::time::Duration;

use aws_lc_rs::digest;

use super::checker::Checker;
use super::error::ConfigError;
use super::public_key::{KeyKind, PublicKey};
use super::secret::{Secret, SecretKeys};
use crate::files;
use crate::limits::MAX_TOKEN_LEEWAY;

/// Shortest JWT secret outside `dev`, bytes (row B14), NULs at its end not counted: they are no part of the key.
const MIN_SECRET: usize = 16;

/// A secret that stands in a public repository, so everyone knows it (row B14).
const PUBLISHED_SECRET: &str = "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU";

const KEYS: SecretKeys = SecretKeys {
    inline: "auth.secret",
    file: "auth.secret_file",
    allowed: "allowed is a file with the secret that signs tokens",
};

/// How tokens are verified: exactly one algorithm (row B10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// HMAC with a shared secret.
    Hs256(Secret),
    /// RSA (PKCS#1 v1.5, SHA-256).
    Rs256(PublicKey),
    /// ECDSA on P-256 with SHA-256.
    Es256(PublicKey),
    /// Ed25519.
    EdDsa(PublicKey),
}

/// Claims a token must have when they are set here; what is not set is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedClaims {
    /// `iss` must be this string.
    pub issuer: Option<String>,
    /// `aud` must be this string, or a list of strings that has it.
    pub audience: Option<String>,
}

impl Checker<'_> {
    /// The algorithm with its key. A secret and a public key exclude each other: the algorithm says which it is.
    pub(super) fn auth(&mut self) -> Result<Auth, ConfigError> {
        match self.file.auth.algorithm.as_str() {
            "HS256" => self.secret().map(Auth::Hs256),
            "RS256" => self.public_key(KeyKind::Rsa).map(Auth::Rs256),
            "ES256" => self.public_key(KeyKind::P256).map(Auth::Es256),
            "EdDSA" => self.public_key(KeyKind::Ed25519).map(Auth::EdDsa),
            other => {
                let problem = format!(
                    "is {other:?}; allowed are \"HS256\", \"RS256\", \"ES256\" and \"EdDSA\", exactly so"
                );
                Err(self.error("auth.algorithm", problem))
            }
        }
    }

    /// What tokens must say beside their bearer.
    pub(super) fn expected_claims(&self) -> Result<ExpectedClaims, ConfigError> {
        let auth = &self.file.auth;
        for (key, value) in [("auth.issuer", &auth.issuer), ("auth.audience", &auth.audience)] {
            if value.as_ref().is_some_and(String::is_empty) {
                let problem = "is empty; allowed is a text, or to leave it out: then it is not looked at";
                return Err(self.error(key, problem));
            }
        }
        Ok(ExpectedClaims { issuer: auth.issuer.clone(), audience: auth.audience.clone() })
    }

    /// What clocks may differ by.
    pub(super) fn leeway(&self) -> Result<Duration, ConfigError> {
        let leeway = self.file.auth.leeway;
        if leeway > MAX_TOKEN_LEEWAY || leeway.subsec_nanos() != 0 {
            let [shown, longest] = [leeway, MAX_TOKEN_LEEWAY].map(humantime::format_duration);
            let problem = format!("is {shown}; allowed are whole seconds from 0s to {longest}");
            return Err(self.error("auth.leeway", problem));
        }
        Ok(leeway)
    }

    fn public_key(&self, kind: KeyKind) -> Result<PublicKey, ConfigError> {
        let auth = &self.file.auth;
        for (key, is_set) in
            [("auth.secret", auth.secret.is_some()), ("auth.secret_file", auth.secret_file.is_some())]
        {
            if is_set {
                let problem = format!(
                    "is for HS256; allowed with auth.algorithm {:?} is auth.public_key_file alone",
                    auth.algorithm
                );
                return Err(self.error(key, problem));
            }
        }
        let key = "auth.public_key_file";
        let allowed = format!("allowed is a PEM file with {kind}");
        let Some(path) = &auth.public_key_file else {
            let problem = format!("is missing; {allowed} to verify {} tokens", auth.algorithm);
            return Err(self.error(key, problem));
        };
        let path = self.options.base.join(path);
        let pem =
            files::unmarked(&path).map_err(|problem| self.error(key, format!("{problem}; {allowed}")))?;
        PublicKey::from_pem(&pem, kind).map_err(|problem| {
            self.error(key, format!("{} (for {}) {problem}", path.display(), auth.algorithm))
        })
    }

    fn secret(&mut self) -> Result<Secret, ConfigError> {
        let auth = &self.file.auth;
        if auth.public_key_file.is_some() {
            let problem = "is for \"RS256\", \"ES256\" and \"EdDSA\"; \
                           allowed with auth.algorithm \"HS256\" is auth.secret or auth.secret_file";
            return Err(self.error("auth.public_key_file", problem));
        }
        let Some((key, secret)) = self.secret_of(&KEYS, auth.secret.as_ref(), auth.secret_file.as_ref())?
        else {
            let problem = "is missing, as is auth.secret; allowed is one of them, \
                           and `gateway certs` makes certs/dev/jwt.secret";
            return Err(self.error("auth.secret_file", problem));
        };
        if !self.options.dev {
            self.refuse_weak(key, &secret.0)?;
        }
        Ok(secret)
    }

    fn refuse_weak(&self, key: &str, secret: &[u8]) -> Result<(), ConfigError> {
        let hmac_key = hmac_key(secret);
        if hmac_key == self::hmac_key(PUBLISHED_SECRET.as_bytes()) {
            let problem = "holds a secret that is published; allowed is one of your own, \
                           and `gateway certs` makes one";
            return Err(self.error(key, problem));
        }
        if hmac_key.len() < MIN_SECRET {
            let problem = format!(
                "holds {} bytes; allowed are {MIN_SECRET} and more, and `gateway certs` makes a secret",
                hmac_key.len()
            );
            return Err(self.error(key, problem));
        }
        Ok(())
    }
}

/// What HMAC-SHA256 makes of a secret (RFC 2104): filled up with NULs to the block of the hash, or hashed if it is longer
/// than that. Two secrets with the same outcome, here without the NULs, sign alike.
fn hmac_key(secret: &[u8]) -> Vec<u8> {
    let block = digest::SHA256.block_len();
    let mut key = match secret.len() > block {
        true => digest::digest(&digest::SHA256, secret).as_ref().to_vec(),
        false => secret.to_vec(),
    };
    while key.pop_if(|last| *last == 0).is_some() {}
    key
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;

    #[test]
    fn b14_secrets_are_the_same_key_when_they_sign_alike() {
        let long = [7; 65];
        let hashed = digest::digest(&digest::SHA256, &long);
        let secrets: [&[u8]; 8] =
            [b"", b"\0", b"secret", b"secret\0\0", b"\0secret", &long[..64], &long, hashed.as_ref()];
        for one in secrets {
            for other in secrets {
                let sign =
                    |secret| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"x").as_ref().to_vec();
                assert_eq!(hmac_key(one) == hmac_key(other), sign(one) == sign(other), "{one:?} {other:?}");
            }
        }
    }
}
