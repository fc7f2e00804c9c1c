//! `[events]`: where the administrator is told, beside the log.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use hyper::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Secret;
use super::check::Checker;
use super::effective::MASK;
use super::error::ConfigError;
use super::secret::SecretKeys;
use crate::files;

/// Longest URL, bytes.
const MAX_URL: usize = 2048;

/// A webhook that takes less never answers in time; one that takes more holds the next event back for too long.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Where systems keep the certificates they trust: Debian, Red Hat, SUSE, and macOS and Alpine.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

const TOKEN_KEYS: SecretKeys = SecretKeys {
    inline: "events.webhook_token",
    file: "events.webhook_token_file",
    allowed: "allowed is a file with the webhook's token",
};

/// Where events are posted.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Its URL.
    pub address: WebhookAddress,
    /// Shown with every event; graphic ASCII.
    pub token: Option<Secret>,
    /// Whom its certificate must come from; empty without TLS.
    pub roots: Vec<CertificateDer<'static>>,
    /// For an attempt, from the name of the host to the status.
    pub timeout: Duration,
}

/// A URL in parts. Its path may be a secret, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookAddress {
    /// Whether it is asked over TLS.
    pub tls: bool,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// With its query; begins with a slash.
    pub path: String,
}

impl fmt::Debug for WebhookAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}/{MASK}", self.host, self.port)
    }
}

impl WebhookAddress {
    /// None for what is no URL with a host, for other schemes, and for one with a user or password in it.
    fn parse(text: &str) -> Option<Self> {
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
        is_plain.then(|| Self { tls, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Returns `true` if it is on this machine.
    fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// What of a webhook's URL may be shown: all but its path, if it has one.
pub(super) fn shown(url: &str) -> String {
    match WebhookAddress::parse(url.trim()) {
        Some(address) if address.path == "/" => url.to_owned(),
        Some(address) => format!("{address:?}"),
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
        let Some(address) = WebhookAddress::parse(text) else {
            let problem = "is no URL that can be posted to; allowed is http:// or https:// with a host, without a \
                           user or password, such as \"https://hooks.example.org/gateway\"";
            return Err(self.error("events.webhook", problem));
        };
        let roots = self.webhook_roots(address.tls)?;
        let token = self.webhook_token()?;
        if !address.tls && !address.is_local() {
            self.warnings.push(format!("events.webhook: events travel in clear to {}", address.host));
        }
        Ok(Some(Webhook { address, token, roots, timeout }))
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

    fn webhook_token(&mut self) -> Result<Option<Secret>, ConfigError> {
        let events = &self.file.events;
        let (inline, file) = (events.webhook_token.as_ref(), events.webhook_token_file.as_ref());
        let Some((key, token)) = self.secret_of(&TOKEN_KEYS, inline, file)? else { return Ok(None) };
        if token.0.is_empty() || !token.0.iter().all(u8::is_ascii_graphic) {
            let problem = "holds no token; allowed are letters, digits and signs, without spaces";
            return Err(self.error(key, problem));
        }
        Ok(Some(token))
    }

    fn webhook_roots(&self, tls: bool) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let key = "events.webhook_ca_file";
        let allowed = "allowed is a PEM file with certificates";
        let Some(path) = &self.file.events.webhook_ca_file else {
            if !tls {
                return Ok(Vec::new());
            }
            let found =
                SYSTEM_ROOTS.iter().find_map(|path| usable_roots(&files::unmarked(Path::new(path)).ok()?));
            return found.ok_or_else(|| {
                let problem = format!("is missing, and this system has no list of its own; {allowed}");
                self.error(key, problem)
            });
        };
        if !tls {
            let problem =
                "is set, but events.webhook begins with http://; allowed is webhook_ca_file with https://";
            return Err(self.error(key, problem));
        }
        let path = self.options.base.join(path);
        let pem =
            files::unmarked(&path).map_err(|problem| self.error(key, format!("{problem}; {allowed}")))?;
        usable_roots(&pem).ok_or_else(|| {
            self.error(key, format!("{} holds none that can be used; {allowed}", path.display()))
        })
    }
}

/// The certificates of a PEM file that TLS can use; none if there is none. A system's list may hold one or another
/// that it cannot.
fn usable_roots(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    let usable: Vec<_> = certificates.filter(|root| store.add(root.clone()).is_ok()).collect();
    (!usable.is_empty()).then_some(usable)
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
            let expected = WebhookAddress { tls, host: host.to_owned(), port, path: path.to_owned() };
            assert_eq!(WebhookAddress::parse(text), Some(expected), "{text}");
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
            assert_eq!(WebhookAddress::parse(text), None, "{text}");
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
