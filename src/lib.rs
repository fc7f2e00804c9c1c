//! An instant-messaging access gateway. Its wire, its client library and the library for logic services are crates of
//! their own.
//!
//! In reading order:
//!
//! * [`wire`]: bytes to frame to packet to header, and back. No I/O, no clock.
//! * [`limits`]: what operators can set and what peers may take, with its unit and its reason.
//! * [`clock`]: whether the wall clock can be believed.
//! * `keys`: PEM, and the keys of QUIC.
//! * [`config`], [`route`], [`auth`], [`certs`]: what an operator writes, checked; who a token says a client is;
//!   the files a gateway needs.
//! * [`overload`]: how overloaded the process is, and what the workers are told of it.
//! * `packet_trace`: what the administrator watches of one account.
//! * `session`: channels, their outgoing queues, their unanswered requests, the sign-outs they owe.
//! * `rate_limit`: how often somebody may come.
//! * [`discovery`]: where the instances of logic services come from.
//! * [`dispatch`]: the instance an account's request goes to, and one link to each instance.
//! * `admin`: the socket of the administrator.
//! * `live`: what may change while a gateway runs.
//! * `handler`: what is decided about a client's packets. Pure: no I/O, time passed in.
//! * `server`: listeners, transports, and the driver of one connection.
//! * `worker` and [`gateway`]: one core's gateway, and the composition root.
//! * `owned_thread`: a thread with an owner, for what load on the workers must not starve.
//! * [`http_client`]: one HTTP request on a connection of its own.
//! * [`statistics`]: who is active and how much, in bounded memory.
//! * [`monitor`]: metrics, readiness, the HTTP server that shows them, and what the administrator is told.

pub use gateway_wire as wire;

use gateway_net::{ack_frequency, congestion, files, resolve, udp};

mod admin;
pub mod auth;
mod bans;
pub mod certs;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod dispatch;
#[cfg(feature = "faults")]
pub mod faults;
pub mod gateway;
mod handler;
pub mod http_client;
#[cfg(any(test, feature = "internals"))]
#[doc(hidden)]
pub mod internals;
pub mod jwks;
mod keys;
pub mod limits;
mod live;
pub mod monitor;
pub mod overload;
mod owned_thread;
mod packet_trace;
mod rate_limit;
pub mod route;
mod server;
mod session;
pub mod statistics;
mod timer;
mod worker;

/// That of the program, so that what tests measure is what it does: the C library's walks long lists at times.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The examples of the documents, as doctests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct ReadmePage;
    #[doc = include_str!("../README.zh-CN.md")]
    struct ReadmeZhCnPage;
    #[doc = include_str!("../docs/README.md")]
    struct IndexPage;
    #[doc = include_str!("../docs/operations.md")]
    struct OperationsPage;
    #[doc = include_str!("../docs/configuration.md")]
    struct ConfigurationPage;
    #[doc = include_str!("../docs/tokens-and-tls.md")]
    struct TokensAndTlsPage;
    #[doc = include_str!("../docs/scaling.md")]
    struct ScalingPage;
    #[doc = include_str!("../docs/limits.md")]
    struct LimitsPage;
    #[doc = include_str!("../docs/clients.md")]
    struct ClientsPage;
    #[doc = include_str!("../docs/services.md")]
    struct ServicesPage;
    #[doc = include_str!("../docs/migrating.md")]
    struct MigratingPage;
    #[doc = include_str!("../docs/performance.md")]
    struct PerformancePage;
    #[doc = include_str!("../docs/protocol.md")]
    struct ProtocolPage;
    #[doc = include_str!("../docs/events.md")]
    struct EventsPage;
    #[doc = include_str!("../docs/threats.md")]
    struct ThreatsPage;
}
