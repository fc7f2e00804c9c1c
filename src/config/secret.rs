//! Secrets: the one that signs tokens, and the tokens that the gateway shows others. One rule says which bytes of a file,
//! a variable or a key of the configuration are the secret (row H17).

use std::fmt;
use std::path::{Path, PathBuf};

use super::checker::Checker;
use super::error::ConfigError;
use super::read;
use crate::files::{self, FileError};

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";

/// Bytes that never appear in a log or a dump.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// Why bytes are not taken for a secret; no text holds any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// One reader would take it for a part of the secret and another not.
    #[error("begins with a byte order mark; save it as UTF-8 without one")]
    Mark,
    /// Whoever else has the secret has it in other bytes.
    #[error("is UTF-16 text; save it as UTF-8 without a byte order mark")]
    Utf16,
}

/// Why the file of a secret is not taken. Each text begins with its path.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It can be read.
    #[error("{} {error}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: SecretError,
    },
}

impl Secret {
    /// Reads a file by the rule of [`Secret::from_line`].
    ///
    /// # Errors
    /// [`SecretFileError`].
    pub fn from_file(path: &Path) -> Result<Self, SecretFileError> {
        let content = |error| SecretFileError::Content { path: path.to_owned(), error };
        Self::from_line(files::bytes(path)?).map_err(content)
    }

    /// The secret in the content of a file, a variable or a key. The end of its line does not count; everything else
    /// does, blanks included.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn from_line(mut bytes: Vec<u8>) -> Result<Self, SecretError> {
        if files::is_utf_16(&bytes) {
            return Err(SecretError::Utf16);
        }
        if files::mark_len(&bytes) > 0 {
            return Err(SecretError::Mark);
        }
        while let Some(b'\n' | b'\r') = bytes.last() {
            bytes.pop();
        }
        Ok(Self(bytes))
    }

    /// What is allowed, but hardly meant.
    pub fn oddity(&self) -> Option<&'static str> {
        let is_blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        match &self.0 {
            bytes if is_blank(bytes.first()) => Some("begins with a blank, which belongs to the secret"),
            bytes if is_blank(bytes.last()) => Some("ends with a blank, which belongs to the secret"),
            bytes if bytes.contains(&b'\n') => Some("holds several lines, which all belong to the secret"),
            _ => None,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The two keys of which one may hold a secret, or the path of its file.
pub(super) struct SecretKeys<'a> {
    pub(super) inline: &'a str,
    pub(super) file: &'a str,
    /// What to do where there is no such file, behind a semicolon.
    pub(super) allowed: &'a str,
}

impl Checker<'_> {
    /// The secret of one of two keys, with the key it stands under; none if neither is set. Both are one too many.
    pub(super) fn secret_of<'k>(
        &mut self,
        keys: &SecretKeys<'k>,
        inline: Option<&String>,
        file: Option<&PathBuf>,
    ) -> Result<Option<(&'k str, Secret)>, ConfigError> {
        let (key, secret) = match (inline, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let problem = format!("stands beside {}; allowed is one of them", keys.file);
                return Err(self.error(keys.inline, problem));
            }
            (Some(text), None) => {
                let secret = Secret::from_line(text.clone().into_bytes());
                (keys.inline, secret.map_err(|error| self.error(keys.inline, error.to_string()))?)
            }
            (None, Some(path)) => {
                let path = self.options.base.join(path);
                let secret = Secret::from_file(&path).map_err(|error| match error {
                    SecretFileError::File(problem) => {
                        self.error(keys.file, format!("{problem}{}", read::or_make(&path, keys.allowed)))
                    }
                    content @ SecretFileError::Content { .. } => self.error(keys.file, content.to_string()),
                })?;
                self.warn_of_open(keys.file, &path);
                (keys.file, secret)
            }
        };
        if let Some(oddity) = secret.oddity() {
            self.warnings.push(format!("{key}: {oddity}"));
        }
        Ok(Some((key, secret)))
    }

    /// Reads a text file that nobody else should be able to read.
    pub(super) fn read_private(
        &mut self,
        key: &str,
        path: &Path,
        allowed: &str,
    ) -> Result<Vec<u8>, ConfigError> {
        let path = self.options.base.join(path);
        let bytes = files::unmarked(&path)
            .map_err(|problem| self.error(key, format!("{problem}{}", read::or_make(&path, allowed))))?;
        self.warn_of_open(key, &path);
        Ok(bytes)
    }

    pub(super) fn warn_of_open(&mut self, key: &str, path: &Path) {
        if read::is_open_to_others(path) {
            self.warnings.push(format!("{key}: other users can read {}; chmod 600 it", path.display()));
        }
    }
}
