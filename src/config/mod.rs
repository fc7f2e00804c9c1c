//! The checked configuration: what the gateway runs with. `file` is what a person writes.
//!
//! [`load`] reads a file, lays the environment's `GATEWAY__SECTION__KEY` over it and checks the outcome. A
//! [`Config`] has been validated and everything it names has been read, so that starting the gateway can fail only
//! on its sockets.

mod admin;
mod admin_table;
mod auth;
mod auth_table;
mod bounds;
mod check;
mod checked;
mod checker;
mod consul;
mod effective;
mod error;
mod events;
mod file;
mod http_target;
mod identity;
mod instances;
mod jwks;
mod key_sets;
mod keys_again;
mod options;
mod proxy;
mod public_key;
mod quic_lb;
mod quic_lb_table;
mod reach;
mod read;
mod reload;
mod secret;
mod sources;
mod token_keys;
mod trace_export;
mod tracing_table;
mod websocket;
mod written;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::auth::{ExpectedClaims, OnExpiry};
pub use self::checked::{Admin, Config, Log, LogFormat, Quic, Tls, UpgradePolicy, WebSocket};
pub use self::consul::{Advertise, Consul, Register};
pub use self::effective::{Effective, Setting};
pub use self::error::{ConfigError, ConfigOrigin};
pub use self::events::Webhook;
pub use self::http_target::HttpTarget;
pub use self::identity::TlsIdentity;
pub use self::instances::Instance;
pub(crate) use self::instances::{is_host_and_port, is_instance_id};
pub use self::jwks::{JwkProblem, JwksError, KeyDocument, KeyOrigin};
pub use self::key_sets::JwksUrl;
pub use self::keys_again::{KeysAgain, KeysDigest};
pub use self::options::Options;
pub use self::proxy::{ProxyProtocol, TrustedPeers, TrustedPeersError};
pub use self::public_key::{KeyKind, PublicKey, PublicKeyError};
pub use self::quic_lb::QuicLb;
pub use self::reload::{ConfigFile, LoadedAgain};
pub use self::secret::{Secret, SecretError, SecretFileError};
pub use self::token_keys::{TokenKey, VerifyingKey};
pub use self::trace_export::Tracing;
pub use self::written::{KeyChange, Written};
pub use crate::keys::{
    Label, NoRandomness, PemError, QuicKeys, QuicKeysError, QuicLbKey, QuicLbKeyError, TicketKeys,
    TicketKeysError,
};

use self::auth_table::AuthTable;
use self::checker::Checker;
use self::sources::Sources;
use crate::files;
use crate::route::Route;

/// Exit code of every refused configuration: `EX_USAGE`.
pub const EXIT_CODE: u8 = 64;

/// A configuration with what can be said about it.
#[derive(Debug)]
pub struct Loaded {
    /// What the gateway runs with.
    pub config: Config,
    /// Every setting with its source, for a person; secrets are masked.
    pub effective: Effective,
    /// One line each: allowed, but worth a word at the start.
    pub warnings: Vec<String>,
    /// What was written, for a comparison with what is written later.
    pub written: Written,
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
    check(extract(&sources)?, &sources, options)
}

/// The file type, where what the environment overrides has given way.
fn extract(sources: &Sources) -> Result<file::File, ConfigError> {
    let mut file = sources.extract()?;
    prefer_overriding_key(&mut file.auth, sources);
    let consul = &mut file.discovery.consul;
    let keys = ["discovery.consul.token", "discovery.consul.token_file"];
    prefer_overriding_token(keys, &mut consul.token, &mut consul.token_file, sources);
    let events = &mut file.events;
    let keys = ["events.webhook_token", "events.webhook_token_file"];
    prefer_overriding_token(keys, &mut events.webhook_token, &mut events.webhook_token_file, sources);
    Ok(file)
}

fn check(mut file: file::File, sources: &Sources, options: &Options) -> Result<Loaded, ConfigError> {
    let mut checker = Checker { file: &file, sources, options, warnings: Vec::new() };
    let config = checker.config()?;
    let warnings = checker.warnings;
    file.login.service = Some(config.login_service.clone());
    let auth = &file.auth;
    if auth.secret.is_some() || auth.secret_file.is_some() || auth.public_key_file.is_some() {
        file.auth.algorithm.get_or_insert_with(|| "HS256".to_owned());
    }
    file.drain.window = Some(config.drain_window);
    let effective = Effective::new(&file, sources);
    let written = Written::new(&file, sources.clone());
    Ok(Loaded { config, effective, warnings, written })
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

/// Only the keys of a configuration file with what tokens must say: what somebody needs who makes tokens for its gateway.
///
/// # Errors
/// [`ConfigError`].
pub fn load_token_keys(
    path: &Path,
    options: &Options,
) -> Result<(Vec<TokenKey>, ExpectedClaims), ConfigError> {
    let sources = Sources::new(&read_file(path)?, &path.display().to_string(), &options.environment)?;
    let mut file = sources.extract()?;
    prefer_overriding_key(&mut file.auth, &sources);
    let mut checker = Checker { file: &file, sources: &sources, options, warnings: Vec::new() };
    Ok((checker.token_keys()?, checker.expected_claims()?))
}

/// Only where a configuration file has the monitor listen; none: it is off. Without the file, what the environment says
/// counts.
///
/// # Errors
/// [`ConfigError`].
pub fn load_monitor(path: Option<&Path>, options: &Options) -> Result<Option<SocketAddr>, ConfigError> {
    load_part(path, options, |checker| checker.monitor())
}

/// Only where a configuration file has the admin socket; none: it is off. Without the file, what the environment says
/// counts.
///
/// # Errors
/// [`ConfigError`].
pub fn load_admin_socket(path: Option<&Path>, options: &Options) -> Result<Option<PathBuf>, ConfigError> {
    load_part(path, options, |checker| checker.admin_socket())
}

fn load_part<T>(
    path: Option<&Path>,
    options: &Options,
    part: impl FnOnce(&Checker<'_>) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    // What a file must have, and does not matter here.
    let nothing = || "[gateway]\nid = \"none\"\n".to_owned();
    let text = path.map(read_file).transpose()?.unwrap_or_else(nothing);
    let name = path.unwrap_or(Path::new("no file")).display().to_string();
    let sources = Sources::new(&text, &name, &options.environment)?;
    let file = sources.extract()?;
    part(&Checker { file: &file, sources: &sources, options, warnings: Vec::new() })
}

/// The list, or one of `secret`, `secret_file` and `public_key_file`, has the keys; what the environment has of these
/// replaces those in the file.
fn prefer_overriding_key(auth: &mut AuthTable, sources: &Sources) {
    let overrides = |key| matches!(sources.origin(key), ConfigOrigin::Variable(_));
    let [keys, secret, secret_file, public_key_file] =
        ["auth.keys", "auth.secret", "auth.secret_file", "auth.public_key_file"].map(overrides);
    if !(keys || secret || secret_file || public_key_file) {
        return;
    }
    if !keys {
        auth.keys.clear();
    }
    auth.secret = auth.secret.take().filter(|_| secret);
    auth.secret_file = auth.secret_file.take().filter(|_| secret_file);
    auth.public_key_file = auth.public_key_file.take().filter(|_| public_key_file);
    if !(secret || secret_file || public_key_file) {
        auth.algorithm = auth.algorithm.take().filter(|_| overrides("auth.algorithm"));
    }
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

impl Config {
    /// Checks the text of a configuration file, without any environment; relative paths start at `base`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn from_toml(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let options = Options { base: base.to_owned(), ..Options::default() };
        parse(text, "configuration", &options).map(|loaded| loaded.config)
    }
}

#[cfg(test)]
mod tests;
