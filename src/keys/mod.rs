//! Files of keys: the sections of PEM, and the keys of QUIC.

pub(crate) mod pem;
mod quic;

pub use self::pem::{Label, PemError};
pub use self::quic::{NoRandomness, QuicKeys, QuicKeysError};
