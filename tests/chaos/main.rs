//! Real processes under real faults: a gateway, scripted logic services and clients of the library, an oracle that is
//! told of every packet, and a seeded schedule of everything that can go wrong.
//!
//! `cargo test --test chaos` is the short run: every fault once, timers a tenth of production's. The long run has
//! production's timers: `cargo test --release --test chaos -- --seconds 1200 --seed 7`. The short run ends with a rolling
//! restart, which also has a long run: `cargo test --release --test chaos -- --rolling --clients 2000 --rate 500`.
//!
//! A Consul is used where there is one: `CONSUL_BIN`, or what `tests/tools/get-consul target/tools` fetched.

mod consul;
mod exposition;
mod faults;
mod gateway_process;
mod instance;
mod ledger;
mod load;
mod network;
mod note;
mod oracle;
mod plan;
mod report;
mod rolling;
mod seeded;
mod service;
mod stamp;
mod wild;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use faults::{Fault, shown};
use plan::Plan;
use report::Report;
use seeded::Seeded;
use service::ServiceScript;
use world::World;

/// The seed of the short run, so that every machine runs the same one.
const SEED: u64 = 4;

/// Longest pause between two faults.
const BETWEEN: Duration = Duration::from_millis(1500);

/// How long the runtime may take to end: clients that vanished never do.
const RUNTIME_END: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.first().map(String::as_str) {
        Some("--service") => serve(&words[1..]),
        _ if words.iter().any(|word| word == "--list") => {
            println!("chaos: test");
            Ok(ExitCode::SUCCESS)
        }
        // A filter of cargo's own test runner that means another test.
        Some(filter) if !filter.starts_with('-') && !"chaos".contains(filter) => Ok(ExitCode::SUCCESS),
        Some("--inside") => chaos(&words),
        _ => network::enter(&words).and_then(|code| code.map_or_else(|| chaos(&words), Ok)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("chaos: error: {error:#}");
        ExitCode::FAILURE
    })
}

fn serve(words: &[String]) -> anyhow::Result<ExitCode> {
    let script = ServiceScript::parse(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(service::run(script))?;
    Ok(ExitCode::SUCCESS)
}

fn chaos(words: &[String]) -> anyhow::Result<ExitCode> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let plan = Plan::parse(words, SEED)?;
    let place = std::env::temp_dir().join(format!("gateway-chaos-{}-{}", now.as_millis(), plan.seed));
    std::fs::create_dir_all(&place).with_context(|| format!("{} cannot be made", place.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let passed = runtime.block_on(run_all(plan, place.clone()));
    runtime.shutdown_timeout(RUNTIME_END);
    match passed {
        Ok(true) => {
            std::fs::remove_dir_all(&place)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(false) => {
            println!("the gateway's log is in {}", place.display());
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.context(format!("the gateway's log is in {}", place.display()))),
    }
}

/// The faults, the rolling restart, or both: true if no promise was broken.
async fn run_all(plan: Plan, place: PathBuf) -> anyhow::Result<bool> {
    let rolls = plan.rolling || (!plan.is_long() && plan.wants(rolling::NAME));
    let mut passed = true;
    if !plan.rolling && Fault::ALL.iter().any(|fault| plan.wants(fault.name())) {
        passed &= run(plan.clone(), place.join("faults")).await?;
    }
    if rolls {
        network::Network::new(plan.is_inside)?;
        passed &= rolling::run(&plan, &place.join(rolling::NAME)).await?;
    }
    Ok(passed)
}

/// The faults: true if no promise was broken.
async fn run(plan: Plan, place: PathBuf) -> anyhow::Result<bool> {
    let began = Instant::now();
    println!(
        "chaos: seed {}, {} clients{}, {} requests/s, {}",
        plan.seed,
        plan.clients,
        if plan.quic { " over QUIC" } else { "" },
        plan.rate,
        plan.length()
    );
    let mut schedule = Schedule::new(&plan);
    let mut world = World::start(plan, place).await?;
    let mut report = Report::new();
    let mut seen = 0;
    while let Some(fault) = schedule.next(began.elapsed()) {
        tokio::time::sleep(schedule.random.pause(BETWEEN)).await;
        let outcome = fault.inject(&mut world).await.with_context(|| fault.name())?;
        let found = if outcome.skipped.is_some() { Vec::new() } else { world.settle(seen).await? };
        seen += found.len();
        let time = |duration: Option<Duration>| duration.map_or_else(|| "-".to_owned(), shown);
        let fate = outcome.skipped.clone().map_or_else(
            || {
                format!(
                    "found {}, recovered {}; {}",
                    time(outcome.found),
                    time(outcome.recovered),
                    outcome.note
                )
            },
            |why| format!("skipped: {why}"),
        );
        println!("{:>7.1} s  {:<18} {fate}", began.elapsed().as_secs_f64(), fault.name());
        print!("{}", report::evidence(&found));
        report.add(fault, &outcome, &found);
    }
    end(world, report, seen, began).await
}

async fn end(mut world: World, mut report: Report, seen: usize, began: Instant) -> anyhow::Result<bool> {
    world.strays_end().await;
    report.found(Fault::VanishedClients, world.worst_stray);
    world.judge_isolation();
    let found = world.end(seen).await?;
    print!("{}{}", world.isolation(), report::evidence(&found));
    let oracle = world.ledger.oracle();
    println!(
        "\n{}\n{} in {:.0} s",
        report.table(),
        report::passed(oracle.totals()),
        began.elapsed().as_secs_f64()
    );
    let broken = oracle.violations().len();
    println!(
        "{}",
        if broken == 0 { "every promise was kept".to_owned() } else { format!("{broken} violations") }
    );
    Ok(broken == 0)
}

/// Which fault comes next.
struct Schedule {
    left: Vec<Fault>,
    /// The long run draws more of these, again and again.
    again: Vec<Fault>,
    until: Option<Duration>,
    /// How many more of the long run.
    times: Option<usize>,
    random: Seeded,
}

impl Schedule {
    fn new(plan: &Plan) -> Self {
        let wanted = |fault: &Fault| plan.wants(fault.name());
        let mut random = Seeded::new(plan.seed ^ 1);
        let mut left: Vec<Fault> = Fault::ALL.into_iter().filter(wanted).collect();
        random.shuffle(&mut left);
        // They take longest, so they go first, and are waited for at the end.
        left.sort_by_key(|fault| *fault == Fault::VanishedClients);
        let again = left.iter().flat_map(|fault| std::iter::repeat_n(*fault, fault.weight())).collect();
        Self { left, again, until: plan.seconds.map(Duration::from_secs), times: plan.times, random }
    }

    fn next(&mut self, elapsed: Duration) -> Option<Fault> {
        if let Some(until) = self.until
            && elapsed >= until
        {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times = times.checked_sub(1)?;
        }
        let goes_on = self.until.is_some() || self.times.is_some();
        if self.left.is_empty() && goes_on {
            self.left.clone_from(&self.again);
            self.random.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}
