//! Which instance of a service an account belongs to: whitelist, slot, zone, position (protocol §6).
//!
//! Everything is a function of the route, the keys and the set of instances, so every gateway of a fleet comes to
//! the same answer without asking. The tables are built when the route or the set of instances changes; a lookup
//! hashes, indexes and allocates nothing.

use std::collections::HashMap;

use crate::route::{Route, RouteBy};

/// How many values of the hash share one position, a constant of the systems this gateway must agree with.
const HASH_STEP: u64 = 10;

/// A zone of the route, by its position in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneIndex(u16);

impl ZoneIndex {
    /// The position, for counters kept in arrays.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What the route says of an account, whatever instances there are: all that a choice hashes, computed once for each
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteKey {
    /// The zone that whitelist or slot name.
    pub zone: ZoneIndex,
    /// App or account is empty.
    pub is_keyless: bool,
    /// [`hashcode`] of the account.
    account_hash: u32,
}

/// CRC-32 (IEEE) of the UTF-8 bytes.
pub fn hashcode(key: &str) -> u32 {
    crc32fast::hash(key.as_bytes())
}

/// The route as an immutable table; see the module.
#[derive(Debug)]
pub struct RouteSelector {
    zones: Box<[Box<str>]>,
    /// Zone of each slot: zones in file order, each as often as it weighs.
    slots: Box<[u16]>,
    whitelist: HashMap<Box<str>, ZoneIndex>,
    route_by: RouteBy,
}

/// The instances of one service that may be chosen, sorted; built anew whenever they change.
#[derive(Debug)]
pub struct Candidates<T> {
    /// By id, in byte order.
    all: Box<[Candidate<T>]>,
    /// For each zone its members as positions in `all`, so sorted as well.
    by_zone: Box<[Box<[usize]>]>,
}

#[derive(Debug)]
struct Candidate<T> {
    id: Box<str>,
    item: T,
}

/// The outcome of a lookup.
#[derive(Debug)]
pub struct Choice<'a, T> {
    /// The instance.
    pub item: &'a T,
    /// The zone that whitelist or slot name, whether or not the instance stands in it.
    pub zone: ZoneIndex,
    /// That zone had no instance, so the choice was made among all.
    pub fallback: bool,
    among: Among<'a, T>,
    /// Within `among`.
    position: usize,
}

/// The instances a choice was made among, sorted.
#[derive(Debug)]
struct Among<'a, T> {
    all: &'a [Candidate<T>],
    /// A zone's, as positions in `all`; none: all of them.
    members: Option<&'a [usize]>,
}

impl<'a, T> Among<'a, T> {
    fn len(&self) -> usize {
        self.members.map_or(self.all.len(), <[usize]>::len)
    }

    fn get(&self, position: usize) -> Option<&'a T> {
        let position = match self.members {
            Some(members) => *members.get(position)?,
            None => position,
        };
        Some(&self.all.get(position)?.item)
    }

    fn choice(self, position: usize, zone: ZoneIndex, fallback: bool) -> Option<Choice<'a, T>> {
        let item = self.get(position)?;
        Some(Choice { item, zone, fallback, among: self, position })
    }
}

impl<'a, T> Choice<'a, T> {
    /// The others among which it was made, from the next one on and around.
    pub fn others(&self) -> impl Iterator<Item = &'a T> {
        let len = self.among.len();
        (1..len).filter_map(move |step| self.among.get((self.position + step) % len))
    }
}

/// A lookup with its reasons, for `gateway route explain`.
#[derive(Debug, PartialEq, Eq)]
pub struct Explanation<'a> {
    /// The zone that whitelist or slot name.
    pub zone: &'a str,
    /// Why that zone.
    pub why: ZoneReason<'a>,
    /// The ids among which the instance was chosen, in their order.
    pub candidates: Vec<&'a str>,
    /// The zone had no instance: the candidates are those of all zones.
    pub fallback: bool,
    /// App or account is empty: the first of all candidates is taken.
    pub keyless: bool,
    /// [`hashcode`] of the account.
    pub account_hash: u32,
    /// Position of the instance among the candidates.
    pub position: usize,
    /// The instance; none if the service has none.
    pub instance: Option<&'a str>,
}

/// Why a zone was chosen.
#[derive(Debug, PartialEq, Eq)]
pub enum ZoneReason<'a> {
    /// The app is on the whitelist.
    Whitelist,
    /// By the slot of a key.
    Slot {
        /// App or account.
        by: RouteBy,
        /// What was hashed.
        key: &'a str,
        /// Its [`hashcode`].
        hash: u32,
        /// `hash % slots`.
        slot: usize,
        /// How many slots there are: the sum of the weights.
        slots: usize,
    },
}

impl RouteSelector {
    /// Builds the table of a route.
    pub fn new(route: &Route) -> Self {
        let mut slots = Vec::new();
        for (index, zone) in (0_u16..).zip(route.zones()) {
            slots.extend(std::iter::repeat_n(index, zone.weight as usize));
        }
        let zones: Box<[Box<str>]> = route.zones().iter().map(|zone| zone.id.as_str().into()).collect();
        let whitelist = route
            .whitelist()
            .iter()
            .filter_map(|entry| Some((entry.app.as_str().into(), position_of(&zones, &entry.zone)?)))
            .collect();
        Self { zones, slots: slots.into(), whitelist, route_by: route.route_by() }
    }

    /// Chooses the instance for an account; none if there is no candidate.
    ///
    /// `candidates` must have been built with a selector of the same route.
    pub fn lookup<'a, T>(
        &self,
        app: &str,
        account: &str,
        candidates: &'a Candidates<T>,
    ) -> Option<Choice<'a, T>> {
        candidates.choose(self.route_key(app, account))
    }

    /// What [`Candidates::choose`] needs to know of an account.
    pub fn route_key(&self, app: &str, account: &str) -> RouteKey {
        let account_hash = hashcode(account);
        let zone = self.whitelist.get(app).copied().unwrap_or_else(|| {
            let hash = match self.route_by {
                RouteBy::App => hashcode(app),
                RouteBy::Account => account_hash,
            };
            ZoneIndex(self.slots[self.slot(hash)])
        });
        RouteKey { zone, is_keyless: app.is_empty() || account.is_empty(), account_hash }
    }

    /// The name of a zone of this selector.
    pub fn zone_name(&self, zone: ZoneIndex) -> &str {
        &self.zones[zone.index()]
    }

    /// The zones, in file order.
    pub fn zones(&self) -> impl ExactSizeIterator<Item = (ZoneIndex, &str)> {
        self.zones.iter().enumerate().map(|(index, name)| (ZoneIndex(index as u16), &**name))
    }

    /// The same lookup with everything that led to it. Allocates; not for the message path.
    pub fn explain<'a, T>(
        &'a self,
        app: &'a str,
        account: &'a str,
        candidates: &'a Candidates<T>,
    ) -> Explanation<'a> {
        let RouteKey { zone, is_keyless: keyless, account_hash } = self.route_key(app, account);
        let why = if self.whitelist.contains_key(app) {
            ZoneReason::Whitelist
        } else {
            let key = match self.route_by {
                RouteBy::App => app,
                RouteBy::Account => account,
            };
            let hash = hashcode(key);
            ZoneReason::Slot { by: self.route_by, key, hash, slot: self.slot(hash), slots: self.slots.len() }
        };
        let members = candidates.filter_srvs(zone);
        let fallback = !keyless && members.is_empty();
        let ids: Vec<&str> = if keyless || fallback {
            candidates.all.iter().map(|candidate| &*candidate.id).collect()
        } else {
            members.iter().map(|position| &*candidates.all[*position].id).collect()
        };
        let position = if keyless { 0 } else { select_srvs(account_hash, ids.len()).unwrap_or(0) };
        Explanation {
            zone: self.zone_name(zone),
            why,
            fallback,
            keyless,
            account_hash,
            position,
            instance: ids.get(position).copied(),
            candidates: ids,
        }
    }

    fn slot(&self, hash: u32) -> usize {
        hash as usize % self.slots.len()
    }
}

impl<T> Candidates<T> {
    /// Sorts instances, given as `(id, zone name, item)`. One in a zone the route does not know can only be chosen
    /// when the chosen zone is empty.
    pub fn new<I, Id, Zone>(selector: &RouteSelector, instances: I) -> Self
    where
        I: IntoIterator<Item = (Id, Zone, T)>,
        Id: AsRef<str>,
        Zone: AsRef<str>,
    {
        let mut sorted: Vec<_> = instances
            .into_iter()
            .map(|(id, zone, item)| {
                let candidate = Candidate { id: id.as_ref().into(), item };
                (position_of(&selector.zones, zone.as_ref()), candidate)
            })
            .collect();
        sorted.sort_by(|(_, a), (_, b)| a.id.as_bytes().cmp(b.id.as_bytes()));
        let mut by_zone = vec![Vec::new(); selector.zones.len()];
        for (position, (zone, _)) in sorted.iter().enumerate() {
            if let Some(zone) = zone {
                by_zone[zone.index()].push(position);
            }
        }
        Self {
            all: sorted.into_iter().map(|(_, candidate)| candidate).collect(),
            by_zone: by_zone.into_iter().map(Vec::into_boxed_slice).collect(),
        }
    }

    /// Chooses the instance for an account; none if there is no candidate.
    ///
    /// The key must come from a selector of the route that these were built with.
    pub fn choose(&self, key: RouteKey) -> Option<Choice<'_, T>> {
        if key.is_keyless {
            return self.among(None).choice(0, key.zone, false);
        }
        let members = self.filter_srvs(key.zone);
        if members.is_empty() {
            return self.choose_anywhere(key);
        }
        self.among(Some(members)).choice(select_srvs(key.account_hash, members.len())?, key.zone, false)
    }

    /// Chooses among the instances of all zones, as for a zone that has none.
    pub fn choose_anywhere(&self, key: RouteKey) -> Option<Choice<'_, T>> {
        let position = select_srvs(key.account_hash, self.all.len())?;
        self.among(None).choice(position, key.zone, true)
    }

    /// Returns `true` if there is no instance at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Every instance with its id, in byte order of the ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.all.iter().map(|candidate| (&*candidate.id, &candidate.item))
    }

    fn among<'a>(&'a self, members: Option<&'a [usize]>) -> Among<'a, T> {
        Among { all: &self.all, members }
    }

    /// The instances of a zone, as positions in `all`.
    fn filter_srvs(&self, zone: ZoneIndex) -> &[usize] {
        self.by_zone.get(zone.index()).map_or(&[], |members| members)
    }
}

/// The position of an account among `n` sorted instances; none if there are none.
fn select_srvs(account_hash: u32, n: usize) -> Option<usize> {
    let modulus = HASH_STEP * n as u64;
    let spread = u64::from(account_hash).checked_rem(modulus)?;
    usize::try_from(spread / HASH_STEP).ok()
}

fn position_of(zones: &[Box<str>], name: &str) -> Option<ZoneIndex> {
    let position = zones.iter().position(|zone| &**zone == name)?;
    u16::try_from(position).ok().map(ZoneIndex)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/selector.json")).unwrap()
    }

    fn selector(route: &str) -> RouteSelector {
        RouteSelector::new(&Route::from_json(route).unwrap())
    }

    fn candidates(selector: &RouteSelector, services: &[(&str, &str)]) -> Candidates<String> {
        Candidates::new(selector, services.iter().map(|(id, zone)| (id, zone, (*id).to_owned())))
    }

    fn two_zones() -> RouteSelector {
        selector(r#"{"zones": [{"id": "z1", "weight": 1}, {"id": "z2", "weight": 1}]}"#)
    }

    #[test]
    fn hashcodes_of_the_vectors() {
        let vectors = vectors();
        let cases = vectors["hashcode"].as_object().unwrap();
        assert_eq!(cases.len(), 6);
        for (key, hash) in cases {
            assert_eq!(u64::from(hashcode(key)), hash.as_u64().unwrap(), "{key}");
        }
    }

    #[test]
    fn every_lookup_of_the_vectors_and_its_explanation() {
        let vectors = vectors();
        let mut seen = 0;
        for set in vectors["sets"].as_array().unwrap() {
            let selector = selector(&set["route"].to_string());
            let mut services: Vec<_> = set["services"]
                .as_array()
                .unwrap()
                .iter()
                .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
                .collect();
            services.reverse();
            let candidates = candidates(&selector, &services);
            for case in set["cases"].as_array().unwrap() {
                let (app, account) = (case["app"].as_str().unwrap(), case["account"].as_str().unwrap());
                let choice = selector.lookup(app, account, &candidates).unwrap();
                assert_eq!(choice.item, case["service"].as_str().unwrap(), "{case}");
                assert_eq!(selector.zone_name(choice.zone), case["zone"].as_str().unwrap(), "{case}");
                assert_eq!(choice.fallback, case["fallback"].as_bool().unwrap(), "{case}");
                let explained = selector.explain(app, account, &candidates);
                assert_eq!(explained.instance, Some(choice.item.as_str()), "{case}");
                assert_eq!(explained.zone, selector.zone_name(choice.zone), "{case}");
                assert_eq!(explained.fallback, choice.fallback, "{case}");
                seen += 1;
            }
        }
        assert_eq!(seen, 220);
    }

    #[test]
    fn no_instance_is_no_choice() {
        let selector = two_zones();
        let none = candidates(&selector, &[]);
        assert!(selector.lookup("app", "alice", &none).is_none());
        assert!(selector.lookup("", "", &none).is_none());
        assert!(selector.explain("app", "alice", &none).instance.is_none());
        assert!(none.is_empty());
    }

    #[test]
    fn without_app_or_account_the_first_of_all_is_taken() {
        let selector = two_zones();
        let candidates = candidates(&selector, &[("s2", "z1"), ("s10", "z2"), ("s3", "z1")]);
        for (app, account) in [("", "alice"), ("app", ""), ("", "")] {
            let choice = selector.lookup(app, account, &candidates).unwrap();
            assert_eq!((choice.item.as_str(), choice.fallback), ("s10", false));
            assert!(selector.explain(app, account, &candidates).keyless);
        }
    }

    #[test]
    fn instances_are_sorted_by_bytes_and_unknown_zones_serve_only_as_fallback() {
        let selector = two_zones();
        let candidates = candidates(&selector, &[("s2", "mars"), ("s10", "mars"), ("S3", "mars")]);
        assert_eq!(candidates.iter().map(|(id, _)| id).collect::<Vec<_>>(), ["S3", "s10", "s2"]);
        let choice = selector.lookup("app", "alice", &candidates).unwrap();
        assert!(choice.fallback);
        assert_eq!(selector.zone_name(choice.zone), "z2");
    }

    #[test]
    fn the_others_come_in_their_order_from_the_next_one_around() {
        let selector = two_zones();
        let candidates =
            candidates(&selector, &[("s1", "z1"), ("s2", "z1"), ("s3", "z1"), ("s4", "z2"), ("s5", "z1")]);
        let ring = ["s1", "s2", "s3", "s5"];
        let mut seen = std::collections::BTreeSet::new();
        for account in (0..200).map(|n| format!("u{n}")) {
            let choice = selector.lookup("app", &account, &candidates).unwrap();
            let others: Vec<_> = choice.others().map(String::as_str).collect();
            if selector.zone_name(choice.zone) == "z2" {
                assert_eq!((choice.item.as_str(), others), ("s4", vec![]));
                continue;
            }
            let at = ring.iter().position(|id| id == choice.item).unwrap();
            seen.insert(at);
            assert_eq!(others, [&ring[at + 1..], &ring[..at]].concat());
        }
        assert_eq!(seen.len(), 4);
        let anywhere = candidates.choose_anywhere(selector.route_key("app", "alice")).unwrap();
        assert!(anywhere.fallback);
        assert_eq!(anywhere.others().count(), 4);
        let keyless = selector.lookup("", "", &candidates).unwrap();
        assert_eq!(keyless.others().count(), 4);
    }

    /// Pins which accounts move when one of four instances leaves: the rule is a modulus, so many do. A change here
    /// is a change of what every gateway of a fleet must agree on.
    #[test]
    fn what_moves_when_an_instance_leaves() {
        let selector = selector(r#"{"zones": [{"id": "z1", "weight": 1}]}"#);
        let four = candidates(&selector, &[("s1", "z1"), ("s2", "z1"), ("s3", "z1"), ("s4", "z1")]);
        let three = candidates(&selector, &[("s1", "z1"), ("s2", "z1"), ("s3", "z1")]);
        let place = |account: &str, set: &Candidates<String>| {
            selector.lookup("app", account, set).unwrap().item.clone()
        };
        for (account, before, after) in [
            ("alice", "s2", "s1"),
            ("bob", "s3", "s2"),
            ("carol", "s1", "s3"),
            ("test1", "s1", "s2"),
            ("u11", "s3", "s1"),
            ("用户", "s3", "s1"),
        ] {
            assert_eq!(place(account, &four), before, "{account}");
            assert_eq!(place(account, &three), after, "{account}");
        }
        let moved = (0..1000)
            .map(|n| format!("u{n}"))
            .filter(|account| place(account, &four) != place(account, &three))
            .count();
        assert_eq!(moved, 731);
    }

    /// One zone losing its instances moves only the accounts of that zone.
    #[test]
    fn an_empty_zone_moves_nobody_else() {
        let selector = two_zones();
        let both = candidates(&selector, &[("s1", "z1"), ("s2", "z1"), ("s3", "z2"), ("s4", "z2")]);
        let one = candidates(&selector, &[("s1", "z1"), ("s2", "z1")]);
        for account in (0..1000).map(|n| format!("u{n}")) {
            let before = selector.lookup("app", &account, &both).unwrap();
            let after = selector.lookup("app", &account, &one).unwrap();
            assert_eq!(before.zone, after.zone);
            let in_lost_zone = selector.zone_name(before.zone) == "z2";
            assert_eq!(after.fallback, in_lost_zone, "{account}");
            assert!(in_lost_zone || before.item == after.item, "{account}");
        }
    }
}
