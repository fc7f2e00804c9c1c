//! `gateway bench`: what the gateway costs, beside floors and peers that do the same work in the same run.
//!
//! A run starts everything itself and pins it: what is measured has one core, load and logic services another. Each
//! scenario measures its contenders in turn, several times, and what decides is CPU time per unit of work, which a load that
//! shares a machine with it does not change as it changes a rate.
//!
//! In reading order: [`scenario`], what is measured; [`mod@report`], what comes of it; `role`, the processes of a run, which are
//! this program started again.

#![deny(missing_docs)]

mod bench;
mod callgrind;
mod cores;
mod cpu;
mod error;
mod frames;
mod gateway_under_test;
mod machine;
mod peer;
mod process;
pub mod report;
pub mod role;
pub mod scenario;
pub mod stats;
mod syscalls;
mod token;

pub use crate::bench::{BenchSettings, Scratch, Told};
pub use crate::error::BenchError;

use crate::bench::BenchRun;
use crate::report::{RunReport, ScenarioResult};
use crate::scenario::{Scenario, TargetGateway};

/// Runs some scenarios. `version` names what is measured.
///
/// # Errors
/// Something could not be started or measured; nothing is said about targets that were missed.
pub fn run(
    scenarios: &[Scenario],
    settings: &BenchSettings,
    version: &str,
    progress: Told<'_>,
) -> Result<RunReport, BenchError> {
    let bench = BenchRun::new(settings, progress);
    let mut results = Vec::with_capacity(scenarios.len());
    for scenario in scenarios {
        results.push(scenario.run(&bench)?);
    }
    Ok(report(&bench, version, results))
}

/// Measures a gateway that runs already, and nothing beside it.
///
/// # Errors
/// It cannot be reached, refuses a login, or answers what it must not.
pub fn run_target(
    target: &TargetGateway,
    settings: &BenchSettings,
    version: &str,
    progress: Told<'_>,
) -> Result<RunReport, BenchError> {
    let bench = BenchRun::new(settings, progress);
    let result = scenario::target::run(&bench, target)?;
    Ok(report(&bench, version, vec![result]))
}

fn report(bench: &BenchRun<'_>, version: &str, scenarios: Vec<ScenarioResult>) -> RunReport {
    RunReport {
        machine: machine::facts(bench.cores, version),
        rounds: bench.settings.rounds,
        seconds: bench.settings.window.as_secs_f64(),
        scenarios,
    }
}
