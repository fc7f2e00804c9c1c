//! One span.

use std::time::{Duration, Instant, SystemTime};

use super::context::TraceContext;
use crate::limits::TRACED_COMMAND;

/// Which side of a call a span is, as OpenTelemetry numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanKind {
    /// What the gateway does for a client.
    Server = 2,
    /// What it asks of a logic service.
    Client = 3,
    /// What a logic service has it do.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AttributeValue {
    Text(String),
    Integer(i64),
    Seconds(f64),
}

/// A span that has begun.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    /// Its trace, and itself.
    pub(crate) context: TraceContext,
    /// The span it belongs to, 0 for the first one of a trace.
    pub(crate) parent: u64,
    /// For people.
    pub(crate) start: SystemTime,
    /// What its time is reckoned from: a clock that nobody sets.
    pub(crate) since: Instant,
}

/// A request in a trace.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    /// None for one that is only handed on.
    pub(crate) open: Option<OpenSpan>,
    /// What its service is told: the span of the call, or what a client said.
    pub(crate) handed_on: TraceContext,
}

impl RequestSpan {
    /// Of which nothing is recorded here.
    pub(crate) fn handing_on(told: TraceContext) -> Box<Self> {
        Box::new(Self { open: None, handed_on: told })
    }
}

/// A connection in a trace.
#[derive(Debug)]
pub(crate) struct ConnectionSpan {
    pub(crate) open: OpenSpan,
    pub(crate) transport: &'static str,
}

/// A push in a trace, and what became of it.
#[derive(Debug)]
pub(crate) struct PushSpan {
    pub(crate) open: OpenSpan,
    pub(crate) queued: u32,
    pub(crate) dropped: u32,
}

/// A span that has ended.
#[derive(Debug)]
#[cfg_attr(not(feature = "trace-export"), expect(dead_code, reason = "only a collector is told"))]
pub(crate) struct FinishedSpan {
    pub(crate) name: &'static str,
    pub(crate) kind: SpanKind,
    pub(crate) trace: u128,
    pub(crate) id: u64,
    /// 0: none.
    pub(crate) parent: u64,
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) attributes: Vec<(&'static str, AttributeValue)>,
    pub(crate) has_failed: bool,
}

impl OpenSpan {
    /// It has lasted for so long.
    pub(crate) fn end(&self, name: &'static str, kind: SpanKind, lasted: Duration) -> FinishedSpan {
        FinishedSpan {
            name,
            kind,
            trace: self.context.trace,
            id: self.context.span,
            parent: self.parent,
            start: self.start,
            end: self.start + lasted,
            attributes: Vec::new(),
            has_failed: false,
        }
    }
}

impl FinishedSpan {
    /// As much of it as a trace shows.
    pub(crate) fn command(self, command: &str) -> Self {
        self.text("gateway.command", &command[..command.floor_char_boundary(TRACED_COMMAND)])
    }

    pub(crate) fn text(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((key, AttributeValue::Text(value.into())));
        self
    }

    pub(crate) fn integer(mut self, key: &'static str, value: i64) -> Self {
        self.attributes.push((key, AttributeValue::Integer(value)));
        self
    }

    pub(crate) fn seconds(mut self, key: &'static str, value: Option<Duration>) -> Self {
        self.attributes.extend(value.map(|value| (key, AttributeValue::Seconds(value.as_secs_f64()))));
        self
    }

    pub(crate) fn failed(mut self, has_failed: bool) -> Self {
        self.has_failed = has_failed;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_any_length_is_shown_in_part() {
        let context = TraceContext { trace: 1, span: 2, is_sampled: true };
        let open = OpenSpan { context, parent: 0, start: SystemTime::now(), since: Instant::now() };
        let command = format!("x{}", "é".repeat(TRACED_COMMAND));
        let span = open.end("push", SpanKind::Consumer, Duration::ZERO).command(&command);
        let shown = command[..TRACED_COMMAND - 1].to_owned();
        assert_eq!(span.attributes, [("gateway.command", AttributeValue::Text(shown))]);
    }
}
