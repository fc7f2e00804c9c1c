//! The logic side of the wire: a library with which logic services are written, and on it the embedded login
//! and chat services.
//!
//! A logic service listens; gateways dial it (docs/protocol.md section 5). In reading order:
//! * [`server`]: [`LogicServer`], one handler per command, over any number of gateways;
//! * [`request`]: what a handler gets, and how it answers;
//! * [`links`]: which gateways are linked, and pushes to their channels;
//! * [`directory`]: who is signed in where, and who has which messages, in memory;
//! * [`groups`]: who is in which group;
//! * [`login`] and [`chat`]: the two services over it;
//! * [`embedded`]: instances of them inside this process, for `gateway dev`, tests and demonstrations.
//!
//! ```
//! use gateway::logic::LogicServer;
//! use gateway::wire::pb::Status;
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

mod account;
mod channel_queues;
pub mod chat;
pub mod directory;
pub mod embedded;
mod frame_reader;
mod group_chat;
pub mod groups;
pub mod link;
pub mod links;
pub mod login;
mod message;
mod message_id;
pub mod request;
mod routes;
mod send_queue;
pub mod server;
#[cfg(test)]
mod test_gateway;

pub use directory::Directory;
pub use embedded::{Embedded, EmbeddedInstance};
pub use link::LinkLimits;
pub use links::{KnownGateway, LinkEvent, Links, Push, Target};
pub use request::Request;
pub use server::LogicServer;
