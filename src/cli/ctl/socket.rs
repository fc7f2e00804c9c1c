//! Where the gateway is asked.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::CtlArgs;
use super::configured_socket::configured;
use crate::cli::check::refuse;

/// The socket; else the exit code of a configuration that does not say.
pub(crate) fn socket_of(args: &CtlArgs) -> Result<PathBuf, ExitCode> {
    args.socket.clone().map_or_else(|| configured(&args.config), Ok).map_err(refuse)
}
