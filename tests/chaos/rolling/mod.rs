//! A rolling restart of three gateways under load: whoever uses the client that lasts loses nothing by it (rows F1, F4).

mod client;
mod tally;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::consul::Agent;
use crate::gateway_process::{Discovery, GatewayProcess, LOOK};
use crate::instance::Instance;
use crate::ledger::Ledger;
use crate::load::APP;
use crate::plan::{Plan, Timers};
use crate::seeded::Seeded;
use crate::world::is_chosen;
use client::ClientContext;
use tally::Tally;

/// What it is called where faults are named.
pub(crate) const NAME: &str = "rolling";

const GATES: [&str; 3] = ["gate01", "gate02", "gate03"];

/// Clients of the short run.
const SHORT_CLIENTS: usize = 60;

/// Longest wait until all instances are linked.
const LINKED: Duration = Duration::from_secs(20);

/// Longest wait until all clients are signed in, at the start.
const ONLINE: Duration = Duration::from_secs(60);

/// All is well for so long before the first restart, and between two of them.
const CALM: Duration = Duration::from_millis(500);

/// Longest wait for the last answers, and for the last sign-outs: a request of such a client has 15 s.
const LAST: Duration = Duration::from_secs(20);

/// What came of one restart.
struct Restart {
    code: Option<i32>,
    took: Duration,
    ready: Duration,
}

struct Rolling {
    timers: Timers,
    consul: Option<Agent>,
    instances: Vec<Instance>,
    gateways: Vec<GatewayProcess>,
    ledger: Ledger<Tally>,
}

/// Runs it: true if no promise was broken.
pub(crate) async fn run(plan: &Plan, place: &Path) -> anyhow::Result<bool> {
    let began = Instant::now();
    let clients = if plan.is_long() { plan.clients } else { plan.clients.max(SHORT_CLIENTS) };
    let mut rolling = Rolling::start(plan, place).await?;
    println!(
        "{NAME}: {} gateways known {}, {clients} clients, {} requests/s",
        GATES.len(),
        if rolling.consul.is_some() { "from Consul" } else { "from a list: there is no Consul" },
        plan.rate
    );
    let shared = Arc::new(rolling.shared(plan, clients)?);
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(client::live(Arc::clone(&shared), number, stopped.clone()));
    }
    client::all_online(&shared, clients, ONLINE).await?;
    for (number, name) in GATES.iter().enumerate() {
        tokio::time::sleep(CALM).await;
        let Restart { code, took, ready } = rolling.restart(number).await?;
        println!(
            "{:>7.1} s  {name} ended with {code:?} after {took:.1?}, ready again after {ready:.1?}",
            began.elapsed().as_secs_f64(),
        );
    }
    tokio::time::sleep(CALM).await;
    stop.send_replace(true);
    let left = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST, left).await.is_err() {
        bail!("clients did not leave within {LAST:?}");
    }
    rolling.signed_out().await;
    let losses = shared.losses.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut tally = rolling.ledger.oracle();
    tally.judge();
    print!("{}", tally.evidence());
    println!(
        "{}; connections lost: {losses:?}; {} datagrams dropped by full sockets; {:.0} s",
        tally.summary(),
        dropped_datagrams().map_or_else(|| "?".to_owned(), |count| count.to_string()),
        began.elapsed().as_secs_f64()
    );
    Ok(tally.is_kept())
}

/// Datagrams that found no room in a socket of this network: a machine that cannot follow, which QUIC pays for.
fn dropped_datagrams() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/net/snmp").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let place = lines.next()?.split(' ').position(|name| name == "RcvbufErrors")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

impl Rolling {
    async fn start(plan: &Plan, place: &Path) -> anyhow::Result<Self> {
        let timers = Timers::of_rolling(plan);
        let run = Seeded::new(plan.seed).next() >> 1;
        let ledger = Ledger::start(Tally::new(run, APP, &GATES)).await?;
        let mut instances = Instance::all()?;
        for instance in &mut instances {
            instance.start(&ledger, run, 0).await?;
        }
        let consul = Agent::start(place, &instances).await?;
        let discovery = Discovery::of(consul.as_ref(), &instances);
        let mut gateways = Vec::new();
        for gate in GATES {
            gateways.push(GatewayProcess::prepare(place, gate, &discovery, timers)?);
        }
        let mut new = Self { timers, consul, instances, gateways, ledger };
        for number in 0..GATES.len() {
            new.begin(number).await?;
        }
        Ok(new)
    }

    /// Starts a gateway and waits until it is ready for clients: how long that took.
    async fn begin(&mut self, number: usize) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.gateways[number].start().await?;
        for Instance { name, .. } in &self.instances {
            let linked = self.gateways[number].shows(LINKED, |page| is_chosen(name, page.link_state(name)));
            linked.await?.with_context(|| format!("{} has no link to {name}", GATES[number]))?;
        }
        if let Some(consul) = &self.consul
            && consul.has_gateway(GATES[number], true).await.is_none()
        {
            bail!("{} does not stand in Consul", GATES[number]);
        }
        Ok(began.elapsed())
    }

    /// SIGTERM, its end, and its start again.
    async fn restart(&mut self, number: usize) -> anyhow::Result<Restart> {
        let began = Instant::now();
        let gateway = &mut self.gateways[number];
        gateway.signal(Signal::SIGTERM)?;
        let status = gateway.ended(self.timers.hard_stop + self.timers.slack).await?;
        let took = began.elapsed();
        let code = status.and_then(|status| status.code());
        if code != Some(0) || took > self.timers.hard_stop {
            let evidence = format!("F1: {} ended with {code:?} after {took:?}", GATES[number]);
            self.ledger.oracle().violated(evidence);
        }
        if let Some(consul) = &self.consul
            && consul.has_gateway(GATES[number], false).await.is_none()
        {
            self.ledger.oracle().violated(format!("F1: {} still stands in Consul", GATES[number]));
        }
        Ok(Restart { code, took, ready: self.begin(number).await? })
    }

    fn shared(&self, plan: &Plan, clients: usize) -> anyhow::Result<ClientContext> {
        let every = Duration::from_secs_f64(clients as f64 / f64::from(plan.rate));
        ClientContext::new(&self.gateways, self.ledger.clone(), every, plan.seed)
    }

    /// Waits until every channel is signed out.
    async fn signed_out(&self) {
        let end = Instant::now() + LAST;
        while self.ledger.oracle().signed_in() > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
    }
}
