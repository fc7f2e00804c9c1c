//! `gateway bench SCENARIO`: what the gateway costs beside floors and peers, by `crates/bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use gateway::wire::dialect::Dialect;
use gateway_bench::report::html::page;
use gateway_bench::report::table::table;
use gateway_bench::role;
use gateway_bench::scenario::{Scenario, TargetGateway};
use gateway_bench::{BenchSettings, Scratch};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::bench::loans::LOANS;
use crate::cli::logic::parse_dialect;
use crate::cli::output;

/// Rounds and seconds of each measurement, and the same of a quick look.
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;
const QUICK_ROUNDS: usize = 3;
const QUICK_SECONDS: f64 = 0.5;

/// Between two turns of what shows that it goes on.
const TICK: Duration = Duration::from_millis(200);

/// What is measured, and how it is shown.
#[derive(Debug, clap::Args)]
pub(super) struct ScenarioArgs {
    /// What is measured: all of them, or some by name
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["quick", "target"], value_parser = scenarios)]
    scenarios: Vec<ScenarioNames>,
    /// A short look at the most important ones, in less than two minutes
    #[arg(long, conflicts_with = "scenarios")]
    quick: bool,
    /// Measures the TCP echo of a gateway that runs here, with a service behind it that echoes `chat.bench.echo`
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["scenarios", "quick"])]
    target: Option<SocketAddr>,
    /// What it is spoken to in: x_im or kim
    #[arg(long, default_value_t = Dialect::XIm, requires = "target", value_parser = parse_dialect)]
    dialect: Dialect,
    /// The secret of its tokens, HS256
    #[arg(long, value_name = "FILE", requires = "target")]
    secret_file: Option<PathBuf>,
    /// Its process, whose CPU time is read
    #[arg(long, value_name = "PID", requires = "target", value_parser = clap::value_parser!(u32).range(1..=1 << 22))]
    pid: Option<u32>,
    /// How often everything is measured, in turn with what it is compared with
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: Option<u16>,
    /// How long one measurement counts
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// Prints everything that was measured as JSON
    #[arg(long)]
    json: bool,
    /// Writes a page with plots as well, which needs nothing beside it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl ScenarioArgs {
    fn target_at(&self, address: SocketAddr) -> anyhow::Result<TargetGateway> {
        let path = self.secret_file.as_ref().context("--target: --secret-file is missing")?;
        let secret =
            std::fs::read_to_string(path).with_context(|| format!("--secret-file {}", path.display()))?;
        let (dialect, secret) = (self.dialect.to_string(), secret.trim_end_matches(['\r', '\n']).to_owned());
        Ok(TargetGateway { address, dialect, secret, pid: self.pid })
    }
}

/// What one word names.
#[derive(Debug, Clone)]
struct ScenarioNames(Vec<Scenario>);

fn scenarios(word: &str) -> Result<ScenarioNames, String> {
    if word == "all" {
        return Ok(ScenarioNames(Scenario::ALL.to_vec()));
    }
    Scenario::named(word).map(|scenario| ScenarioNames(vec![scenario])).ok_or_else(|| {
        let names: Vec<String> = Scenario::ALL
            .iter()
            .map(|scenario| format!("  {:<4} {}", scenario.name, scenario.what))
            .collect();
        format!("allowed are talk, all and\n{}", names.join("\n"))
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if (0.05..=60.0).contains(&seconds) { Ok(seconds) } else { Err("allowed are 0.05 to 60".to_owned()) }
}

/// Runs the scenarios and prints what they found. A target that was missed is no failure.
pub(super) fn run(args: &ScenarioArgs) -> anyhow::Result<ExitCode> {
    let wanted: Vec<Scenario> = if args.quick {
        Scenario::ALL.iter().copied().filter(|scenario| scenario.is_quick).collect()
    } else {
        args.scenarios.iter().flat_map(|names| names.0.clone()).collect()
    };
    let (rounds, window) = if args.quick { (QUICK_ROUNDS, QUICK_SECONDS) } else { (ROUNDS, SECONDS) };
    // Made here, so that it goes when a signal ends the run.
    let scratch = Scratch::new(&std::env::temp_dir())?;
    let settings = BenchSettings {
        program: std::env::current_exe().context("cannot find this program")?,
        scratch: scratch.path().to_owned(),
        rounds: args.rounds.map_or(rounds, usize::from),
        window: Duration::from_secs_f64(args.seconds.unwrap_or(window)),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}").context("the progress")?);
    bar.enable_steady_tick(TICK);
    let target = args.target.map(|address| args.target_at(address)).transpose()?;
    let told = bar.clone();
    let report = unless_a_signal_ends_it(move || {
        let tell = |text: &str| told.set_message(text.to_owned());
        match target {
            Some(target) => gateway_bench::run_target(&target, &settings, crate::VERSION, &tell),
            None => gateway_bench::run(&wanted, &settings, crate::VERSION, &tell),
        }
    });
    bar.finish_and_clear();
    let report = report??;
    if let Some(path) = &args.html {
        std::fs::write(path, page(&report)).with_context(|| format!("--html {}", path.display()))?;
    }
    output::print(&if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { table(&report) })?;
    Ok(ExitCode::SUCCESS)
}

/// Measures on a thread of its own, for which nobody waits after a signal: the processes it started end with this one.
fn unless_a_signal_ends_it<T: Send + 'static>(
    measure: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let measured = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            measured = tokio::task::spawn_blocking(measure) => Ok(measured?),
            _ = interrupt.recv() => bail!("SIGINT ended the run"),
            _ = terminate.recv() => bail!("SIGTERM ended the run"),
            _ = hangup.recv() => bail!("SIGHUP ended the run"),
        }
    });
    runtime.shutdown_background();
    measured
}

/// One process of a run.
#[derive(Debug, clap::Args)]
pub(super) struct RoleArgs {
    name: String,
    argument: String,
}

/// Plays the role until standard input ends.
pub(super) fn play(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    role::run(&args.name, &args.argument, LOANS)?;
    Ok(ExitCode::SUCCESS)
}
