//! Why a measurement could not be made.

use std::io;

/// A measurement could not be made: something did not start, ended early, or answered what it must not.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process that was started, or a peer, did not do what it should.
    #[error("{0}")]
    Failed(String),
}

impl BenchError {
    /// An error that is a sentence.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

/// Says what was tried when it failed.
pub(crate) trait Trying<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BenchError>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BenchError> {
        self.map_err(|error| BenchError::Io { what: what(), source: error.into() })
    }
}
