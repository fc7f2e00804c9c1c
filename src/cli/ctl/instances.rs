//! Orders about instances of logic services, as arguments.

use serde_json::json;

use super::args::CtlArgs;
use super::client::CtlRequest;

/// Arguments of `gateway ctl eject`.
#[derive(Debug, clap::Args)]
pub(crate) struct EjectArgs {
    /// Its id, as `ctl links` names it
    instance: String,
    /// Where several services have an instance of this id
    #[arg(long)]
    service: Option<String>,
    /// Also if its service has no other one that serves: then its requests are refused with 300
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl EjectArgs {
    pub(super) fn order(&self) -> CtlRequest {
        let Self { instance, service, force, .. } = self;
        CtlRequest::post("eject", json!({ "instance": instance, "service": service, "force": force }))
    }
}

/// Arguments of `gateway ctl return`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReturnArgs {
    /// Its id
    instance: String,
    /// Only of this service; without it of every one where it is ejected
    #[arg(long)]
    service: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl ReturnArgs {
    pub(super) fn order(&self) -> CtlRequest {
        let Self { instance, service, .. } = self;
        CtlRequest::post("return", json!({ "instance": instance, "service": service }))
    }
}
