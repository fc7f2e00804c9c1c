//! The effective configuration, for `gateway check` and the start of the log: every value with its source.

use std::fmt;

use toml::{Table, Value};

use super::error::ConfigOrigin;
use super::events;
use super::file::{File, is_secret};
use super::secret::MASK;
use super::sources::Sources;

/// Column of the sources, where values are short enough.
const SOURCE_COLUMN: usize = 44;

/// The order in which the sections are shown.
const SECTIONS: [&str; 16] = [
    "gateway",
    "quic",
    "tcp",
    "websocket",
    "tls",
    "auth",
    "login",
    "route",
    "discovery",
    "monitor",
    "admin",
    "events",
    "tracing",
    "drain",
    "log",
    "limits",
];

/// Every setting with its value and source, secrets masked. Displayed it is TOML with the sources as comments.
#[derive(Debug, Clone)]
pub struct Effective {
    settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `gateway`, `discovery.consul`, or `discovery.instances[0]` for an entry of the list.
    pub section: String,
    /// `id`
    pub key: String,
    /// As TOML; `"***"` for a secret.
    pub value: String,
    /// Where it comes from.
    pub origin: ConfigOrigin,
}

impl Effective {
    pub(super) fn new(file: &File, sources: &Sources) -> Self {
        let mut tree = Table::try_from(file).unwrap_or_default();
        let mut settings = Vec::new();
        for section in SECTIONS {
            let Some(Value::Table(mut table)) = tree.remove(section) else { continue };
            let list = if section == "auth" { "keys" } else { "instances" };
            let entries = match table.remove(list) {
                Some(Value::Array(entries)) => entries,
                _ => Vec::new(),
            };
            let (inner, plain): (Vec<_>, Vec<_>) = table.into_iter().partition(|(_, value)| value.is_table());
            for (key, value) in plain {
                let origin = sources.origin(&format!("{section}.{key}"));
                settings.push(Setting::new(section.to_owned(), key, &value, origin));
            }
            for (name, table) in inner {
                let section = format!("{section}.{name}");
                for (key, value) in table.as_table().into_iter().flatten() {
                    let origin = sources.origin(&format!("{section}.{key}"));
                    settings.push(Setting::new(section.clone(), key.clone(), value, origin));
                }
            }
            for (index, entry) in entries.into_iter().enumerate() {
                let origin = sources.origin(&format!("{section}.{list}"));
                for (key, value) in entry.as_table().into_iter().flatten() {
                    let section = format!("{section}.{list}[{index}]");
                    settings.push(Setting::new(section, key.clone(), value, origin.clone()));
                }
            }
        }
        Self { settings }
    }

    /// The settings, by section.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }
}

impl Setting {
    fn new(section: String, key: String, value: &Value, origin: ConfigOrigin) -> Self {
        let value = shown(&format!("{section}.{key}"), value);
        Self { section, key, value, origin }
    }
}

/// A value as TOML, secrets masked.
pub(super) fn shown(key: &str, value: &Value) -> String {
    match value.as_str() {
        _ if is_secret(key) => format!("{MASK:?}"),
        // Its path may be what lets one in.
        Some(url) if key == "events.webhook" || key == "tracing.endpoint" => {
            format!("{:?}", events::shown(url))
        }
        _ => value.to_string(),
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for setting in &self.settings {
            if setting.section != section {
                if !section.is_empty() {
                    writeln!(f)?;
                }
                section = &setting.section;
                match section.split_once('[') {
                    Some((list, _)) => writeln!(f, "[[{list}]]")?,
                    None => writeln!(f, "[{section}]")?,
                }
            }
            let line = format!("{} = {}", setting.key, setting.value);
            writeln!(f, "{line:<SOURCE_COLUMN$} # {}", setting.origin)?;
        }
        Ok(())
    }
}
