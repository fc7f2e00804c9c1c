//! Cells of the spans that are recorded for a collector.

use prometheus::proto::MetricFamily;

use super::counters::Counters;
use super::descriptors::TRACE_SPANS;
use super::family::Family;
use super::labels::label_set;

label_set! {
    /// What became of a span: `gateway_trace_spans_total`.
    SpanOutcome {
        /// The collector took it.
        Exported = "exported",
        /// It was lost because the collector did not take it.
        Failed = "failed",
        /// It was lost because too many waited.
        Dropped = "dropped",
    }
}

/// Counters of the one exporter of a process.
#[derive(Debug, Default)]
pub struct TraceMetrics(Counters<{ SpanOutcome::COUNT }>);

impl TraceMetrics {
    /// This became of so many spans.
    pub fn count(&self, outcome: SpanOutcome, spans: u64) {
        self.0.add_shared(outcome.index(), spans);
    }

    /// So many it became of.
    pub fn get(&self, outcome: SpanOutcome) -> u64 {
        self.0.get(outcome.index())
    }

    pub(super) fn family(&self) -> MetricFamily {
        let mut family = Family::new(&TRACE_SPANS);
        for outcome in SpanOutcome::ALL {
            family.sample(&[outcome.label()], self.get(*outcome) as f64);
        }
        family.finish()
    }
}
