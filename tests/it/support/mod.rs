//! The test bench: a byte-level client, a scripted logic service, and a whole gateway between them.
//!
//! Nothing here sleeps to let something happen: everything waits for an event, for at most [`PATIENCE`].

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

pub(crate) mod balancer;
#[cfg(feature = "trace-export")]
pub(crate) mod collector;
pub(crate) mod fake_consul;
pub(crate) mod fake_logic;
pub(crate) mod harness;

pub(crate) mod identity;
pub(crate) mod key_server;
pub(crate) mod quic;
pub(crate) mod raw;
pub(crate) mod shaped;
pub(crate) mod stream;
pub(crate) mod unlocked;
pub(crate) mod webhook;
pub(crate) mod websocket;

/// How long a test waits for something that must happen; far above anything a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Awaits what must happen; the test fails with `what` if it does not.
pub(crate) async fn soon<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
