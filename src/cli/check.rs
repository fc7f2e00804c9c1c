//! `gateway check`: is a configuration or a route file acceptable, and what does it come to?

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway::clock;
use gateway::config::{self, Options};
use gateway::files;
use gateway::monitor::memory::MemoryBudget;
use gateway::route::Route;

/// Arguments of `gateway check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A configuration file, or a route file (.json)
    #[arg(long, value_name = "FILE", default_value = "config/gateway.toml")]
    pub(crate) config: PathBuf,
}

/// Prints what is in effect on stdout, warnings and the refusal on stderr; 64 if the file is refused.
///
/// # Errors
/// A clock by which no certificate can be judged, or a stdout or stderr that cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.config.extension() == Some(OsStr::new("json")) {
        return check_route(&args.config);
    }
    clock::check()?;
    let options = Options::with_environment(std::env::vars_os());
    match config::load(&args.config, &options) {
        Ok(loaded) => {
            write!(std::io::stdout(), "{}", loaded.effective)?;
            // A comment, so that all of it is a configuration.
            writeln!(std::io::stdout(), "\n# Here and now {}", MemoryBudget::of(&loaded.config.limits))?;
            for warning in loaded.warnings {
                writeln!(std::io::stderr(), "warning: {warning}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refuse(error),
    }
}

fn check_route(path: &Path) -> anyhow::Result<ExitCode> {
    let text = match files::text(path) {
        Ok(text) => text,
        Err(error) => return refuse(error),
    };
    let route = match Route::from_json(&text) {
        Ok(route) => route,
        Err(error) => return refuse(format_args!("{}: {error}", path.display())),
    };
    let mut out = std::io::stdout().lock();
    let slots: u32 = route.zones().iter().map(|zone| zone.weight).sum();
    writeln!(out, "route_by {}, {slots} slots", route.route_by())?;
    for zone in route.zones() {
        let share = 100.0 * f64::from(zone.weight) / f64::from(slots);
        writeln!(out, "zone {}: {} slots, {share:.1} %", zone.id, zone.weight)?;
    }
    for entry in route.whitelist() {
        writeln!(out, "app {}: always zone {}", entry.app, entry.zone)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for a file that is refused, and the exit code that says so.
pub(super) fn refuse(problem: impl std::fmt::Display) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr(), "error: {problem}")?;
    Ok(ExitCode::from(config::EXIT_CODE))
}
