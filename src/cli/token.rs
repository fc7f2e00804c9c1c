//! `gateway token`: a token for trying things out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use gateway::auth::{self, Verifier};
use gateway::config::{Auth, Secret};
use gateway::limits::Limits;

use crate::cli::mint;

/// Arguments of `gateway token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose token
    #[arg(long)]
    pub(crate) account: String,
    /// For which app
    #[arg(long, default_value = "x_im")]
    pub(crate) app: String,
    /// How long it is valid, such as 24h or 10m
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// The secret of the gateway it is for
    #[arg(long, value_name = "FILE", default_value = "certs/dev/jwt.secret")]
    pub(crate) secret_file: PathBuf,
}

/// Prints the token and nothing else on stdout.
///
/// # Errors
/// A secret that cannot be read, or an account or app that no gateway accepts.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let token = make(&args.secret_file, &args.account, &args.app, args.ttl)?;
    writeln!(std::io::stdout(), "{token}")?;
    Ok(ExitCode::SUCCESS)
}

/// A token under the secret of a file, which a gateway with default limits accepts.
///
/// # Errors
/// As [`run`].
pub(crate) fn make(secret_file: &Path, account: &str, app: &str, ttl: Duration) -> anyhow::Result<String> {
    let secret = mint::read_secret(secret_file)?;
    ensure!(ttl >= Duration::from_secs(1), "--ttl is below 1s; allowed is 1s and more");
    let token = auth::mint(&secret, account, app, ttl);
    let limits = Limits::default();
    let verifier = Verifier::new(&Auth::Hs256(Secret(secret)));
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

    #[test]
    fn a_token_is_made_only_for_what_a_gateway_accepts() {
        let file = std::env::temp_dir().join(format!("gateway-token-{}", std::process::id()));
        fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        let hour = Duration::from_secs(3600);
        let token = make(&file, "alice", "x_im", hour).unwrap();
        assert_eq!(token.split('.').count(), 3);
        for (account, ttl) in
            [("", hour), ("a\nb", hour), ("alice", Duration::ZERO), ("alice", Duration::MAX)]
        {
            assert!(make(&file, account, "x_im", ttl).is_err(), "{account:?} {ttl:?}");
        }
        assert!(make(&file, &"a".repeat(129), "x_im", hour).is_err());
        fs::remove_file(&file).unwrap();
        let message = make(&file, "alice", "x_im", hour).unwrap_err().to_string();
        assert!(message.contains("`gateway certs` make one"), "{message}");
    }
}
