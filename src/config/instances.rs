//! The static list of logic instances, and what a service, an id and an address may look like.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::checker::Checker;
use super::error::ConfigError;
use super::file;
use crate::route::Route;
use crate::wire::dialect::Dialect;

/// Longest gateway id and longest service or instance name, bytes.
pub(super) const MAX_NAME: usize = 64;

/// One process of a logic service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The service it belongs to: `login`, `chat`, …
    pub service: String,
    /// Unique within the service; the sort key of the selector.
    pub id: String,
    /// `host:port`, resolved when dialled.
    pub address: String,
    /// A zone of the route file.
    pub zone: String,
    /// What it speaks.
    pub dialect: Dialect,
}

impl Checker<'_> {
    /// The static list, checked.
    pub(super) fn instances(&self, dialect: Dialect, route: &Route) -> Result<Vec<Instance>, ConfigError> {
        let (mut ids, mut addresses) = (HashSet::new(), HashSet::new());
        let mut instances = Vec::new();
        for (index, entry) in self.file.discovery.instances.iter().enumerate() {
            let key = |field: &str| format!("discovery.instances[{index}].{field}");
            let instance = self.instance(&key, entry, dialect, route)?;
            if !ids.insert((&entry.service, &entry.id)) {
                let problem = format!("{:?} stands twice; allowed is each id once per service", entry.id);
                return Err(self.error(&key("id"), problem));
            }
            if !addresses.insert((&entry.service, &entry.address)) {
                let problem =
                    format!("{:?} stands twice; allowed is each address once per service", entry.address);
                return Err(self.error(&key("address"), problem));
            }
            instances.push(instance);
        }
        Ok(instances)
    }

    fn instance(
        &self,
        key: &dyn Fn(&str) -> String,
        entry: &file::InstanceTable,
        dialect: Dialect,
        route: &Route,
    ) -> Result<Instance, ConfigError> {
        self.check_service(&key("service"), &entry.service)?;
        if !is_instance_id(&entry.id) {
            let problem = format!(
                "is {:?}; allowed are 1 to {MAX_NAME} bytes without spaces and control characters",
                entry.id
            );
            return Err(self.error(&key("id"), problem));
        }
        if !is_host_and_port(&entry.address) {
            let problem = format!("is {:?}; allowed is host:port, such as \"127.0.0.1:9001\"", entry.address);
            return Err(self.error(&key("address"), problem));
        }
        if !route.has_zone(&entry.zone) {
            let problem =
                format!("{:?} is no zone of the route; allowed are {}", entry.zone, route.zone_list());
            return Err(self.error(&key("zone"), problem));
        }
        let dialect = match &entry.dialect {
            Some(text) => self.dialect(&key("dialect"), text)?,
            None => dialect,
        };
        Ok(Instance {
            service: entry.service.clone(),
            id: entry.id.clone(),
            address: entry.address.clone(),
            zone: entry.zone.clone(),
            dialect,
        })
    }

    /// Allowed, for a gateway that is only looked at, but nobody can sign in.
    pub(super) fn warn_of_missing_login_service(&mut self, login: &str, instances: &[Instance]) {
        if !instances.iter().any(|instance| instance.service == login) {
            self.warnings.push(format!(
                "discovery.instances: no instance of the login service {login:?}; nobody can sign in"
            ));
        }
    }

    /// A service is the part of a command before its first dot, so it has the characters of a command.
    pub(super) fn check_service(&self, key: &str, service: &str) -> Result<(), ConfigError> {
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if !service.is_empty() && service.len() <= MAX_NAME && service.bytes().all(known) {
            return Ok(());
        }
        let problem = format!("is {service:?}; allowed are 1 to {MAX_NAME} of a-z, 0-9, '_' and '-'");
        Err(self.error(key, problem))
    }
}

/// What may be an instance's id, from whatever source.
pub(crate) fn is_instance_id(id: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    !id.is_empty() && id.len() <= MAX_NAME && id.chars().all(plain)
}

/// `name:port`, `IPv4:port` or `[IPv6]:port`, the port not 0.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) || port.starts_with('+') {
        return false;
    }
    if host.starts_with('[') || host.contains(':') {
        return text.parse::<SocketAddr>().is_ok();
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !host.is_empty() && host.bytes().all(known)
}
