//! `gateway bench`: load for a running gateway, and what came of it.

mod load;
mod pairs;
mod report;
mod talk;

use std::process::ExitCode;

/// Measure a running gateway.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Bench,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Pairs of clients talk to each other; every message must be answered and arrive once, in order.
    Talk(talk::TalkArgs),
}

/// Runs a measurement. Exit code 1: something was missing, out of order or unanswered.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        Bench::Talk(args) => talk::run(&args),
    }
}
