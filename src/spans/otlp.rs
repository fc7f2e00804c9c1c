//! Spans as OTLP has them: the few messages of opentelemetry-proto's trace/v1 that are needed, written down by hand. The
//! numbers of the fields are the format.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::span::{AttributeValue, FinishedSpan};

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WrittenSpan>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct WrittenSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "SpanValue", tags = "1, 3, 4")]
    value: Option<SpanValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum SpanValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

/// The code of a span that has failed.
const ERROR: i32 = 2;

/// The body of a request that gives the collector these spans of this gateway.
pub(super) fn encode(gateway: &str, spans: Vec<FinishedSpan>) -> Vec<u8> {
    let text = |key: &str, text: &str| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(SpanValue::Text(text.to_owned())) }),
    };
    let attributes = vec![text("service.name", "gateway"), text("service.instance.id", gateway)];
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope_spans = ScopeSpans {
        scope: Some(Scope { name: "gateway".to_owned(), version }),
        spans: spans.into_iter().map(written).collect(),
    };
    let resource = Some(Resource { attributes });
    let all = ResourceSpans { resource, scope_spans: vec![scope_spans] };
    ExportRequest { resource_spans: vec![all] }.encode_to_vec()
}

fn written(span: FinishedSpan) -> WrittenSpan {
    WrittenSpan {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() },
        name: span.name.to_owned(),
        kind: span.kind as i32,
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        status: span.has_failed.then_some(SpanStatus { code: ERROR }),
    }
}

fn attribute((key, value): (&'static str, AttributeValue)) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => SpanValue::Text(text),
        AttributeValue::Integer(number) => SpanValue::Integer(number),
        AttributeValue::Seconds(seconds) => SpanValue::Double(seconds),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// Since 1970; 64 bits last until 2554.
fn nanos(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}
