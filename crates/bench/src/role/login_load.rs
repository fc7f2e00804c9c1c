//! Load of logins: so many are under way at once, and where one is done the next begins.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway_wire::dialect::Dialect;
use quinn::{Endpoint, VarInt};
use rustls::client::Resumption;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use crate::error::{BenchError, Trying as _};
use crate::frames::{self, frame_len};
use crate::role::control::{self, Ready};
use crate::role::latency::LatencyRecord;
use crate::role::pace::ticker;
use crate::role::quic_client::{self, LOGIN};
use crate::role::speech::{AnswerKind, kind_of};
use crate::role::window::{Measure, Measured, Window};
use crate::token::TokenSigner;

/// Its name among the roles.
pub(crate) const NAME: &str = "login-load";

/// What it is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LoginLoad {
    pub(crate) target: SocketAddr,
    /// Logins under way at once, where one begins when another is done.
    pub(crate) at_once: usize,
    /// Logins that begin each second whatever became of the others, and are tried again until they succeed; 0 for none.
    pub(crate) rate: f64,
    pub(crate) over: LoginOver,
    /// Whose certificates are believed.
    pub(crate) ca: PathBuf,
    /// The key of tokens, as text.
    pub(crate) secret: String,
}

/// What carries a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LoginOver {
    Tcp,
    /// With a full handshake.
    Quic,
    /// With a ticket of an earlier connection.
    QuicResumed,
}

/// Source addresses logins take in turn: ports of closed connections are taken for a minute.
const SOURCES: u64 = 200;

/// How often a login is tried again, and the shortest pause before that.
const ATTEMPTS: u32 = 40;
const AGAIN: Duration = Duration::from_millis(500);

/// How long what is under way may take at the end of a measurement.
const DRAIN: Duration = Duration::from_secs(25);

/// Between two looks whether it is done.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let config: LoginLoad = control::parse(argument)?;
    control::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing(|| "no runtime".to_owned())?.block_on(serve(config))
}

/// What the tasks share.
struct Logins {
    config: LoginLoad,
    quic: Option<(Endpoint, quinn::ClientConfig)>,
    signer: TokenSigner,
    begun: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    /// From when a login should have begun to its success.
    latency: Mutex<LatencyRecord>,
}

async fn serve(config: LoginLoad) -> Result<(), BenchError> {
    let quic = match config.over {
        LoginOver::Tcp => None,
        over => {
            let mut tls = quic_client::tls(&config.ca)?;
            if over == LoginOver::Quic {
                tls.resumption = Resumption::disabled();
            }
            Some((quic_client::endpoint()?, quic_client::config(tls)?))
        }
    };
    let signer = TokenSigner::new(config.secret.as_bytes());
    let (running, receiver) = watch::channel(false);
    let (at_once, rate) = (config.at_once, config.rate);
    let zero = AtomicU64::default;
    let logins = Arc::new(Logins {
        config,
        quic,
        signer,
        begun: zero(),
        done: zero(),
        refused: zero(),
        busy: zero(),
        latency: Mutex::new(LatencyRecord::new()),
    });
    if rate > 0.0 {
        tokio::spawn(storm(Arc::clone(&logins), rate, receiver));
    } else {
        for _ in 0..at_once {
            tokio::spawn(again_and_again(Arc::clone(&logins), receiver.clone()));
        }
    }
    let (sender, mut questions) = mpsc::channel(1);
    control::each_question(move |question: Measure| sender.blocking_send(question).is_ok());
    control::answer(&Ready {})?;
    while let Some(measure) = questions.recv().await {
        let refused = logins.refused.load(Ordering::Relaxed);
        running.send_replace(true);
        let mut measured = window(measure, &logins).await?;
        running.send_replace(false);
        let by = Instant::now() + DRAIN;
        while logins.busy.load(Ordering::Relaxed) > 0 && Instant::now() < by {
            sleep(LOOK).await;
        }
        if rate > 0.0 {
            measured.latency = Some(logins.with_latency(|latency| latency.summary()));
        }
        // Whoever is still at it never came in.
        let left = logins.busy.load(Ordering::Relaxed);
        measured.wrong = logins.refused.load(Ordering::Relaxed) - refused + left;
        control::answer(&measured)?;
    }
    Ok(())
}

async fn window(measure: Measure, logins: &Logins) -> Result<Measured, BenchError> {
    let mut window = Window::new(measure, Instant::now());
    loop {
        sleep_until(window.next().into()).await;
        if let Some(measured) = window.turn(Instant::now(), logins.done.load(Ordering::Relaxed))? {
            return Ok(measured);
        }
    }
}

impl Logins {
    /// Changes or reads the latencies: all is one thread.
    fn with_latency<T>(&self, look: impl FnOnce(&mut LatencyRecord) -> T) -> T {
        look(&mut self.latency.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins logins at a rate, and tries each again until it succeeds.
async fn storm(logins: Arc<Logins>, rate: f64, mut running: watch::Receiver<bool>) {
    while running.wait_for(|running| *running).await.is_ok() {
        logins.with_latency(LatencyRecord::clear);
        let mut due = ticker(rate, running.clone());
        while let Some((_, due)) = due.recv().await {
            logins.busy.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(until_it_succeeds(Arc::clone(&logins), due));
        }
    }
}

async fn until_it_succeeds(logins: Arc<Logins>, due: Instant) {
    let number = logins.begun.fetch_add(1, Ordering::Relaxed);
    for attempt in 0..ATTEMPTS {
        if matches!(timeout(LOGIN, one(&logins, number)).await, Ok(Ok(()))) {
            logins.with_latency(|latency| latency.answered(due, Instant::now()));
            logins.done.fetch_add(1, Ordering::Relaxed);
            break;
        }
        if attempt + 1 == ATTEMPTS {
            logins.refused.fetch_add(1, Ordering::Relaxed);
        }
        // Not all at the same time.
        sleep(AGAIN + AGAIN.mul_f64(number as f64 % 16.0 / 16.0)).await;
    }
    logins.busy.fetch_sub(1, Ordering::Relaxed);
}

async fn again_and_again(logins: Arc<Logins>, mut running: watch::Receiver<bool>) {
    while running.wait_for(|running| *running).await.is_ok() {
        logins.busy.fetch_add(1, Ordering::Relaxed);
        while *running.borrow() {
            let number = logins.begun.fetch_add(1, Ordering::Relaxed);
            let counter = match timeout(LOGIN, one(&logins, number)).await {
                Ok(Ok(())) => &logins.done,
                _ => &logins.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        logins.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn one(logins: &Logins, number: u64) -> Result<(), BenchError> {
    let token = logins.signer.token(&format!("l{number}"));
    let Some((endpoint, config)) = &logins.quic else {
        return over_tcp(logins.config.target, number, &token).await.doing(|| "a login failed".to_owned());
    };
    let (connection, mut stream) = quic_client::connect(endpoint, config, logins.config.target).await?;
    let signed_in = quic_client::login(&mut stream, Dialect::default(), &token).await;
    connection.close(VarInt::from_u32(0), b"bye");
    signed_in
}

async fn over_tcp(target: SocketAddr, number: u64, token: &str) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    if target.ip() == Ipv4Addr::LOCALHOST {
        let source = Ipv4Addr::new(127, 0, 1, 2 + (number % SOURCES) as u8);
        socket.bind(SocketAddr::from((source, 0)))?;
    }
    let mut socket = socket.connect(target).await?;
    socket.write_all(&frames::login(Dialect::default(), token)).await?;
    let mut seen = Vec::with_capacity(256);
    while frame_len(&seen).is_none_or(|len| seen.len() < len) {
        if socket.read_buf(&mut seen).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    match kind_of(&seen[gateway_wire::frame::HEAD_LEN..]) {
        AnswerKind::Success => Ok(()),
        _ => Err(std::io::ErrorKind::ConnectionRefused.into()),
    }
}
