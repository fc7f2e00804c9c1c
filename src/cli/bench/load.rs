//! What one client of `gateway bench talk` does: send on time, await answers, take what its partner sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway_client::{Client, PendingAnswer, Push, Pushes, RequestError, Requests as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::cli::bench::pairs::{account, partner};
use crate::cli::bench::report::{Received, Sent};

/// Messages of one client without an answer, below what the gateway takes from one channel (256).
const IN_FLIGHT: usize = 128;

/// Between two acknowledgements of one client; each covers all before it.
const ACK_EVERY: Duration = Duration::from_secs(1);

/// Between the end of the setup and the first message.
const START_DELAY: Duration = Duration::from_millis(200);

/// What all clients share.
pub(super) struct BenchLoad {
    run: String,
    clients: u32,
    /// When the first message is due.
    start: Instant,
    period: Duration,
    /// Messages each client is to send.
    each: u32,
    stopped: AtomicBool,
    ended: watch::Sender<bool>,
    /// Messages sent.
    pub(super) sent: AtomicU64,
    /// Messages answered with status 0.
    pub(super) stored: AtomicU64,
    /// Different messages received.
    pub(super) seen: AtomicU64,
}

impl BenchLoad {
    pub(super) fn new(run: String, clients: u32, rate: u32, each: u32) -> Self {
        Self {
            run,
            clients,
            start: Instant::now() + START_DELAY,
            period: Duration::from_secs(1) / rate,
            each,
            stopped: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            sent: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }

    /// No further messages are sent.
    pub(super) fn stop_sending(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Receivers return what they have.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// When message `number` of a client is due. Clients are spread over the period.
    fn due(&self, client: usize, number: u32) -> Instant {
        let phase = self.period.mul_f64(client as f64 / f64::from(self.clients));
        self.start + phase + self.period * number
    }

    fn body(&self, due: Instant, number: u32) -> String {
        format!("{number} {}", due.duration_since(self.start).as_nanos())
    }

    /// The number of a message, and when it was due.
    fn parse(&self, body: &str) -> Option<(u32, Instant)> {
        let (number, nanos) = body.split_once(' ')?;
        let number = number.parse().ok().filter(|number| *number < self.each)?;
        Some((number, self.start + Duration::from_nanos(nanos.parse().ok()?)))
    }
}

/// Sends every message when it is due, or as soon as possible after that, and collects the answers.
pub(super) async fn send(client: usize, connection: Client, load: Arc<BenchLoad>) -> (usize, Sent) {
    let (sending, sent) = mpsc::channel(IN_FLIGHT);
    let produce = async {
        let to = account(&load.run, partner(client));
        for number in 0..load.each {
            let due = load.due(client, number);
            sleep_until(due).await;
            if load.stopped.load(Ordering::Relaxed) || connection.close_reason().is_some() {
                break;
            }
            let lag = due.elapsed();
            let answer = connection.send_talk(&to, &load.body(due, number)).await;
            load.sent.fetch_add(1, Ordering::Relaxed);
            // Waits while too many are without an answer; what was late is then sent at once.
            if sending.send(UnansweredMessage { number, due, lag, answer }).await.is_err() {
                break;
            }
        }
        drop(sending);
    };
    let ((), result) = tokio::join!(produce, collect(&load, sent));
    (client, result)
}

/// A message without an answer.
struct UnansweredMessage {
    number: u32,
    due: Instant,
    lag: Duration,
    answer: Result<PendingAnswer, RequestError>,
}

async fn collect(load: &BenchLoad, mut sent: mpsc::Receiver<UnansweredMessage>) -> Sent {
    let mut result = Sent::new(load.each);
    while let Some(UnansweredMessage { number, due, lag, answer }) = sent.recv().await {
        let answer = match answer {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        if answer.as_ref().is_ok_and(|answer| answer.is_success()) {
            load.stored.fetch_add(1, Ordering::Relaxed);
        }
        result.note(number, lag, answer.ok().map(|answer| (answer.status, answer.at.duration_since(due))));
    }
    result
}

/// Takes what comes until the end, and acknowledges it from time to time.
pub(super) async fn receive(
    client: usize,
    connection: Client,
    mut pushes: Pushes,
    load: Arc<BenchLoad>,
) -> (usize, Received) {
    let from = account(&load.run, partner(client));
    let mut result = Received::new(load.each);
    let (newest, acks) = watch::channel(0);
    let mut ended = load.ended.subscribe();
    let take = async {
        loop {
            tokio::select! {
                push = pushes.recv() => match push {
                    Some(push) => take(&push, &from, &load, &newest, &mut result),
                    None => break,
                },
                _ = ended.wait_for(|ended| *ended) => break,
            }
        }
        drop(newest);
    };
    let ((), failed_acks) = tokio::join!(take, acknowledge(&connection, acks));
    result.failed_acks = failed_acks;
    (client, result)
}

fn take(push: &Push, from: &str, load: &BenchLoad, newest: &watch::Sender<i64>, result: &mut Received) {
    let now = Instant::now();
    let Some(message) = push.message().filter(|message| message.sender == from) else { return };
    let Some((number, due)) = load.parse(&message.body) else { return };
    newest.send_modify(|id| *id = message.message_id.max(*id));
    if result.note(number, now.duration_since(due)) {
        load.seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// Acknowledges the newest message at intervals until there are no more; returns how often that failed.
async fn acknowledge(connection: &Client, mut newest: watch::Receiver<i64>) -> u64 {
    let mut failed = 0;
    let mut ticks = interval(ACK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while newest.changed().await.is_ok() {
        let id = *newest.borrow_and_update();
        failed += u64::from(connection.ack(id).await.is_err());
        ticks.tick().await;
    }
    failed
}
