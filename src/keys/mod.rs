//! Files of keys: the sections of PEM, the keys of QUIC, the one of QUIC-LB, and those of TLS tickets.

mod hex;
pub(crate) mod pem;
mod quic;
mod quic_lb;
mod tickets;

pub use self::pem::{Label, PemError};
pub use self::quic::{NoRandomness, QuicKeys, QuicKeysError};
pub use self::quic_lb::{QuicLbKey, QuicLbKeyError};
pub use self::tickets::{TicketKeys, TicketKeysError};
