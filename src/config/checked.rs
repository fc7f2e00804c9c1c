//! What the gateway runs with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::{ExpectedClaims, OnExpiry};
use super::consul::Consul;
use super::events::Webhook;
use super::identity::TlsIdentity;
use super::instances::Instance;
use super::key_sets::JwksUrl;
use super::keys_again::KeysAgain;
use super::proxy::{ProxyProtocol, TrustedPeers};
use super::quic_lb::QuicLb;
use super::secret::Secret;
use super::token_keys::TokenKey;
use super::trace_export::Tracing;
use crate::keys::{QuicKeys, TicketKeys};
use crate::limits::{Limits, MAX_UPGRADE_HEAD, UPGRADE_DEADLINE};
use crate::route::Route;
use crate::wire::dialect::Dialect;

/// Where the administrator is served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    /// On a Unix socket; none: nowhere.
    pub socket: Option<PathBuf>,
    /// And over TCP, with the token that opens; none: nowhere.
    pub listen: Option<(SocketAddr, Secret)>,
    /// What has been banned, from one process to the next; none: until the process ends.
    pub bans_file: Option<PathBuf>,
}

/// A gateway's whole configuration.
#[derive(Debug, Clone)]
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
    /// How balancers name their clients on these two; none: they do not.
    pub tcp_proxy: Option<Arc<ProxyProtocol>>,
    /// WebSocket listeners, plain and TLS; none: off.
    pub websocket: Option<WebSocket>,
    /// Keys of TLS tickets that other gateways have as well; none: this process makes its own.
    pub ticket_keys: Option<TicketKeys>,
    /// The keys whose tokens are accepted, at least one unless keys are fetched; ids are unique.
    pub token_keys: Vec<TokenKey>,
    /// Where more keys are fetched; none: nowhere.
    pub jwks: Option<JwksUrl>,
    /// What tokens must say beside their bearer.
    pub expected_claims: ExpectedClaims,
    /// How long before `nbf` and behind `exp` a token is good: whole seconds, 0 to
    /// [`MAX_TOKEN_LEEWAY`](crate::limits::MAX_TOKEN_LEEWAY).
    pub leeway: Duration,
    /// What becomes of a session whose token runs out.
    pub on_expiry: OnExpiry,
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
    /// Where the administrator is served.
    pub admin: Admin,
    /// Where events are posted, beside the log; none: nowhere.
    pub webhook: Option<Webhook>,
    /// What is recorded for a collector.
    pub tracing: Tracing,
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

    /// What encrypted listeners show their clients; none without them.
    pub fn certificate(&self) -> Option<&TlsIdentity> {
        let quic = self.quic.as_ref().map(|quic| &quic.identity);
        let wss = self.websocket.as_ref().and_then(|websocket| websocket.tls.as_ref());
        let tls = self.tls.as_ref().or(wss).map(|tls| &tls.identity);
        quic.or(tls).map(|identity| &**identity)
    }

    /// The same with those certificates and keys that were read again.
    #[must_use]
    pub fn with_keys(mut self, keys: KeysAgain) -> Self {
        let KeysAgain { identity, ticket_keys, token_keys } = keys;
        self.ticket_keys = ticket_keys.or(self.ticket_keys);
        self.token_keys = token_keys.unwrap_or(self.token_keys);
        if let Some(identity) = identity.map(Arc::new) {
            self.quic.iter_mut().for_each(|quic| quic.identity = Arc::clone(&identity));
            let wss = self.websocket.iter_mut().filter_map(|websocket| websocket.tls.as_mut());
            self.tls.iter_mut().chain(wss).for_each(|tls| tls.identity = Arc::clone(&identity));
        }
        self
    }

    /// The names of the services that requests may be for, in their order: those of the list or those that are watched,
    /// and the login service.
    pub fn services(&self) -> BTreeSet<String> {
        let listed = self.instances.iter().map(|instance| &instance.service);
        let watched = self.consul.iter().flat_map(|consul| &consul.services);
        listed.chain(watched).chain([&self.login_service]).cloned().collect()
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
#[derive(Debug, Clone)]
pub struct Quic {
    /// UDP addresses, at least one.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key.
    pub identity: Arc<TlsIdentity>,
    /// Keys that outlive the process.
    pub keys: QuicKeys,
    /// A client may go on at another address (RFC 9000 section 9). Without it, packets from elsewhere are dropped.
    pub migration: bool,
    /// What connection ids say to a balancer; none: they lead to workers only.
    pub lb: Option<QuicLb>,
}

/// TLS listeners on TCP.
#[derive(Debug, Clone)]
pub struct Tls {
    /// TCP addresses, at least one.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key, the same as for QUIC.
    pub identity: Arc<TlsIdentity>,
}

/// WebSocket listeners.
#[derive(Debug, Clone)]
pub struct WebSocket {
    /// TCP addresses without TLS; empty: off.
    pub listen: Vec<SocketAddr>,
    /// TCP addresses with TLS; none: off.
    pub tls: Option<Tls>,
    /// How balancers name their clients ahead of all else; none: they do not.
    pub proxy: Option<Arc<ProxyProtocol>>,
    /// What an upgrade must be.
    pub upgrade: Arc<UpgradePolicy>,
}

/// What an HTTP request must be to become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradePolicy {
    /// Paths that are served, without a query; empty: any.
    pub paths: Vec<String>,
    /// Origins of the web pages that may connect, in lower case; empty: any. Who sends no origin is no web page.
    pub allowed_origins: Vec<String>,
    /// HTTP proxies, whose `X-Forwarded-For` names the client; empty: nobody's does.
    pub trusted: TrustedPeers,
    /// Bytes of the request's head.
    pub max_head: usize,
    /// From accept, or the end of the TLS handshake, to the end of the head.
    pub head_deadline: Duration,
}

impl Default for UpgradePolicy {
    /// Any path, any origin, and the bounds of [`limits`](crate::limits).
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            allowed_origins: Vec::new(),
            trusted: TrustedPeers::default(),
            max_head: MAX_UPGRADE_HEAD,
            head_deadline: UPGRADE_DEADLINE,
        }
    }
}
