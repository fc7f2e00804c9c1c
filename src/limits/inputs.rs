//! Bounds of what comes from other machines and is no client: the times in tokens, what Consul answers, and what waits for
//! the webhook.

use std::time::Duration;

use super::KIB;

/// By how much the clock of a token's maker may differ from ours, at both ends of a token's life (rows B12, B13): as far
/// as machines drift whose time nobody looks after.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// A larger leeway would undo what short lives of tokens are for.
pub const MAX_TOKEN_LEEWAY: Duration = Duration::from_secs(600);

/// TCP connect to Consul or to the webhook, look-up included; what is left of a request's time applies as well. A
/// question to Consul stays open for minutes, and an address that swallows packets would use them up.
pub const HTTP_CONNECT: Duration = Duration::from_secs(3);

/// Longest body of an answer that is read of Consul, bytes: several thousand instances of a service.
pub const CONSUL_BODY: usize = 16 * 1024 * KIB;

/// Between two requests of the process while Consul fails (row E9): what is broken is not flooded.
pub const CONSUL_PACE: Duration = Duration::from_secs(1);

/// Longest pause of one who asks Consul after failures: how late, at most, it is noticed that it is back.
pub const CONSUL_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Events kept while the webhook does not take them; then the oldest is dropped. Several hours of a bad day, and below
/// 1 MB.
pub const EVENTS_KEPT: usize = 1_000;

/// Conditions remembered at once. Subjects come from the configuration and from discovery, so this is a few per
/// instance of a very large installation. What begins beyond it is counted and not told.
pub const CONDITIONS_KEPT: usize = 10_000;
