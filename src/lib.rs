//! An instant-messaging access gateway, and the two other ends of its wire.

pub mod limits;
pub mod wire;
