#![doc = include_str!("../README.md")]
//!
//! In reading order: `options` and `trust` (what to connect to), `tcp`, `tls`, `quic`, `websocket` and `upgrade`, `handshake` and `connect` (how), `connect_error` (why
//! not), `auto`, `race` and `transport_cache` (over which transport, when nobody names one), `handle` (what a program
//! holds), `requests` (what may be asked, typed), `answer` and `pending_answer` (what it gets, and the wait for it),
//! `pending` (requests in flight), `pushes` (what arrives unasked), `state` (what handle and tasks share), `stream` (one
//! stream of frames), `byte_stream` and `messages` (what it is made of), `wire` (what carries them), `driver` (the task that owns them all).

#![deny(missing_docs)]

mod answer;
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod auto;
mod byte_stream;
mod connect;
mod connect_error;
mod connected;
mod driver;
mod go_away;
mod handle;
mod handover;
mod handshake;
#[cfg(feature = "websocket")]
mod messages;
mod options;
mod pending;
mod pending_answer;
mod pushes;
#[cfg(feature = "quic")]
mod quic;
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod race;
mod requests;
mod resilient;
mod state;
mod stream;
mod tcp;
#[cfg(test)]
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
mod transport_cache;
#[cfg(any(feature = "quic", feature = "tls"))]
mod trust;
#[cfg(feature = "websocket")]
mod upgrade;
#[cfg(feature = "websocket")]
mod websocket;
mod wire;

pub use answer::{Answer, CallError, Login, LoginError, NotSent, RequestError};
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
pub use auto::{Auto, default_tls_port, default_ws_port, default_wss_port};
pub use connect_error::{ConnectError, NoTransport, Plain};
pub use connected::Connected;
pub use go_away::{GO_AWAY_TAG, GoAway};
pub use handle::{Client, ClientStream};
pub use options::{ConnectOptions, Heartbeat, Streams, Transport, UnknownTransport};
pub use pending_answer::PendingAnswer;
pub use pushes::{GroupNotice, Push, Pushes};
#[cfg(feature = "quic")]
pub use quic::quic_endpoint;
pub use requests::Requests;
pub use resilient::{
    End, Event, Events, Need, NoToken, Online, PendingReply, Phase, ResilientClient, ResilientOptions,
    ResilientPushes, Server, Tokens,
};
pub use state::Counts;
#[cfg(all(feature = "quic", feature = "tls", feature = "websocket"))]
pub use transport_cache::TransportCache;
#[cfg(any(feature = "quic", feature = "tls"))]
pub use trust::{CaError, TrustedCa};

pub use gateway_net::backoff::{Backoff, Jitter};
