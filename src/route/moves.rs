//! What another route means for accounts: which lines changed, and how many accounts have another zone.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;

use super::{Route, RouteBy, Zone};

/// How many of all hashes go to another zone, as a fraction. Exact: a hash falls into a slot by its remainder, so what two
/// routes make of it repeats after the least common multiple of their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedShare {
    moved: u64,
    of: u64,
}

/// The difference between two routes that are not the same. Displayed it is a line for a person.
#[derive(Debug)]
pub struct RouteChange<'a> {
    before: &'a Route,
    after: &'a Route,
}

impl MovedShare {
    /// Between two routes, whatever they hash and without their whitelists.
    pub fn between(before: &Route, after: &Route) -> Self {
        let (old_slots, new_slots) = (slots(before), slots(after));
        let common = gcd(old_slots.len() as u64, new_slots.len() as u64);
        // By the Chinese remainder theorem each pair of slots with the same remainder is met by as many hashes as any other.
        let [old, new] = [&old_slots, &new_slots].map(|slots| by_remainder(slots, common));
        let of: u64 = met(&old.alone, &new.alone);
        let stay: u64 = met(&old.by_zone, &new.by_zone);
        Self { moved: of - stay, of }
    }

    /// 0 to 100.
    pub fn percent(self) -> f64 {
        100.0 * self.moved as f64 / self.of.max(1) as f64
    }
}

impl fmt::Display for MovedShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.percent();
        if self.moved > 0 && percent < 0.05 {
            return f.write_str("less than 0.1 %");
        }
        let text = format!("{percent:.1}");
        write!(f, "{} %", text.strip_suffix(".0").unwrap_or(&text))
    }
}

/// The zone of each slot.
fn slots(route: &Route) -> Vec<&str> {
    route
        .zones()
        .iter()
        .flat_map(|zone| std::iter::repeat_n(zone.id.as_str(), zone.weight as usize))
        .collect()
}

/// How many slots there are by remainder.
#[derive(Default)]
struct ByRemainder<'a> {
    by_zone: HashMap<(u64, &'a str), u64>,
    /// Of whatever zone.
    alone: HashMap<u64, u64>,
}

fn by_remainder<'a>(slots: &[&'a str], common: u64) -> ByRemainder<'a> {
    let mut counts = ByRemainder::default();
    for (slot, zone) in (0_u64..).zip(slots) {
        *counts.by_zone.entry((slot % common, *zone)).or_default() += 1;
        *counts.alone.entry(slot % common).or_default() += 1;
    }
    counts
}

/// Pairs of slots, one of each route, that agree in their keys.
fn met<K: Eq + Hash>(old: &HashMap<K, u64>, new: &HashMap<K, u64>) -> u64 {
    old.iter().map(|(key, count)| count * new.get(key).unwrap_or(&0)).sum()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl<'a> RouteChange<'a> {
    /// None if the routes are the same.
    pub fn between(before: &'a Route, after: &'a Route) -> Option<Self> {
        (before != after).then_some(Self { before, after })
    }

    fn zones(&self, parts: &mut Vec<String>) {
        let weight =
            |route: &Route, id: &str| route.zones().iter().find(|zone| zone.id == id).map(|zone| zone.weight);
        for Zone { id, weight: was } in self.before.zones() {
            match weight(self.after, id) {
                Some(is) if is == *was => {}
                Some(is) => parts.push(format!("{id} {was} → {is}")),
                None => parts.push(format!("{id} removed")),
            }
        }
        let new = self.after.zones().iter().filter(|zone| !self.before.has_zone(&zone.id));
        parts.extend(new.map(|Zone { id, weight }| format!("{id} added with {weight}")));
        let set = |route: &'a Route| {
            route.zones().iter().map(|zone| (&zone.id, zone.weight)).collect::<HashSet<_>>()
        };
        if self.before.zones() != self.after.zones() && set(self.before) == set(self.after) {
            parts.push("zones in another order".to_owned());
        }
    }

    fn whitelist(&self, parts: &mut Vec<String>) {
        let zone = |route: &'a Route, app: &str| {
            route.whitelist().iter().find(|entry| entry.app == app).map(|entry| entry.zone.as_str())
        };
        for entry in self.after.whitelist() {
            if zone(self.before, &entry.app) != Some(entry.zone.as_str()) {
                parts.push(format!("app {} always {}", entry.app, entry.zone));
            }
        }
        let gone = self.before.whitelist().iter().filter(|entry| zone(self.after, &entry.app).is_none());
        parts.extend(gone.map(|entry| format!("app {} by its slot", entry.app)));
    }

    fn moves(&self, parts: &mut Vec<String>) {
        if self.before.route_by() != self.after.route_by() {
            let what = match self.after.route_by() {
                RouteBy::App => "app",
                RouteBy::Account => "account",
            };
            return parts.push(format!("route_by {what}: any account may move"));
        }
        if self.before.zones() != self.after.zones() {
            let share = MovedShare::between(self.before, self.after);
            parts.push(format!("{share} of {}s move", self.after.route_by()));
        }
    }
}

impl fmt::Display for RouteChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        self.zones(&mut parts);
        self.whitelist(&mut parts);
        self.moves(&mut parts);
        // A whitelist in another order is another text and the same route.
        if parts.is_empty() {
            parts.push("the same in another order".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn route(zones: &[(&str, u32)]) -> Route {
        let zones: Vec<_> =
            zones.iter().map(|(id, weight)| format!(r#"{{"id":"{id}","weight":{weight}}}"#)).collect();
        Route::from_json(&format!(r#"{{"zones":[{}]}}"#, zones.join(","))).unwrap()
    }

    /// Slot by slot, over the whole period.
    fn counted(before: &Route, after: &Route) -> f64 {
        let (old, new) = (slots(before), slots(after));
        let period = old.len() * new.len();
        let moved = (0..period).filter(|hash| old[hash % old.len()] != new[hash % new.len()]).count();
        100.0 * moved as f64 / period as f64
    }

    #[rstest]
    #[case(&[("a", 1), ("b", 1)], &[("a", 1), ("b", 2)])]
    #[case(&[("a", 1), ("b", 1)], &[("b", 1), ("a", 1)])]
    #[case(&[("a", 3), ("b", 4), ("c", 5)], &[("a", 3), ("c", 9)])]
    #[case(&[("a", 10), ("b", 20)], &[("a", 20), ("b", 40)])]
    #[case(&[("a", 7)], &[("a", 13)])]
    #[case(&[("a", 64), ("b", 32)], &[("a", 64), ("b", 32), ("c", 24)])]
    fn the_share_is_what_counting_says(#[case] before: &[(&str, u32)], #[case] after: &[(&str, u32)]) {
        let (before, after) = (route(before), route(after));
        let share = MovedShare::between(&before, &after).percent();
        assert!((share - counted(&before, &after)).abs() < 1e-9, "{share} {}", counted(&before, &after));
    }

    #[test]
    fn the_largest_routes_are_compared_in_no_time() {
        let (before, after) = (route(&[("a", 65_535)]), route(&[("a", 32_768), ("b", 32_768)]));
        let share = MovedShare::between(&before, &after);
        assert_eq!(share.to_string(), "50 %");
        let (before, after) = (route(&[("a", 65_536)]), route(&[("a", 65_535), ("b", 1)]));
        assert_eq!(MovedShare::between(&before, &after).to_string(), "less than 0.1 %");
    }

    #[test]
    fn a_change_says_its_lines_and_what_moves() {
        let told = |before: &str, after: &str| {
            let [before, after] = [before, after].map(|text| Route::from_json(text).unwrap());
            RouteChange::between(&before, &after).map(|change| change.to_string())
        };
        let two = r#"{"zones":[{"id":"a","weight":1},{"id":"b","weight":1}]}"#;
        assert_eq!(told(two, two), None);
        let heavier = r#"{"zones":[{"id":"a","weight":1},{"id":"b","weight":2}]}"#;
        assert_eq!(told(two, heavier).unwrap(), "b 1 → 2, 50 % of accounts move");
        let other = r#"{"zones":[{"id":"a","weight":1},{"id":"c","weight":1}],
            "whitelist":[{"key":"game","value":"c"}]}"#;
        assert_eq!(
            told(two, other).unwrap(),
            "b removed, c added with 1, app game always c, 50 % of accounts move"
        );
        assert_eq!(
            told(other, two).unwrap(),
            "c removed, b added with 1, app game by its slot, 50 % of accounts move"
        );
        let by_app = r#"{"zones":[{"id":"a","weight":1},{"id":"b","weight":1}],"route_by":"app"}"#;
        assert_eq!(told(two, by_app).unwrap(), "route_by app: any account may move");
        let turned = r#"{"zones":[{"id":"b","weight":1},{"id":"a","weight":1}]}"#;
        assert_eq!(told(two, turned).unwrap(), "zones in another order, 100 % of accounts move");
    }
}
