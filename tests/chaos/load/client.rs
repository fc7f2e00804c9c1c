//! One client of the load: connection after connection, each with its own channel.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use gateway::wire::close::CloseReason;
use gateway_client::{Client, PendingAnswer, Pushes, RequestError, Requests as _, Transport};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{LoadContext, Mood, PUSHES};
use crate::oracle::{Outcome, Reply};
use crate::seeded::Seeded;
use crate::stamp::Stamp;

/// Requests of one client under way: below the gateway's own bound of 256.
const UNDER_WAY: usize = 200;

/// Pauses between two attempts to connect: doubled from the first to the second, with full jitter.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// A request whose stream was ended is closed if its connection ends within this.
const SOON_CLOSED: Duration = Duration::from_secs(2);

/// What is left of a connection that is over must come within this.
const LAST: Duration = Duration::from_secs(20);

/// One request in so many goes to the service that no fault touches.
const SIDE_EVERY: usize = 8;

/// Lives until the load is over.
pub(super) async fn live(shared: Arc<LoadContext>, account: String, transport: Transport) {
    let mut random = Seeded::new(shared.run ^ u64::from(crc32fast::hash(account.as_bytes())));
    let mut mood = shared.mood.subscribe();
    let mut pause = RECONNECT.0;
    loop {
        let Ok(now) = mood.wait_for(|mood| *mood != Mood::Away).await.map(|mood| *mood) else { return };
        if now == Mood::Over {
            return;
        }
        match open(&shared, &account, transport).await {
            Some((client, pushes, channel)) => {
                pause = RECONNECT.0;
                Session { shared: &shared, account: &account, client, channel, random: random.clone() }
                    .run(pushes, transport)
                    .await;
                random.next();
            }
            None => {
                shared.failed_logins.fetch_add(1, Ordering::Relaxed);
                sleep(random.pause(pause)).await;
                pause = (pause * 2).min(RECONNECT.1);
            }
        }
    }
}

/// A connection that is signed in.
async fn open(shared: &LoadContext, account: &str, transport: Transport) -> Option<(Client, Pushes, String)> {
    let mut options = shared.options(transport);
    options.endpoint = (transport == Transport::Quic).then(|| shared.endpoint.clone());
    let (client, pushes) = Client::connect(options).await.ok()?;
    let login = client.login(&shared.token(account)).await.ok()?;
    shared.ledger.oracle().opened(&login.channel_id, account);
    Some((client, pushes, login.channel_id))
}

struct Session<'a> {
    shared: &'a Arc<LoadContext>,
    account: &'a str,
    client: Client,
    channel: String,
    random: Seeded,
}

impl Session<'_> {
    async fn run(mut self, pushes: Pushes, transport: Transport) {
        let life = self.shared.count_in(transport);
        let (shared, channel) = (Arc::clone(self.shared), self.channel.clone());
        let taking = AbortOnDropHandle::new(tokio::spawn(take_pushes(shared, channel, pushes)));
        let (asked, waiting) = mpsc::channel(UNDER_WAY);
        let awaiting = Awaiting {
            shared: Arc::clone(self.shared),
            client: self.client.clone(),
            channel: self.channel.clone(),
        };
        let awaiting = AbortOnDropHandle::new(tokio::spawn(awaiting.run(waiting)));
        let reason = self.ask(asked).await;
        self.shared.count_out(transport, life);
        // Answers that arrived before the end are there already; the others ended with the connection.
        let _late = timeout(LAST, awaiting).await;
        if reason.is_none() {
            self.client.close().await;
        }
        let _late = timeout(LAST, taking).await;
        let mut oracle = self.shared.ledger.oracle();
        let unmatched = self.client.counts().unmatched;
        if unmatched > 0 {
            oracle.unmatched(&self.channel, unmatched);
        }
        oracle.ended(&self.channel, std::time::Instant::now());
        drop(oracle);
        if let (Some(reason), Ok(mut closes)) = (reason, self.shared.closes.lock()) {
            closes.push((reason, Instant::now()));
        }
    }

    /// Asks until the connection is over, whose reason it returns, or the client is to leave.
    async fn ask(&mut self, asked: mpsc::Sender<(u64, PendingAnswer, Instant)>) -> Option<CloseReason> {
        let mut mood: watch::Receiver<Mood> = self.shared.mood.subscribe();
        let every = self.shared.every;
        let mut ticks = interval_at(Instant::now() + self.random.pause(every), every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let now = *mood.borrow_and_update();
            tokio::select! {
                biased;
                reason = self.client.closed() => return Some(reason),
                () = std::future::ready(()), if matches!(now, Mood::Away | Mood::Over) => return None,
                _ = mood.changed() => {}
                _ = ticks.tick(), if now == Mood::Ask => self.ask_once(&asked).await,
            }
        }
    }

    async fn ask_once(&mut self, asked: &mpsc::Sender<(u64, PendingAnswer, Instant)>) {
        let Ok(room) = asked.reserve().await else { return };
        let began = Instant::now();
        let n = self.shared.ledger.oracle().sending(&self.channel, began.into_std());
        let stamp =
            Stamp { run: self.shared.run, sender: self.account.to_owned(), channel: self.channel.clone(), n };
        let command = if self.random.below(SIDE_EVERY) == 0 { "side.echo" } else { "chat.user.talk" };
        match self.client.send(command, "", stamp.to_string()).await {
            Ok(answer) => room.send((n, answer, began)),
            Err(error) => end_of_request(self.shared, &self.client, &self.channel, n, error).await,
        }
    }
}

/// Awaits the answers in the order in which they were asked for.
struct Awaiting {
    shared: Arc<LoadContext>,
    client: Client,
    channel: String,
}

impl Awaiting {
    async fn run(self, mut waiting: mpsc::Receiver<(u64, PendingAnswer, Instant)>) {
        while let Some((n, answer, began)) = waiting.recv().await {
            match answer.await {
                Ok(answer) => {
                    let echo = Stamp::first(&answer.body).ok().filter(|_| answer.is_success());
                    let written = Stamp::second(&answer.body).filter(|_| answer.is_success());
                    let link = written.as_ref().map_or("", |stamp| stamp.sender.as_str());
                    if !echo.as_ref().is_some_and(Stamp::is_held) {
                        self.shared.samples.add(link, answer.status, began, answer.at - began);
                    }
                    let mut oracle = self.shared.ledger.oracle();
                    if answer.is_success() && (echo.is_none() || written.is_none()) {
                        let evidence = format!("{}: the answer to {n} holds no stamps", self.channel);
                        oracle.violated(crate::oracle::ViolationKind::Crossed, 1, evidence);
                    }
                    let (status, at) = (answer.status, answer.at.into_std());
                    let reply = Reply { n, status, echo: echo.as_ref(), written: written.as_ref(), at };
                    oracle.answered(&self.channel, reply);
                }
                Err(error) => end_of_request(&self.shared, &self.client, &self.channel, n, error).await,
            }
        }
    }
}

/// A request ended without an answer.
async fn end_of_request(shared: &LoadContext, client: &Client, channel: &str, n: u64, error: RequestError) {
    let closed = match error {
        RequestError::Closed(_) => true,
        RequestError::StreamEnded => timeout(SOON_CLOSED, client.closed()).await.is_ok(),
        _ => false,
    };
    let outcome = if closed { Outcome::Closed } else { Outcome::GaveUp };
    shared.ledger.oracle().unanswered(channel, n, outcome, std::time::Instant::now());
}

async fn take_pushes(shared: Arc<LoadContext>, channel: String, mut pushes: Pushes) {
    while let Some(push) = pushes.recv().await {
        if let Some(age) = Stamp::age(&push.body, SystemTime::now()) {
            shared.samples.add(PUSHES, 0, Instant::now(), age);
        }
        let stamp = Stamp::of_channel(&push.body, &channel).or_else(|| {
            // What names another channel, or nobody, is evidence.
            Stamp::first(&push.body).ok().filter(|stamp| stamp.n == 0)
        });
        shared.ledger.oracle().got(&channel, stamp.as_ref());
    }
}
