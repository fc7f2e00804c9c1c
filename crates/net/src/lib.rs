//! What both ends of a connection need: names become connections ([`resolve`]), the socket under QUIC ([`udp`]), a QUIC close
//! that leaves ([`congestion`]), how often packets are acknowledged ([`ack_frequency`]), how files that people hand over are read ([`files`]), how long to wait before the next
//! attempt ([`backoff`], [`accept_pause`]), and what goes into one write ([`gather`]).
//!
//! For the gateway and its client library; not meant for others.

pub mod accept_pause;
#[cfg(feature = "quic")]
pub mod ack_frequency;
pub mod backoff;
#[cfg(feature = "quic")]
pub mod congestion;
#[cfg(feature = "files")]
pub mod files;
pub mod gather;
pub mod limits;
pub mod resolve;
pub mod rng;
#[cfg(feature = "quic")]
pub mod udp;
