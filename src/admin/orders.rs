//! What the administrator may order, and what comes of it, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whom an order is about: those for whom everything that is given holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whom {
    pub(crate) app: Option<String>,
    pub(crate) account: Option<String>,
    /// An address, or a network such as 10.0.0.0/8.
    pub(crate) address: Option<String>,
}

/// Who is to be kicked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KickOrder {
    /// The id of one channel.
    pub(crate) channel: Option<String>,
    #[serde(default)]
    pub(crate) whom: Whom,
    /// For the log.
    pub(crate) reason: Option<String>,
    /// Bars them for this time as well, such as 1h: the account, else the app or the address.
    pub(crate) ban: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kicked {
    /// Connections that end for it; those that were ending already are not among them.
    pub(crate) kicked: usize,
    pub(crate) banned: Option<BanRow>,
}

/// Who is to be barred.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BanOrder {
    pub(crate) whom: Whom,
    /// How long, such as 12h; for good without it.
    pub(crate) time: Option<String>,
    /// For people.
    pub(crate) reason: Option<String>,
}

/// A ban that holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanRow {
    pub(crate) app: Option<String>,
    pub(crate) account: Option<String>,
    pub(crate) address: Option<String>,
    /// None: for good.
    pub(crate) left_seconds: Option<u64>,
    pub(crate) reason: String,
}

/// Some of the bans that hold.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanPage {
    pub(crate) bans: Vec<BanRow>,
    /// How many there are.
    pub(crate) all: usize,
}

/// What is to be pushed to whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoticeOrder {
    /// The id of one channel.
    pub(crate) channel: Option<String>,
    #[serde(default)]
    pub(crate) whom: Whom,
    /// Everybody, where nobody is named.
    #[serde(default)]
    pub(crate) all: bool,
    /// Of the push; `chat.notice` without it. Clients must know what it means.
    pub(crate) command: Option<String>,
    /// The body, as UTF-8. One of this and `base64`.
    pub(crate) text: Option<String>,
    /// The body.
    pub(crate) base64: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Noticed {
    /// Open channels for which it is on its way.
    pub(crate) queued: usize,
    /// Channels that take no more: they are ending, or too much waits for them.
    pub(crate) not_taken: usize,
    pub(crate) bytes: usize,
}

/// How clients are to go.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainOrder {
    /// They are closed one after the other over this time, such as 60s; `drain.window` without it.
    pub(crate) window: Option<String>,
    /// `host:port` of the gateway they may go to.
    pub(crate) to: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Draining {
    /// Who was there when it began.
    pub(crate) connections: usize,
    pub(crate) window_seconds: f64,
    pub(crate) to: Option<String>,
}

/// What came of its end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Undrained {
    /// Who is still there, and stays.
    pub(crate) connections: usize,
}

/// Which share of the accounts a zone is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightOrder {
    pub(crate) zone: String,
    /// Of all accounts that are no app's on the whitelist, give or take half a percent.
    pub(crate) percent: f64,
    /// Puts it into effect; without it, it is only said what that would come to.
    #[serde(default)]
    pub(crate) apply: bool,
}

/// What that comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WeightShift {
    /// As a line for a person; none if the zone has that share already.
    pub(crate) change: Option<String>,
    /// How many accounts have another zone.
    pub(crate) moved_percent: f64,
    /// The weights of all zones.
    pub(crate) weights: BTreeMap<String, u32>,
    pub(crate) applied: bool,
    /// A worker is too busy to have taken it yet; it will.
    pub(crate) pending: bool,
}

/// Which instance is to get no new requests.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EjectOrder {
    /// Its id.
    pub(crate) instance: String,
    /// Where several services have an instance of this id.
    pub(crate) service: Option<String>,
    /// Also if its service has no other one that serves.
    #[serde(default)]
    pub(crate) force: bool,
}

/// An instance that gets no new requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct EjectedInstance {
    pub(crate) service: String,
    pub(crate) instance: String,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ejected {
    #[serde(flatten)]
    pub(crate) ejected: EjectedInstance,
    /// Requests that stood in its queues and are with other instances now.
    pub(crate) requests_moved: usize,
    /// Who misses it.
    pub(crate) warnings: Vec<String>,
}

/// Which instance is to get requests again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReturnOrder {
    /// Its id.
    pub(crate) instance: String,
    /// Of every service where it is ejected, without it.
    pub(crate) service: Option<String>,
}

/// Where it gets them again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GivenBack {
    pub(crate) instance: String,
    pub(crate) services: Vec<String>,
}

/// Whose packets are to be shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceOrder {
    pub(crate) account: String,
    /// Any, without it.
    pub(crate) app: Option<String>,
    /// For so long, 1 to 60; 60 by default.
    pub(crate) seconds: Option<u64>,
}

/// A level of the log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLevelOrder {
    /// error, warn, info, debug or trace.
    pub(crate) level: String,
}
