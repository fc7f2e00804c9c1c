//! What the statistics say, for whoever shows it.

use serde::Serialize;
use utoipa::ToSchema;

/// Activity of the accounts of a gateway, over all its workers. Accounts that are connected are looked at once a minute and when
/// they go, so it is up to a minute behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ActivityReport {
    /// Different accounts.
    pub active: ActiveAccounts,
    /// The same by app, in the order of their names. Accounts of the same name in two apps are two.
    pub apps: Vec<AppActivity>,
    /// There were more apps than are counted by themselves; theirs are in `active` only.
    pub apps_left_out: bool,
    /// Who sent most within [`window_seconds`](Self::window_seconds), most first.
    pub busiest: Vec<BusyAccount>,
    /// How far back `busiest` reaches at most; at least five sixths of it.
    pub window_seconds: u64,
}

/// Accounts that were connected, give or take 5 %. Hours and days are those of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ActiveAccounts {
    /// Since the hour began.
    pub this_hour: u64,
    /// In the hour before it.
    pub last_hour: u64,
    /// Since midnight.
    pub today: u64,
    /// In the day before.
    pub yesterday: u64,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AppActivity {
    /// As tokens name it.
    pub app: String,
    /// Its accounts.
    pub active: ActiveAccounts,
}

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BusyAccount {
    /// As its tokens name it.
    pub app: String,
    /// As its tokens name it.
    pub account: String,
    /// Requests it sent, at most.
    pub messages: u64,
    /// At least. Both are the same unless many hundreds of accounts were about as busy.
    pub at_least: u64,
}
