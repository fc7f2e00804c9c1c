//! Bytes to [`Frame`](frame::Frame) to [`Packet`](packet::Packet) to [`HeaderView`](header::HeaderView), and back.
//!
//! No I/O and no clock: this module is shared by the gateway, the client library and the logic-service
//! library, and imports none of them. The format is that of docs/protocol.md.

pub mod close;
pub mod command;
pub mod dialect;
pub mod frame;
pub mod header;
pub mod packet;
pub mod rewrite;

/// The protobuf messages of docs/protocol.md section 3, generated from `proto/pkt.proto`.
#[allow(missing_docs, unreachable_pub, clippy::use_self, clippy::enum_variant_names)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pkt.rs"));
}
