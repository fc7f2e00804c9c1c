//! A push of the administrator's to channels.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::acts::{body, filter};
use super::context::{Administration, Answered, ApiRefusal, half_done, json};
use crate::admin::AdminRequest;
use crate::admin::listing::ConnectionFilter;
use crate::admin::mailbox::{NoticePlan, Question};
use crate::admin::model::Problem;
use crate::admin::orders::{NoticeOrder, Noticed, Whom};
use crate::limits::NOTICE_COMMAND;
use crate::wire::command;

/// What clients are expected to know.
const COMMAND: &str = "chat.notice";

/// Pushes a body to every open channel that matches, once.
#[utoipa::path(post, path = "/api/v1/notice", request_body = NoticeOrder, responses(
    (status = 200, body = Noticed),
    (status = 400, description = "nobody is named, or a value is none", body = Problem),
))]
pub(super) fn notice(of: &Administration, request: &AdminRequest) -> Answered {
    let plan = Arc::new(plan(body(request)?, of.live.current().config.limits.max_push)?);
    let counts = of.mailboxes.ask(|reply| Question::Notice(Arc::clone(&plan), reply));
    let counts = counts.map_err(|error| half_done(error, "some clients may have got it"))?;
    let queued = counts.iter().map(|count| count.queued).sum();
    let not_taken = counts.iter().map(|count| count.not_taken).sum();
    json(&Noticed { queued, not_taken, bytes: plan.body.len() })
}

fn plan(order: NoticeOrder, max_push: usize) -> Result<NoticePlan, ApiRefusal> {
    let NoticeOrder { channel, whom, all, command, text, base64 } = order;
    let names_nobody = channel.is_none() && whom == Whom::default();
    let filter = match (all, names_nobody) {
        (true, true) => ConnectionFilter::default(),
        (true, false) => {
            return Err(ApiRefusal::Asked(
                "all: stands beside somebody who is named; allowed is one of them".to_owned(),
            ));
        }
        (false, _) => filter(&whom, channel)?,
    };
    let command = command.unwrap_or_else(|| COMMAND.to_owned());
    check_command(&command)?;
    let body = body_of(text, base64)?;
    if body.len() > max_push {
        return Err(ApiRefusal::Asked(format!(
            "the body has {} bytes; limits.max_push allows {max_push}",
            body.len()
        )));
    }
    Ok(NoticePlan { filter, command, body })
}

/// One of the login service would be taken for a kick.
fn check_command(text: &str) -> Result<(), ApiRefusal> {
    let is_command = !text.is_empty()
        && text.len() <= NOTICE_COMMAND
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && command::service_of(text) != "login";
    let problem = || {
        format!(
            "command: is {text:?}; allowed is one such as {COMMAND}, of up to {NOTICE_COMMAND} bytes, none of login"
        )
    };
    if is_command { Ok(()) } else { Err(ApiRefusal::Asked(problem())) }
}

fn body_of(text: Option<String>, base64: Option<String>) -> Result<Bytes, ApiRefusal> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(body) => Ok(body.into()),
            Err(error) => Err(ApiRefusal::Asked(format!("base64: {error}"))),
        },
        _ => Err(ApiRefusal::Asked(
            "the body is missing, or there are two; allowed is one of text and base64".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(order: serde_json::Value) -> Result<NoticePlan, String> {
        let order = serde_json::from_value(order).unwrap();
        plan(order, 16).map_err(|refusal| refusal.into_answer().body["error"].as_str().unwrap().to_owned())
    }

    #[test]
    fn f17_a_notice_has_one_body_one_command_and_somebody_who_gets_it() {
        let plan = planned(serde_json::json!({ "all": true, "text": "hello" })).unwrap();
        assert_eq!((&*plan.command, &*plan.body), ("chat.notice", &b"hello"[..]));
        let plan =
            planned(serde_json::json!({ "whom": { "app": "x_im" }, "command": "a.b", "base64": "AP8=" }))
                .unwrap();
        assert_eq!((&*plan.command, &*plan.body), ("a.b", &[0, 255][..]));
        for (order, told) in [
            (serde_json::json!({ "text": "x" }), "nobody is named"),
            (serde_json::json!({ "all": true, "channel": "c1", "text": "x" }), "all: stands beside somebody"),
            (serde_json::json!({ "all": true }), "allowed is one of text and base64"),
            (
                serde_json::json!({ "all": true, "text": "x", "base64": "eA==" }),
                "allowed is one of text and base64",
            ),
            (serde_json::json!({ "all": true, "base64": "?" }), "base64: "),
            (serde_json::json!({ "all": true, "text": "12345678901234567" }), "limits.max_push allows 16"),
            (serde_json::json!({ "all": true, "text": "x", "command": "login.signin" }), "none of login"),
            (serde_json::json!({ "all": true, "text": "x", "command": "a b" }), "command: is"),
            (serde_json::json!({ "all": true, "text": "x", "command": "" }), "command: is"),
        ] {
            let error = planned(order).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
