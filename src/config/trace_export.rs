//! `[tracing]`: where spans go, of what, and whose `traceparent` counts.

use std::collections::HashSet;
use std::sync::Arc;

use super::checker::Checker;
use super::error::ConfigError;
use super::events::parse;
use super::http_target::{HttpTarget, TargetParts};

/// Where collectors take spans over HTTP, unless the URL says otherwise.
const DEFAULT_PATH: &str = "/v1/traces";

/// What is recorded for a collector. By default nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracing {
    /// The collector, and the path of its URL; none: there is none.
    pub collector: Option<(HttpTarget, String)>,
    /// The share of connections, requests and pushes, 0 to 1.
    pub ratio: f64,
    /// Accounts of which everything is recorded, of any app.
    pub accounts: Arc<HashSet<String>>,
    /// Whether a client's `traceparent` counts.
    pub trust_clients: bool,
}

impl Checker<'_> {
    pub(super) fn tracing(&mut self) -> Result<Tracing, ConfigError> {
        let table = &self.file.tracing;
        let (ratio, trust_clients) = (table.ratio, table.trust_clients);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(self.error("tracing.ratio", format!("is {ratio}; allowed is 0 to 1")));
        }
        let accounts = Arc::new(table.accounts.iter().cloned().collect());
        let text = table.endpoint.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let Some(text) = text.map(str::to_owned) else {
            if table.ca_file.is_some() {
                let problem = "is set without tracing.endpoint; allowed is both or neither";
                return Err(self.error("tracing.ca_file", problem));
            }
            return Ok(Tracing { collector: None, ratio, accounts, trust_clients });
        };
        if !cfg!(feature = "trace-export") {
            let problem =
                "is set, but this program was built without the feature trace-export; allowed is none";
            return Err(self.error("tracing.endpoint", problem));
        }
        let Some((target, path)) = parse(&text) else {
            let problem = "is no URL of a collector; allowed is http:// or https:// with a host, without a user or \
                           password, such as \"http://127.0.0.1:4318\"";
            return Err(self.error("tracing.endpoint", problem));
        };
        let ca_file = table.ca_file.clone();
        let parts = TargetParts {
            address_key: "tracing.endpoint",
            token_keys: None,
            token: None,
            token_file: None,
            ca_file_key: "tracing.ca_file",
            ca_file: ca_file.as_ref(),
            trusts_system: true,
            no_roots: "is missing, and this system has no list of its own; allowed is a PEM file with certificates",
        };
        let target = self.complete(target, &parts)?;
        if !target.tls && !target.is_local() {
            self.warnings.push(format!("tracing.endpoint: spans travel in clear to {}", target.host));
        }
        let path = if path == "/" { DEFAULT_PATH.to_owned() } else { path };
        Ok(Tracing { collector: Some((target, path)), ratio, accounts, trust_clients })
    }
}
