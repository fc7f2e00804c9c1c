//! The thread that takes spans to the collector. Load on the workers cannot starve it, and nothing it waits for can hold
//! them up.

use std::future::pending;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::otlp;
use super::span::FinishedSpan;
use super::tracer::SpanQueue;
use crate::http_client::Endpoint;
use crate::limits::{SPANS_AT_ONCE, SPANS_QUEUED};
use crate::monitor::trace_spans::{SpanOutcome, TraceMetrics};
use crate::owned_thread::OwnedThread;

/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// For one batch, from the name of the host to the status.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a batch that was not taken: a collector that is down is not asked at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What is left when the process ends, and the batch that is on its way then, have so long together.
const LAST_BATCH: Duration = Duration::from_millis(500);

/// Where spans are posted.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) endpoint: Endpoint,
    /// Begins with a slash.
    pub(crate) path: String,
    /// The id of this gateway.
    pub(crate) gateway: String,
}

/// Owns the thread. Dropping it posts what is left, for half a second at most, and ends the thread.
#[derive(Debug)]
pub(crate) struct SpanExporter {
    _thread: OwnedThread,
}

impl SpanExporter {
    /// Begins.
    ///
    /// # Errors
    /// The machine gave no thread or event queue.
    pub(crate) fn start(collector: Collector, metrics: Arc<TraceMetrics>) -> io::Result<(Self, SpanQueue)> {
        let (spans, queue) = channel(SPANS_QUEUED);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (gathered, counted) = (Vec::new(), Arc::clone(&metrics));
        let exporting = Exporting { collector, queue, metrics: counted, gathered, is_failing: false };
        let thread = OwnedThread::start("tracing", move |stopped| {
            runtime.block_on(exporting.run(stopped));
            runtime.shutdown_background();
        })?;
        Ok((Self { _thread: thread }, SpanQueue { spans, metrics }))
    }
}

struct Exporting {
    collector: Collector,
    queue: Receiver<FinishedSpan>,
    metrics: Arc<TraceMetrics>,
    gathered: Vec<FinishedSpan>,
    is_failing: bool,
}

impl Exporting {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let until = loop {
            tokio::select! {
                () = self.gather() => {}
                _owner_is_gone = &mut stopped => break Instant::now() + LAST_BATCH,
            }
            let batch = mem::take(&mut self.gathered);
            let mut posted = pin!(self.post(batch));
            let was_taken = tokio::select! {
                was_taken = &mut posted => was_taken,
                _owner_is_gone = &mut stopped => {
                    let until = Instant::now() + LAST_BATCH;
                    let _late = timeout_at(until, posted).await;
                    break until;
                }
            };
            if !was_taken {
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    _owner_is_gone = &mut stopped => break Instant::now() + LAST_BATCH,
                }
            }
        };
        self.post_what_is_left(until).await;
    }

    async fn post_what_is_left(mut self, until: Instant) {
        self.queue.close();
        let mut left = mem::take(&mut self.gathered);
        while let Ok(span) = self.queue.try_recv() {
            left.push(span);
        }
        while !left.is_empty() && Instant::now() < until {
            let rest = left.split_off(left.len().min(SPANS_AT_ONCE));
            let _late = timeout_at(until, self.post(mem::replace(&mut left, rest))).await;
        }
        self.metrics.count(SpanOutcome::Dropped, left.len() as u64);
    }

    /// Waits for a batch. Cancel safe.
    async fn gather(&mut self) {
        let mut by = None;
        while self.gathered.len() < SPANS_AT_ONCE {
            let next = match by {
                None => self.queue.recv().await,
                Some(by) => match timeout_at(by, self.queue.recv()).await {
                    Ok(next) => next,
                    Err(_late) => return,
                },
            };
            // No worker is left, and the owner is about to go.
            let Some(span) = next else { return pending().await };
            self.gathered.push(span);
            by.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Returns `true` if the collector took it. It is not posted again: what comes meanwhile is worth more. Cancelled, it counts as
    /// lost.
    async fn post(&mut self, batch: Vec<FinishedSpan>) -> bool {
        let Collector { endpoint, path, gateway } = &self.collector;
        let agent = concat!("gateway/", env!("CARGO_PKG_VERSION"));
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (USER_AGENT, HeaderValue::from_static(agent)),
        ];
        let mut fate =
            BatchFate { metrics: &self.metrics, spans: batch.len() as u64, outcome: SpanOutcome::Failed };
        let body = otlp::encode(gateway, batch);
        let sent = endpoint.send(Method::POST, path, &headers, body, 0, PATIENCE).await;
        let problem = match sent {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!("status {}; 2xx would mean that they were taken", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        if problem.is_none() {
            fate.outcome = SpanOutcome::Exported;
        }
        drop(fate);
        let was_taken = problem.is_none();
        let was_failing = mem::replace(&mut self.is_failing, !was_taken);
        // One line per outage; the rest is in the metrics.
        match problem {
            Some(error) if !was_failing => {
                let to = self.collector.endpoint.authority();
                warn!(event = "collector_failing", to, %error, "the collector did not take spans; they are lost");
            }
            None if was_failing => info!(event = "collector_back", to = self.collector.endpoint.authority()),
            _ => {}
        }
        was_taken
    }
}

/// Counts what became of a batch, of one that was cancelled as well.
struct BatchFate<'a> {
    metrics: &'a TraceMetrics,
    spans: u64,
    outcome: SpanOutcome,
}

impl Drop for BatchFate<'_> {
    fn drop(&mut self) {
        self.metrics.count(self.outcome, self.spans);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::SystemTime;

    use gateway_net::resolve::Resolver;

    use super::*;
    use crate::spans::span::OpenSpan;
    use crate::spans::{SpanKind, TraceContext};

    #[test]
    fn f17_every_span_that_is_left_at_the_end_is_counted() {
        // Nobody ever answers there.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::new("127.0.0.1", port, None, Resolver::default()).unwrap();
        let collector = Collector { endpoint, path: "/v1/traces".to_owned(), gateway: "gate01".to_owned() };
        let metrics = Arc::new(TraceMetrics::default());
        let (exporter, queue) = SpanExporter::start(collector, Arc::clone(&metrics)).unwrap();
        let context = TraceContext { trace: 1, span: 2, is_sampled: true };
        let open =
            OpenSpan { context, parent: 0, start: SystemTime::now(), since: std::time::Instant::now() };
        for _ in 0..SPANS_AT_ONCE + 3 {
            queue.spans.try_send(open.end("request", SpanKind::Server, Duration::ZERO)).unwrap();
        }
        drop(exporter);
        let [failed, dropped] =
            [SpanOutcome::Failed, SpanOutcome::Dropped].map(|outcome| metrics.get(outcome));
        assert_eq!((failed, dropped), (SPANS_AT_ONCE as u64, 3));
    }
}
