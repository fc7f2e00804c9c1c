//! `[discovery]` and its tables: where instances come from, and how the gateway registers itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::checker::Checker;
use super::error::ConfigError;
use super::http_target::{HttpTarget, TargetParts};
use super::instances::{Instance, is_host_and_port};
use super::secret::SecretKeys;
use crate::route::Route;
use crate::wire::dialect::Dialect;

/// Consul's port for HTTP.
const HTTP_PORT: u16 = 8500;

/// Consul's port for HTTPS.
const HTTPS_PORT: u16 = 8501;

/// Consul allows ten minutes at most.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Longest time for an answer, and for holding back what shrank: beyond it Consul would be of no use.
const LONGEST: Duration = Duration::from_secs(600);

/// Most tags of the gateway's entry: more than a person means.
const MOST_TAGS: usize = 64;

/// Longest tag and longest meta, bytes: what Consul allows a meta.
const LONGEST_TEXT: usize = 512;

/// Shortest of these times.
const SHORTEST: Duration = Duration::from_millis(1);

const TOKEN_KEYS: SecretKeys<'static> = SecretKeys {
    inline: "discovery.consul.token",
    file: "discovery.consul.token_file",
    allowed: "allowed is a file with an ACL token of Consul",
};

/// A Consul agent, what is watched there, and how the gateway is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consul {
    /// The services that are watched: all that commands may name.
    pub services: Vec<String>,
    /// What instances speak that do not say so in their meta.
    pub dialect: Dialect,
    /// The agent.
    pub agent: HttpTarget,
    /// How long the agent may keep a question open while nothing changes.
    pub wait: Duration,
    /// Time for an answer beyond that.
    pub answer: Duration,
    /// How long a set that lost more than half of its instances at once is held back.
    pub shrink_hold: Duration,
    /// Instances whose zone is none of the route serve accounts whose own zone has nobody; else they are skipped.
    pub last_resort: bool,
    /// None: the gateway does not register itself.
    pub register: Option<Register>,
}

/// How the gateway stands in Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The service's name.
    pub name: String,
    /// Its tags, at most 64 of at most 512 bytes; the routers of kim and X_IM look for `IDC:` and a name.
    pub tags: Vec<String>,
    /// Meta `domain`, which these routers tell clients, at most 512 bytes; none: protocol, address and port.
    pub domain: Option<String>,
    /// What Consul asks for the gateway's health; none: the monitor's `/ready`.
    pub check_url: Option<String>,
    /// Where clients reach it.
    pub advertise: Advertise,
}

/// Where clients reach a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Instead of the port that is listened on.
    pub port: Option<u16>,
}

impl Checker<'_> {
    /// Returns `true` if instances come from Consul.
    pub(super) fn is_consul(&self) -> Result<bool, ConfigError> {
        match self.file.discovery.kind.as_str() {
            "static" => Ok(false),
            "consul" => Ok(true),
            other => {
                let problem = format!("is {other:?}; allowed are \"static\" and \"consul\"");
                Err(self.error("discovery.kind", problem))
            }
        }
    }

    /// The list of instances, or where to get it. What only the other kind uses is checked only when it is used.
    pub(super) fn discovery(
        &mut self,
        dialect: Dialect,
        login_service: &str,
        route: &Route,
    ) -> Result<(Vec<Instance>, Option<Consul>), ConfigError> {
        let discovery = &self.file.discovery;
        if self.is_consul()? {
            if !discovery.instances.is_empty() {
                let text = "discovery.instances: are not looked at, because discovery.kind is \"consul\"";
                self.warnings.push(text.to_owned());
            }
            return Ok((Vec::new(), Some(self.consul(dialect, login_service)?)));
        }
        if !discovery.services.is_empty() {
            let text = "discovery.services: is not looked at, because discovery.kind is \"static\": the services \
                        are those of the instances";
            self.warnings.push(text.to_owned());
        }
        let instances = self.instances(dialect, route)?;
        self.warn_of_missing_login_service(login_service, &instances);
        Ok((instances, None))
    }

    fn consul(&mut self, dialect: Dialect, login_service: &str) -> Result<Consul, ConfigError> {
        let services = self.watched(login_service)?;
        let agent = self.consul_address()?;
        let consul = &self.file.discovery.consul;
        for (key, value, longest) in [
            ("wait", consul.wait, LONGEST_WAIT),
            ("answer", consul.answer, LONGEST),
            ("shrink_hold", consul.shrink_hold, LONGEST),
        ] {
            if !(SHORTEST..=longest).contains(&value) {
                let [value, shortest, longest] = [value, SHORTEST, longest].map(humantime::format_duration);
                let problem = format!("is {value}; allowed is {shortest} to {longest}");
                return Err(self.error(&format!("discovery.consul.{key}"), problem));
            }
        }
        let (wait, answer, shrink_hold) = (consul.wait, consul.answer, consul.shrink_hold);
        let last_resort = consul.last_resort;
        let agent = self.consul_agent(agent)?;
        let register = self.register()?;
        Ok(Consul { services, dialect, agent, wait, answer, shrink_hold, last_resort, register })
    }

    fn watched(&self, login_service: &str) -> Result<Vec<String>, ConfigError> {
        let key = "discovery.services";
        let mut services = self.file.discovery.services.clone();
        if services.is_empty() {
            let problem = "is empty; allowed with discovery.kind \"consul\" is the list of services to watch, \
                           such as [\"login\", \"chat\"]";
            return Err(self.error(key, problem));
        }
        for service in &services {
            self.check_service(key, service)?;
        }
        services.sort_unstable();
        if let Some(twice) = services.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem = format!("{:?} stands twice; allowed is each service once", twice[0]);
            return Err(self.error(key, problem));
        }
        if !services.iter().any(|service| service == login_service) {
            let problem = format!(
                "does not have the login service {login_service:?}, so nobody could sign in; allowed is a list that has it"
            );
            return Err(self.error(key, problem));
        }
        Ok(services)
    }

    fn consul_address(&self) -> Result<HttpTarget, ConfigError> {
        let text = self.file.discovery.consul.address.trim();
        let refuse = || {
            let problem = format!(
                "is {text:?}; allowed is a host with or without a port, http:// or https:// before it, such as \
                 \"127.0.0.1:8500\" or \"https://consul.example.org:8501\""
            );
            self.error("discovery.consul.address", problem)
        };
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            // As kim and X_IM have it in their ConsulURL.
            _ => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = host_and_port(rest).ok_or_else(refuse)?;
        let port = port.unwrap_or(if tls { HTTPS_PORT } else { HTTP_PORT });
        Ok(HttpTarget { tls, ..HttpTarget::plain(host, port) })
    }

    fn consul_agent(&mut self, agent: HttpTarget) -> Result<HttpTarget, ConfigError> {
        let consul = &self.file.discovery.consul;
        let parts = TargetParts {
            address_key: "discovery.consul.address",
            token_keys: Some(&TOKEN_KEYS),
            token: consul.token.as_ref(),
            token_file: consul.token_file.as_ref(),
            ca_file_key: "discovery.consul.ca_file",
            ca_file: consul.ca_file.as_ref(),
            trusts_system: false,
            no_roots: "is missing; allowed with https:// is a PEM file with the CA of Consul's certificate",
        };
        let agent = self.complete(agent, &parts)?;
        if agent.token.is_some() && !agent.tls && !agent.is_local() {
            let key = if consul.token.is_some() { TOKEN_KEYS.inline } else { TOKEN_KEYS.file };
            self.warnings.push(format!("{key}: travels in clear to {}", consul.address));
        }
        Ok(agent)
    }

    fn register(&self) -> Result<Option<Register>, ConfigError> {
        let register = &self.file.discovery.register;
        if !register.enabled {
            return Ok(None);
        }
        self.check_service("discovery.register.name", &register.name)?;
        if let Some(url) = &register.check_url {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if !rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()))
            {
                let problem = format!("is {url:?}; allowed is a URL such as \"http://10.0.0.7:8001/ready\"");
                return Err(self.error("discovery.register.check_url", problem));
            }
        }
        if register.tags.len() > MOST_TAGS {
            let problem = format!("has {} tags; allowed are {MOST_TAGS}", register.tags.len());
            return Err(self.error("discovery.register.tags", problem));
        }
        for tag in &register.tags {
            self.check_text("discovery.register.tags", tag)?;
        }
        register.domain.iter().try_for_each(|domain| self.check_text("discovery.register.domain", domain))?;
        let advertise = self.advertise()?;
        Ok(Some(Register {
            name: register.name.clone(),
            tags: register.tags.clone(),
            domain: register.domain.clone(),
            check_url: register.check_url.clone(),
            advertise,
        }))
    }

    /// A text that others are to find as it was meant.
    fn check_text(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        let is_plain = !text.is_empty() && text.trim() == text && !text.contains(char::is_control);
        if is_plain && text.len() <= LONGEST_TEXT {
            return Ok(());
        }
        let problem = format!(
            "is {text:?}; allowed are 1 to {LONGEST_TEXT} bytes, without blanks at either end and control characters"
        );
        Err(self.error(key, problem))
    }

    fn advertise(&self) -> Result<Advertise, ConfigError> {
        let key = "gateway.advertise";
        let allowed = "the address at which clients reach this gateway, such as \"203.0.113.7\" or \
                       \"gate01.example.org:8000\"";
        let Some(text) = &self.file.gateway.advertise else {
            let problem = format!(
                "is missing; allowed is {allowed}; or discovery.register.enabled = false to stay out of Consul"
            );
            return Err(self.error(key, problem));
        };
        let (host, port) = host_and_port(text.trim())
            .ok_or_else(|| self.error(key, format!("is {text:?}; allowed is {allowed}")))?;
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            let problem = format!("is {text:?}, which is every address and none; allowed is {allowed}");
            return Err(self.error(key, problem));
        }
        Ok(Advertise { host, port })
    }
}

/// A host with or without a port: `name`, `name:1`, `1.2.3.4`, `1.2.3.4:1`, `::1`, `[::1]`, `[::1]:1`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some((ip.to_string(), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| (address.ip().to_string(), Some(address.port())));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if is_host_and_port(text) => Some((host.to_owned(), port.parse().ok())),
        Some(_) => None,
        None => is_host_and_port(&format!("{text}:1")).then(|| (text.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_every_spelling() {
        for (text, host, port) in [
            ("gate01", "gate01", None),
            ("gate01:80", "gate01", Some(80)),
            ("10.0.0.7", "10.0.0.7", None),
            ("10.0.0.7:80", "10.0.0.7", Some(80)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:80", "::1", Some(80)),
        ] {
            assert_eq!(host_and_port(text), Some((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":80", "a b", "a:0", "10.0.0.7:0", "a:b", "a/b", "user@a:80", "[::1]:0", "a:80:80"] {
            assert_eq!(host_and_port(text), None, "{text}");
        }
    }
}
