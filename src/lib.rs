//! An instant-messaging access gateway, and the two other ends of its wire.

pub mod auth;
pub mod certs;
pub mod config;
pub mod dispatch;
pub mod limits;
pub mod monitor;
pub mod route;
pub mod wire;
