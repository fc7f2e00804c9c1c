#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod close;
pub mod command;
pub mod dialect;
mod fields;
pub mod frame;
pub mod header;
pub mod packet;
pub mod rewrite;
pub mod scanned_header;
#[cfg(feature = "websocket")]
pub mod websocket;

#[allow(unreachable_pub, clippy::use_self, clippy::enum_variant_names)]
#[rustfmt::skip]
pub mod pb;
