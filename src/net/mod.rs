//! What both ends of a connection need, whatever is said on it. Everything here is pure: callers wait, read and write.

pub mod accept_pause;
pub mod backoff;
pub mod gather;
pub mod rng;
