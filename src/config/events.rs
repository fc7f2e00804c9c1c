//! `[events]`: where the administrator is told, beside the log.

use std::fmt;
use std::time::Duration;

use hyper::Uri;

use super::checker::Checker;
use super::error::ConfigError;
use super::http_target::{HttpTarget, TargetParts};
use super::secret::{MASK, SecretKeys};

/// Longest URL, bytes.
const MAX_URL: usize = 2048;

/// A webhook that takes less never answers in time; one that takes more holds the next event back for too long.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

const TOKEN_KEYS: SecretKeys<'static> = SecretKeys {
    inline: "events.webhook_token",
    file: "events.webhook_token_file",
    allowed: "allowed is a file with the webhook's token",
};

/// Where events are posted.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The server of its URL.
    pub target: HttpTarget,
    /// The rest of its URL with the query; begins with a slash. It may be a secret, so it is not shown.
    pub path: String,
    /// For an attempt, from the name of the host to the status.
    pub timeout: Duration,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("target", &self.target)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A URL as its server and its path; none for what is no URL with a host, for other schemes, and for one with a user or
/// password in it.
pub(super) fn parse(text: &str) -> Option<(HttpTarget, String)> {
    let uri = text.parse::<Uri>().ok().filter(|_| text.len() <= MAX_URL)?;
    let tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let port = match authority.as_str().strip_suffix(authority.host()) {
        Some(_) => Some(if tls { 443 } else { 80 }),
        None => authority.port_u16().filter(|port| *port != 0),
    }?;
    let is_plain = !host.is_empty() && !authority.as_str().contains('@');
    is_plain.then(|| (HttpTarget { tls, ..HttpTarget::plain(host, port) }, path.to_owned()))
}

/// What of a webhook's URL may be shown: all but its path, if it has one.
pub(super) fn shown(url: &str) -> String {
    match parse(url.trim()) {
        Some((_, path)) if path == "/" => url.to_owned(),
        Some((HttpTarget { tls, host, port, .. }, _)) => {
            format!("{}://{host}:{port}/{MASK}", if tls { "https" } else { "http" })
        }
        None => MASK.to_owned(),
    }
}

impl Checker<'_> {
    /// The webhook with everything that belongs to it; none if it is not set.
    pub(super) fn webhook(&mut self) -> Result<Option<Webhook>, ConfigError> {
        let events = &self.file.events;
        if !(TIMEOUT.0..=TIMEOUT.1).contains(&events.timeout) {
            let [value, shortest, longest] =
                [events.timeout, TIMEOUT.0, TIMEOUT.1].map(humantime::format_duration);
            let problem = format!("is {value}; allowed is {shortest} to {longest}");
            return Err(self.error("events.timeout", problem));
        }
        let timeout = events.timeout;
        let Some(text) = events.webhook.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            return self.refuse_parts_of_no_webhook().map(|()| None);
        };
        let Some((target, path)) = parse(text) else {
            let problem = "is no URL that can be posted to; allowed is http:// or https:// with a host, without a \
                           user or password, such as \"https://hooks.example.org/gateway\"";
            return Err(self.error("events.webhook", problem));
        };
        let parts = TargetParts {
            address_key: "events.webhook",
            token_keys: Some(&TOKEN_KEYS),
            token: events.webhook_token.as_ref(),
            token_file: events.webhook_token_file.as_ref(),
            ca_file_key: "events.webhook_ca_file",
            ca_file: events.webhook_ca_file.as_ref(),
            trusts_system: true,
            no_roots: "is missing, and this system has no list of its own; allowed is a PEM file with certificates",
        };
        let target = self.complete(target, &parts)?;
        if !target.tls && !target.is_local() {
            self.warnings.push(format!("events.webhook: events travel in clear to {}", target.host));
        }
        Ok(Some(Webhook { target, path, timeout }))
    }

    /// A token for nobody is a webhook that was forgotten.
    fn refuse_parts_of_no_webhook(&self) -> Result<(), ConfigError> {
        let events = &self.file.events;
        for (key, is_set) in [
            ("events.webhook_token", events.webhook_token.is_some()),
            ("events.webhook_token_file", events.webhook_token_file.is_some()),
            ("events.webhook_ca_file", events.webhook_ca_file.is_some()),
        ] {
            if is_set {
                return Err(self.error(key, "is set without events.webhook; allowed is both or neither"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, tls, host, port, path) in [
            ("https://hooks.example.org", true, "hooks.example.org", 443, "/"),
            ("https://hooks.example.org/a/b?c=d", true, "hooks.example.org", 443, "/a/b?c=d"),
            ("http://127.0.0.1:8080/", false, "127.0.0.1", 8080, "/"),
            ("http://[::1]:8080/x", false, "::1", 8080, "/x"),
            ("http://[::1]/x", false, "::1", 80, "/x"),
        ] {
            let (target, found) = parse(text).unwrap();
            assert_eq!((target.tls, &*target.host, target.port, &*found), (tls, host, port, path), "{text}");
        }
        let long = format!("https://h/{}", "a".repeat(MAX_URL));
        for text in [
            "",
            "hooks",
            "/a",
            "hooks:80/a",
            "ftp://h/",
            "https://u:p@h/",
            "https://h:0/",
            "https://h:x/",
            "https:///a",
            &long,
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_path_is_not_shown() {
        assert_eq!(shown("https://h.example/"), "https://h.example/");
        assert_eq!(shown("https://h.example/T0/B0"), "https://h.example:443/***");
        assert_eq!(shown("https://h.example?key=1"), "https://h.example:443/***");
        assert_eq!(shown("https://user:word@h"), "***");
    }
}
