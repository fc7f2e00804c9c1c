//! An event on its way out: the line of the log and the body of the webhook.

use std::time::SystemTime;

use serde_json::{Value, json};
use tracing::{error, info, warn};

use super::conditions::{ConditionState, Told};
use super::event::Severity;

/// Told once in the log, and to the webhook until it answers.
#[derive(Debug)]
pub(super) struct EventPayload {
    /// The same at every attempt.
    pub(super) id: String,
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

    /// A JSON object. What an event is not about is left out.
    pub(super) fn to_json(&self) -> Value {
        let Told { subject, state, severity, detail, suppressed } = &self.told;
        let mut body = json!({
            "id": self.id,
            "seq": self.sequence,
            "gateway": self.gateway,
            "event": subject.kind().label(),
            "severity": severity.label(),
            "state": state.label(),
            "time": humantime::format_rfc3339_millis(self.time).to_string(),
            "service": subject.service(),
            "instance": subject.instance_id(),
            "zone": subject.zone(),
            "detail": detail,
            "suppressed": suppressed,
        });
        body.as_object_mut().into_iter().for_each(|body| body.retain(|_, value| !value.is_null()));
        body
    }

    /// The same as text.
    pub(super) fn body(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    /// One line; the field `event` is the same as in the metrics and at the webhook.
    pub(super) fn log(&self) {
        let Told { subject, state, severity, detail, suppressed } = &self.told;
        let (severity, text) = match state {
            ConditionState::Cleared => (Severity::Info, "it is over"),
            ConditionState::Raised => (*severity, subject.headline()),
        };
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    event = subject.kind().label(),
                    state = state.label(),
                    service = subject.service(),
                    instance = subject.instance_id(),
                    zone = subject.zone(),
                    detail = &**detail,
                    suppressed = (*suppressed > 0).then_some(*suppressed),
                    id = self.id,
                    "{text}"
                )
            };
        }
        match severity {
            Severity::Info => line!(info),
            Severity::Warning => line!(warn),
            Severity::Error => line!(error),
        }
    }
}
