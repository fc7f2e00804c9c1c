//! A library with which logic services are written that serve clients behind the gateway.
//!
//! A logic service listens; gateways dial it (docs/protocol.md section 5). In reading order:
//! * [`server`]: [`LogicServer`], one handler per command, over any number of gateways;
//! * [`request`]: what a handler gets, and how it answers;
//! * [`links`]: which gateways are linked, and pushes to their channels.
//!
//! ```
//! use gateway_service::LogicServer;
//! use gateway_wire::pb::Status;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let server = LogicServer::new("echo").handle("echo.say", |request| async move {
//!     let body = request.body().clone();
//!     request.reply(Status::Success, body);
//! });
//! // A real service waits for a signal here instead of ending at once.
//! server.serve(listener, std::future::ready(())).await;
//! # std::io::Result::Ok(()) })?;
//! # std::io::Result::Ok(())
//! ```

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
