//! Orders to a gateway, as arguments.

use serde_json::{Map, Value, json};

use super::args::CtlArgs;
use super::client::CtlRequest;

/// Whom an order is about: those for whom everything that is given holds.
#[derive(Debug, clap::Args)]
pub(super) struct WhomArgs {
    /// An app
    #[arg(long)]
    app: Option<String>,
    /// An account
    #[arg(long)]
    account: Option<String>,
    /// An address or network
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    address: Option<String>,
}

impl WhomArgs {
    pub(super) fn to_json(&self) -> Value {
        let given = [("app", &self.app), ("account", &self.account), ("address", &self.address)];
        let given =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        Value::Object(given.collect::<Map<_, _>>())
    }
}

/// Arguments of `gateway ctl kick`.
#[derive(Debug, clap::Args)]
pub(crate) struct KickArgs {
    /// One channel, by its id
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    #[command(flatten)]
    whom: WhomArgs,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
    /// Bars them for this time as well: the account, else the app or the address
    #[arg(long, value_name = "TIME")]
    ban: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl KickArgs {
    pub(super) fn order(&self) -> CtlRequest {
        let Self { channel, whom, reason, ban, .. } = self;
        let whom = whom.to_json();
        CtlRequest::post("kick", json!({ "channel": channel, "whom": whom, "reason": reason, "ban": ban }))
    }
}

/// Arguments of `gateway ctl ban`.
#[derive(Debug, clap::Args)]
pub(crate) struct BanArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// For how long; for good without it
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl BanArgs {
    pub(super) fn order(&self) -> CtlRequest {
        let Self { whom, time, reason, .. } = self;
        CtlRequest::post("ban", json!({ "whom": whom.to_json(), "time": time, "reason": reason }))
    }
}

/// Arguments of `gateway ctl unban`.
#[derive(Debug, clap::Args)]
pub(crate) struct UnbanArgs {
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl UnbanArgs {
    pub(super) fn order(&self) -> CtlRequest {
        CtlRequest::post("unban", self.whom.to_json())
    }
}

/// Arguments of `gateway ctl bans`.
#[derive(Debug, clap::Args)]
pub(crate) struct BansArgs {
    /// So many are passed over
    #[arg(long, value_name = "N")]
    from: Option<String>,
    /// How many rows, at most 1000
    #[arg(long, value_name = "N")]
    limit: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl BansArgs {
    pub(super) fn question(&self) -> CtlRequest {
        let given = [("from", &self.from), ("limit", &self.limit)];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        CtlRequest::get("bans", &given.collect::<Vec<_>>())
    }
}

/// Arguments of `gateway ctl log-level`.
#[derive(Debug, clap::Args)]
pub(crate) struct LogLevelArgs {
    /// error, warn, info, debug or trace
    level: String,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl LogLevelArgs {
    pub(super) fn order(&self) -> CtlRequest {
        CtlRequest::post("log-level", json!({ "level": self.level }))
    }
}
