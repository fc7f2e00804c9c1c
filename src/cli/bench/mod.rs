//! `gateway bench`: what a gateway costs, and load for one that runs.

mod load;
mod loans;
mod pairs;
mod report;
mod scenarios;
mod talk;

use std::process::ExitCode;

/// Measure this gateway beside floors and peers, or one that runs.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<Bench>,
    #[command(flatten)]
    scenarios: scenarios::ScenarioArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Pairs of clients talk to each other through a gateway that runs; every message must be answered and arrive once, in
    /// order
    Talk(Box<talk::TalkArgs>),
    /// A process of a run
    #[command(hide = true)]
    Role(scenarios::RoleArgs),
}

/// Runs a measurement. Exit code 1: it could not be made, or, of `talk`, something was missing, out of order or unanswered.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        Some(Bench::Talk(args)) => talk::run(&args),
        Some(Bench::Role(args)) => scenarios::play(&args),
        None => scenarios::run(&args.scenarios),
    }
}
