//! `[tracing]` as a person writes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TracingTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    pub(super) ratio: f64,
    pub(super) accounts: Vec<String>,
    pub(super) trust_clients: bool,
}

impl Default for TracingTable {
    fn default() -> Self {
        let (endpoint, ca_file, accounts, trust_clients) = (None, None, Vec::new(), false);
        Self { endpoint, ca_file, ratio: 0.01, accounts, trust_clients }
    }
}
