//! A client of the gateway over QUIC, TLS or TCP: used by `gateway chat`, `gateway bench talk`, the tests, and by
//! people as a library.
//!
//! [`Client::connect`] gives a handle that can be cloned, and the [`Pushes`] of the connection. A [`Client`]
//! signs in, sends [`Requests`] and awaits their answers; heartbeats and QUIC keep-alives run on their own. When the
//! last clone is dropped the connection is closed. Everything is `Send` and runs on any tokio runtime.
//!
//! In reading order: `options` and `trust` (what to connect to), `handshake` and `connect` (how), `connect_error` (why
//! not), `auto`, `race` and `transport_cache` (over which transport, when nobody names one), `handle` (what a program
//! holds), `requests` (what may be asked, typed), `answer` and `pending_answer` (what it gets, and the wait for it),
//! `pending` (requests in flight), `pushes` (what arrives unasked), `state` (what handle and tasks share), `stream` (one
//! byte stream), `driver` (the task that owns them all).

mod answer;
mod auto;
mod connect;
mod connect_error;
mod driver;
mod go_away;
mod handle;
mod handover;
mod handshake;
mod options;
mod pending;
mod pending_answer;
mod pushes;
mod race;
mod requests;
mod resilient;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod transport_cache;
mod trust;

pub use answer::{Answer, CallError, Login, LoginError, NotSent, RequestError};
pub use auto::{Auto, Connected, default_tls_port};
pub use connect_error::{ConnectError, NoTransport, Plain};
pub use go_away::{GO_AWAY_TAG, GoAway};
pub use handle::{Client, ClientStream};
pub use handshake::quic_endpoint;
pub use options::{ConnectOptions, Heartbeat, Streams, Transport, UnknownTransport};
pub use pending_answer::PendingAnswer;
pub use pushes::{GroupNotice, Push, Pushes};
pub use requests::Requests;
pub use resilient::{
    End, Event, Events, Need, NoToken, Online, PendingReply, Phase, ResilientClient, ResilientOptions,
    ResilientPushes, Server, Tokens,
};
pub use state::Counts;
pub use transport_cache::TransportCache;
pub use trust::{CaError, TrustedCa};

pub use gateway_net::backoff::{Backoff, Jitter};
