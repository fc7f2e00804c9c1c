//! An instant-messaging access gateway, and the two other ends of its wire.

pub mod auth;
pub mod certs;
pub mod config;
pub mod dispatch;
pub mod gateway;
mod handler;
pub mod limits;
pub mod logic;
pub mod monitor;
pub mod route;
mod server;
mod session;
mod timer;
pub mod wire;
mod worker;
