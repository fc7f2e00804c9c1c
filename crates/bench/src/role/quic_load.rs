//! Load over QUIC: all clients on one socket and one thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{self, Opcode};
use quinn::Connection;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use crate::error::{BenchError, Trying as _};
use crate::frames;
use crate::role::control::{self, Ready};
use crate::role::quic_client::{self, CheckedAnswers, FrameStream, LOGIN};
use crate::role::quic_tasks::{DueTimes, SharedLoad, answers, echo, hold, pace, publish, receive};
use crate::role::speech::AnswerKind;
use crate::role::window::{Measure, Measured, Window};
use crate::role::work::LoadWork;
use crate::token::TokenSigner;

/// Its name among the roles.
pub(crate) const NAME: &str = "quic-load";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QuicLoad {
    pub(crate) target: SocketAddr,
    pub(crate) clients: usize,
    /// Bytes of a message's body.
    pub(crate) body: usize,
    /// Whether there is something to sign in to; else it echoes bytes.
    pub(crate) signs_in: bool,
    pub(crate) work: LoadWork,
    /// Messages a second of an open loop, each at its time; 0 for a closed one.
    pub(crate) rate: f64,
    /// Whose certificates are believed.
    pub(crate) ca: PathBuf,
    /// The key of tokens, as text.
    pub(crate) secret: String,
    /// What the accounts' names begin with.
    pub(crate) accounts: String,
}

/// Connections and logins under way at once: below the number from which on a gateway asks for proof of address.
const CONNECTING: usize = 64;

/// How long what is in flight may take at the end of a measurement.
const DRAIN: Duration = Duration::from_secs(5);

/// Between two looks whether it is there.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let config: QuicLoad = control::parse(argument)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "no runtime".to_owned())?.block_on(serve(config))
}

async fn serve(config: QuicLoad) -> Result<(), BenchError> {
    let (failed, mut failure) = mpsc::channel(1);
    let mut load = QuicClients::connect(&config, &failed).await?;
    let (sender, mut questions) = mpsc::channel(1);
    control::each_question(move |question: Measure| sender.blocking_send(question).is_ok());
    control::answer(&Ready {})?;
    while let Some(measure) = questions.recv().await {
        let measured = tokio::select! {
            measured = load.measure(measure) => measured?,
            Some(error) = failure.recv() => return Err(error),
        };
        control::answer(&measured)?;
    }
    Ok(())
}

/// All clients.
struct QuicClients {
    connections: Vec<Connection>,
    running: watch::Sender<bool>,
    shared: SharedLoad,
    is_open_loop: bool,
}

impl QuicClients {
    async fn connect(config: &QuicLoad, failed: &mpsc::Sender<BenchError>) -> Result<Self, BenchError> {
        let endpoint = quic_client::endpoint()?;
        let client = quic_client::config(quic_client::tls(&config.ca)?)?;
        let (running, receiver) = watch::channel(false);
        let shared = SharedLoad::new(receiver);
        let mut opened = Vec::with_capacity(config.clients);
        let numbers: Vec<usize> = (0..config.clients).collect();
        for some in numbers.chunks(CONNECTING) {
            let open = |number| open(config.clone(), endpoint.clone(), client.clone(), number);
            let tasks: Vec<_> =
                some.iter().map(|number| tokio::spawn(timeout(LOGIN, open(*number)))).collect();
            for task in tasks {
                let task = task.await.map_err(|error| BenchError::failed(error.to_string()))?;
                opened.push(task.map_err(|_| BenchError::failed("a login took too long"))??);
            }
        }
        let connections = opened.iter().map(|(connection, _)| connection.clone()).collect();
        start(config, opened, &shared, failed);
        Ok(Self { connections, running, shared, is_open_loop: config.rate > 0.0 })
    }

    async fn measure(&mut self, measure: Measure) -> Result<Measured, BenchError> {
        let counts = &self.shared.counts;
        let wrong = counts.wrong.load(Ordering::Relaxed);
        let mut window = Window::new(measure, Instant::now());
        self.running.send_replace(true);
        let mut datagrams = 0;
        let mut measured = loop {
            sleep_until(window.next().into()).await;
            let was_begun = window.has_begun();
            if let Some(measured) = window.turn(Instant::now(), counts.units.load(Ordering::Relaxed))? {
                break measured;
            }
            if !was_begun && window.has_begun() {
                datagrams = self.datagrams();
                self.shared.with_latency(|latency| latency.clear());
            }
        };
        measured.datagrams = self.datagrams() - datagrams;
        if self.is_open_loop {
            measured.latency = Some(self.shared.with_latency(|latency| latency.summary()));
        }
        self.running.send_replace(false);
        self.rest().await?;
        measured.wrong = counts.wrong.load(Ordering::Relaxed) - wrong;
        Ok(measured)
    }

    /// Waits until nothing is in flight.
    async fn rest(&self) -> Result<(), BenchError> {
        let by = Instant::now() + DRAIN;
        while self.shared.busy.load(Ordering::Relaxed) > 0 {
            if Instant::now() > by {
                let clients = self.connections.len();
                return Err(BenchError::failed(format!("of {clients} clients some got no answer")));
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Datagrams that came so far.
    fn datagrams(&self) -> u64 {
        self.connections.iter().map(|connection| connection.stats().udp_rx.datagrams).sum()
    }
}

async fn open(
    config: QuicLoad,
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
    number: usize,
) -> Result<(Connection, FrameStream), BenchError> {
    let (connection, mut stream) = quic_client::connect(&endpoint, &client, config.target).await?;
    if config.signs_in {
        let token = TokenSigner::new(config.secret.as_bytes()).token(&format!("{}{number}", config.accounts));
        quic_client::login(&mut stream, Dialect::default(), &token).await?;
    }
    Ok((connection, stream))
}

/// Runs a task; what it fails of is told once.
fn spawn(
    failed: &mpsc::Sender<BenchError>,
    task: impl Future<Output = Result<(), BenchError>> + Send + 'static,
) {
    let failed = failed.clone();
    tokio::spawn(async move {
        if let Err(error) = task.await {
            // One failure is enough.
            let _told_before = failed.try_send(error);
        }
    });
}

/// Starts the tasks of all clients.
fn start(
    config: &QuicLoad,
    clients: Vec<(Connection, FrameStream)>,
    shared: &SharedLoad,
    failed: &mpsc::Sender<BenchError>,
) {
    let dialect = Dialect::default();
    let (message, kind) = match config.work {
        LoadWork::Beat => (frame::encode(Opcode::Ping, &[]), AnswerKind::Pong),
        LoadWork::Echo => {
            (frames::request(dialect, frames::ECHO, 7, &vec![b'x'; config.body]), AnswerKind::Success)
        }
        LoadWork::Push { count } => {
            (frames::request(dialect, frames::BURST, 7, &count.to_be_bytes()), AnswerKind::Push)
        }
    };
    let each = u64::from(config.work.count()) * clients.len() as u64;
    let mut paced = Vec::new();
    for (number, (connection, stream)) in clients.into_iter().enumerate() {
        if let LoadWork::Push { .. } = config.work {
            spawn(failed, receive(connection, shared.clone()));
            if number == 0 {
                spawn(failed, publish(stream, message.clone(), each, shared.clone()));
            } else {
                spawn(failed, hold(stream));
            }
        } else if config.rate > 0.0 {
            let times = DueTimes::default();
            paced.push((stream.send, DueTimes::clone(&times)));
            spawn(failed, answers(stream.frames, times, CheckedAnswers::new(kind), shared.clone()));
        } else {
            spawn(failed, echo(stream, message.clone(), CheckedAnswers::new(kind), shared.clone()));
        }
    }
    if !paced.is_empty() {
        spawn(failed, pace(paced, message, config.rate, shared.clone()));
    }
}
