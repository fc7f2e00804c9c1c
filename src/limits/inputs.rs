//! Bounds of what comes from other machines and is no client: the times in tokens, connections to Consul and the webhook.

use std::time::Duration;

/// By how much the clock of a token's maker may differ from ours, at both ends of a token's life (rows B12, B13): as far
/// as machines drift whose time nobody looks after.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// A larger leeway would undo what short lives of tokens are for.
pub const MAX_TOKEN_LEEWAY: Duration = Duration::from_secs(600);

/// TCP connect to Consul or to the webhook, look-up included; what is left of a request's time applies as well. A
/// question to Consul stays open for minutes, and an address that swallows packets would use them up.
pub const HTTP_CONNECT: Duration = Duration::from_secs(3);
