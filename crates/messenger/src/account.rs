//! Accounts of apps.

use std::sync::Arc;

use gateway_net::limits::KIB;

/// Longest account, bytes: none is longer that came through a gateway with any setting.
pub(super) const MAX_ACCOUNT: usize = KIB;

/// An account of an app. Accounts of different apps never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountKey {
    /// Name of the app.
    pub app: Arc<str>,
    /// Name of the account within it.
    pub account: Arc<str>,
}

impl AccountKey {
    /// The account of this name.
    pub fn new(app: &str, account: &str) -> Self {
        Self { app: app.into(), account: account.into() }
    }
}
