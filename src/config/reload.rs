//! A configuration file read again while a gateway runs with what it said before.

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
    /// now.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_keys_again(&self, running: &Written) -> Result<Option<KeysAgain>, ConfigError> {
        let Some((file, sources)) = running.file() else { return Ok(None) };
        let encrypted = [&file.quic.listen, &file.tcp.tls_listen, &file.websocket.tls_listen];
        let is_encrypted = encrypted.iter().any(|listen| !listen.0.is_empty());
        let mut checker = Checker { file: &file, sources, options: &self.options, warnings: Vec::new() };
        let identity = is_encrypted.then(|| checker.identity()).transpose()?;
        let ticket_keys = checker.ticket_keys(is_encrypted)?;
        Ok(Some(KeysAgain { identity, ticket_keys, token_keys: checker.token_keys()? }))
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
    /// [`ConfigError`], also where what is left without the keys that need a restart does not belong together.
    pub fn load_again(&self, running: &Written) -> Result<LoadedAgain, ConfigError> {
        let text = read_file(&self.path)?;
        let sources = Sources::new(&text, &self.path.display().to_string(), &self.options.environment)?;
        let asked = check(extract(&sources)?, &sources, &self.options)?;
        let Some((file, needs_restart)) = asked.written.with_fixed(running) else {
            return Ok(LoadedAgain { loaded: asked, needs_restart: Vec::new() });
        };
        let loaded = check(file, &sources, &self.options)?;
        Ok(LoadedAgain { loaded, needs_restart })
    }
}
