//! Why a configuration is refused: one line that names key, reason, what is allowed, and where the value stands.

use std::fmt;

use crate::files::FileError;

/// Why a configuration is refused. Always the operator's to mend; `gateway` exits 64. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("{0}; name another file with --config")]
    Unreadable(FileError),
    /// The file is not TOML.
    #[error("{file}, line {line}: {message}; allowed is TOML")]
    Syntax {
        /// Its name.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser said, on one line.
        message: String,
    },
    /// An environment variable cannot be taken for a setting at all.
    #[error("environment variable {name}: {problem}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A key that is not known or missing, or a value that is not allowed.
    #[error("{key}: {problem} ({origin})")]
    Value {
        /// `section.key`.
        key: String,
        /// What is wrong, and what is allowed.
        problem: String,
        /// Where the value comes from.
        origin: ConfigOrigin,
    },
    /// A reload: what the file says is allowed, but not beside what runs.
    #[error(
        "what the file says is allowed, but not together with {}, which need a restart and are as they were: {error}; \
         restart the gateway",
        kept.join(", ")
    )]
    Kept {
        /// The keys that need a restart.
        kept: Vec<String>,
        /// What does not belong together.
        error: Box<Self>,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// It is not set anywhere.
    Default,
    /// A file, by its name.
    File(String),
    /// An environment variable, by its name.
    Variable(String),
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(name) => write!(f, "from {name}"),
            Self::Variable(name) => write!(f, "from environment variable {name}"),
        }
    }
}
