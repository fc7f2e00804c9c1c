//! The route file (protocol §6): zones with weights, a whitelist of apps, and what is hashed.

mod moves;
mod share;

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;

pub use self::moves::{MovedShare, RouteChange};
pub use self::share::ShareError;

/// Most slots a route may have; the sum of all weights.
pub const MAX_SLOTS: u32 = 65_536;

/// A checked route: at least one zone, weights of 1 and more with a sum of at most [`MAX_SLOTS`], no duplicates,
/// and a whitelist that names only zones of the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    zones: Vec<Zone>,
    whitelist: Vec<Exception>,
    route_by: RouteBy,
}

/// A zone and its share of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its name, as instances give it.
    pub id: String,
    /// Slots it fills, 1 to [`MAX_SLOTS`].
    pub weight: u32,
}

/// An app that goes to one zone whatever its slot says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The app.
    pub app: String,
    /// A zone of the route.
    pub zone: String,
}

/// What is hashed to find the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteBy {
    /// The app: all users of an app share a zone.
    App,
    /// The account.
    #[default]
    Account,
}

impl RouteBy {
    /// The name used in the route file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Account => "account",
        }
    }
}

impl fmt::Display for RouteBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a route file is refused. The operator's fault; each text names the key, the reason and what is allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not JSON, a key that is not known, or a value of the wrong type.
    #[error("{0}; allowed are zones [{{id, weight}}], whitelist [{{key, value}}] and route_by")]
    Json(String),
    /// Nothing to route to.
    #[error("zones: is empty; allowed are one or more {{\"id\": …, \"weight\": …}}")]
    NoZones,
    /// A name is empty.
    #[error("{key}: is empty; allowed is any other text")]
    Empty {
        /// Where.
        key: String,
    },
    /// Zero, negative or too large.
    #[error("zones[{zone}].weight: is {weight}; allowed is 1 to {MAX_SLOTS}")]
    Weight {
        /// Position in the file.
        zone: usize,
        /// As written.
        weight: i64,
    },
    /// Too many slots.
    #[error("zones: the weights add up to {0}; allowed is a sum of 1 to {MAX_SLOTS}")]
    WeightSum(u64),
    /// Two zones of one name.
    #[error("zones[{zone}].id: {id:?} stands twice; allowed is each zone once")]
    DuplicateZone {
        /// Position of the second in the file.
        zone: usize,
        /// The name.
        id: String,
    },
    /// The whitelist names a zone that is not in `zones`.
    #[error("whitelist[{entry}].value: {value:?} is no zone of this route; allowed are {allowed}")]
    UnknownZone {
        /// Position in the file.
        entry: usize,
        /// As written.
        value: String,
        /// The zones, for the message.
        allowed: String,
    },
    /// Two entries for one app.
    #[error("whitelist[{entry}].key: {key:?} stands twice; allowed is each app once")]
    DuplicateKey {
        /// Position of the second in the file.
        entry: usize,
        /// The app.
        key: String,
    },
    /// `route_by` and `routeBy` at once.
    #[error("routeBy: stands beside route_by; allowed is one of the two spellings")]
    BothSpellings,
    /// Neither app nor account.
    #[error("{key}: is {value:?}; allowed are \"app\" and \"account\" (the default)")]
    RouteBy {
        /// The spelling used.
        key: &'static str,
        /// As written.
        value: String,
    },
}

/// What a person writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFile {
    #[serde(default)]
    zones: Vec<ZoneEntry>,
    #[serde(default)]
    whitelist: Vec<WhitelistEntry>,
    route_by: Option<String>,
    #[serde(rename = "routeBy")]
    route_by_camel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneEntry {
    id: String,
    weight: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhitelistEntry {
    key: String,
    value: String,
}

impl Route {
    /// Reads and checks a route file.
    ///
    /// # Errors
    /// [`RouteError`]: the first thing that is wrong.
    pub fn from_json(text: &str) -> Result<Self, RouteError> {
        let file: RouteFile =
            serde_json::from_str(text).map_err(|error| RouteError::Json(one_line(&error)))?;
        let zones = check_zones(file.zones)?;
        let whitelist = check_whitelist(file.whitelist, &zones)?;
        let route_by = match (file.route_by, file.route_by_camel) {
            (Some(_), Some(_)) => return Err(RouteError::BothSpellings),
            (Some(value), None) => parse_route_by("route_by", value)?,
            (None, Some(value)) => parse_route_by("routeBy", value)?,
            (None, None) => RouteBy::default(),
        };
        Ok(Self { zones, whitelist, route_by })
    }

    /// The zones, in file order, which is the order in which they fill the slots.
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The apps with a zone of their own.
    pub fn whitelist(&self) -> &[Exception] {
        &self.whitelist
    }

    /// What is hashed.
    pub const fn route_by(&self) -> RouteBy {
        self.route_by
    }

    /// Returns `true` if there is a zone of this name.
    pub fn has_zone(&self, id: &str) -> bool {
        self.zones.iter().any(|zone| zone.id == id)
    }

    /// The names of the zones, quoted, for messages that say what is allowed.
    pub fn zone_list(&self) -> String {
        quoted(&self.zones)
    }
}

fn check_zones(entries: Vec<ZoneEntry>) -> Result<Vec<Zone>, RouteError> {
    if entries.is_empty() {
        return Err(RouteError::NoZones);
    }
    let mut seen = HashSet::new();
    let mut sum = 0_u64;
    let mut zones = Vec::with_capacity(entries.len());
    for (position, ZoneEntry { id, weight }) in entries.into_iter().enumerate() {
        if id.is_empty() {
            return Err(RouteError::Empty { key: format!("zones[{position}].id") });
        }
        let slots = u32::try_from(weight).ok().filter(|slots| (1..=MAX_SLOTS).contains(slots));
        let Some(slots) = slots else { return Err(RouteError::Weight { zone: position, weight }) };
        if !seen.insert(id.clone()) {
            return Err(RouteError::DuplicateZone { zone: position, id });
        }
        sum += u64::from(slots);
        zones.push(Zone { id, weight: slots });
    }
    if sum > u64::from(MAX_SLOTS) {
        return Err(RouteError::WeightSum(sum));
    }
    Ok(zones)
}

fn check_whitelist(entries: Vec<WhitelistEntry>, zones: &[Zone]) -> Result<Vec<Exception>, RouteError> {
    let mut seen = HashSet::new();
    let mut whitelist = Vec::with_capacity(entries.len());
    for (position, WhitelistEntry { key, value }) in entries.into_iter().enumerate() {
        if key.is_empty() {
            return Err(RouteError::Empty { key: format!("whitelist[{position}].key") });
        }
        if !zones.iter().any(|zone| zone.id == value) {
            return Err(RouteError::UnknownZone { entry: position, value, allowed: quoted(zones) });
        }
        if !seen.insert(key.clone()) {
            return Err(RouteError::DuplicateKey { entry: position, key });
        }
        whitelist.push(Exception { app: key, zone: value });
    }
    Ok(whitelist)
}

fn parse_route_by(key: &'static str, value: String) -> Result<RouteBy, RouteError> {
    match value.as_str() {
        "app" => Ok(RouteBy::App),
        "account" => Ok(RouteBy::Account),
        _ => Err(RouteError::RouteBy { key, value }),
    }
}

/// What the parser says, which may hold a key as it was written.
fn one_line(error: &serde_json::Error) -> String {
    error.to_string().replace(char::is_control, "?")
}

fn quoted(zones: &[Zone]) -> String {
    zones.iter().map(|zone| format!("{:?}", zone.id)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn reads_both_spellings_and_the_default() {
        let zones = r#""zones": [{"id": "a", "weight": 1}]"#;
        for (text, expected) in [
            (format!("{{{zones}}}"), RouteBy::Account),
            (format!(r#"{{{zones}, "route_by": "app"}}"#), RouteBy::App),
            (format!(r#"{{{zones}, "routeBy": "app"}}"#), RouteBy::App),
        ] {
            assert_eq!(Route::from_json(&text).unwrap().route_by(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_every_route_of_the_vectors_with_key_and_what_is_allowed() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/selector.json")).unwrap();
        let refused = vectors["refused_routes"].as_array().unwrap();
        assert_eq!(refused.len(), 10);
        for case in refused {
            let error = Route::from_json(&case["route"].to_string()).unwrap_err();
            assert!(error.to_string().contains("allowed"), "{}: {error}", case["why"]);
        }
    }

    #[rstest]
    #[case::no_zones(r#"{}"#, "zones: is empty")]
    #[case::empty_zone(r#"{"zones": [{"id": "", "weight": 1}]}"#, "zones[0].id: is empty")]
    #[case::zero(r#"{"zones": [{"id": "a", "weight": 0}]}"#, "zones[0].weight: is 0; allowed is 1 to 65536")]
    #[case::negative(r#"{"zones": [{"id": "a", "weight": -1}]}"#, "zones[0].weight: is -1;")]
    #[case::fraction(r#"{"zones": [{"id": "a", "weight": 1.5}]}"#, "floating point `1.5`")]
    #[case::too_many(
        r#"{"zones": [{"id": "a", "weight": 65536}, {"id": "b", "weight": 1}]}"#,
        "zones: the weights add up to 65537; allowed is a sum of 1 to 65536"
    )]
    #[case::twice(
        r#"{"zones": [{"id": "a", "weight": 1}, {"id": "a", "weight": 1}]}"#,
        "zones[1].id: \"a\" stands twice"
    )]
    #[case::unknown_zone(
        r#"{"zones": [{"id": "a", "weight": 1}], "whitelist": [{"key": "x", "value": "b"}]}"#,
        "whitelist[0].value: \"b\" is no zone of this route; allowed are \"a\""
    )]
    #[case::unknown_key(r#"{"zonez": []}"#, "unknown field `zonez`")]
    #[case::control_character(r#"{"zo\nnes": []}"#, "unknown field `zo?nes`")]
    #[case::route_by(
        r#"{"zones": [{"id": "a", "weight": 1}], "routeBy": "device"}"#,
        "routeBy: is \"device\"; allowed are \"app\" and \"account\""
    )]
    fn refusals_name_key_reason_and_what_is_allowed(#[case] text: &str, #[case] expected: &str) {
        let message = Route::from_json(text).unwrap_err().to_string();
        assert!(message.contains(expected) && !message.contains(char::is_control), "{message:?}");
        assert!(message.contains("allowed"), "{message}");
    }

    #[test]
    fn the_largest_route_is_accepted() {
        let route = Route::from_json(r#"{"zones": [{"id": "a", "weight": 65536}]}"#).unwrap();
        assert_eq!(route.zones(), [Zone { id: "a".into(), weight: MAX_SLOTS }]);
    }
}
