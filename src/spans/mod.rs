//! Traces for a collector: where the time of a connection, a sign-in, a request or a push goes, as OpenTelemetry's spans.
//!
//! A worker decides with a [`Tracer`] what is recorded, and puts what has ended into a bounded queue that it never waits for.
//! A thread of its own takes it from there to the collector. Without `[tracing]` a packet costs the look at one flag.

mod context;
#[cfg(feature = "trace-export")]
mod exporter;
#[cfg(feature = "trace-export")]
mod otlp;
mod span;
mod tracer;

pub(crate) use self::context::TraceContext;
#[cfg(feature = "trace-export")]
pub(crate) use self::exporter::{Collector, SpanExporter};
pub(crate) use self::span::{ConnectionSpan, PushSpan, RequestSpan, SpanKind};
pub(crate) use self::tracer::{SpanQueue, Tracer, TracerPolicy};
