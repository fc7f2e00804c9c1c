//! `[auth]` as a person writes it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::{EXPIRY_GRACE, TOKEN_LEEWAY};

#[derive(Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthTable {
    /// None: HS256, unless the keys stand in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) public_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
    #[serde(with = "humantime_serde")]
    pub(super) leeway: Duration,
    pub(super) on_expiry: String,
    #[serde(with = "humantime_serde")]
    pub(super) expiry_grace: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<KeyTable>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public_key_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) apps: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<TimeText>,
}

/// A time as text, or as TOML writes it without quotes.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct TimeText(pub(super) String);

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl<'de> Visitor<'de> for TimeVisitor {
    type Value = TimeText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in UTC such as 2027-02-01T00:00:00Z")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TimeText, E> {
        Ok(TimeText(text.trim().to_owned()))
    }

    /// A time without quotes reaches serde as a table with one entry, whose name is the toml crate's own business.
    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<TimeText, A::Error> {
        let entry = table.next_entry::<String, String>()?;
        let (_, text) = entry.ok_or_else(|| de::Error::invalid_type(Unexpected::Map, &self))?;
        Ok(TimeText(text))
    }
}

impl AuthTable {
    /// Returns `true` if a key stands in `[auth]` itself, or a part of one.
    pub(super) fn has_single_key(&self) -> bool {
        let files = self.secret_file.is_some() || self.public_key_file.is_some();
        files || self.secret.is_some() || self.algorithm.is_some()
    }
}

impl Default for AuthTable {
    fn default() -> Self {
        Self {
            algorithm: None,
            secret: None,
            secret_file: None,
            public_key_file: None,
            issuer: None,
            audience: None,
            leeway: TOKEN_LEEWAY,
            on_expiry: "keep".to_owned(),
            expiry_grace: EXPIRY_GRACE,
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            keys: Vec::new(),
        }
    }
}

impl fmt::Debug for AuthTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthTable").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyTable").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
