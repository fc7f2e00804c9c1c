//! [`World`]: one gateway, its logic services and its clients, and what every fault does with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gateway::wire::close::CloseReason;
use nix::sys::signal::Signal;

use crate::consul::Agent;
use crate::faults::shown;
use crate::gateway_process::{Discovery, GATE, GatewayProcess, LOOK};
use crate::instance::{Instance, LOGIN};
use crate::ledger::Ledger;
use crate::load::{APP, Load, Mood, percentile};
use crate::network::Network;
use crate::oracle::{Expected, Oracle, Violation, ViolationKind};
use crate::plan::{Plan, Timers};
use crate::seeded::Seeded;

/// Longest wait until everybody is back after a fault.
const BACK: Duration = Duration::from_secs(30);

/// Longest wait for a quiet moment once nobody asks any more, beyond the time a request has.
const QUIET: Duration = Duration::from_secs(10);

/// Others' times may grow to so many times the quiet ones, or by so much, whichever is more.
const OTHERS: (f64, Duration) = (1.5, Duration::from_millis(2));

/// Comparisons whose median says something.
const ENOUGH: usize = 5;

/// How long everybody may take to leave at the end.
const LEAVE: Duration = Duration::from_secs(30);

/// A link of an instance that was started again is up within this, beyond the longest pause between redials.
const LINKED: Duration = Duration::from_secs(5);

/// What may be seen late: a client that vanished, whose end the gateway must find by itself.
#[derive(Debug)]
struct Stray {
    channel: String,
    since: Instant,
    by: Instant,
}

/// A time of those that a fault was not about.
#[derive(Debug, Clone, Copy)]
struct Compared {
    quiet: Duration,
    during: Duration,
}

impl Compared {
    fn is_allowed(&self) -> bool {
        self.during <= self.quiet.mul_f64(OTHERS.0).max(self.quiet + OTHERS.1)
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) timers: Timers,
    pub(crate) run: u64,
    pub(crate) ledger: Ledger,
    pub(crate) instances: Vec<Instance>,
    /// Where there is one, the gateway has its instances from there.
    pub(crate) consul: Option<Agent>,
    pub(crate) gateway: GatewayProcess,
    pub(crate) load: Load,
    pub(crate) network: Network,
    pub(crate) random: Seeded,
    /// What was compared.
    isolation: BTreeMap<&'static str, Vec<Compared>>,
    /// Panics that were asked for, of the present gateway.
    panics: usize,
    strays: Vec<Stray>,
    /// The longest it took to find that a client had vanished.
    pub(crate) worst_stray: Option<Duration>,
}

impl World {
    /// Starts everything, and waits until all clients are signed in.
    pub(crate) async fn start(plan: Plan, place: PathBuf) -> anyhow::Result<Self> {
        let timers = plan.timers();
        let network = Network::new(plan.is_inside)?;
        let mut random = Seeded::new(plan.seed);
        let run = random.next() >> 1;
        let expected = Expected { run, app: APP.into(), gate: GATE.into(), patience: timers.patience() };
        let ledger = Ledger::start(Oracle::new(expected)).await?;
        let mut instances = Instance::all()?;
        for instance in &mut instances {
            instance.start(&ledger, run, plan.pushes).await?;
        }
        let consul = Agent::start(&place, &instances).await?;
        let discovery = Discovery::of(consul.as_ref(), &instances);
        let mut gateway = GatewayProcess::prepare(&place, GATE, &discovery, timers)?;
        gateway.start().await?;
        let load = Load::start(&plan, &gateway, ledger.clone(), run)?;
        let strays = Vec::new();
        let world = Self {
            plan,
            timers,
            run,
            ledger,
            instances,
            consul,
            gateway,
            load,
            network,
            random,
            strays,
            isolation: BTreeMap::new(),
            panics: 0,
            worst_stray: None,
        };
        for index in 0..world.instances.len() {
            world.linked(index).await?.context("an instance is not linked after the start")?;
        }
        let back = world.load.all_back(BACK).await;
        back.map_err(|count| anyhow::anyhow!("only {count} clients are signed in after the start"))?;
        world.load.set(Mood::Ask);
        Ok(world)
    }

    /// Adds a violation that the runner found.
    pub(crate) fn violated(&self, kind: ViolationKind, count: u64, evidence: String) {
        self.ledger.oracle().violated(kind, count, evidence);
    }

    // --- Instances -------------------------------------------------------------------------------------------

    /// Those of a service, by their place.
    pub(crate) fn of_service(&self, service: &str) -> Vec<usize> {
        (0..self.instances.len()).filter(|&index| self.instances[index].service == service).collect()
    }

    /// One of a service, by chance.
    pub(crate) fn any_of(&mut self, service: &str) -> usize {
        let all = self.of_service(service);
        *self.random.pick(&all)
    }

    /// The name of one of a service, by chance.
    pub(crate) fn any_name_of(&mut self, service: &str) -> &'static str {
        let index = self.any_of(service);
        self.instances[index].name
    }

    /// What is written to this instance from now on may be lost.
    pub(crate) fn torn(&self, index: usize) {
        let instance = &self.instances[index];
        self.ledger.oracle().torn(instance.name, instance.service == LOGIN, Instant::now());
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.torn(index);
        self.instances[index].kill()
    }

    /// Starts a killed instance again, and waits until the gateway has it back; how long that took.
    pub(crate) async fn revive(&mut self, index: usize) -> anyhow::Result<Option<Duration>> {
        self.instances[index].start(&self.ledger, self.run, self.plan.pushes).await?;
        self.linked(index).await
    }

    /// Waits until the gateway may choose this instance.
    pub(crate) async fn linked(&self, index: usize) -> anyhow::Result<Option<Duration>> {
        let name = self.instances[index].name;
        let timers = &self.timers;
        let within = timers.backoff.1 * 2 + timers.silence() + timers.ejected.0 * 2 + LINKED;
        let linked = self.gateway.shows(within, |page| is_chosen(name, page.link_state(name))).await?;
        if linked.is_none() {
            let evidence = format!("{name} is not linked again within {within:?}");
            self.violated(ViolationKind::Figure, 1, evidence);
        }
        Ok(linked)
    }

    /// Waits until the gateway does not choose this instance any more; a figure is missed after `within`.
    pub(crate) async fn left(&self, index: usize, within: Duration) -> anyhow::Result<Option<Duration>> {
        let name = self.instances[index].name;
        let left = self.gateway.shows(within, |page| !is_chosen(name, page.link_state(name))).await?;
        if left.is_none() {
            let evidence = format!("{name} is still chosen {within:?} after its fault");
            self.violated(ViolationKind::Figure, 1, evidence);
        }
        Ok(left)
    }

    // --- The gateway -----------------------------------------------------------------------------------------

    /// Ends the gateway with this signal; its exit code and how long it took.
    pub(crate) async fn end_gateway(&mut self, signal: Signal) -> anyhow::Result<(Option<i32>, Duration)> {
        let began = Instant::now();
        self.gateway.signal(signal)?;
        let status = self.gateway.ended(self.timers.hard_stop + self.timers.slack).await?;
        let took = began.elapsed();
        // All that it wrote is read before it is judged.
        let end = Instant::now() + QUIET;
        while self.ledger.oracle().live_links() > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        self.load.gateway_over();
        self.panics = 0;
        self.ledger.oracle().gateway_over(signal == Signal::SIGKILL);
        Ok((status.and_then(|status| status.code()), took))
    }

    /// Why connections of the load ended until now is forgotten.
    pub(crate) fn forget_closes(&self) {
        self.load.shared.closes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// When connections of the load ended for this reason.
    pub(crate) fn closes_with(&self, reason: CloseReason) -> Vec<tokio::time::Instant> {
        let closes = self.load.shared.closes.lock().unwrap_or_else(PoisonError::into_inner);
        closes.iter().filter(|(why, _)| *why == reason).map(|(_, at)| *at).collect()
    }

    /// How many connections of the load have ended.
    pub(crate) fn closes(&self) -> usize {
        self.load.shared.closes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    // --- Clients that vanished -------------------------------------------------------------------------------

    /// These channels must be signed out within this.
    pub(crate) fn expect_end_of(&mut self, channels: Vec<String>, within: Duration) {
        let since = Instant::now();
        let by = since + within;
        self.strays.extend(channels.into_iter().map(|channel| Stray { channel, since, by }));
    }

    /// Waits for the end of one channel; a figure is missed when it does not come in time.
    pub(crate) async fn signed_out(&self, channel: &str, within: Duration) -> Option<Duration> {
        let began = Instant::now();
        while !self.is_signed_out(channel) {
            if began.elapsed() > within {
                self.violated(
                    ViolationKind::Figure,
                    1,
                    format!("{channel} was not signed out within {within:?}"),
                );
                self.ledger.oracle().ended(channel, Instant::now());
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
        Some(began.elapsed())
    }

    /// Returns `true` if its sign-out has come. Then it is over.
    fn is_signed_out(&self, channel: &str) -> bool {
        let mut oracle = self.ledger.oracle();
        let gone = oracle.signed_out_at(channel).is_some();
        if gone {
            oracle.ended(channel, Instant::now());
        }
        gone
    }

    /// Forgets the strays that are signed out; how many are left.
    fn strays_left(&mut self) -> usize {
        let mut strays = std::mem::take(&mut self.strays);
        strays.retain(|stray| {
            let gone = self.is_signed_out(&stray.channel);
            if gone {
                self.note_end_of(stray);
            }
            !gone
        });
        self.strays = strays;
        self.strays.len()
    }

    /// Waits for all strays.
    pub(crate) async fn strays_end(&mut self) {
        for stray in std::mem::take(&mut self.strays) {
            self.signed_out(&stray.channel, stray.by.saturating_duration_since(Instant::now())).await;
            self.note_end_of(&stray);
        }
    }

    fn note_end_of(&mut self, stray: &Stray) {
        let at = self.ledger.oracle().signed_out_at(&stray.channel);
        self.worst_stray = self.worst_stray.max(at.map(|at| at.saturating_duration_since(stray.since)));
    }

    /// So many tasks were made to panic.
    #[cfg(feature = "faults")]
    pub(crate) fn expect_panics(&mut self, count: usize) {
        self.panics += count;
    }

    // --- Judgement -------------------------------------------------------------------------------------------

    /// Keeps a time of those that a fault was not about, before it and during it (G8).
    pub(crate) fn compare(&mut self, what: &'static str, quiet: Duration, during: Duration) {
        self.isolation.entry(what).or_default().push(Compared { quiet, during });
    }

    /// The median of what was compared must be allowed; judged where there is enough of it.
    pub(crate) fn judge_isolation(&self) {
        for (what, kept) in self.isolation.iter().filter(|(_, kept)| kept.len() >= ENOUGH) {
            let (all, good) = (kept.len(), kept.iter().filter(|kept| kept.is_allowed()).count());
            if good * 2 < all {
                let evidence = format!("G8: {what} grew too much {} times of {all}", all - good);
                self.violated(ViolationKind::Figure, 1, evidence);
            }
        }
    }

    /// What was compared, in a line each.
    pub(crate) fn isolation(&self) -> String {
        let median = |times: Vec<Duration>| shown(percentile(times, 0.5));
        let line = |(what, kept): (&&str, &Vec<Compared>)| {
            let good = kept.iter().filter(|kept| kept.is_allowed()).count();
            let quiet = median(kept.iter().map(|kept| kept.quiet).collect());
            let during = median(kept.iter().map(|kept| kept.during).collect());
            format!("{what}: median {quiet} -> {during}, {good} of {} allowed\n", kept.len())
        };
        self.isolation.iter().map(line).collect()
    }

    /// Waits for everybody to be back and for a quiet moment, and judges. What was found since the last time.
    pub(crate) async fn settle(&mut self, already: usize) -> anyhow::Result<Vec<Violation>> {
        if let Err(count) = self.load.all_back(BACK).await {
            let evidence = format!("{count} of {} clients are back after {BACK:?}", self.load.clients());
            self.violated(ViolationKind::Figure, 1, evidence);
        }
        self.load.set(Mood::Rest);
        let found = self.judge(already, self.load.clients()).await?;
        self.load.set(Mood::Ask);
        Ok(found)
    }

    /// Everybody leaves, and the last sign-outs are waited for. What was found since the last time.
    pub(crate) async fn end(&mut self, already: usize) -> anyhow::Result<Vec<Violation>> {
        self.load.end(LEAVE).await?;
        self.judge(already, 0).await
    }

    async fn judge(&mut self, already: usize, clients: usize) -> anyhow::Result<Vec<Violation>> {
        let end = Instant::now() + self.timers.patience() + self.timers.retry + QUIET;
        let unbalanced = loop {
            let connected = clients + self.strays_left();
            let page = self.gateway.metrics().await?;
            let dropped = page.sum("gateway_signouts_total", &["outcome=\"superseded\""]);
            self.ledger.oracle().gateway_dropped(dropped as u64);
            let under_way = self.ledger.oracle().under_way(self.timers.retry);
            let unbalanced = page.imbalances(connected, self.panics);
            if under_way.is_empty() && page.is_quiet() && unbalanced.is_empty() {
                break Vec::new();
            }
            if Instant::now() >= end {
                break unbalanced;
            }
            tokio::time::sleep(LOOK).await;
        };
        let mut oracle = self.ledger.oracle();
        unbalanced.into_iter().for_each(|evidence| oracle.violated(ViolationKind::Unbalanced, 1, evidence));
        oracle.judge(self.timers.retry);
        let found = oracle.violations()[already..].to_vec();
        Ok(found)
    }
}

/// Returns `true` if a link in this state takes requests. A login instance half-open does: it may wait for one until
/// somebody logs in.
pub(crate) fn is_chosen(name: &str, state: Option<&str>) -> bool {
    match state {
        Some("up" | "warming" | "healthy") => true,
        Some("ejected") => name.starts_with(LOGIN),
        _ => false,
    }
}
