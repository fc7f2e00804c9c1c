//! What can be seen.

use std::sync::Arc;
use std::time::Instant;

use super::context::{Administration, Answered, ApiRefusal, json, no_query, query};
use crate::admin::AdminRequest;
use crate::admin::listing::{Listing, PageRows};
use crate::admin::mailbox::Question;
use crate::admin::model::{
    Closes, ConnectionPage, ConnectionView, LinkList, LinkRow, Problem, RecentEvents, RouteExplanation,
    Status, WorkerStatus,
};
use crate::limits::RECENT_CLOSES;
use crate::monitor::snapshot::GatewaySnapshot;
use crate::statistics::ActivityReport;

/// The gateway at a glance.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, body = Status)))]
pub(super) fn status(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    let now = Instant::now();
    let (glance, verdict) = (of.metrics.glance(now), of.readiness.verdict(now));
    let workers = glance.workers.into_iter().enumerate().map(|(worker, (lag, connections))| WorkerStatus {
        worker,
        loop_lag_seconds: lag.as_secs_f64(),
        connections,
    });
    json(&Status {
        gateway: of.gateway_id.clone(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: now.saturating_duration_since(of.started).as_secs(),
        workers: workers.collect(),
        ready: verdict.is_ready(),
        reasons: verdict.reasons().to_vec(),
        draining: of.readiness.is_draining(),
        operator_drain: of.drain.status(now, glance.served_connections),
        connections: glance.connections,
        max_connections: glance.max_connections,
        by_transport: glance.by_transport,
        logins: glance.logins,
        closes: glance.closes,
        requests_received: glance.requests_received,
        requests_forwarded: glance.requests_forwarded,
        requests_pending: glance.requests_pending,
        pushes_received: glance.pushes_received,
        mean_latency_seconds: glance.mean_latency,
        queued_messages: glance.queued_messages,
        queued_bytes: glance.queued_bytes,
        overload_level: glance.overload_level,
        conditions: glance.conditions,
    })
}

/// What the console draws. With `Accept: text/event-stream` the answer goes on, with one of these a second as a server-sent event.
#[utoipa::path(get, path = "/api/v1/stream", responses(
    (status = 200, body = GatewaySnapshot),
    (status = 503, description = "enough look on", body = Problem),
))]
pub(super) fn stream(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    json(&of.metrics.snapshot(&of.readiness, Instant::now()))
}

/// Connections: filtered, sorted, in pages.
#[utoipa::path(get, path = "/api/v1/connections", responses(
    (status = 200, body = ConnectionPage),
    (status = 400, description = "the query is none", body = Problem),
    (status = 503, description = "a worker is busy", body = Problem),
), params(
    ("channel" = Option<String>, Query, description = "only the one with this channel id"),
    ("account" = Option<String>, Query, description = "only those of this account"),
    ("app" = Option<String>, Query, description = "only those of this app"),
    ("address" = Option<String>, Query, description = "only those from this address or network"),
    ("transport" = Option<String>, Query, description = "quic, tcp, tls, ws or wss"),
    ("older" = Option<String>, Query, description = "open for at least this time, such as 10m"),
    ("younger" = Option<String>, Query, description = "open for at most this time"),
    ("queued" = Option<usize>, Query, description = "so many bytes wait for it at least"),
    ("sort" = Option<String>, Query, description = "oldest (the default), newest, queue or account"),
    ("limit" = Option<usize>, Query, description = "rows of a page, 1 to 1000; 100 by default"),
    ("cursor" = Option<String>, Query, description = "of the page before"),
))]
pub(super) fn connections(of: &Administration, request: &AdminRequest) -> Answered {
    let listing = Arc::new(Listing::from_query(query(request)?)?);
    let found = of.mailboxes.ask(|reply| Question::Connections(Arc::clone(&listing), reply))?;
    json(&PageRows::merge(found, &listing))
}

/// One connection, looked at closely.
#[utoipa::path(get, path = "/api/v1/connection", responses(
    (status = 200, body = ConnectionView),
    (status = 404, description = "it has ended, or is another gateway's", body = Problem),
), params(("id" = String, Query, description = "a channel id, or a connection as lists name it")))]
pub(super) fn connection(of: &Administration, request: &AdminRequest) -> Answered {
    let mut query = query(request)?;
    let id: Arc<str> = query.require("id", "a channel id, or a connection as lists name it")?.into();
    query.finish()?;
    let found = of.mailboxes.ask(|reply| Question::Connection(Arc::clone(&id), reply))?;
    match found.into_iter().flatten().next() {
        Some(view) => json(&view),
        None => Err(ApiRefusal::Absent(format!(
            "no connection {id} here: it has ended, or another gateway has it"
        ))),
    }
}

/// The link of each worker to each instance, and why it is in its state.
#[utoipa::path(get, path = "/api/v1/links", responses((status = 200, body = LinkList)))]
pub(super) fn links(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    let mut links: Vec<_> = of.mailboxes.ask(Question::Links)?.into_iter().flatten().collect();
    links.sort_by(|one, other| {
        let key = |row: &LinkRow| (row.service.clone(), row.zone.clone(), row.instance.clone(), row.worker);
        key(one).cmp(&key(other))
    });
    json(&LinkList { links })
}

/// Where an account goes and why, among the instances that serve now.
#[utoipa::path(get, path = "/api/v1/explain", responses((status = 200, body = RouteExplanation)), params(
    ("app" = String, Query, description = "the app"),
    ("account" = String, Query, description = "the account"),
))]
pub(super) fn explain(of: &Administration, request: &AdminRequest) -> Answered {
    let mut query = query(request)?;
    let whom = (query.require("app", "an app")?, query.require("account", "an account")?);
    query.finish()?;
    let whom = Arc::new(whom);
    // The workers have the same route, and links of their own: that of the first one stands for all.
    let explained = of.mailboxes.ask(|reply| Question::Explain(Arc::clone(&whom), reply))?;
    match explained.into_iter().next() {
        Some(explained) => json(&explained),
        None => Err(ApiRefusal::Absent("there is no worker".to_owned())),
    }
}

/// The limits in effect, by their names in the configuration.
#[utoipa::path(get, path = "/api/v1/limits", responses((status = 200, body = Value)))]
pub(super) fn limits(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    json(&of.live.current().config.limits)
}

/// What happened: the last thousand, as the log and the webhook were told.
#[utoipa::path(get, path = "/api/v1/events", responses((status = 200, body = RecentEvents)))]
pub(super) fn events(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    json(&RecentEvents { events: of.metrics.events().recent() })
}

/// The last thousand channels that ended.
#[utoipa::path(get, path = "/api/v1/closes", responses((status = 200, body = Closes)))]
pub(super) fn closes(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    let mut closes: Vec<_> = of.mailboxes.ask(Question::Closes)?.into_iter().flatten().collect();
    closes.sort_by(|one, other| one.ago_seconds.total_cmp(&other.ago_seconds));
    closes.truncate(RECENT_CLOSES);
    json(&Closes { closes })
}

/// How many accounts are active, and which send most.
#[utoipa::path(get, path = "/api/v1/activity", responses((status = 200, body = ActivityReport)))]
pub(super) fn activity(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    json(&of.metrics.activity())
}
