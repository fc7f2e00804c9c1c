//! The load: clients of the library over all three transports, that ask, take what is pushed, tell the oracle, and come
//! back when their connection ends.

mod client;
mod samples;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gateway::auth::SigningKey;
use gateway::certs::name;
use gateway::config::ExpectedClaims;
use gateway::wire::close::CloseReason;
use gateway_client::{ConnectOptions, Transport, TrustedCa, quic_endpoint};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::gateway_process::GatewayProcess;
use crate::ledger::Ledger;
use crate::plan::Plan;
pub(crate) use samples::{PUSHES, Samples, percentile};

/// The app of every account.
pub(crate) const APP: &str = "x_im";

/// The library's own patience, above the oracle's and the longest pause of a gateway: that one says what is late.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long a token of the run is good, seconds.
const TOKEN_LIFE: u64 = 24 * 60 * 60;

/// In turn.
const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::Tcp, Transport::Tls];

/// What the clients are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Ask at their rate.
    Ask,
    /// Stay, and ask nothing.
    Rest,
    /// Leave, and stay away.
    Away,
    /// Leave for good.
    Over,
}

/// Clients that are signed in at the present gateway process, by transport. One whose gateway is dead counts for
/// nothing, whether it knows or not.
#[derive(Debug, Clone, Copy, Default)]
struct Connected {
    life: u32,
    counts: [usize; 3],
}

impl Connected {
    fn all(&self) -> usize {
        self.counts.iter().sum()
    }
}

fn place(transport: Transport) -> usize {
    TRANSPORTS.iter().position(|other| *other == transport).unwrap_or(0)
}

/// What all clients share.
pub(crate) struct LoadContext {
    pub(crate) ledger: Ledger,
    clients: String,
    tls: String,
    key: SigningKey,
    ca: TrustedCa,
    /// All QUIC clients share one socket.
    endpoint: quinn::Endpoint,
    pub(crate) run: u64,
    pub(crate) mood: watch::Sender<Mood>,
    /// Clients that are signed in.
    connected: watch::Sender<Connected>,
    /// Between two requests of one client.
    every: Duration,
    heartbeat: Duration,
    keep_alive: Duration,
    pub(crate) samples: Samples,
    /// Connections that ended, why and when.
    pub(crate) closes: std::sync::Mutex<Vec<(CloseReason, Instant)>>,
    /// Logins that did not come about, of all clients.
    pub(crate) failed_logins: AtomicU32,
}

impl LoadContext {
    /// A token of the run.
    pub(crate) fn token(&self, account: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.key.mint_until(account, APP, now + TOKEN_LIFE, &ExpectedClaims::default())
    }

    /// How to connect.
    pub(crate) fn options(&self, transport: Transport) -> ConnectOptions {
        let mut options = match transport {
            Transport::Quic => ConnectOptions::quic(&self.clients, self.ca.clone()),
            Transport::Tls => ConnectOptions::tls(&self.tls, self.ca.clone()),
            Transport::Tcp => ConnectOptions::tcp(&self.clients),
            Transport::Ws | Transport::Wss => unreachable!("none of TRANSPORTS"),
        };
        options.request_timeout = GIVE_UP;
        options.heartbeat = Some(self.heartbeat);
        options.keep_alive = Some(self.keep_alive);
        options
    }

    /// A client is signed in: the gateway process it counts for.
    fn count_in(&self, transport: Transport) -> u32 {
        self.connected.send_modify(|connected| connected.counts[place(transport)] += 1);
        self.connected.borrow().life
    }

    /// Its connection is over.
    fn count_out(&self, transport: Transport, life: u32) {
        self.connected.send_modify(|connected| {
            if connected.life == life {
                connected.counts[place(transport)] -= 1;
            }
        });
    }
}

/// See the module. Dropped, its clients are gone.
pub(crate) struct Load {
    pub(crate) shared: Arc<LoadContext>,
    clients: usize,
    /// In turn.
    transports: &'static [Transport],
    tasks: JoinSet<()>,
}

impl Load {
    /// Starts the clients; they rest.
    pub(crate) fn start(
        plan: &Plan,
        gateway: &GatewayProcess,
        ledger: Ledger,
        run: u64,
    ) -> anyhow::Result<Self> {
        let place = gateway.certificates();
        let secret = std::fs::read_to_string(place.join(name::JWT_SECRET))?;
        let endpoint = quic_endpoint(gateway.clients)?;
        let shared = Arc::new(LoadContext {
            ledger,
            clients: gateway.clients.to_string(),
            tls: gateway.tls.to_string(),
            key: SigningKey::from_secret(secret.trim_end().as_bytes()),
            ca: TrustedCa::from_pem_file(place.join(name::CA))?,
            endpoint,
            run,
            mood: watch::Sender::new(Mood::Rest),
            connected: watch::Sender::new(Connected::default()),
            every: Duration::from_secs_f64(plan.clients as f64 / f64::from(plan.rate)),
            heartbeat: plan.timers().read_idle / 3,
            keep_alive: plan.timers().quic_idle / 6,
            samples: Samples::default(),
            closes: std::sync::Mutex::default(),
            failed_logins: AtomicU32::new(0),
        });
        let transports = if plan.quic { &[Transport::Quic][..] } else { &TRANSPORTS };
        let mut tasks = JoinSet::new();
        for number in 0..plan.clients {
            let transport = transports[number % transports.len()];
            tasks.spawn(client::live(Arc::clone(&shared), format!("c{number}"), transport));
        }
        Ok(Self { shared, clients: plan.clients, transports, tasks })
    }

    /// How many there are.
    pub(crate) fn clients(&self) -> usize {
        self.clients
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.shared.mood.send_replace(mood);
    }

    /// The gateway process is over: nobody is signed in any more.
    pub(crate) fn gateway_over(&self) {
        self.shared.connected.send_modify(|connected| {
            *connected = Connected { life: connected.life + 1, ..Connected::default() };
        });
    }

    /// Waits until all clients are signed in; how long it took, or how many are.
    pub(crate) async fn all_back(&self, within: Duration) -> Result<Duration, usize> {
        self.wait(within, |connected| connected.all() == self.clients).await
    }

    /// The same for those over QUIC.
    pub(crate) async fn quic_back(&self, within: Duration) -> Result<Duration, usize> {
        let wanted = self.clients.div_ceil(self.transports.len());
        self.wait(within, move |connected| connected.counts[place(Transport::Quic)] == wanted).await
    }

    /// Waits until none is signed in.
    pub(crate) async fn all_gone(&self, within: Duration) -> Result<Duration, usize> {
        self.wait(within, |connected| connected.all() == 0).await
    }

    async fn wait(&self, within: Duration, wanted: impl Fn(&Connected) -> bool) -> Result<Duration, usize> {
        let began = Instant::now();
        let mut connected = self.shared.connected.subscribe();
        let waited = timeout(within, connected.wait_for(wanted)).await.is_ok();
        let now = self.shared.connected.borrow().all();
        if waited { Ok(began.elapsed()) } else { Err(now) }
    }

    /// Everybody leaves in order.
    pub(crate) async fn end(&mut self, within: Duration) -> anyhow::Result<()> {
        self.set(Mood::Over);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        timeout(within, all).await.context("clients did not leave in time")
    }

    /// Logins that failed so far.
    pub(crate) fn failed_logins(&self) -> u32 {
        self.shared.failed_logins.load(Ordering::Relaxed)
    }
}
