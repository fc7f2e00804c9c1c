//! A login and a chat service for the gateway, kept in memory: what `gateway dev` and `gateway logic` run, for trying
//! things out and for tests.
//!
//! * [`directory`]: who is signed in where, and who has which messages;
//! * [`groups`]: who is in which group;
//! * [`login`] and [`chat`]: the two services over it;
//! * [`embedded`]: instances of them inside this process.

mod account;
pub mod chat;
pub mod directory;
pub mod embedded;
mod group_chat;
pub mod groups;
pub mod login;
mod message;
mod message_id;

pub use directory::Directory;
pub use embedded::{Embedded, EmbeddedInstance};
