//! Files of keys: the sections of PEM, the keys of QUIC, and the one of QUIC-LB.

pub(crate) mod pem;
mod quic;
mod quic_lb;

pub use self::pem::{Label, PemError};
pub use self::quic::{NoRandomness, QuicKeys, QuicKeysError};
pub use self::quic_lb::{QuicLbKey, QuicLbKeyError};
