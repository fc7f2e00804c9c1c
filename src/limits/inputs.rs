//! Bounds of what comes from other machines and is no client: the times in tokens, what Consul answers, and what waits for
//! the webhook.

use std::time::Duration;

use super::KIB;

/// By how much the clock of a token's maker may differ from ours, at both ends of a token's life (rows B12, B13): as far
/// as machines drift whose time nobody looks after.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(60);

/// A larger leeway would undo what short lives of tokens are for.
pub const MAX_TOKEN_LEEWAY: Duration = Duration::from_secs(600);

/// How long behind a token's `exp` its session ends with `auth.on_expiry` `"close"`, unless `auth.expiry_grace` says
/// otherwise: a client that renews late has a second try.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(30);

/// A longer grace is a token that lives longer.
pub const MAX_EXPIRY_GRACE: Duration = Duration::from_secs(3600);

/// Keys of `auth.keys`. A token without `kid` is tried with all of its algorithm, and whoever sends one pays nothing for it.
pub const MAX_TOKEN_KEYS: usize = 16;

/// A JSON Web Key Set, bytes: the largest of well-known identity services, with their certificates, have some 20 KiB.
pub const MAX_JWKS: usize = 256 * KIB;

/// Keys in a set, those that are of no use here included.
pub const MAX_JWKS_ENTRIES: usize = 100;

/// Fetch of a set, from the name of the host to the last byte.
pub const JWKS_ANSWER: Duration = Duration::from_secs(5);

/// A set is fetched again no sooner and no later than this, whatever the headers of its answer say: they must not make the
/// gateway a burden, nor keep a removed key for long.
pub const JWKS_FRESH: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(86_400));

/// The same where the headers say nothing.
pub const JWKS_FRESH_DEFAULT: Duration = Duration::from_secs(600);

/// Between two fetches, however many tokens name keys that are not known, and between the first two tries of a source that
/// is down.
pub const JWKS_PACE: Duration = Duration::from_secs(10);

/// Longest pause between tries of a source that is down, before jitter.
pub const JWKS_RETRY_MAX: Duration = Duration::from_secs(300);

/// How long before the login deadline a login no longer waits for a fetch, so that its answer is written in time.
pub const KEY_WAIT_MARGIN: Duration = Duration::from_secs(1);

/// How long the fetch of keys waits until all workers have taken them. A login that waits for the fetch may meet the old
/// keys of a worker that took longer.
pub const KEYS_TAKEN: Duration = Duration::from_secs(1);

/// Id of a key, bytes: those of identity services have up to some 100.
pub const MAX_KEY_ID: usize = 256;

/// Apps that one key may speak for.
pub const MAX_KEY_APPS: usize = 256;

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
