//! `gateway check`: whether a configuration or a route file is acceptable, and what it comes to.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use gateway::clock;
use gateway::config::{self, Options};
use gateway::gateway::check_bans;
use gateway::overload::memory::MemoryBudget;
use gateway::route::Route;
use gateway_net::files;
use serde_json::json;

use crate::cli::ctl::client::{self, CtlRequest};
use crate::cli::ctl::configured_socket;
use crate::cli::ctl::tables;
use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG, output};

/// How long a running gateway may take to say in what it differs.
const ANSWER: Duration = Duration::from_secs(30);

/// Arguments of `gateway check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// A configuration file, or a route file (.json)
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// Says in what the file differs from what the gateway with its admin socket runs with: what a reload would come to
    #[arg(long)]
    pub(crate) against_running: bool,
    /// With --against-running: the socket of any gateway, in place of the one that the configuration names
    #[arg(long, value_name = "PATH", requires = "against_running")]
    pub(crate) socket: Option<PathBuf>,
    /// With --against-running: prints the answer as the gateway gives it, one JSON object
    #[arg(long, requires = "against_running")]
    pub(crate) json: bool,
}

/// Prints what is in effect on stdout, warnings and the refusal on stderr; 64 if the file is refused.
///
/// # Errors
/// A clock by which no certificate can be judged, or a stdout that cannot be written.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.config.extension() == Some(OsStr::new("json")) {
        return check_route(&args.config);
    }
    clock::check()?;
    let options = Options::with_environment(std::env::vars_os());
    match config::load(&args.config, &options) {
        Ok(_) if args.against_running => compare(args),
        Ok(loaded) => {
            if let Err(error) = check_bans(&loaded.config) {
                return Ok(refuse(error));
            }
            // A comment, so that all of it is a configuration.
            let budget = format!("# Here and now {}", MemoryBudget::of(&loaded.config.limits));
            output::print(&format!("{}\n{budget}\n", loaded.effective))?;
            if !loaded.warnings.is_empty() {
                let warnings = loaded.warnings.iter().map(|warning| format!("warning: {warning}"));
                output::complain(warnings.collect::<Vec<_>>().join("\n"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(refuse(error)),
    }
}

/// The gateway is asked: it knows what it runs with, secrets among it, and reads the file with its own environment.
fn compare(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let socket = match args.socket.clone().map_or_else(|| configured_socket::configured(&args.config), Ok) {
        Ok(socket) => socket,
        Err(problem) => return Ok(refuse(problem)),
    };
    let body = json!({ "config": std::path::absolute(&args.config)? });
    let (status, answer) = client::ask(&socket, &CtlRequest::post("compare", body), ANSWER)?;
    client::show(status, &answer, args.json, tables::reload)
}

fn check_route(path: &Path) -> anyhow::Result<ExitCode> {
    let text = match files::text(path) {
        Ok(text) => text,
        Err(error) => return Ok(refuse(error)),
    };
    let route = match Route::from_json(&text) {
        Ok(route) => route,
        Err(error) => return Ok(refuse(format_args!("{}: {error}", path.display()))),
    };
    let mut out = String::new();
    let slots: u32 = route.zones().iter().map(|zone| zone.weight).sum();
    writeln!(out, "route_by {}, {slots} slots", route.route_by())?;
    for zone in route.zones() {
        let share = 100.0 * f64::from(zone.weight) / f64::from(slots);
        writeln!(out, "zone {}: {} slots, {share:.1} %", zone.id, zone.weight)?;
    }
    for entry in route.whitelist() {
        writeln!(out, "app {}: always zone {}", entry.app, entry.zone)?;
    }
    output::print(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// One line for a file that is refused, and the exit code that says so.
pub(super) fn refuse(problem: impl std::fmt::Display) -> ExitCode {
    output::complain(format_args!("error: {problem}"));
    ExitCode::from(config::EXIT_CODE)
}
