//! `gateway serve`: the gateway of a configuration file.

use std::path::PathBuf;
use std::process::ExitCode;

use gateway::clock;
use gateway::config::{self, ConfigFile, Options};
use gateway::gateway::{Gateway, Parts, Reloads, StartError};
use tracing::{info, warn};

use crate::cli::check::refuse;
use crate::cli::shutdown::{self, Signals};
use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG, log};

/// Arguments of `gateway serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The configuration; every key can be overridden by GATEWAY__SECTION__KEY
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
}

/// Serves until a signal. Exit codes: 64 for a configuration or a file of bans that is refused, 1 for a start that failed.
///
/// # Errors
/// The clock is wrong, the gateway cannot start, or the machine gives no runtime.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // First of all: certificates are judged by it.
    clock::check()?;
    let options = Options::with_environment(std::env::vars_os());
    let loaded = match config::load(&args.config, &options) {
        Ok(loaded) => loaded,
        Err(error) => return Ok(refuse(error)),
    };
    let (_log, log_level) = log::start(loaded.config.log)?;
    for warning in &loaded.warnings {
        warn!(event = "config", "{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?.with_reloads();
    let id = loaded.config.id.clone();
    let file = ConfigFile { path: args.config.clone(), options };
    let reloads = Some(Reloads { file, written: loaded.written });
    let parts = Parts { reloads, log_level: Some(log_level), ..Parts::default() };
    let gateway = match Gateway::start_with(loaded.config, parts) {
        Ok(gateway) => gateway,
        // It is written by people, too, and starting again does not help.
        Err(StartError::Bans(error)) => return Ok(refuse(error)),
        Err(error) => return Err(error.into()),
    };
    let addresses = gateway.addresses();
    info!(
        event = "started",
        gate_id = id,
        version = env!("CARGO_PKG_VERSION"),
        commit = env!("GATEWAY_COMMIT")
    );
    for (what, bound) in addresses.for_clients() {
        for address in bound {
            info!(event = "listening", what, %address);
        }
    }
    if let Some(address) = addresses.monitor {
        info!(event = "listening", what = "monitor", %address);
    }
    if let Some(address) = addresses.admin {
        info!(event = "listening", what = "admin", %address);
    }
    Ok(runtime.block_on(shutdown::until_end(gateway, signals)))
}
