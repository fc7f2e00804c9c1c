//! The secret that signs tokens, and how its file is read: once, for the gateway and for whoever makes tokens for it.

use std::fmt;
use std::path::Path;

use super::read;

/// Bytes that never appear in a log or a dump.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// The file of a secret cannot be read; says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretFileError(String);

impl Secret {
    /// Reads a file. The end of its line does not count; blanks and tabs do.
    ///
    /// # Errors
    /// The file is not there, is no file, is absurdly large or cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, SecretFileError> {
        read::bytes(path).map(Self::from_line).map_err(SecretFileError)
    }

    /// The content of such a file.
    pub(super) fn from_line(mut bytes: Vec<u8>) -> Self {
        while let Some(b'\n' | b'\r') = bytes.last() {
            bytes.pop();
        }
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
