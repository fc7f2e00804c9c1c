//! The checked configuration: what the gateway runs with. `file` is what a person writes.
//!
//! [`load`] reads a file, lays the environment's `GATEWAY__SECTION__KEY` over it and checks the outcome. A
//! [`Config`] has been validated and everything it names has been read, so that starting the gateway can fail only
//! on its sockets.

mod auth;
mod bounds;
mod check;
mod consul;
mod effective;
mod error;
mod events;
mod file;
mod http_target;
mod identity;
mod instances;
mod keys;
pub(crate) mod pem;
mod public_key;
mod read;
mod secret;
mod sources;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use self::consul::{Advertise, Consul, Register};
pub use self::effective::{Effective, Setting};
pub use self::error::{ConfigError, ConfigOrigin};
pub use self::events::Webhook;
pub use self::http_target::HttpTarget;
pub(crate) use self::instances::{is_host_and_port, is_instance_id};
pub use self::keys::{NoRandomness, QuicKeysError};
pub use self::pem::{Label, PemError};
pub use self::public_key::{KeyKind, PublicKey, PublicKeyError};
pub use self::secret::{Secret, SecretError, SecretFileError};

use self::check::Checker;
use self::sources::Sources;
use crate::files;
use crate::limits::Limits;
use crate::route::Route;
use crate::wire::dialect::Dialect;

/// Exit code of every refused configuration: `EX_USAGE`.
pub const EXIT_CODE: u8 = 64;

/// How a configuration is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where overrides are looked for; only variables that begin with `GATEWAY__` count. Empty: none.
    pub environment: Vec<(OsString, OsString)>,
    /// What relative paths in the file are relative to; empty: the working directory.
    pub base: PathBuf,
    /// Accepts short and well-known JWT secrets (row B14). Only for `gateway dev`.
    pub dev: bool,
    /// Used instead of `route.file`.
    pub route: Option<Arc<Route>>,
}

impl Options {
    /// Options with overrides, normally those of `std::env::vars_os()`.
    pub fn with_environment(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { environment: environment.into_iter().collect(), ..Self::default() }
    }
}

/// A configuration with what can be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// What the gateway runs with.
    pub config: Config,
    /// Every setting with its source, for a person; secrets are masked.
    pub effective: Effective,
    /// One line each: allowed, but worth a word at the start.
    pub warnings: Vec<String>,
}

/// Reads and checks a configuration file with its overrides, and reads the files it names.
///
/// # Errors
/// [`ConfigError`]: the first thing that is wrong.
pub fn load(path: &Path, options: &Options) -> Result<Loaded, ConfigError> {
    let text = read_file(path)?;
    parse(&text, &path.display().to_string(), options)
}

/// Like [`load`], for the text of a file of that name.
///
/// # Errors
/// [`ConfigError`].
pub fn parse(text: &str, name: &str, options: &Options) -> Result<Loaded, ConfigError> {
    let sources = Sources::new(text, name, &options.environment)?;
    let mut file = sources.extract()?;
    prefer_overriding_key(&mut file.auth, &sources);
    let consul = &mut file.discovery.consul;
    let keys = ["discovery.consul.token", "discovery.consul.token_file"];
    prefer_overriding_token(keys, &mut consul.token, &mut consul.token_file, &sources);
    let events = &mut file.events;
    let keys = ["events.webhook_token", "events.webhook_token_file"];
    prefer_overriding_token(keys, &mut events.webhook_token, &mut events.webhook_token_file, &sources);
    let mut checker = Checker { file: &file, sources: &sources, options, warnings: Vec::new() };
    let config = checker.config()?;
    let warnings = checker.warnings;
    file.login.service = Some(config.login_service.clone());
    file.drain.window = Some(config.drain_window);
    let effective = Effective::new(&file, &sources);
    Ok(Loaded { config, effective, warnings })
}

/// Only the route and the instances of a configuration file: what can be known before `gateway certs` has run.
///
/// # Errors
/// [`ConfigError`].
pub fn load_routing(path: &Path, options: &Options) -> Result<(Arc<Route>, Vec<Instance>), ConfigError> {
    let sources = Sources::new(&read_file(path)?, &path.display().to_string(), &options.environment)?;
    let file = sources.extract()?;
    let checker = Checker { file: &file, sources: &sources, options, warnings: Vec::new() };
    let route = checker.route()?;
    let dialect = checker.gateway_dialect()?;
    let instances = if checker.is_consul()? { Vec::new() } else { checker.instances(dialect, &route)? };
    Ok((route, instances))
}

/// Only where a configuration file has the monitor listen; none: it is off. Without the file, what the environment says
/// counts.
///
/// # Errors
/// [`ConfigError`].
pub fn load_monitor(path: Option<&Path>, options: &Options) -> Result<Option<SocketAddr>, ConfigError> {
    // What a file must have, and does not matter here.
    let nothing = || "[gateway]\nid = \"none\"\n".to_owned();
    let text = path.map(read_file).transpose()?.unwrap_or_else(nothing);
    let name = path.unwrap_or(Path::new("no file")).display().to_string();
    let sources = Sources::new(&text, &name, &options.environment)?;
    let file = sources.extract()?;
    Checker { file: &file, sources: &sources, options, warnings: Vec::new() }.monitor()
}

/// `secret`, `secret_file` and `public_key_file` exclude each other, but one in the environment replaces those in the
/// file.
fn prefer_overriding_key(auth: &mut file::AuthTable, sources: &Sources) {
    let overrides = |key| matches!(sources.origin(key), ConfigOrigin::Variable(_));
    let [secret, secret_file, public_key_file] =
        ["auth.secret", "auth.secret_file", "auth.public_key_file"].map(overrides);
    if !(secret || secret_file || public_key_file) {
        return;
    }
    auth.secret = auth.secret.take().filter(|_| secret);
    auth.secret_file = auth.secret_file.take().filter(|_| secret_file);
    auth.public_key_file = auth.public_key_file.take().filter(|_| public_key_file);
}

/// The same for a token and its file, under these keys.
fn prefer_overriding_token(
    keys: [&str; 2],
    token: &mut Option<String>,
    file: &mut Option<PathBuf>,
    sources: &Sources,
) {
    let [by_token, by_file] = keys.map(|key| matches!(sources.origin(key), ConfigOrigin::Variable(_)));
    if by_token || by_file {
        *token = token.take().filter(|_| by_token);
        *file = file.take().filter(|_| by_file);
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    files::text(path).map_err(ConfigError::Unreadable)
}

/// A gateway's whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The gateway's name: 1–64 of `[A-Za-z0-9._-]`. [`Config::gate_id`] is what logic services see.
    pub id: String,
    /// Worker threads, 1 to [`MAX_WORKERS`](crate::limits::MAX_WORKERS).
    pub workers: usize,
    /// Where it remembers which channel ids are taken; none: nowhere.
    pub state_file: Option<PathBuf>,
    /// What logic services speak unless they say otherwise.
    pub dialect: Dialect,
    /// QUIC listeners with their TLS identity and keys; none: QUIC is off.
    pub quic: Option<Quic>,
    /// Plain TCP listeners; empty: off.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners on TCP with their identity; none: off.
    pub tls: Option<Tls>,
    /// How tokens are verified.
    pub auth: Auth,
    /// What tokens must say beside their bearer.
    pub expected_claims: ExpectedClaims,
    /// How long before `nbf` and behind `exp` a token is good: whole seconds, 0 to
    /// [`MAX_TOKEN_LEEWAY`](crate::limits::MAX_TOKEN_LEEWAY).
    pub leeway: Duration,
    /// A session ends with its token (3507 *token_expired*), and not only when its client likes.
    pub close_expired_sessions: bool,
    /// Name of the service that signs users in.
    pub login_service: String,
    /// Write a sign-out after a kick by the login service, too.
    pub signout_after_kick: bool,
    /// Zones, weights, whitelist.
    pub route: Arc<Route>,
    /// Channels keep their instances, and new ones avoid those that are overloaded; off: every request goes to the
    /// instance of its account.
    pub bounded_load: bool,
    /// The static list of logic instances; empty where they come from Consul.
    pub instances: Vec<Instance>,
    /// Where instances come from instead of the static list.
    pub consul: Option<Consul>,
    /// Where `/health`, `/ready` and `/metrics` are served; none: nowhere.
    pub monitor: Option<SocketAddr>,
    /// Whether a gateway is still ready when as many clients are connected as may be.
    pub ready_when_full: bool,
    /// Where events are posted, beside the log; none: nowhere.
    pub webhook: Option<Webhook>,
    /// Time over which a drain spreads its closes; zero: all at once.
    pub drain_window: Duration,
    /// From the signal to the exit of a draining process; longer than `drain_window`.
    pub drain_hard_stop: Duration,
    /// How the log is written.
    pub log: Log,
    /// Every bound.
    pub limits: Limits,
}

impl Config {
    /// The ServiceID a worker shows to logic services, and the head of its channel ids: the gateway's id, and with
    /// several workers `-` and the worker's index, from 0 (ARCHITECTURE §5).
    pub fn gate_id(&self, worker: usize) -> String {
        if self.workers == 1 { self.id.clone() } else { format!("{}-{worker}", self.id) }
    }

    /// The names of the services that requests may be for, in their order: those of the list or those that are watched,
    /// and the login service.
    pub fn services(&self) -> BTreeSet<String> {
        let listed = self.instances.iter().map(|instance| &instance.service);
        let watched = self.consul.iter().flat_map(|consul| &consul.services);
        listed.chain(watched).chain([&self.login_service]).cloned().collect()
    }

    /// Checks the text of a configuration file, without any environment; relative paths start at `base`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_toml(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let options = Options { base: base.to_owned(), ..Options::default() };
        parse(text, "configuration", &options).map(|loaded| loaded.config)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// What is less important is left out.
    pub level: tracing::Level,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// QUIC listeners.
#[derive(Debug)]
pub struct Quic {
    /// UDP addresses, at least one.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key.
    pub identity: Arc<TlsIdentity>,
    /// Keys that outlive the process.
    pub keys: QuicKeys,
    /// A client may go on at another address (RFC 9000 section 9). Without it, packets from elsewhere are dropped.
    pub migration: bool,
}

/// TLS listeners on TCP.
#[derive(Debug)]
pub struct Tls {
    /// TCP addresses, at least one.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key, the same as for QUIC.
    pub identity: Arc<TlsIdentity>,
}

/// A certificate chain and its private key.
#[derive(Debug)]
pub struct TlsIdentity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl TlsIdentity {
    /// The second since 1970 after which the first certificate of the chain is no longer valid; none if one cannot be
    /// read.
    pub fn not_after(&self) -> Option<i64> {
        crate::certs::not_after(&self.chain)
    }
}

/// Keys that must survive a restart, so that a restarted gateway can tell its former peers (row C19).
#[derive(Clone)]
pub struct QuicKeys {
    /// HMAC key of stateless resets.
    pub reset: [u8; 64],
    /// Master key of Retry and address-validation tokens.
    pub token: [u8; 64],
    /// Key by which connection ids are recognised as ours.
    pub connection_id: u64,
}

impl fmt::Debug for QuicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuicKeys(***)")
    }
}

/// How tokens are verified: exactly one algorithm (row B10).
#[derive(Debug, Clone)]
pub enum Auth {
    /// HMAC with a shared secret.
    Hs256(Secret),
    /// RSA (PKCS#1 v1.5, SHA-256).
    Rs256(PublicKey),
    /// ECDSA on P-256 with SHA-256.
    Es256(PublicKey),
    /// Ed25519.
    EdDsa(PublicKey),
}

/// Claims a token must have when they are set here; what is not set is not looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedClaims {
    /// `iss` must be this string.
    pub issuer: Option<String>,
    /// `aud` must be this string, or a list of strings that has it.
    pub audience: Option<String>,
}

/// One process of a logic service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The service it belongs to: `login`, `chat`, …
    pub service: String,
    /// Unique within the service; the sort key of the selector.
    pub id: String,
    /// `host:port`, resolved when dialled.
    pub address: String,
    /// A zone of the route file.
    pub zone: String,
    /// What it speaks.
    pub dialect: Dialect,
}

#[cfg(test)]
mod tests;
