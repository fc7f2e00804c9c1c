//! `[websocket]`: who may upgrade, and what the upgrade may cost.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::checked::{Tls, UpgradePolicy, WebSocket};
use super::checker::Checker;
use super::error::ConfigError;
use super::proxy::TrustedPeers;
use crate::limits::KIB;

/// What `websocket.max_head` may be, bytes: a request that says all it must, and what servers on the web allow.
const HEAD: RangeInclusive<usize> = KIB..=64 * KIB;

/// What `websocket.head_deadline` may be.
const HEAD_DEADLINE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Entries of a list.
const MAX_ENTRIES: usize = 256;

impl Checker<'_> {
    /// Addresses without and with TLS.
    pub(super) fn websocket_addresses(&self) -> Result<[Vec<SocketAddr>; 2], ConfigError> {
        let file = &self.file.websocket;
        Ok([
            self.addresses("websocket.listen", &file.listen)?,
            self.addresses("websocket.tls_listen", &file.tls_listen)?,
        ])
    }

    /// The listeners; none where there are no addresses. The rest is checked in any case.
    pub(super) fn websocket(
        &self,
        listen: Vec<SocketAddr>,
        tls: Option<Tls>,
    ) -> Result<Option<WebSocket>, ConfigError> {
        let everywhere = [&listen[..], tls.as_ref().map_or(&[], |tls| &tls.listen)].concat();
        let (proxy, trusted) = self.websocket_proxy(&everywhere)?;
        let upgrade = Arc::new(self.upgrade_policy(trusted)?);
        Ok((!everywhere.is_empty()).then_some(WebSocket { listen, tls, proxy, upgrade }))
    }

    fn upgrade_policy(&self, trusted: TrustedPeers) -> Result<UpgradePolicy, ConfigError> {
        let file = &self.file.websocket;
        if !HEAD.contains(&file.max_head) {
            let (from, to) = HEAD.into_inner();
            let problem = format!("is {}; allowed are {from} to {to} (bytes)", file.max_head);
            return Err(self.error("websocket.max_head", problem));
        }
        if !HEAD_DEADLINE.contains(&file.head_deadline) {
            let [is, from, to] = [file.head_deadline, *HEAD_DEADLINE.start(), *HEAD_DEADLINE.end()]
                .map(humantime::format_duration);
            return Err(self.error("websocket.head_deadline", format!("is {is}; allowed are {from} to {to}")));
        }
        self.check_count("websocket.paths", file.paths.len())?;
        self.check_count("websocket.allowed_origins", file.allowed_origins.len())?;
        if let Some(path) = file.paths.iter().find(|path| !is_path(path)) {
            let problem = format!("has {path:?}; allowed are paths such as \"/ws\", without a query");
            return Err(self.error("websocket.paths", problem));
        }
        if let Some(origin) = file.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            let problem = format!(
                "has {origin:?}; allowed are origins as browsers send them, such as \"https://chat.example\" or \
                 \"http://localhost:3000\", without a path"
            );
            return Err(self.error("websocket.allowed_origins", problem));
        }
        Ok(UpgradePolicy {
            paths: file.paths.clone(),
            allowed_origins: file.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            trusted,
            max_head: file.max_head,
            head_deadline: file.head_deadline,
        })
    }

    fn check_count(&self, key: &str, count: usize) -> Result<(), ConfigError> {
        if count <= MAX_ENTRIES {
            return Ok(());
        }
        Err(self.error(key, format!("has {count} entries; allowed are up to {MAX_ENTRIES}")))
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

/// Scheme, host and perhaps a port (RFC 6454 section 6.2), or `null`, which pages without an origin of their own send.
fn is_origin(origin: &str) -> bool {
    if origin == "null" {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@' | b','))
}
