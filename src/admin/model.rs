//! What the administrator is told, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The gateway at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// `gateway.id`.
    pub(crate) gateway: String,
    pub(crate) version: &'static str,
    pub(crate) uptime_seconds: u64,
    pub(crate) workers: Vec<WorkerStatus>,
    /// Whether traffic may be sent to it.
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
    pub(crate) draining: bool,
    /// None while no operator has it drain.
    pub(crate) operator_drain: Option<OperatorDrainStatus>,
    /// Client connections, signed in or not.
    pub(crate) connections: u64,
    pub(crate) max_connections: u64,
    pub(crate) by_transport: BTreeMap<&'static str, u64>,
    /// Since the start, by outcome.
    pub(crate) logins: BTreeMap<&'static str, u64>,
    /// Since the start, by reason.
    pub(crate) closes: BTreeMap<&'static str, u64>,
    /// Since the start.
    pub(crate) requests_received: u64,
    pub(crate) requests_forwarded: u64,
    /// Unanswered now.
    pub(crate) requests_pending: u64,
    /// Since the start.
    pub(crate) pushes_received: u64,
    /// From the arrival of a request to its answer, since the start.
    pub(crate) mean_latency_seconds: Option<f64>,
    /// Waiting to be written to clients.
    pub(crate) queued_messages: u64,
    pub(crate) queued_bytes: u64,
    /// 0: not overloaded.
    pub(crate) overload_level: u64,
    /// Conditions that hold, by their names in the log.
    pub(crate) conditions: BTreeMap<&'static str, u64>,
}

/// A drain that an operator asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorDrainStatus {
    pub(crate) since_seconds: f64,
    /// Clients are closed one after the other over this.
    pub(crate) window_seconds: f64,
    /// The gateway that clients are told.
    pub(crate) to: Option<String>,
    /// Nobody is connected any more but who is turned away: it waits for undrain, or for its end.
    pub(crate) drained: bool,
}

/// One worker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerStatus {
    pub(crate) worker: usize,
    /// How late its loop was at worst, of late.
    pub(crate) loop_lag_seconds: f64,
    pub(crate) connections: u64,
}

/// One connection in a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ConnectionRow {
    /// `worker.number`; not used again in the life of a process.
    pub(crate) connection: String,
    /// None before it has signed in; likewise app and account.
    pub(crate) channel: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) account: Option<String>,
    /// Where it came from, without port.
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    /// `newcomer`, `opening`, `open` or `closing`.
    pub(crate) state: &'static str,
    pub(crate) age_seconds: u64,
    /// Waiting to be written to it.
    pub(crate) queued_messages: usize,
    pub(crate) queued_bytes: usize,
    /// Requests without an answer.
    pub(crate) pending: usize,
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionPage {
    pub(crate) connections: Vec<ConnectionRow>,
    /// How many there are behind the cursor of the question, those of this page included.
    pub(crate) matched: usize,
    /// For the next page; none if this is the last one.
    pub(crate) cursor: Option<String>,
}

/// One connection, looked at closely.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionView {
    #[serde(flatten)]
    pub(crate) row: ConnectionRow,
    /// What its client speaks.
    pub(crate) dialect: Option<String>,
    /// Until its token expires, if its session ends then.
    pub(crate) expires_in_seconds: Option<u64>,
    /// Streams it has open; none where its task did not say, because it is ending. Likewise below.
    pub(crate) streams: Option<usize>,
    pub(crate) frames_received: Option<u64>,
    pub(crate) bytes_received: Option<u64>,
    /// Over its life.
    pub(crate) frames_per_second: Option<f64>,
    pub(crate) bytes_per_second: Option<f64>,
    /// QUIC only.
    pub(crate) round_trip_seconds: Option<f64>,
    /// How the last channel of this account on this worker ended.
    pub(crate) last_close: Option<CloseRow>,
}

/// The end of one channel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CloseRow {
    pub(crate) ago_seconds: f64,
    pub(crate) channel: String,
    pub(crate) app: String,
    pub(crate) account: String,
    pub(crate) address: String,
    pub(crate) transport: &'static str,
    pub(crate) reason: &'static str,
}

/// The last channels that ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Closes {
    /// The last one first.
    pub(crate) closes: Vec<CloseRow>,
}

/// The link of one worker to one instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkRow {
    pub(crate) worker: usize,
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) zone: String,
    pub(crate) address: String,
    pub(crate) dialect: String,
    /// As in the metrics: `healthy`, `warming`, `ejected`, `dialling`, `broken`; `leaving` for one that is gone from the set.
    pub(crate) state: &'static str,
    /// Whether it gets requests.
    pub(crate) serves: bool,
    /// What brought it into this state; `by an operator` while one has it ejected.
    pub(crate) why: &'static str,
    pub(crate) since_seconds: Option<f64>,
    /// How its connection ended last, or why none came about.
    pub(crate) last_trouble: Option<String>,
    /// Requests it owes an answer.
    pub(crate) pending: usize,
    pub(crate) queued_packets: usize,
    pub(crate) queued_bytes: usize,
    /// How often its connection came up.
    pub(crate) connected_times: u64,
}

/// All links.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkList {
    pub(crate) links: Vec<LinkRow>,
}

/// Where an account goes and why, with the instances that are linked now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RouteExplanation {
    pub(crate) app: String,
    pub(crate) account: String,
    pub(crate) zone: String,
    /// The whitelist, or the slot and how it was found.
    pub(crate) why: Value,
    pub(crate) services: Vec<ServiceExplanation>,
}

/// The same for one service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceExplanation {
    pub(crate) service: String,
    /// Ids among which the instance is chosen, in their order.
    pub(crate) candidates: Vec<String>,
    /// The zone has no instance that serves: the candidates are those of all zones.
    pub(crate) fallback: bool,
    /// None while the service has no instance.
    pub(crate) instance: Option<String>,
    pub(crate) position: usize,
    /// Ids that are no candidates because an operator has ejected them.
    pub(crate) ejected_by_operator: Vec<String>,
}

/// What happened, as the webhook is told it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecentEvents {
    /// The last one first.
    pub(crate) events: Vec<Value>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// The cause and what to do.
    pub(crate) error: String,
}
