//! `gateway ctl`: asks a running gateway for something, over its admin socket.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use gateway::gateway::RELOAD;
use serde_json::Value;

use crate::cli::admin_client::{ask, configured, show};
use crate::cli::check::refuse;
use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG};

/// What a running gateway can be asked for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CtlCommand {
    /// Read configuration, route, certificates, keys and secrets again: all that changed is put into effect, or nothing
    Reload(CtlArgs),
}

/// Arguments of every question.
#[derive(Debug, clap::Args)]
pub(crate) struct CtlArgs {
    /// The configuration of the gateway that is asked: it says where the socket is, as does GATEWAY__ADMIN__SOCKET
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,
    /// The socket of any gateway, in place of the configuration
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Prints the answer as the gateway gives it, one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// How long the whole answer may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// Prints what the gateway answers. Exit codes: 0 if it did what was asked, 64 if its configuration is refused, or if this
/// one names no socket, 1 for anything else.
///
/// # Errors
/// Nobody answers, or not as a gateway does.
pub(crate) fn run(command: &CtlCommand) -> anyhow::Result<ExitCode> {
    let CtlCommand::Reload(args) = command;
    let socket = match args.socket.clone().map_or_else(|| configured(&args.config), Ok) {
        Ok(socket) => socket,
        Err(problem) => return Ok(refuse(problem)),
    };
    let (status, answer) = ask(&socket, RELOAD, &Value::Null, args.timeout)?;
    show(status, &answer, args.json)
}
