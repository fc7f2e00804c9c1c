#![doc = include_str!("../README.md")]
//!
//! In reading order: [`server`] ([`LogicServer`]), [`request`] (what a handler gets, and how it answers), [`links`] (which
//! gateways are linked, and pushes to their channels).

#![deny(missing_docs)]

mod channel_queues;
mod frame_reader;
pub mod link;
pub mod links;
pub mod request;
mod routes;
mod send_queue;
pub mod server;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use gateway_wire as wire;
pub use link::LinkLimits;
pub use links::{KnownGateway, LinkEvent, Links, Push, Target};
pub use request::Request;
pub use server::LogicServer;
