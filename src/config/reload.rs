//! A configuration file read again while a gateway runs with what it said before.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest;

use super::checker::Checker;
use super::error::ConfigError;
use super::keys_again::{KeysAgain, KeysDigest};
use super::options::Options;
use super::sources::Sources;
use super::written::Written;
use super::{Loaded, check, extract, read_file};
use crate::files;

/// A configuration file and how it is read.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// The environment, and what paths are relative to.
    pub options: Options,
}

/// What a configuration file comes to for a gateway that runs.
#[derive(Debug)]
pub struct LoadedAgain {
    /// What may be put into effect: what the file says, but for the keys that need a restart, which are as they were.
    pub loaded: Loaded,
    /// The keys that need a restart and say something else now.
    pub needs_restart: Vec<String>,
}

impl ConfigFile {
    /// Reads and checks certificates and keys again, and nothing else: those that `running` names, in the files as they are
    /// now. What stands in no file, such as a pipe, stays as it runs: it can be read once.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_keys_again(&self, running: &Written) -> Result<KeysAgain, ConfigError> {
        let Some((file, sources)) = running.file() else { return Ok(KeysAgain::default()) };
        let encrypted = [&file.quic.listen, &file.tcp.tls_listen, &file.websocket.tls_listen];
        let is_encrypted = encrypted.iter().any(|listen| !listen.0.is_empty());
        let mut checker = Checker { file: &file, sources, options: &self.options, warnings: Vec::new() };
        let reads = |files: &[&str]| files.iter().all(|name| self.can_be_read_again(name));
        let reads_identity = is_encrypted && reads(&running.identity_files());
        let reads_tickets = is_encrypted && reads(&running.ticket_files());
        Ok(KeysAgain {
            identity: reads_identity.then(|| checker.identity()).transpose()?,
            ticket_keys: checker.ticket_keys(reads_tickets)?,
            token_keys: reads(&running.token_key_files()).then(|| checker.token_keys()).transpose()?,
        })
    }

    /// Returns `false` for what is there and is no file. What is missing is an error of whoever reads it.
    fn can_be_read_again(&self, name: &str) -> bool {
        fs::metadata(self.options.base.join(name)).map_or(true, |metadata| metadata.is_file())
    }

    /// What is in these files now. What is no file, such as a pipe, is not looked at: what is read there is gone.
    pub fn digest_keys(&self, running: &Written) -> KeysDigest {
        let mut digest = digest::Context::new(&digest::SHA256);
        for name in running.key_files() {
            let path = self.options.base.join(name);
            let content = path.is_file().then(|| files::bytes(&path).ok()).flatten();
            // Lengths first: no content can look like two files.
            digest.update(&content.as_ref().map_or(u64::MAX, |content| content.len() as u64).to_be_bytes());
            digest.update(&content.unwrap_or_default());
        }
        KeysDigest::of(digest)
    }

    /// Reads and checks the file with all files it names, for a gateway that runs with `running`. Blocks for as long as
    /// [`load`](super::load).
    ///
    /// # Errors
    /// [`ConfigError`]; [`ConfigError::Kept`] where what the file says does not fit to the keys that need a restart.
    pub fn load_again(&self, running: &Written) -> Result<LoadedAgain, ConfigError> {
        let text = read_file(&self.path)?;
        let sources = Sources::new(&text, &self.path.display().to_string(), &self.options.environment)?;
        let asked = check(extract(&sources)?, &sources, &self.options)?;
        let Some((file, needs_restart)) = asked.written.with_fixed(running) else {
            return Ok(LoadedAgain { loaded: asked, needs_restart: Vec::new() });
        };
        match check(file, &sources, &self.options) {
            Ok(loaded) => Ok(LoadedAgain { loaded, needs_restart }),
            Err(error) => Err(ConfigError::Kept { kept: needs_restart, error: Box::new(error) }),
        }
    }
}
