//! Orders about a drain, as arguments.

use serde_json::json;

use super::args::CtlArgs;
use super::client::CtlRequest;

/// Arguments of `gateway ctl drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Clients are closed one after the other over this; `drain.window` without it
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    /// The gateway that clients are told to go to
    #[arg(long, value_name = "HOST:PORT")]
    to: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl DrainArgs {
    pub(super) fn order(&self) -> CtlRequest {
        CtlRequest::post("drain", json!({ "window": self.window, "to": self.to }))
    }
}
