//! Tokens for trying things out: signed with the secret that `gateway dev` and `gateway certs` leave in a file, or with
//! a private key.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use gateway::auth::{self, SigningKey};
use gateway::clock;
use gateway::config::{ExpectedClaims, Secret};
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
}

impl SignerArgs {
    /// Reads the secret or the key.
    ///
    /// # Errors
    /// A file that cannot be read or used, or a clock that was never set.
    pub(crate) fn signer(&self) -> anyhow::Result<Signer> {
        clock::check()?;
        let key = match &self.key {
            Some(path) => read_key(path)?,
            None => SigningKey::from_secret(&read_secret(&self.secret_file)?),
        };
        let expected = ExpectedClaims { issuer: self.issuer.clone(), audience: self.audience.clone() };
        Ok(Signer { key, expected })
    }
}

impl Signer {
    /// A token good for [`VALID_FOR`].
    pub(crate) fn sign(&self, account: &str, app: &str) -> String {
        self.key.mint_until(account, app, auth::expiry(VALID_FOR), &self.expected)
    }
}

/// How long a minted token is good for.
const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

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
