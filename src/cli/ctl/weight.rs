//! Another share of the accounts for a zone, as arguments.

use serde_json::json;

use super::args::CtlArgs;
use super::client::CtlRequest;

/// Arguments of `gateway ctl weight`.
#[derive(Debug, clap::Args)]
pub(crate) struct WeightArgs {
    /// The zone
    #[arg(long)]
    zone: String,
    /// The share of the accounts that it is to have, more than 0 and less than 100
    #[arg(long, value_name = "PERCENT")]
    percent: f64,
    /// Does it; without this it is only said how many accounts would move
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl WeightArgs {
    pub(super) fn order(&self) -> CtlRequest {
        let Self { zone, percent, apply, .. } = self;
        CtlRequest::post("weight", json!({ "zone": zone, "percent": percent, "apply": apply }))
    }
}
