//! A file being checked: what every part of the check has at hand.

use super::error::ConfigError;
use super::file::File;
use super::options::Options;
use super::sources::Sources;

/// A file being checked, with what is needed to say where its values come from.
pub(super) struct Checker<'a> {
    pub(super) file: &'a File,
    pub(super) sources: &'a Sources,
    pub(super) options: &'a Options,
    /// What is allowed but worth a word.
    pub(super) warnings: Vec<String>,
}

impl Checker<'_> {
    /// An error for a value, with its origin.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        self.sources.error(key, problem)
    }
}
