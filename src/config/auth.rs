//! `[auth]`: from what a person writes to the one key that verifies tokens.

use super::check::Checker;
use super::error::ConfigError;
use super::public_key::{KeyKind, PublicKey};
use super::{Auth, ExpectedClaims, Secret, read};

/// Shortest JWT secret outside `dev`, bytes (row B14).
const MIN_SECRET: usize = 16;

/// A secret that stands in a public repository, so everyone knows it (row B14).
const PUBLISHED_SECRET: &str = "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU";

impl Checker<'_> {
    /// The algorithm with its key. A secret and a public key exclude each other: the algorithm says which it is.
    pub(super) fn auth(&mut self) -> Result<Auth, ConfigError> {
        match self.file.auth.algorithm.as_str() {
            "HS256" => self.secret().map(|secret| Auth::Hs256(Secret(secret))),
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
        let pem = read::bytes(&path).map_err(|problem| self.error(key, format!("{problem}; {allowed}")))?;
        PublicKey::from_pem(&pem, kind).map_err(|problem| {
            self.error(key, format!("{} (for {}) {problem}", path.display(), auth.algorithm))
        })
    }

    fn secret(&mut self) -> Result<Vec<u8>, ConfigError> {
        if self.file.auth.public_key_file.is_some() {
            let problem = "is for \"RS256\", \"ES256\" and \"EdDSA\"; \
                           allowed with auth.algorithm \"HS256\" is auth.secret or auth.secret_file";
            return Err(self.error("auth.public_key_file", problem));
        }
        let (key, secret) = match (&self.file.auth.secret, &self.file.auth.secret_file) {
            (Some(secret), None) => ("auth.secret", secret.clone().into_bytes()),
            (None, Some(path)) => {
                let key = "auth.secret_file";
                (key, Secret::from_line(self.read_secret(key, path)?).0)
            }
            (Some(_), Some(_)) => {
                let problem = "stands beside auth.secret_file; allowed is one of them";
                return Err(self.error("auth.secret", problem));
            }
            (None, None) => {
                let problem = "is missing, as is auth.secret; allowed is one of them, \
                               and `gateway certs` makes certs/dev/jwt.secret";
                return Err(self.error("auth.secret_file", problem));
            }
        };
        if !self.options.dev {
            self.refuse_weak(key, &secret)?;
        }
        Ok(secret)
    }

    fn refuse_weak(&self, key: &str, secret: &[u8]) -> Result<(), ConfigError> {
        if secret == PUBLISHED_SECRET.as_bytes() {
            let problem = "holds a secret that is published; allowed is one of your own, \
                           and `gateway certs` makes one";
            return Err(self.error(key, problem));
        }
        if secret.len() < MIN_SECRET {
            let problem = format!(
                "holds {} bytes; allowed are {MIN_SECRET} and more, and `gateway certs` makes a secret",
                secret.len()
            );
            return Err(self.error(key, problem));
        }
        Ok(())
    }
}
