//! What a person writes: the TOML file, key by key as in `config/gateway.toml`. Unknown keys are refused; nothing
//! else is checked here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::admin_table::AdminTable;
use super::auth_table::AuthTable;
use super::quic_lb_table::QuicLbTable;
use super::tracing_table::TracingTable;
use crate::limits::{DRAIN_HARD_STOP, Limits, MAX_UPGRADE_HEAD, UPGRADE_DEADLINE};

/// The whole file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) gateway: GatewayTable,
    #[serde(default)]
    pub(super) quic: QuicTable,
    #[serde(default)]
    pub(super) tcp: TcpTable,
    #[serde(default)]
    pub(super) websocket: WebSocketTable,
    #[serde(default)]
    pub(super) tls: TlsTable,
    #[serde(default)]
    pub(super) auth: AuthTable,
    #[serde(default)]
    pub(super) login: LoginTable,
    #[serde(default)]
    pub(super) route: RouteTable,
    #[serde(default)]
    pub(super) discovery: DiscoveryTable,
    #[serde(default)]
    pub(super) monitor: MonitorTable,
    #[serde(default)]
    pub(super) admin: AdminTable,
    #[serde(default)]
    pub(super) events: EventsTable,
    #[serde(default)]
    pub(super) tracing: TracingTable,
    #[serde(default)]
    pub(super) drain: DrainTable,
    #[serde(default)]
    pub(super) log: LogTable,
    #[serde(default)]
    pub(super) limits: Limits,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayTable {
    pub(super) id: String,
    #[serde(default = "one")]
    pub(super) workers: u64,
    #[serde(default = "x_im")]
    pub(super) dialect: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advertise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct QuicTable {
    pub(super) listen: Listen,
    pub(super) key_file: PathBuf,
    pub(super) migration: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lb: Option<QuicLbTable>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TcpTable {
    pub(super) listen: Listen,
    pub(super) tls_listen: Listen,
    pub(super) proxy_protocol: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) trusted: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSocketTable {
    pub(super) listen: Listen,
    pub(super) tls_listen: Listen,
    pub(super) proxy_protocol: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) trusted: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) allowed_origins: Vec<String>,
    pub(super) max_head: usize,
    #[serde(with = "humantime_serde")]
    pub(super) head_deadline: Duration,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ticket_key_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LoginTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<String>,
    pub(super) signout_after_kick: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<PathBuf>,
    pub(super) bounded_load: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DiscoveryTable {
    pub(super) kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) services: Vec<String>,
    pub(super) instances: Vec<InstanceTable>,
    pub(super) consul: ConsulTable,
    pub(super) register: RegisterTable,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConsulTable {
    pub(super) address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(super) wait: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) answer: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) shrink_hold: Duration,
    pub(super) last_resort: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RegisterTable {
    pub(super) enabled: bool,
    pub(super) name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check_url: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceTable {
    pub(super) service: String,
    pub(super) id: String,
    pub(super) address: String,
    pub(super) zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dialect: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MonitorTable {
    /// Empty: off.
    pub(super) listen: String,
    pub(super) ready_when_full: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EventsTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_ca_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(super) timeout: Duration,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DrainTable {
    /// None: [`DRAIN_WINDOW`](crate::limits::DRAIN_WINDOW), and in `dev` none at all.
    #[serde(with = "humantime_serde")]
    pub(super) window: Option<Duration>,
    #[serde(with = "humantime_serde")]
    pub(super) hard_stop: Duration,
}

impl Default for DrainTable {
    fn default() -> Self {
        Self { window: None, hard_stop: DRAIN_HARD_STOP }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogTable {
    pub(super) format: String,
    pub(super) level: String,
}

/// One address or a list of them, as text; empty: off.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Listen(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenVisitor)
    }
}

struct ListenVisitor;

impl<'de> Visitor<'de> for ListenVisitor {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one address such as \"[::]:8000\", or a list of addresses")
    }

    fn visit_str<E: de::Error>(self, address: &str) -> Result<Listen, E> {
        let address = address.trim();
        Ok(Listen(if address.is_empty() { Vec::new() } else { vec![address.to_owned()] }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listen, A::Error> {
        let mut addresses = Vec::new();
        while let Some(address) = list.next_element()? {
            addresses.push(address);
        }
        Ok(Listen(addresses))
    }
}

impl Default for QuicTable {
    fn default() -> Self {
        Self { listen: Listen::default(), key_file: "certs/dev/quic.keys".into(), migration: true, lb: None }
    }
}

impl Default for TcpTable {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            tls_listen: Listen::default(),
            proxy_protocol: "off".to_owned(),
            trusted: Vec::new(),
        }
    }
}

impl Default for WebSocketTable {
    fn default() -> Self {
        Self {
            listen: Listen::default(),
            tls_listen: Listen::default(),
            proxy_protocol: "off".to_owned(),
            trusted: Vec::new(),
            paths: Vec::new(),
            allowed_origins: Vec::new(),
            max_head: MAX_UPGRADE_HEAD,
            head_deadline: UPGRADE_DEADLINE,
        }
    }
}

impl Default for RouteTable {
    fn default() -> Self {
        Self { file: None, bounded_load: true }
    }
}

impl Default for TlsTable {
    fn default() -> Self {
        Self {
            cert: "certs/dev/server.pem".into(),
            key: "certs/dev/server.key".into(),
            ticket_key_file: None,
        }
    }
}

impl Default for DiscoveryTable {
    fn default() -> Self {
        Self {
            kind: "static".to_owned(),
            services: Vec::new(),
            instances: Vec::new(),
            consul: ConsulTable::default(),
            register: RegisterTable::default(),
        }
    }
}

impl Default for ConsulTable {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            token: None,
            token_file: None,
            ca_file: None,
            wait: Duration::from_secs(60),
            answer: Duration::from_secs(5),
            shrink_hold: Duration::from_secs(10),
            last_resort: true,
        }
    }
}

impl fmt::Debug for ConsulTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulTable").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Default for RegisterTable {
    fn default() -> Self {
        Self { enabled: true, name: "tgateway".to_owned(), tags: Vec::new(), domain: None, check_url: None }
    }
}

impl Default for EventsTable {
    fn default() -> Self {
        Self {
            webhook: None,
            webhook_token: None,
            webhook_token_file: None,
            webhook_ca_file: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for EventsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventsTable").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Default for LogTable {
    fn default() -> Self {
        Self { format: "text".to_owned(), level: "info".to_owned() }
    }
}

const fn one() -> u64 {
    1
}

fn x_im() -> String {
    "x_im".to_owned()
}

/// Settings whose values are shown nowhere. An entry of `auth.keys` that is no table may be the secret alone.
pub(super) fn is_secret(key: &str) -> bool {
    let listed = key.strip_prefix("auth.keys");
    matches!(key, "auth.secret" | "discovery.consul.token" | "events.webhook_token")
        || listed.is_some_and(|rest| !rest.contains('.') || rest.ends_with(".secret"))
}
