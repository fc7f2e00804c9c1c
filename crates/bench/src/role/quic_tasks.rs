//! What the clients of the load over QUIC do, each in tasks of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use quinn::{Connection, SendStream};
use tokio::sync::{Notify, watch};

use crate::error::BenchError;
use crate::role::latency::LatencyRecord;
use crate::role::pace::ticker;
use crate::role::quic_client::{AnswerCounts, AnswerReader, CheckedAnswers, FrameStream};
use crate::role::speech::AnswerKind;

/// What the tasks share.
#[derive(Clone)]
pub(crate) struct SharedLoad {
    pub(crate) counts: Arc<AnswerCounts>,
    /// Whether clients go on.
    pub(crate) running: watch::Receiver<bool>,
    /// Clients that are not at rest.
    pub(crate) busy: Arc<AtomicU64>,
    /// Pushes there are when everybody has what was asked for, and who waits for them.
    pub(crate) due: Arc<(AtomicU64, Notify)>,
    /// Of an open loop.
    pub(crate) latency: Arc<Mutex<LatencyRecord>>,
}

impl SharedLoad {
    pub(crate) fn new(running: watch::Receiver<bool>) -> Self {
        Self {
            counts: Arc::default(),
            running,
            busy: Arc::default(),
            due: Arc::default(),
            latency: Arc::new(Mutex::new(LatencyRecord::new())),
        }
    }

    /// Changes or reads the latencies: all is one thread.
    pub(crate) fn with_latency<T>(&self, look: impl FnOnce(&mut LatencyRecord) -> T) -> T {
        look(&mut self.latency.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is something to do, again and again.
    async fn begin(&mut self) -> bool {
        let begun = self.running.wait_for(|running| *running).await.is_ok();
        if begun {
            self.busy.fetch_add(1, Ordering::Relaxed);
        }
        begun
    }

    fn end(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One message in flight, and the next when an answer came.
pub(crate) async fn echo(
    mut stream: FrameStream,
    message: Bytes,
    mut checked: CheckedAnswers,
    mut shared: SharedLoad,
) -> Result<(), BenchError> {
    while shared.begin().await {
        while *shared.running.borrow() {
            stream.write(&message).await?;
            let Some(frame) = stream.frames.next().await? else {
                return Err(BenchError::failed("the server finished a stream"));
            };
            checked.count(&frame, &shared.counts);
        }
        shared.end();
    }
    Ok(())
}

/// When the messages of one client of an open loop were due, the oldest first.
pub(crate) type DueTimes = Arc<Mutex<VecDeque<Instant>>>;

/// Sends the messages of an open loop, whose clients take turns.
pub(crate) async fn pace(
    mut clients: Vec<(SendStream, DueTimes)>,
    message: Bytes,
    rate: f64,
    mut shared: SharedLoad,
) -> Result<(), BenchError> {
    while shared.begin().await {
        let mut due = ticker(rate, shared.running.clone());
        while let Some((number, due)) = due.recv().await {
            let count = clients.len();
            let (send, times) = &mut clients[number % count];
            times.lock().unwrap_or_else(PoisonError::into_inner).push_back(due);
            shared.with_latency(|latency| latency.sent(due, Instant::now()));
            let written = send.write_chunk(message.clone()).await;
            written.map_err(|error| BenchError::failed(format!("a stream broke: {error}")))?;
        }
        shared.end();
    }
    Ok(())
}

/// Takes the answers of one client of an open loop.
pub(crate) async fn answers(
    mut frames: AnswerReader,
    times: DueTimes,
    mut checked: CheckedAnswers,
    shared: SharedLoad,
) -> Result<(), BenchError> {
    while let Some(frame) = frames.next().await? {
        checked.count(&frame, &shared.counts);
        let due = times.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(due) = due {
            shared.with_latency(|latency| latency.answered(due, Instant::now()));
        }
    }
    Err(BenchError::failed("the server finished a stream"))
}

/// Asks for pushes, and again when everybody has them.
pub(crate) async fn publish(
    mut stream: FrameStream,
    ask: Bytes,
    each: u64,
    mut shared: SharedLoad,
) -> Result<(), BenchError> {
    while shared.begin().await {
        while *shared.running.borrow() {
            let (due, all_came) = &*shared.due;
            due.store(shared.counts.units.load(Ordering::Relaxed) + each, Ordering::Relaxed);
            stream.write(&ask).await?;
            stream.frames.next().await?;
            while shared.counts.units.load(Ordering::Relaxed) < due.load(Ordering::Relaxed) {
                all_came.notified().await;
            }
        }
        shared.end();
    }
    Ok(())
}

/// Keeps the first stream of a client that only listens: its end, of either half, would be the end of the session.
pub(crate) async fn hold(mut stream: FrameStream) -> Result<(), BenchError> {
    while stream.frames.next().await?.is_some() {}
    Ok(())
}

/// Takes the pushes of one client.
pub(crate) async fn receive(connection: Connection, shared: SharedLoad) -> Result<(), BenchError> {
    let pushes = connection.accept_uni().await;
    let pushes = pushes.map_err(|error| BenchError::failed(format!("no stream of pushes: {error}")))?;
    let (mut frames, mut checked) = (AnswerReader::new(pushes), CheckedAnswers::new(AnswerKind::Push));
    while let Some(frame) = frames.next().await? {
        checked.count(&frame, &shared.counts);
        let (due, all_came) = &*shared.due;
        if shared.counts.units.load(Ordering::Relaxed) >= due.load(Ordering::Relaxed) {
            all_came.notify_one();
        }
    }
    Ok(())
}
