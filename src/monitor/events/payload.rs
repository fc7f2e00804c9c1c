//! An event on its way out: the line of the log and the body of the webhook.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tracing::{error, info, warn};

use super::conditions::{ConditionState, Told};
use super::event::Severity;
use crate::monitor::labels::EventKind;

/// Told once in the log, and to the webhook until it answers.
#[derive(Debug)]
pub(super) struct EventPayload {
    id: String,
    gateway: String,
    sequence: u64,
    time: SystemTime,
    told: Told,
}

impl EventPayload {
    /// `started` tells apart the lives of a gateway, `sequence` the payloads of one.
    pub(super) fn new(gateway: &str, started: &str, sequence: u64, told: Told, time: SystemTime) -> Self {
        let id = format!("{gateway}-{started}-{sequence}");
        Self { id, gateway: gateway.to_owned(), sequence, time, told }
    }

    /// The same at every attempt.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A JSON object. What an event is not about is left out.
    pub(super) fn body(&self) -> Vec<u8> {
        let Told { subject, state, severity, detail, suppressed } = &self.told;
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
        put("id", json!(self.id));
        put("seq", json!(self.sequence));
        put("gateway", json!(self.gateway));
        put("event", json!(subject.kind().label()));
        put("severity", json!(severity.label()));
        put("state", json!(state.label()));
        put("time", json!(humantime::format_rfc3339_millis(self.time).to_string()));
        let about =
            [("service", subject.service()), ("instance", subject.instance_id()), ("zone", subject.zone())];
        for (key, name) in about {
            if let Some(name) = name {
                put(key, json!(name));
            }
        }
        put("detail", json!(detail));
        put("suppressed", json!(suppressed));
        Value::Object(body).to_string().into_bytes()
    }

    /// One line; the field `event` is the same as in the metrics and at the webhook.
    pub(super) fn log(&self) {
        let Told { subject, state, severity, detail, suppressed } = &self.told;
        let (event, state_label) = (subject.kind().label(), state.label());
        let (service, instance, zone) = (subject.service(), subject.instance_id(), subject.zone());
        let suppressed = (*suppressed > 0).then_some(*suppressed);
        macro_rules! line {
            ($level:ident, $text:expr) => {
                $level!(
                    event,
                    state = state_label,
                    service,
                    instance,
                    zone,
                    detail = &**detail,
                    suppressed,
                    id = self.id,
                    "{}",
                    $text
                )
            };
        }
        match (state, severity) {
            (ConditionState::Cleared, _) => line!(info, "it is over"),
            (ConditionState::Raised, Severity::Info) => line!(info, headline(subject.kind())),
            (ConditionState::Raised, Severity::Warning) => line!(warn, headline(subject.kind())),
            (ConditionState::Raised, Severity::Error) => line!(error, headline(subject.kind())),
        }
    }
}

/// What it means and what to do.
const fn headline(kind: EventKind) -> &'static str {
    match kind {
        EventKind::InstanceLost => {
            "a logic instance is not linked; others of its service serve. Is it running, and is its address right? \
             Trying again"
        }
        EventKind::LinkRefused => {
            "a logic instance knows another link with this gateway's id; trying again. If two gateways run, give each \
             its own gateway.id"
        }
        EventKind::ZoneEmpty => "a zone has no instance of a service any more; start one there",
        EventKind::ZoneFallback => "requests of an empty zone go to instances of another one",
        EventKind::PushTooLarge => {
            "a logic instance sends pushes above limits.max_push, which are dropped; split them there, or raise the limit"
        }
        EventKind::LoginUnreachable => "no login instance is linked, so nobody can sign in; start one",
        EventKind::ConsulUnreachable => "Consul does not answer; the instances known last are kept",
        EventKind::JwksFailed => {
            "the keys of tokens cannot be fetched from auth.jwks_url; the last ones are kept, trying again"
        }
        EventKind::Overload => "the gateway sheds load; add gateways or memory",
        EventKind::ConnectionsFull => {
            "as many clients are connected as may be; add gateways, or raise the limit"
        }
        EventKind::CertificateEnding => "the certificate of QUIC and TLS is near its end; renew it",
        EventKind::ReloadFailed => "what was read again is refused; what was in effect stays. Put it right",
        EventKind::Drain => "draining: channels are closed with 3000, sign-outs are written",
    }
}
