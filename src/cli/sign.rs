//! Tokens for trying things out: signed with the secret that `gateway dev` and `gateway certs` leave in a file, or with
//! a private key.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use gateway::auth::{self, SigningKey};
use gateway::clock;
use gateway::config::{self, ExpectedClaims, Options, Secret, TokenKey, VerifyingKey};
use gateway_net::files;

/// What tokens are signed with, and for whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SignerArgs {
    /// The secret of the gateway that tokens are for: HS256
    #[arg(long, value_name = "FILE", default_value = "certs/dev/jwt.secret")]
    pub(crate) secret_file: PathBuf,
    /// A private key instead (PEM, PKCS#8): RSA signs RS256, P-256 ES256, Ed25519 EdDSA. The gateway has its public key
    #[arg(long, value_name = "FILE", conflicts_with = "secret_file")]
    pub(crate) key: Option<PathBuf>,
    /// The gateway's configuration instead: its keys, issuer and audience. The first of its keys that can sign does:
    /// one of HS256, for of the others the gateway has the public half only
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_file", "key"])]
    pub(crate) config: Option<PathBuf>,
    /// How long a token is valid, such as 24h or 10m
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// The id of the key, which tokens name as kid; with --config it says which key signs
    #[arg(long, value_name = "ID")]
    pub(crate) kid: Option<String>,
    /// What the gateway has as auth.issuer
    #[arg(long, value_name = "TEXT")]
    pub(crate) issuer: Option<String>,
    /// What the gateway has as auth.audience
    #[arg(long, value_name = "TEXT")]
    pub(crate) audience: Option<String>,
}

/// Signs tokens; read once, used for any number.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    pub(crate) expected: ExpectedClaims,
    ttl: Duration,
}

impl SignerArgs {
    /// Reads the secret or the key.
    ///
    /// # Errors
    /// A file that cannot be read or used, or a clock that was never set.
    pub(crate) fn signer(&self) -> anyhow::Result<Signer> {
        clock::check()?;
        let expected = ExpectedClaims { issuer: self.issuer.clone(), audience: self.audience.clone() };
        if let Some(path) = &self.config {
            let options = Options::with_environment(std::env::vars_os());
            let (keys, configured) = config::load_token_keys(path, &options)?;
            let key = choose(&keys, self.kid.as_deref())?;
            let ExpectedClaims { issuer, audience } = expected;
            let issuer = issuer.or(configured.issuer);
            let expected = ExpectedClaims { issuer, audience: audience.or(configured.audience) };
            return Ok(Signer { key, expected, ttl: self.ttl });
        }
        let key = match &self.key {
            Some(path) => read_key(path)?,
            None => SigningKey::from_secret(&read_secret(&self.secret_file)?),
        };
        Ok(Signer { key: key.with_id(self.kid.clone()), expected, ttl: self.ttl })
    }
}

impl Signer {
    /// A token that is valid from now on for as long as the arguments say.
    pub(crate) fn sign(&self, account: &str, app: &str) -> String {
        self.key.mint_until(account, app, auth::expiry(self.ttl), &self.expected)
    }
}

/// The key of a configuration that signs: the one of that id, or the first that can and has not ended.
fn choose(keys: &[TokenKey], kid: Option<&str>) -> anyhow::Result<SigningKey> {
    let now = auth::expiry(Duration::ZERO);
    let found = match kid {
        Some(_) => keys.iter().find(|key| key.id.as_deref() == kid),
        None => keys.iter().find(|key| {
            matches!(key.key, VerifyingKey::Hs256(_)) && key.not_after.is_none_or(|end| now < end)
        }),
    };
    let ids = || keys.iter().filter_map(|key| key.id.as_deref()).collect::<Vec<_>>().join(", ");
    match (found.map(|key| &key.key), kid) {
        (Some(VerifyingKey::Hs256(secret)), _) => {
            let id = found.and_then(|key| key.id.clone());
            Ok(SigningKey::from_secret(&secret.0).with_id(id))
        }
        (Some(_), Some(kid)) => bail!(
            "the configuration has only the public half of key {kid:?}; allowed is --key with the file of its private \
             half instead of --config"
        ),
        (None, Some(kid)) => bail!("the configuration has no key {kid:?}; its keys are: {}", ids()),
        (_, None) => bail!(
            "the configuration has no key that can sign; allowed is --key with the file of a private key instead of \
             --config"
        ),
    }
}

/// The secret of a file, read as the gateway reads it.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let hint = "`gateway dev` and `gateway certs` make one";
    let shown = path.display();
    let secret =
        Secret::from_file(path).map_err(|error| anyhow!("cannot read the secret file: {error}; {hint}"))?;
    ensure!(!secret.0.is_empty(), "the secret file {shown} is empty; {hint}");
    if let Some(oddity) = secret.oddity() {
        // Nobody may be there to read it.
        let _closed = writeln!(std::io::stderr(), "warning: the secret file {shown} {oddity}");
    }
    Ok(secret.0)
}

/// A private key of a file.
pub(crate) fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let shown = path.display();
    let pem = files::unmarked(path).context("cannot read the key file")?;
    SigningKey::from_pem(&pem).with_context(|| format!("the key file {shown} cannot be used"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A blank before the end of the line belongs to the secret, for the gateway as well.
    #[test]
    fn a_secret_file_is_read_as_the_gateway_reads_it() {
        let file = std::env::temp_dir().join(format!("gateway-mint-{}", std::process::id()));
        std::fs::write(&file, "my long secret \n").unwrap();
        assert_eq!(read_secret(&file).unwrap(), b"my long secret ");
        std::fs::write(&file, "\n").unwrap();
        assert!(read_secret(&file).unwrap_err().to_string().contains("is empty"));
        std::fs::remove_file(&file).unwrap();
        assert!(read_secret(&file).unwrap_err().to_string().contains("does not exist"));
    }
}
