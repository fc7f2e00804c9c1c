//! What can be done to those who are connected, and to those who would come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::{Administration, Answered, ApiRefusal, json, no_query, query};
use crate::admin::AdminRequest;
use crate::admin::listing::{ConnectionFilter, network};
use crate::admin::mailbox::Question;
use crate::admin::model::{BanOrder, BanPage, BanRow, KickOrder, Kicked, LogLevelOrder, Problem, Whom};
use crate::bans::{Ban, BanSubject, subject};
use crate::limits::{ADMIN_PAGE, ADMIN_REASON};

/// Ends the connections that match, each with code 3501 and the notice of a kick; the login service is told of each.
#[utoipa::path(post, path = "/api/v1/kick", request_body = KickOrder, responses(
    (status = 200, body = Kicked),
    (status = 400, description = "nobody is named, or a value is none", body = Problem),
))]
pub(super) fn kick(of: &Administration, request: &AdminRequest) -> Answered {
    let order: KickOrder = body(request)?;
    check_reason(order.reason.as_deref())?;
    let filter = Arc::new(filter(&order.whom, order.channel.clone())?);
    let banned = match &order.ban {
        Some(time) => {
            let subject = match &order.channel {
                Some(channel) => account_of(of, channel)?,
                None => ban_subject(&order.whom)?,
            };
            // First, so that nobody comes back in between.
            Some(ban_row(&of.put_ban(subject, Some(time.as_str()), order.reason.clone())?, Instant::now()))
        }
        None => None,
    };
    let kicked = of.mailboxes.ask(|reply| Question::Kick(Arc::clone(&filter), reply))?.into_iter().sum();
    json(&Kicked { kicked, banned })
}

/// Bars an app, an account of an app, an address or a network. Whoever is connected stays; `kick` ends them.
#[utoipa::path(post, path = "/api/v1/ban", request_body = BanOrder, responses(
    (status = 200, body = BanRow),
    (status = 400, description = "nobody is named, or a value is none", body = Problem),
))]
pub(super) fn ban(of: &Administration, request: &AdminRequest) -> Answered {
    let order: BanOrder = body(request)?;
    check_reason(order.reason.as_deref())?;
    let ban = of.put_ban(ban_subject(&order.whom)?, order.time.as_deref(), order.reason)?;
    json(&ban_row(&ban, Instant::now()))
}

/// Ends a ban.
#[utoipa::path(post, path = "/api/v1/unban", request_body = Whom, responses(
    (status = 200, description = "it holds no more", body = Value),
    (status = 404, description = "it did not hold", body = Problem),
))]
pub(super) fn unban(of: &Administration, request: &AdminRequest) -> Answered {
    let whom: Whom = body(request)?;
    let held = of
        .bans
        .unban(&ban_subject(&whom)?, Instant::now())
        .map_err(|error| ApiRefusal::Failed(error.to_string()))?;
    if !held {
        return Err(ApiRefusal::Absent("there is no such ban; GET bans lists those that hold".to_owned()));
    }
    json(&Value::Object(serde_json::Map::new()))
}

/// The bans that hold, in the order of their subjects.
#[utoipa::path(get, path = "/api/v1/bans", responses((status = 200, body = BanPage)), params(
    ("limit" = Option<usize>, Query, description = "rows of a page, 1 to 1000; 1000 by default"),
    ("from" = Option<usize>, Query, description = "so many are passed over"),
))]
pub(super) fn bans(of: &Administration, request: &AdminRequest) -> Answered {
    let mut query = query(request)?;
    let limit = query.parse("limit", "1 to 1000", |text| {
        text.parse().ok().filter(|limit| (1..=ADMIN_PAGE).contains(limit))
    })?;
    let from = query.parse("from", "a number", |text| text.parse().ok())?;
    query.finish()?;
    let now = Instant::now();
    let all = of.bans.holding(now);
    let rows = all.iter().skip(from.unwrap_or(0)).take(limit.unwrap_or(ADMIN_PAGE));
    json(&BanPage { bans: rows.map(|ban| ban_row(ban, now)).collect(), all: all.len() })
}

/// Sets the level of the log until the next reload that changes it, or the end of the process.
#[utoipa::path(post, path = "/api/v1/log-level", request_body = LogLevelOrder, responses(
    (status = 200, body = LogLevelOrder),
    (status = 409, description = "something else rules it", body = Problem),
))]
pub(super) fn log_level(of: &Administration, request: &AdminRequest) -> Answered {
    let order: LogLevelOrder = body(request)?;
    let level = order.level.parse::<tracing::Level>().ok().filter(|_| order.level.parse::<usize>().is_err());
    let level = level.ok_or_else(|| {
        ApiRefusal::Asked(format!(
            "level: is {:?}; allowed is error, warn, info, debug or trace",
            order.level
        ))
    })?;
    let reloader = of.reloader.as_deref();
    if reloader.is_some_and(|reloader| reloader.set_log_level(level)) {
        return json(&order);
    }
    Err(ApiRefusal::Conflict("the level of the log is not ours to set here".to_owned()))
}

/// What a body asks for.
fn body<T: DeserializeOwned>(request: &AdminRequest) -> Result<T, ApiRefusal> {
    no_query(request)?;
    let wrong = |error| ApiRefusal::Asked(format!("the body is not what is asked for here: {error}"));
    T::deserialize(&request.body).map_err(wrong)
}

fn check_reason(reason: Option<&str>) -> Result<(), ApiRefusal> {
    if reason.is_some_and(|reason| reason.len() > ADMIN_REASON) {
        return Err(ApiRefusal::Asked(format!("reason: is longer than {ADMIN_REASON} bytes")));
    }
    Ok(())
}

/// Some condition must be given: everybody is never meant.
fn filter(whom: &Whom, channel: Option<String>) -> Result<ConnectionFilter, ApiRefusal> {
    let addresses = address_of(whom)?;
    if channel.is_none() && whom.account.is_none() && whom.app.is_none() && addresses.is_none() {
        let problem = "nobody is named; allowed are channel, account, app and address";
        return Err(ApiRefusal::Asked(problem.to_owned()));
    }
    let (account, app) = (whom.account.clone(), whom.app.clone());
    Ok(ConnectionFilter { channel, account, app, addresses, ..ConnectionFilter::default() })
}

fn address_of(whom: &Whom) -> Result<Option<ipnet::IpNet>, ApiRefusal> {
    let Some(text) = &whom.address else { return Ok(None) };
    let problem = || format!("address: is {text:?}; allowed is an address, or a network such as 10.0.0.0/8");
    network(text).map(Some).ok_or_else(|| ApiRefusal::Asked(problem()))
}

fn ban_subject(whom: &Whom) -> Result<BanSubject, ApiRefusal> {
    let found = subject(whom.app.clone(), whom.account.clone(), address_of(whom)?);
    found.map_err(|problem| {
        ApiRefusal::Asked(format!("{problem}; allowed are app and account, app, or address"))
    })
}

fn account_of(of: &Administration, channel: &str) -> Result<BanSubject, ApiRefusal> {
    let id: Arc<str> = channel.into();
    let views = of.mailboxes.ask(|reply| Question::Connection(Arc::clone(&id), reply))?;
    let row = views.into_iter().flatten().next().map(|view| view.row);
    match row {
        Some(row) => subject(row.app, row.account, None).map_err(ApiRefusal::Asked),
        None => Err(ApiRefusal::Absent(format!(
            "no channel {channel} here: it has ended, or another gateway has it"
        ))),
    }
}

impl Administration {
    fn put_ban(
        &self,
        subject: BanSubject,
        time: Option<&str>,
        reason: Option<String>,
    ) -> Result<Ban, ApiRefusal> {
        let now = Instant::now();
        let left = time.map(ban_time).transpose()?;
        let until = left.and_then(|left| now.checked_add(left));
        let ban = Ban { subject, until, reason: reason.unwrap_or_default() };
        self.bans.ban(ban.clone(), now).map_err(|error| ApiRefusal::Failed(error.to_string()))?;
        Ok(ban)
    }
}

fn ban_time(text: &str) -> Result<Duration, ApiRefusal> {
    let allowed =
        || ApiRefusal::Asked(format!("the time {text:?} is none; allowed is one such as 30m, 12h or 7d"));
    humantime::parse_duration(text).ok().filter(|time| !time.is_zero()).ok_or_else(allowed)
}

fn ban_row(ban: &Ban, now: Instant) -> BanRow {
    let (app, account, address) = match &ban.subject {
        BanSubject::App(app) => (Some(app.clone()), None, None),
        BanSubject::Account { app, account } => (Some(app.clone()), Some(account.clone()), None),
        BanSubject::Network(network) => (None, None, Some(network.to_string())),
    };
    let left_seconds = ban.left(now).map(|left| left.as_secs_f64().ceil() as u64);
    BanRow { app, account, address, left_seconds, reason: ban.reason.clone() }
}
