//! One ban: whom it is about, and until when.

use std::time::{Duration, Instant};

use ipnet::IpNet;

/// Whom a ban is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BanSubject {
    /// Every account of an app.
    App(String),
    /// One account of an app.
    Account { app: String, account: String },
    /// An address, or all of a network.
    Network(IpNet),
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ban {
    pub(crate) subject: BanSubject,
    /// When it ends; none: never.
    pub(crate) until: Option<Instant>,
    /// For people; may be empty.
    pub(crate) reason: String,
}

impl Ban {
    /// How long it still holds; none: for good.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now))
    }
}

/// Whom these words are about.
///
/// # Errors
/// What is missing, or too much.
pub(crate) fn subject(
    app: Option<String>,
    account: Option<String>,
    network: Option<IpNet>,
) -> Result<BanSubject, String> {
    match (app, account, network) {
        (Some(app), Some(account), None) => Ok(BanSubject::Account { app, account }),
        (Some(app), None, None) => Ok(BanSubject::App(app)),
        (None, None, Some(network)) => Ok(BanSubject::Network(network)),
        (None, Some(_), None) => Err("an account without its app".to_owned()),
        (None, None, None) => Err("neither an app nor an address".to_owned()),
        _ => Err("an address beside an app or account".to_owned()),
    }
}
