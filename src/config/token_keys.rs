//! The keys of `[auth]` that tokens are verified with: one written there directly, or the list of `[[auth.keys]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;

use super::auth_table::KeyTable;
use super::checker::Checker;
use super::error::ConfigError;
use super::public_key::{KeyKind, PublicKey};
use super::secret::{Secret, SecretKeys};
use crate::files;
use crate::limits::{MAX_KEY_APPS, MAX_KEY_ID, MAX_TOKEN_KEYS};

/// Shortest JWT secret outside `dev`, bytes (row B14), NULs at its end not counted: they are no part of the key.
const MIN_SECRET: usize = 16;

/// A secret that stands in a public repository, so everyone knows it (row B14).
const PUBLISHED_SECRET: &str = "jwt-1sNzdiSgnNuxyq2g7xml2JvLArU";

/// What a token's signature is checked with: one algorithm and its key (row B10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// HMAC with a shared secret.
    Hs256(Secret),
    /// RSA (PKCS#1 v1.5, SHA-256).
    Rs256(PublicKey),
    /// ECDSA on P-256 with SHA-256.
    Es256(PublicKey),
    /// Ed25519.
    EdDsa(PublicKey),
}

/// A key whose tokens are accepted, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// The `kid` of its tokens. A key without one is tried for tokens whose `kid` names no other key.
    pub id: Option<String>,
    /// What signatures are checked with.
    pub key: VerifyingKey,
    /// The apps its tokens may be for; none: all.
    pub apps: Option<BTreeSet<String>>,
    /// The second since 1970 from which on its tokens are refused; none: never.
    pub not_after: Option<u64>,
}

impl From<VerifyingKey> for TokenKey {
    /// A key without an id, for all apps and for good.
    fn from(key: VerifyingKey) -> Self {
        Self { id: None, key, apps: None, not_after: None }
    }
}

/// The settings of one key, and the section they stand in.
struct KeySettings<'a> {
    /// `auth`, or `auth.keys[0]` and so on.
    section: String,
    algorithm: &'a str,
    secret: Option<&'a String>,
    secret_file: Option<&'a PathBuf>,
    public_key_file: Option<&'a PathBuf>,
}

impl KeySettings<'_> {
    /// The full name of a setting of this key.
    fn named(&self, key: &str) -> String {
        format!("{}.{key}", self.section)
    }
}

impl Checker<'_> {
    /// Every key that is not fetched: those of the configuration in their order, then those of `auth.jwks_file`.
    pub(super) fn token_keys(&mut self) -> Result<Vec<TokenKey>, ConfigError> {
        let auth = &self.file.auth;
        let mut keys = if auth.keys.is_empty() && !auth.has_single_key() && self.has_key_set() {
            Vec::new()
        } else {
            self.written_keys()?
        };
        let more = self.jwks_file(&keys)?;
        keys.extend(more);
        Ok(keys)
    }

    fn written_keys(&mut self) -> Result<Vec<TokenKey>, ConfigError> {
        let auth = &self.file.auth;
        if auth.keys.is_empty() {
            let settings = KeySettings {
                section: "auth".to_owned(),
                algorithm: auth.algorithm.as_deref().unwrap_or("HS256"),
                secret: auth.secret.as_ref(),
                secret_file: auth.secret_file.as_ref(),
                public_key_file: auth.public_key_file.as_ref(),
            };
            return Ok(vec![self.verifying_key(&settings)?.into()]);
        }
        self.refuse_both_forms()?;
        if auth.keys.len() > MAX_TOKEN_KEYS {
            let problem = format!("has {} entries; allowed are at most {MAX_TOKEN_KEYS}", auth.keys.len());
            return Err(self.error("auth.keys", problem));
        }
        let mut keys = Vec::with_capacity(auth.keys.len());
        for (index, table) in auth.keys.iter().enumerate() {
            let key = self.listed_key(index, table, &keys)?;
            keys.push(key);
        }
        self.look_at_ends(&keys)?;
        Ok(keys)
    }

    /// One key stands in `[auth]` itself or all stand in the list: else it would not be plain which counts.
    fn refuse_both_forms(&self) -> Result<(), ConfigError> {
        let auth = &self.file.auth;
        for (key, is_set) in [
            ("auth.algorithm", auth.algorithm.is_some()),
            ("auth.secret", auth.secret.is_some()),
            ("auth.secret_file", auth.secret_file.is_some()),
            ("auth.public_key_file", auth.public_key_file.is_some()),
        ] {
            if is_set {
                let problem = "stands beside auth.keys; allowed is either one key in [auth] or the list in \
                               [[auth.keys]], with this setting in its entry";
                return Err(self.error(key, problem));
            }
        }
        Ok(())
    }

    fn listed_key(
        &mut self,
        index: usize,
        table: &KeyTable,
        before: &[TokenKey],
    ) -> Result<TokenKey, ConfigError> {
        let settings = KeySettings {
            section: format!("auth.keys[{index}]"),
            algorithm: &table.algorithm,
            secret: table.secret.as_ref(),
            secret_file: table.secret_file.as_ref(),
            public_key_file: table.public_key_file.as_ref(),
        };
        if let Some(id) = &table.id {
            self.check_key_id(&settings.named("id"), id, before)?;
        }
        let apps = self.apps(&settings.named("apps"), table.apps.as_deref())?;
        let not_after = self.not_after(&settings.named("not_after"), table)?;
        let key = self.verifying_key(&settings)?;
        Ok(TokenKey { id: table.id.clone(), key, apps, not_after })
    }

    fn check_key_id(&self, name: &str, id: &str, before: &[TokenKey]) -> Result<(), ConfigError> {
        if id.is_empty() || id.len() > MAX_KEY_ID || id.chars().any(char::is_control) {
            let problem =
                format!("has {} bytes; allowed are 1 to {MAX_KEY_ID} without control characters", id.len());
            return Err(self.error(name, problem));
        }
        if let Some(other) = before.iter().position(|key| key.id.as_deref() == Some(id)) {
            let problem = format!("is {id:?}, as is auth.keys[{other}].id; allowed is each id once");
            return Err(self.error(name, problem));
        }
        Ok(())
    }

    fn apps(&self, name: &str, apps: Option<&[String]>) -> Result<Option<BTreeSet<String>>, ConfigError> {
        let Some(apps) = apps else { return Ok(None) };
        let longest = self.file.limits.max_account;
        let is_app =
            |app: &String| !app.is_empty() && app.len() <= longest && !app.chars().any(char::is_control);
        if (1..=MAX_KEY_APPS).contains(&apps.len()) && apps.iter().all(is_app) {
            return Ok(Some(apps.iter().cloned().collect()));
        }
        let problem = format!(
            "is no list of 1 to {MAX_KEY_APPS} apps of 1 to {longest} bytes; allowed is such a list, or to leave it \
             out: then the key speaks for all"
        );
        Err(self.error(name, problem))
    }

    fn not_after(&self, name: &str, table: &KeyTable) -> Result<Option<u64>, ConfigError> {
        let Some(text) = &table.not_after else { return Ok(None) };
        let end = humantime::parse_rfc3339(&text.0).map_err(|_| {
            let problem = format!("is {:?}; allowed is a time in UTC such as 2027-02-01T00:00:00Z", text.0);
            self.error(name, problem)
        })?;
        Ok(Some(end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()))
    }

    /// A key that has ended is left behind; a gateway whose keys have all ended lets nobody in.
    fn look_at_ends(&mut self, keys: &[TokenKey]) -> Result<(), ConfigError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ended = |key: &TokenKey| key.not_after.is_some_and(|end| end <= now);
        if keys.iter().all(ended) {
            let problem = "have all reached their not_after; allowed is at least one that has not";
            return Err(self.error("auth.keys", problem));
        }
        for (index, _) in keys.iter().enumerate().filter(|(_, key)| ended(key)) {
            let text = format!("auth.keys[{index}].not_after: has come; no token of this key is accepted");
            self.warnings.push(text);
        }
        Ok(())
    }

    /// The algorithm with its key. A secret and a public key exclude each other: the algorithm says which it is.
    fn verifying_key(&mut self, settings: &KeySettings<'_>) -> Result<VerifyingKey, ConfigError> {
        match settings.algorithm {
            "HS256" => self.secret(settings).map(VerifyingKey::Hs256),
            "RS256" => self.public_key(settings, KeyKind::Rsa).map(VerifyingKey::Rs256),
            "ES256" => self.public_key(settings, KeyKind::P256).map(VerifyingKey::Es256),
            "EdDSA" => self.public_key(settings, KeyKind::Ed25519).map(VerifyingKey::EdDsa),
            other => {
                let problem = format!(
                    "is {other:?}; allowed are \"HS256\", \"RS256\", \"ES256\" and \"EdDSA\", exactly so"
                );
                Err(self.error(&settings.named("algorithm"), problem))
            }
        }
    }

    fn public_key(&self, settings: &KeySettings<'_>, kind: KeyKind) -> Result<PublicKey, ConfigError> {
        let algorithm = settings.algorithm;
        for (key, is_set) in
            [("secret", settings.secret.is_some()), ("secret_file", settings.secret_file.is_some())]
        {
            if is_set {
                let problem = format!(
                    "is for HS256; allowed with {} {algorithm:?} is {} alone",
                    settings.named("algorithm"),
                    settings.named("public_key_file")
                );
                return Err(self.error(&settings.named(key), problem));
            }
        }
        let key = settings.named("public_key_file");
        let allowed = format!("allowed is a PEM file with {kind}");
        let Some(path) = settings.public_key_file else {
            let problem = format!("is missing; {allowed} to verify {algorithm} tokens");
            return Err(self.error(&key, problem));
        };
        let path = self.options.base.join(path);
        let pem =
            files::unmarked(&path).map_err(|problem| self.error(&key, format!("{problem}; {allowed}")))?;
        PublicKey::from_pem(&pem, kind)
            .map_err(|problem| self.error(&key, format!("{} (for {algorithm}) {problem}", path.display())))
    }

    fn secret(&mut self, settings: &KeySettings<'_>) -> Result<Secret, ConfigError> {
        let [algorithm, inline, file, public] =
            ["algorithm", "secret", "secret_file", "public_key_file"].map(|key| settings.named(key));
        if settings.public_key_file.is_some() {
            let problem = format!(
                "is for \"RS256\", \"ES256\" and \"EdDSA\"; allowed with {algorithm} \"HS256\" is {inline} or {file}"
            );
            return Err(self.error(&public, problem));
        }
        let allowed = "allowed is a file with the secret that signs tokens";
        let names = SecretKeys { inline: &inline, file: &file, allowed };
        let Some((key, secret)) = self.secret_of(&names, settings.secret, settings.secret_file)? else {
            let problem = format!(
                "is missing, as is {inline}; allowed is one of them, and `gateway certs` makes certs/dev/jwt.secret"
            );
            return Err(self.error(&file, problem));
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

/// Returns `true` for a secret that outside `dev` may sign tokens (row B14).
pub(super) fn is_strong(secret: &[u8]) -> bool {
    let key = hmac_key(secret);
    key.len() >= MIN_SECRET && key != hmac_key(PUBLISHED_SECRET.as_bytes())
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
