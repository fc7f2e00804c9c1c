//! Names of the files inside their directory.

/// Certificate of the CA: what clients trust.
pub const CA: &str = "ca.pem";
/// Its key.
pub const CA_KEY: &str = "ca.key";
/// Certificate of the server, signed by the CA.
pub const SERVER: &str = "server.pem";
/// Its key.
pub const SERVER_KEY: &str = "server.key";
/// Secret of HS256 tokens.
pub const JWT_SECRET: &str = "jwt.secret";
/// See [`QuicKeys`](crate::config::QuicKeys).
pub const QUIC_KEYS: &str = "quic.keys";
/// See [`QuicLbKey`](crate::config::QuicLbKey). Gateways share it with their balancer.
pub const QUIC_LB_KEY: &str = "quic-lb.key";
/// See [`TicketKeys`](crate::config::TicketKeys). Gateways of one name share it.
pub const TICKET_KEYS: &str = "ticket.keys";
