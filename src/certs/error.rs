//! Why the files could not be made.

use std::io;
use std::path::PathBuf;

use crate::clock::ClockError;
use crate::files::FileError;
use crate::keys::{NoRandomness, TicketKeysError};

/// Why the files could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// The directory or a file in it cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What begins now would have ended long ago.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// One half of a pair is there without the other.
    #[error("{} is there without {}; bring it back, or move what is there away", present.display(), missing.display())]
    HalfPair {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Both pairs are there, and a client that trusts the CA would refuse the server.
    #[error("{} does not verify under {}; move the one that is wrong away, with its key: what is missing is made", server.display(), ca.display())]
    Unrelated {
        /// Certificate of the server.
        server: PathBuf,
        /// Certificate of the CA.
        ca: PathBuf,
    },
    /// A name that no certificate can hold.
    #[error("{0:?} is no name for a certificate; allowed are host names and IP addresses")]
    Name(String),
    /// The CA's files cannot be used to sign.
    #[error("{} cannot be used to sign: {error}; move certificate and key of that CA away, and new ones are made", path.display())]
    Authority {
        /// Certificate or key of the CA.
        path: PathBuf,
        /// Why not.
        error: rcgen::Error,
    },
    /// What is there is no file of ticket keys, so it is not written over.
    #[error("{}: {error}; move it away, and one with a new key is made", path.display())]
    TicketKeys {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: TicketKeysError,
    },
    /// A password would be needed.
    #[error("{} holds an encrypted key; allowed is one without a password, as `openssl pkey` writes", .0.display())]
    Encrypted(PathBuf),
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Certificate(rcgen::Error),
    /// See there.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}
