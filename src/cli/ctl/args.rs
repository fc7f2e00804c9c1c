//! Arguments of every question to a gateway.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG};

/// Arguments of every question.
#[derive(Debug, clap::Args)]
pub(crate) struct CtlArgs {
    /// The configuration of the gateway that is asked: it says where the socket is, as does GATEWAY__ADMIN__SOCKET; without
    /// either, the `gateway dev` that runs in this directory, on whatever ports
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
