//! Files of keys: the sections of PEM, the keys of QUIC, and those of TLS tickets.

mod hex;
pub(crate) mod pem;
mod quic;
mod tickets;

pub use self::pem::{Label, PemError};
pub use self::quic::{NoRandomness, QuicKeys, QuicKeysError};
pub use self::tickets::{TicketKeys, TicketKeysError};
