//! Bytes in: listeners for TCP, TLS, WebSocket and QUIC, and the one driver that serves a connection of any.
//!
//! Accept loops never await a peer; each connection is a task of its own.

pub(crate) mod access_log;
pub(crate) mod admission;
pub(crate) mod connection;
mod lb_ids;
pub(crate) mod path;
pub(crate) mod proxy_protocol;
pub(crate) mod quic;
mod quic_lb;
mod quic_transport;
mod rate;
mod reaper;
pub(crate) mod recent_closes;
pub(crate) mod spoken;
pub(crate) mod steering;
mod stream;
pub(crate) mod tcp;
mod tcp_stream;
mod tcp_transport;
pub(crate) mod tickets;
pub(crate) mod tls;
mod tls_handshake;
mod transport;
pub(crate) mod websocket;
