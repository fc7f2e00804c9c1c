//! Tokens for development: signed with the secret that `gateway dev` and `gateway certs` leave in a file.

use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use gateway::config::Secret;

/// How long a minted token is good for.
pub(crate) const VALID_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The secret of a file, read as the gateway reads it.
pub(crate) fn read_secret(path: &Path) -> anyhow::Result<Vec<u8>> {
    let hint = "`gateway dev` and `gateway certs` make one";
    let shown = path.display();
    let Secret(secret) =
        Secret::from_file(path).map_err(|error| anyhow!("cannot read the secret file: {error}; {hint}"))?;
    ensure!(!secret.is_empty(), "the secret file {shown} is empty; {hint}");
    Ok(secret)
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
