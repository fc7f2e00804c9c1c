//! `gateway token`: a token for trying things out.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use gateway::auth::{self, KeySet, SigningKey, Verifier};
use gateway::config::ExpectedClaims;
use gateway::limits::Limits;

use crate::cli::output;
use crate::cli::sign::{Signer, SignerArgs};

/// Arguments of `gateway token`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    /// Whose token
    #[arg(long)]
    pub(crate) account: String,
    /// For which app
    #[arg(long, default_value = "x_im")]
    pub(crate) app: String,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

/// Prints the token and nothing else on stdout.
///
/// # Errors
/// A secret or key that cannot be read or used, or an account or app that no gateway accepts.
pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<ExitCode> {
    let Signer { key, expected, .. } = args.signer.signer()?;
    let token = make(&key, &args.account, &args.app, args.signer.ttl, &expected)?;
    output::print(&format!("{token}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// A token that a gateway with default limits accepts.
///
/// # Errors
/// As [`run`].
fn make(
    key: &SigningKey,
    account: &str,
    app: &str,
    ttl: Duration,
    expected: &ExpectedClaims,
) -> anyhow::Result<String> {
    ensure!(ttl >= Duration::from_secs(1), "--ttl is below 1s; allowed is 1s and more");
    for (argument, value) in [("--issuer", &expected.issuer), ("--audience", &expected.audience)] {
        let empty = value.as_ref().is_some_and(String::is_empty);
        ensure!(!empty, "{argument} is empty; allowed is a text, or to leave it out");
    }
    let token = key.mint_until(account, app, auth::expiry(ttl), expected);
    let limits = Limits::default();
    let verifier = Verifier::new(KeySet::new(&[key.token_key()]), expected);
    // At time 0 nothing has expired: whether a time is a time is checked all the same.
    if let Err(error) = verifier.verify(&token, 0, limits.max_token, limits.max_account) {
        bail!(
            "no gateway accepts a token for account {account:?}, app {app:?}: {error}; allowed are 1 to {} bytes \
             without control characters, and a --ttl of less than a million years",
            limits.max_account
        );
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    use crate::cli::sign::{self, read_key};

    const HOUR: Duration = Duration::from_secs(3600);

    /// Removed at its end.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gateway-token-{}-{name}", std::process::id()));
            fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _gone = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_token_is_made_only_for_what_a_gateway_accepts() {
        let key = SigningKey::from_secret(b"0123456789abcdef0123456789abcdef");
        let any = ExpectedClaims::default();
        let token = make(&key, "alice", "x_im", HOUR, &any).unwrap();
        assert_eq!(token.split('.').count(), 3);
        for (account, ttl) in
            [("", HOUR), ("a\nb", HOUR), ("alice", Duration::ZERO), ("alice", Duration::MAX)]
        {
            assert!(make(&key, account, "x_im", ttl, &any).is_err(), "{account:?} {ttl:?}");
        }
        assert!(make(&key, &"a".repeat(129), "x_im", HOUR, &any).is_err());
        let empty = ExpectedClaims { issuer: Some(String::new()), audience: None };
        let message = make(&key, "alice", "x_im", HOUR, &empty).unwrap_err().to_string();
        assert!(message.starts_with("--issuer is empty"), "{message}");
        let long = ExpectedClaims { issuer: None, audience: Some("a".repeat(4096)) };
        assert!(make(&key, "alice", "x_im", HOUR, &long).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn a_token_of_each_kind_of_key_is_accepted_under_its_public_half_only_as_expected() {
        let expected = ExpectedClaims { issuer: Some("us".into()), audience: Some("im".into()) };
        let limits = Limits::default();
        for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let file = File::new(&format!("{algorithm:?}"), &pair.serialize_pem());
            let key = read_key(&file.0).unwrap();
            let token = make(&key, "alice", "x_im", HOUR, &expected).unwrap();
            let verify = |expected: &ExpectedClaims| {
                let keys = KeySet::new(&[key.token_key()]);
                Verifier::new(keys, expected).verify(&token, 0, limits.max_token, limits.max_account)
            };
            assert_eq!(verify(&expected).unwrap().account, "alice");
            let other = ExpectedClaims { issuer: Some("them".into()), ..expected.clone() };
            assert!(verify(&other).is_err());
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_reason() {
        let file = File::new("public", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
        let message = format!("{:#}", read_key(&file.0).err().unwrap());
        assert!(message.contains(&file.0.display().to_string()), "{message}");
        assert!(
            message.contains("cannot be used: holds a public key; allowed is one private key"),
            "{message}"
        );
        fs::remove_file(&file.0).unwrap();
        assert!(format!("{:#}", read_key(&file.0).err().unwrap()).contains("cannot read the key file"));
        let message = sign::read_secret(&file.0).unwrap_err().to_string();
        assert!(message.contains("`gateway certs` make one"), "{message}");
    }
}
