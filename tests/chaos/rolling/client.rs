//! One client of a rolling restart: the library's own that lasts, with all gateways, asking at a steady rate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use gateway::auth::SigningKey;
use gateway::certs::name;
use gateway::config::ExpectedClaims;
use gateway_client::{
    Answer, ConnectOptions, Event, Events, RequestError, Requests as _, ResilientClient, ResilientOptions,
    ResilientPushes, Transport, TrustedCa,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::tally::{ANY, RequestOutcome, Tally};
use crate::gateway_process::GatewayProcess;
use crate::ledger::Ledger;
use crate::load::APP;
use crate::seeded::Seeded;
use crate::stamp::Stamp;

/// How long a token of the run is good, seconds.
const TOKEN_LIFE: u64 = 24 * 60 * 60;

/// One more client begins each.
const APART: Duration = Duration::from_millis(2);

/// In turn.
const TRANSPORTS: [Transport; 3] = [Transport::Quic, Transport::Tcp, Transport::Tls];

/// What all clients share.
pub(super) struct ClientContext {
    ledger: Ledger<Tally>,
    /// Of each gateway: for QUIC and TCP, and for TLS.
    gateways: Vec<(String, String)>,
    key: SigningKey,
    ca: TrustedCa,
    /// Between two requests of one client.
    every: Duration,
    seed: u64,
    online: watch::Sender<usize>,
    /// Connections that ended before their client had left, by why.
    pub(super) losses: Mutex<BTreeMap<String, u64>>,
}

impl ClientContext {
    pub(super) fn new(
        gateways: &[GatewayProcess],
        ledger: Ledger<Tally>,
        every: Duration,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let first = gateways.first().context("there is a gateway")?;
        let place = first.certificates();
        let secret = std::fs::read_to_string(place.join(name::JWT_SECRET))?;
        let address = |gateway: &GatewayProcess| (gateway.clients.to_string(), gateway.tls.to_string());
        Ok(Self {
            ledger,
            gateways: gateways.iter().map(address).collect(),
            key: SigningKey::from_secret(secret.trim_end().as_bytes()),
            ca: TrustedCa::from_pem_file(place.join(name::CA))?,
            every,
            seed,
            online: watch::Sender::new(0),
            losses: Mutex::default(),
        })
    }

    fn token(&self, account: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.key.mint_until(account, APP, now + TOKEN_LIFE, &ExpectedClaims::default())
    }

    /// All gateways, another one first for each client. Over QUIC each has a socket of its own, as real ones have.
    fn options(&self, number: usize) -> ResilientOptions {
        let transport = TRANSPORTS[number % TRANSPORTS.len()];
        let mut servers = (0..self.gateways.len()).map(|place| {
            let first = number / TRANSPORTS.len();
            let (clients, tls) = &self.gateways[(first + place) % self.gateways.len()];
            match transport {
                Transport::Quic => ConnectOptions::quic(clients, self.ca.clone()),
                Transport::Tls => ConnectOptions::tls(tls, self.ca.clone()),
                Transport::Tcp => ConnectOptions::tcp(clients),
                Transport::Ws | Transport::Wss => unreachable!("none of TRANSPORTS"),
            }
        });
        let first = servers.next().expect("there is a gateway");
        servers.fold(ResilientOptions::new(first), ResilientOptions::or)
    }
}

/// Waits until so many have signed in once.
pub(super) async fn all_online(
    shared: &ClientContext,
    clients: usize,
    within: Duration,
) -> anyhow::Result<()> {
    let mut online = shared.online.subscribe();
    let all = timeout(within, online.wait_for(|online| *online == clients)).await.is_ok();
    let now = *shared.online.borrow();
    anyhow::ensure!(all, "{now} of {clients} clients are signed in after {within:?}");
    Ok(())
}

/// Lives until it is told to stop, and leaves when all its requests have ended.
pub(super) async fn live(shared: Arc<ClientContext>, number: usize, mut stopped: watch::Receiver<bool>) {
    let account = format!("r{number}");
    tokio::time::sleep(APART * u32::try_from(number).unwrap_or(0)).await;
    let (client, pushes, events) = ResilientClient::start(shared.options(number), shared.token(&account));
    if client.online().await.is_err() {
        return;
    }
    shared.online.send_modify(|online| *online += 1);
    let mut watching = JoinSet::new();
    watching.spawn(take(pushes));
    watching.spawn(watch_events(Arc::clone(&shared), events));
    let mut random = Seeded::new(shared.seed ^ number as u64);
    let mut ticks = interval_at(Instant::now() + random.pause(shared.every), shared.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut asked = JoinSet::new();
    let mut n = 0;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => {
                n += 1;
                asked.spawn(ask(Arc::clone(&shared), client.clone(), account.clone(), n));
            }
            Some(_) = asked.join_next() => {}
        }
    }
    while asked.join_next().await.is_some() {}
    client.close().await;
}

async fn ask(shared: Arc<ClientContext>, client: ResilientClient, account: String, n: u64) {
    let body = shared.ledger.oracle().asking(&account, n);
    let began = Instant::now();
    let outcome = match client.request("chat.user.talk", "", body).await {
        Ok(answer) => of_answer(&answer, &account, n),
        Err(error) => of_error(&error),
    };
    shared.ledger.oracle().ended(&account, n, outcome, began.elapsed());
}

fn of_answer(answer: &Answer, account: &str, n: u64) -> RequestOutcome {
    if answer.status == 210 {
        return RequestOutcome::Unknown("answered 210".into());
    }
    if !answer.is_success() {
        return RequestOutcome::Failed(format!("answered {}", answer.status));
    }
    match Stamp::first(&answer.body) {
        Ok(echo) if echo.sender == account && echo.n == n && echo.channel == ANY => RequestOutcome::Served,
        other => RequestOutcome::Failed(format!("the answer is to {other:?}")),
    }
}

fn of_error(error: &RequestError) -> RequestOutcome {
    if error.is_outcome_unknown() {
        RequestOutcome::Unknown(error.to_string())
    } else {
        RequestOutcome::Failed(error.to_string())
    }
}

async fn take(mut pushes: ResilientPushes) {
    while pushes.recv().await.is_some() {}
}

async fn watch_events(shared: Arc<ClientContext>, mut events: Events) {
    while let Some(event) = events.recv().await {
        if let Event::Lost(reason) = event {
            let mut losses = shared.losses.lock().unwrap_or_else(PoisonError::into_inner);
            *losses.entry(reason.to_string()).or_default() += 1;
        }
    }
}
