//! A configuration file read again while a gateway runs with what it said before.

use std::path::PathBuf;

use super::error::ConfigError;
use super::options::Options;
use super::sources::Sources;
use super::written::Written;
use super::{Loaded, check, extract, read_file};

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
