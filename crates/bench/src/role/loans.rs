//! What the gateway lends to a bench of itself: what is its own, and in no crate that a bench could name.

/// What the gateway lends to a bench of itself.
#[derive(Debug, Clone, Copy)]
pub struct Loans {
    /// Its transport settings, for quinn alone to have the same.
    pub transport: fn() -> quinn::TransportConfig,
    /// One request, the payload of its frame, through the functions of the gateway's own path, each time it is called.
    pub forward: fn(bytes::Bytes) -> Box<dyn FnMut()>,
    /// The check of a token, each time it is called.
    pub token: fn() -> Box<dyn FnMut()>,
}
