//! Which connections are meant, as arguments.

use super::args::CtlArgs;
use super::client::CtlRequest;

/// Conditions; every one that is given must hold. The gateway says what is allowed.
#[derive(Debug, clap::Args)]
pub(crate) struct FilterArgs {
    /// Only the one with this channel id
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// Only those of this account
    #[arg(long)]
    account: Option<String>,
    /// Only those of this app
    #[arg(long)]
    app: Option<String>,
    /// Only those from this address or network
    #[arg(long, value_name = "ADDRESS[/BITS]")]
    address: Option<String>,
    /// Only those over quic, tcp, tls, ws or wss
    #[arg(long)]
    transport: Option<String>,
    /// Only those open for at least this long
    #[arg(long, value_name = "TIME")]
    older: Option<String>,
    /// Only those open for at most this long
    #[arg(long, value_name = "TIME")]
    younger: Option<String>,
    /// Only those for which so many bytes wait at least
    #[arg(long, value_name = "BYTES")]
    queued: Option<String>,
}

impl FilterArgs {
    /// Names and values of what is given.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("channel", &self.channel),
            ("account", &self.account),
            ("app", &self.app),
            ("address", &self.address),
            ("transport", &self.transport),
            ("older", &self.older),
            ("younger", &self.younger),
            ("queued", &self.queued),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Arguments of `gateway ctl connections`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectionsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The order: oldest, newest, queue (largest first) or account
    #[arg(long, value_name = "ORDER")]
    sort: Option<String>,
    /// How many rows, at most 1000
    #[arg(long, value_name = "N")]
    limit: Option<String>,
    /// Goes on behind a page, as that says at its end
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    pub(super) of: CtlArgs,
}

impl ConnectionsArgs {
    pub(super) fn question(&self) -> CtlRequest {
        let rest = [("sort", &self.sort), ("limit", &self.limit), ("cursor", &self.cursor)];
        let rest = rest.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        CtlRequest::get("connections", &self.filter.pairs().chain(rest).collect::<Vec<_>>())
    }
}
