//! What can be done to those who are connected, and to those who would come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::{Administration, Answered, ApiRefusal, half_done, json, no_query, query};
use crate::admin::AdminRequest;
use crate::admin::listing::ConnectionFilter;
use crate::admin::mailbox::{MailboxError, Question};
use crate::admin::model::{ConnectionRow, Problem};
use crate::admin::orders::{BanOrder, BanPage, BanRow, KickOrder, Kicked, LogLevelOrder, Whom};
use crate::bans::{Ban, BanSubject, network, subject};
use crate::limits::{ADMIN_NAME, ADMIN_PAGE, ADMIN_REASON};

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
                Some(channel) => account_of(of, channel, &filter)?,
                None => ban_subject(&order.whom)?,
            };
            // First: whoever signs in behind it is refused, in a handshake or not, and whoever did before it is found.
            Some(ban_row(&of.put_ban(subject, Some(time.as_str()), order.reason.clone())?, Instant::now()))
        }
        None => None,
    };
    let kicked = of.mailboxes.ask(|reply| Question::Kick(Arc::clone(&filter), reply));
    let kicked = kicked.map_err(|error| half_kicked(error, banned.is_some()))?;
    json(&Kicked { kicked: kicked.into_iter().sum(), banned })
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

/// Sets the level of the log until the next reload, whatever that changes, or the end of the process.
#[utoipa::path(post, path = "/api/v1/log-level", request_body = LogLevelOrder, responses(
    (status = 200, body = LogLevelOrder),
    (status = 409, description = "RUST_LOG rules it, or whoever started the gateway within a program", body = Problem),
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
    let problem =
        "the level of the log is not the gateway's to set: RUST_LOG is set, or another program has it";
    Err(ApiRefusal::Conflict(problem.to_owned()))
}

/// What a body asks for.
pub(super) fn body<T: DeserializeOwned>(request: &AdminRequest) -> Result<T, ApiRefusal> {
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

pub(super) fn check_whom(whom: &Whom) -> Result<(), ApiRefusal> {
    for (key, name) in [("app", &whom.app), ("account", &whom.account)] {
        if name.as_ref().is_some_and(|name| !(1..=ADMIN_NAME).contains(&name.len())) {
            return Err(ApiRefusal::Asked(format!(
                "{key}: is empty or too long; allowed is 1 to {ADMIN_NAME} bytes"
            )));
        }
    }
    Ok(())
}

fn half_kicked(error: MailboxError, is_banned: bool) -> ApiRefusal {
    let held = if is_banned { "the ban holds, and " } else { "" };
    half_done(error, format_args!("{held}some connections may have been ended"))
}

/// Some condition must be given: everybody is never meant.
pub(super) fn filter(whom: &Whom, channel: Option<String>) -> Result<ConnectionFilter, ApiRefusal> {
    check_whom(whom)?;
    let addresses = address_of(whom)?;
    if channel.is_none() && whom.account.is_none() && whom.app.is_none() && addresses.is_none() {
        let problem = "nobody is named; allowed are channel, account, app and address";
        return Err(ApiRefusal::Asked(problem.to_owned()));
    }
    let (account, app) = (whom.account.clone(), whom.app.clone());
    Ok(ConnectionFilter { channel, account, app, addresses, ..ConnectionFilter::default() })
}

fn address_of(whom: &Whom) -> Result<Option<IpNet>, ApiRefusal> {
    let Some(text) = &whom.address else { return Ok(None) };
    let problem = || format!("address: is {text:?}; allowed is an address, or a network such as 10.0.0.0/8");
    network(text).map(Some).ok_or_else(|| ApiRefusal::Asked(problem()))
}

fn ban_subject(whom: &Whom) -> Result<BanSubject, ApiRefusal> {
    check_whom(whom)?;
    let found = subject(whom.app.clone(), whom.account.clone(), address_of(whom)?);
    found.map_err(|problem| {
        ApiRefusal::Asked(format!("{problem}; allowed are app and account, app, or address"))
    })
}

/// The account of the channel that a kick names.
fn account_of(
    of: &Administration,
    channel: &str,
    filter: &ConnectionFilter,
) -> Result<BanSubject, ApiRefusal> {
    let id: Arc<str> = channel.into();
    let views = of.mailboxes.ask(|reply| Question::Connection(Arc::clone(&id), reply))?;
    match views.into_iter().flatten().next() {
        Some(view) => account_in(view.row, channel, filter),
        None => Err(ApiRefusal::Absent(format!(
            "no channel {channel} here: it has ended, or another gateway has it"
        ))),
    }
}

/// The account of this row, if the kick ends it: nobody is banned beside.
fn account_in(
    row: ConnectionRow,
    channel: &str,
    filter: &ConnectionFilter,
) -> Result<BanSubject, ApiRefusal> {
    let is = |wanted: &Option<String>, text: &Option<String>| wanted.is_none() || wanted == text;
    let address = row.address.parse::<IpAddr>().ok();
    let is_from = |net: IpNet| address.is_some_and(|address| net.contains(&address.to_canonical()));
    match &row.channel {
        None => {
            Err(ApiRefusal::Asked(format!("channel: connection {channel} has not signed in, so it has none")))
        }
        Some(id) if id != channel => {
            Err(ApiRefusal::Asked(format!("channel: {channel} is a connection; the channel of it is {id}")))
        }
        Some(_)
            if !is(&filter.account, &row.account)
                || !is(&filter.app, &row.app)
                || !filter.addresses.is_none_or(is_from) =>
        {
            let problem = "is not of this account, app or address, so nobody is kicked or banned";
            Err(ApiRefusal::Asked(format!("channel: {channel} {problem}")))
        }
        Some(_) => subject(row.app, row.account, None).map_err(ApiRefusal::Asked),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(channel: Option<&str>) -> ConnectionRow {
        let signed_in = |text: &str| channel.map(|_| text.to_owned());
        ConnectionRow {
            connection: "0.7".to_owned(),
            channel: channel.map(str::to_owned),
            app: signed_in("x_im"),
            account: signed_in("alice"),
            address: "192.0.2.7".to_owned(),
            transport: "tcp",
            state: "open",
            age_seconds: 0,
            queued_messages: 0,
            queued_bytes: 0,
            pending: 0,
        }
    }

    fn asked(refusal: ApiRefusal) -> (u16, String) {
        let answer = refusal.into_answer();
        (answer.status.as_u16(), answer.body["error"].as_str().unwrap().to_owned())
    }

    #[test]
    fn f17_a_kick_by_channel_bans_its_account_only_if_it_ends_the_channel() {
        let whom = |app: &str, account: &str, address: &str| Whom {
            app: Some(app.to_owned()),
            account: Some(account.to_owned()),
            address: Some(address.to_owned()),
        };
        let named = |whom: &Whom, row, channel: &str| {
            account_in(row, channel, &filter(whom, Some(channel.to_owned())).unwrap())
        };
        let alice = BanSubject::Account { app: "x_im".to_owned(), account: "alice".to_owned() };
        for whom in [Whom::default(), whom("x_im", "alice", "::ffff:192.0.2.0/120")] {
            assert_eq!(named(&whom, row(Some("c1")), "c1").unwrap(), alice);
        }
        for whom in [
            whom("x_im", "bob", "192.0.2.7"),
            whom("kim", "alice", "192.0.2.7"),
            whom("x_im", "alice", "192.0.2.8"),
        ] {
            let (status, told) = asked(named(&whom, row(Some("c1")), "c1").unwrap_err());
            assert!(status == 400 && told.contains("nobody is kicked or banned"), "{told}");
        }
        let (status, told) = asked(named(&Whom::default(), row(Some("c1")), "0.7").unwrap_err());
        assert!(status == 400 && told.contains("the channel of it is c1"), "{told}");
        let (status, told) = asked(named(&Whom::default(), row(None), "0.7").unwrap_err());
        assert!(status == 400 && told.contains("has not signed in"), "{told}");
    }

    #[test]
    fn f17_a_kick_that_a_worker_did_not_answer_tells_what_holds() {
        let (status, told) = asked(half_kicked(MailboxError::Late, true));
        assert!(status == 504 && told.ends_with("; the ban holds, and some connections may have been ended"));
        let (status, told) = asked(half_kicked(MailboxError::Busy(1), false));
        assert!(
            status == 503
                && told.ends_with("; some connections may have been ended")
                && !told.contains("ban")
        );
    }

    #[test]
    fn f17_names_that_nobody_has_are_refused() {
        for name in ["", &"x".repeat(ADMIN_NAME + 1)] {
            let app = Whom { app: Some(name.to_owned()), ..Whom::default() };
            let account =
                Whom { app: Some("x_im".to_owned()), account: Some(name.to_owned()), ..Whom::default() };
            for whom in [app, account] {
                assert!(asked(ban_subject(&whom).unwrap_err()).1.contains("allowed is 1 to 1024 bytes"));
                assert!(asked(filter(&whom, None).unwrap_err()).1.contains("allowed is 1 to 1024 bytes"));
            }
        }
    }
}
