//! File and environment, laid over each other; every value remembers where it comes from.

use std::ffi::OsString;

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::{ConfigError, ConfigOrigin};
use super::file::{File, is_secret};
use crate::limits::Limits;

/// What every override in the environment begins with; the rest is `SECTION__KEY`.
const PREFIX: &str = "GATEWAY__";

/// Sections within sections: their keys are written `SECTION__TABLE__KEY`.
const NESTED: [&str; 3] = ["quic.lb", "discovery.consul", "discovery.register"];

/// Marks the metadata of variables, which otherwise are told from files by nothing but their name.
const VARIABLE: &str = "environment variable ";

/// File and environment before their values are looked at.
#[derive(Clone)]
pub(super) struct Sources {
    figment: Figment,
    name: String,
}

/// One source: a tree of values and what it is called.
struct Layer {
    name: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Sources {
    /// Lays the overrides of an environment over the text of a file of that name.
    pub(super) fn new(
        text: &str,
        name: &str,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, ConfigError> {
        let values: Dict = Toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            ConfigError::Syntax { file: name.to_owned(), line, message: one_line(&message) }
        })?;
        let mut figment = Figment::from(Layer { name: name.to_owned(), values });
        let mut overrides: Vec<_> = environment
            .iter()
            .filter_map(|(key, value)| Some((key.to_str()?, value)))
            .filter(|(key, _)| key.starts_with(PREFIX))
            .collect();
        // The same setting in two spellings of case: the outcome must not depend on the order of the environment.
        overrides.sort_unstable();
        for (key, value) in overrides {
            let value =
                value.to_str().ok_or_else(|| variable_error(key, "is not UTF-8; allowed is UTF-8"))?;
            figment = figment.merge(override_layer(key, value)?);
        }
        Ok(Self { figment, name: name.to_owned() })
    }

    /// The file type; unknown and missing keys and wrong types are refused here.
    pub(super) fn extract(&self) -> Result<File, ConfigError> {
        self.figment.extract().map_err(|error| self.value_error(error))
    }

    /// Where the value of `section.key` comes from. An index behind it is cut off: a list has one source.
    pub(super) fn origin(&self, key: &str) -> ConfigOrigin {
        let plain = key.split('[').next().unwrap_or(key);
        self.figment.find_metadata(plain).map_or(ConfigOrigin::Default, origin_of)
    }

    /// An error for a value, with its origin.
    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value { key: key.to_owned(), problem: problem.into(), origin: self.origin(key) }
    }

    fn value_error(&self, error: figment::Error) -> ConfigError {
        let mut key = key_text(&error.path);
        // Not the metadata of the error: a missing key has none.
        let origin = error.metadata.as_ref().map_or_else(|| ConfigOrigin::File(self.name.clone()), origin_of);
        let problem = match &error.kind {
            Kind::MissingField(name) => {
                key = if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
                "is missing; allowed is any value of your own, there is no default".to_owned()
            }
            Kind::UnknownField(_, allowed) => {
                format!("is not a known key; allowed are {}", allowed.join(", "))
            }
            Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
                format!("is {}; allowed is {}", shown(&key, actual), plain_type(expected))
            }
            other => one_line(&other.to_string()),
        };
        ConfigError::Value { key, problem, origin }
    }
}

/// What a parser says may hold a key or a value as it was written.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// `discovery.instances[1].zone` out of the parts of a path.
fn key_text(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{part}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            // An empty key is shown as TOML writes it.
            text.push_str(&if part.is_empty() { "\"\"".to_owned() } else { one_line(part) });
        }
    }
    text
}

/// The value that was found, as it was written, unless it is a secret.
fn shown(key: &str, actual: &Actual) -> String {
    match actual {
        _ if key.starts_with("auth.keys") && is_secret(key) && !key.ends_with(".secret") => {
            "of another kind".to_owned()
        }
        _ if is_secret(key) => "not a string".to_owned(),
        Actual::Str(text) => format!("{text:?}"),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// Rust's names of types mean nothing to an operator.
fn plain_type(expected: &str) -> &str {
    match expected {
        "u32" | "u64" | "usize" => "a whole number of 0 and more",
        "a boolean" => "true or false",
        "a duration" => "a duration such as \"10s\" or \"250ms\"",
        other => other,
    }
}

fn origin_of(metadata: &Metadata) -> ConfigOrigin {
    match metadata.name.strip_prefix(VARIABLE) {
        Some(name) => ConfigOrigin::Variable(name.to_owned()),
        None => ConfigOrigin::File(metadata.name.to_string()),
    }
}

fn variable_error(name: &str, problem: &str) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), problem: problem.to_owned() }
}

fn override_layer(variable: &str, text: &str) -> Result<Layer, ConfigError> {
    let path = variable.strip_prefix(PREFIX).unwrap_or(variable).to_lowercase().replace("__", ".");
    let Some((section, key)) = path.rsplit_once('.').filter(|(section, key)| is_setting(section, key)) else {
        let problem = "names no setting; allowed is GATEWAY__SECTION__KEY";
        return Err(variable_error(variable, problem));
    };
    let value = match kind_of(section, key) {
        ValueKind::Text => Value::from(text),
        // What is no number or boolean stays text, and is then refused with the others of a wrong type.
        ValueKind::Number => text.trim().parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        ValueKind::Fraction => text.trim().parse::<f64>().map_or_else(|_| Value::from(text), Value::from),
        ValueKind::Boolean => text.trim().parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        // "[::]:8000" begins like a list and is none.
        ValueKind::Addresses => parse_list(text).unwrap_or_else(|| Value::from(text)),
        ValueKind::Names => parse_list(text)
            .unwrap_or_else(|| Value::from(text.split(',').map(str::trim).collect::<Vec<_>>())),
        ValueKind::Tables => parse_list(text).map(scalars_as_text).ok_or_else(|| {
            let example = match section {
                "auth" => r#"{id = "2027", algorithm = "HS256", secret_file = "jwt.secret"}"#,
                _ => r#"{service = "login", id = "login01", address = "127.0.0.1:9001", zone = "zone_a"}"#,
            };
            let problem = format!("is no list; allowed is a JSON array or a TOML inline array, [{example}]");
            variable_error(variable, &problem)
        })?,
    };
    let innermost = Value::from(Dict::from([(key.to_owned(), value)]));
    let tree = section
        .rsplit('.')
        .fold(innermost, |inner, name| Value::from(Dict::from([(name.to_owned(), inner)])));
    let values = tree.into_dict().unwrap_or_default();
    Ok(Layer { name: format!("{VARIABLE}{variable}"), values })
}

/// Returns `true` if settings may have such a name.
fn is_setting(section: &str, key: &str) -> bool {
    !section.is_empty() && !key.is_empty() && (!section.contains('.') || NESTED.contains(&section))
}

/// How the text of a variable is read. Text is the rule, so that `007` stays `007`.
enum ValueKind {
    Text,
    Number,
    Fraction,
    Boolean,
    Addresses,
    /// A list, or names with commas between them.
    Names,
    Tables,
}

fn kind_of(section: &str, key: &str) -> ValueKind {
    match (section, key) {
        ("gateway", "workers") | ("quic.lb", "nonce_length" | "config_id") => ValueKind::Number,
        ("quic", "migration")
        | ("monitor", "ready_when_full")
        | ("login", "signout_after_kick")
        | ("route", "bounded_load")
        | ("quic.lb", "encode_length")
        | ("tracing", "trust_clients")
        | ("discovery.consul", "last_resort")
        | ("discovery.register", "enabled") => ValueKind::Boolean,
        ("quic" | "tcp" | "websocket", "listen" | "tls_listen") => ValueKind::Addresses,
        ("websocket", "max_head") => ValueKind::Number,
        ("tracing", "ratio") => ValueKind::Fraction,
        ("discovery", "services")
        | ("tcp", "trusted")
        | ("tracing", "accounts")
        | ("discovery.register", "tags")
        | ("websocket", "trusted" | "paths" | "allowed_origins") => ValueKind::Names,
        ("discovery", "instances") | ("auth", "keys") => ValueKind::Tables,
        ("limits", _) => {
            let defaults = Value::serialize(Limits::default()).ok();
            match defaults.and_then(|limits| limits.find(key)) {
                Some(Value::Num(..)) => ValueKind::Number,
                _ => ValueKind::Text,
            }
        }
        _ => ValueKind::Text,
    }
}

/// All fields of an entry are text, so `id = 1` means `"1"`. A fraction stays a number, and is refused: it would not
/// come out as it was written.
fn scalars_as_text(list: Value) -> Value {
    let as_text = |value: Value| match value.to_actual() {
        Actual::Bool(flag) => Value::from(flag.to_string()),
        Actual::Unsigned(number) => Value::from(number.to_string()),
        Actual::Signed(number) => Value::from(number.to_string()),
        _ => value,
    };
    let entry = |entry| match entry {
        Value::Dict(tag, fields) => {
            Value::Dict(tag, fields.into_iter().map(|(key, value)| (key, as_text(value))).collect())
        }
        other => other,
    };
    match list {
        Value::Array(tag, entries) => Value::Array(tag, entries.into_iter().map(entry).collect()),
        other => other,
    }
}

fn parse_list(text: &str) -> Option<Value> {
    let list = if let Ok(list) = serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Value::serialize(list).ok()?
    } else {
        Toml::from_str::<Dict>(&format!("list = {text}")).ok()?.remove("list")?
    };
    matches!(list, Value::Array(..)).then_some(list)
}
