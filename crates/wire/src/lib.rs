//! Bytes to [`Frame`](frame::Frame) to [`Packet`](packet::Packet) to [`HeaderView`](header::HeaderView), and back.
//!
//! No I/O and no clock: this crate is shared by the gateway, the client library and the library for logic services, and
//! depends on none of them. The format is that of docs/protocol.md.

pub mod close;
pub mod command;
pub mod dialect;
pub mod frame;
pub mod header;
pub mod packet;
pub mod rewrite;
pub mod scanned_header;

#[allow(missing_docs, unreachable_pub, clippy::use_self, clippy::enum_variant_names)]
#[rustfmt::skip]
pub mod pb;
