//! A drain that can be undone: clients go, the process stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acts::body;
use super::context::{Administration, Answered, ApiRefusal, half_done, json, no_query};
use crate::admin::AdminRequest;
use crate::admin::mailbox::{DrainPlan, Question};
use crate::admin::model::Problem;
use crate::admin::orders::{DrainOrder, Draining, Undrained};
use crate::config::is_host_and_port;
use crate::limits::OPERATOR_DRAIN_WINDOW;
use crate::monitor::events::PROCESS;
use crate::monitor::events::event::{Event, Severity, Subject};
use crate::wire::packet::MAX_GO_TO;

/// Has clients go, within a window and to another gateway if one is named. Nobody is let in meanwhile; the process stays.
#[utoipa::path(post, path = "/api/v1/drain", request_body = DrainOrder, responses(
    (status = 200, description = "it has begun; status says when nobody is left", body = Draining),
    (status = 400, description = "a value is none", body = Problem),
    (status = 409, description = "the process is ending", body = Problem),
))]
pub(super) fn drain(of: &Administration, request: &AdminRequest) -> Answered {
    let order: DrainOrder = if request.body.is_null() { DrainOrder::default() } else { body(request)? };
    no_query(request)?;
    let plan = Arc::new(plan(order, of.live.current().config.drain_window)?);
    let _turn = of.drain.turn();
    stays(of)?;
    // Whoever sends clients here learns of it first.
    of.readiness.resting(true);
    of.drain.own_entry.set(false);
    let to = plan.to.as_ref().map_or_else(String::new, |to| format!(", to {to}"));
    of.metrics
        .events()
        .raise(PROCESS, Event::drain(Severity::Info, format_args!("an operator asked for it{to}")));
    *of.drain.ordered() = Some((Instant::now(), Arc::clone(&plan)));
    let connections =
        of.mailboxes.ask(|reply| Question::Drain(Arc::clone(&plan), reply)).map_err(|error| {
            half_done(error, "some workers may drain already; give the order again, or `undrain` undoes it")
        })?;
    let (window_seconds, to) = (plan.window.as_secs_f64(), plan.to.clone());
    json(&Draining { connections: connections.into_iter().sum(), window_seconds, to })
}

/// Ends that: clients are let in again, and who is still connected stays.
#[utoipa::path(post, path = "/api/v1/undrain", responses(
    (status = 200, body = Undrained),
    (status = 409, description = "no operator has it drain, or the process is ending", body = Problem),
))]
pub(super) fn undrain(of: &Administration, request: &AdminRequest) -> Answered {
    no_query(request)?;
    let _turn = of.drain.turn();
    stays(of)?;
    if of.drain.ordered().is_none() {
        return Err(ApiRefusal::Conflict(
            "no operator has this gateway drain, so there is nothing to undo".to_owned(),
        ));
    }
    let connections = of.mailboxes.ask(Question::Undrain).map_err(|error| {
        half_done(
            error,
            "some workers may take clients again already; give the order again, or `drain` undoes it",
        )
    })?;
    *of.drain.ordered() = None;
    of.drain.own_entry.set(true);
    of.readiness.resting(false);
    of.metrics.events().clear(PROCESS, &Subject::drain());
    // It may have been told to end meanwhile, and what said so was cleared just now.
    if of.readiness.is_draining() {
        of.metrics.events().raise(PROCESS, Event::drain(Severity::Info, "asked to"));
    }
    json(&Undrained { connections: connections.into_iter().sum() })
}

fn stays(of: &Administration) -> Result<(), ApiRefusal> {
    if of.readiness.is_draining() {
        let problem =
            "the process drains because it was told to end (SIGTERM, SIGINT), and that cannot be undone";
        return Err(ApiRefusal::Conflict(problem.to_owned()));
    }
    Ok(())
}

fn plan(order: DrainOrder, configured: Duration) -> Result<DrainPlan, ApiRefusal> {
    let window = match &order.window {
        None => configured,
        Some(text) => humantime::parse_duration(text)
            .ok()
            .filter(|time| *time <= OPERATOR_DRAIN_WINDOW)
            .ok_or_else(|| {
                ApiRefusal::Asked(format!(
                    "window: is {text:?}; allowed is a time of at most 1h, such as 60s"
                ))
            })?,
    };
    if let Some(to) = &order.to {
        if to.len() > MAX_GO_TO || !is_host_and_port(to) {
            return Err(ApiRefusal::Asked(format!(
                "to: is {to:?}; allowed is a host:port, such as gate02.example.org:8000"
            )));
        }
        if window.is_zero() {
            let problem = "to: without a window nobody is told where to go; allowed is --to with a window of more than 0s";
            return Err(ApiRefusal::Asked(problem.to_owned()));
        }
    }
    Ok(DrainPlan { window, to: order.to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_f17_a_window_and_an_address_are_what_they_say_or_refused() {
        let configured = Duration::from_secs(20);
        let planned = |window: Option<&str>, to: Option<&str>| {
            let order = DrainOrder { window: window.map(str::to_owned), to: to.map(str::to_owned) };
            let refused =
                |refusal: ApiRefusal| refusal.into_answer().body["error"].as_str().unwrap().to_owned();
            plan(order, configured).map(|plan| (plan.window, plan.to)).map_err(refused)
        };
        assert_eq!(planned(None, None).unwrap(), (configured, None));
        let (window, to) = planned(Some("1h"), Some("[2001:db8::1]:8000")).unwrap();
        assert_eq!((window.as_secs(), to.as_deref()), (3600, Some("[2001:db8::1]:8000")));
        assert_eq!(planned(Some("0s"), None).unwrap().0, Duration::ZERO);
        assert!(planned(Some("0s"), Some("gate02:8000")).unwrap_err().contains("nobody is told where to go"));
        for window in ["long", "61m", ""] {
            assert!(
                planned(Some(window), None).unwrap_err().contains("allowed is a time of at most 1h"),
                "{window}"
            );
        }
        for to in [
            "gate02",
            "gate02:",
            "gate02:port",
            ":8000",
            "gate 02:8000",
            "2001:db8::1",
            "http://gate02:8000",
            "[::1:8000",
            "gate02:0",
            "user@h:1",
            &format!("{}:8000", "g".repeat(300)),
        ] {
            assert!(planned(None, Some(to)).unwrap_err().contains("allowed is a host:port"), "{to}");
        }
    }
}
