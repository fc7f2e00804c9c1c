//! Why a source cannot start, or cannot work by other settings.

use std::io;

/// The source could not start.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryStartError {
    /// The settings name an agent that cannot be asked.
    #[error("{0}")]
    Agent(String),
    /// No thread or event queue could be had.
    #[error("discovery: no thread of its own could be started: {0}")]
    Thread(#[from] io::Error),
}
