//! Which zones of which services have an instance, for the administrator: one whose instances are all lost, or have left,
//! is empty, and the first request that leaves a zone says so.
//!
//! Empty is what `instance_lost` says of each of its instances, and never more: it is raised behind the last of them and
//! cleared before the first. An instance that is linked and does not serve, because it is warming or did not answer, makes
//! no zone empty; its requests that go elsewhere are told as what they are.
//!
//! A zone that no instance of a service was ever named for is meant to be served from elsewhere, and is not reported. One
//! that all have left is empty however they left: its accounts have no home until somebody serves them there, or the
//! route gives them another. What is no zone of the route has no accounts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::monitor::events::event::{Event, Severity, Subject};
use crate::monitor::metrics::WorkerMetrics;

/// Zones by service and name.
#[derive(Debug)]
pub(super) struct Zones {
    /// Those of the route: accounts belong to them.
    routed: RefCell<BTreeSet<String>>,
    /// Where events go.
    metrics: Arc<WorkerMetrics>,
    by_service: RefCell<BTreeMap<String, BTreeMap<String, ZoneState>>>,
}

/// How things stand with an instance of the set, from best to worst; with a zone as with the best of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkPresence {
    /// Its link is up.
    Linked,
    /// It is dialled, and nobody was told that it is lost.
    Awaited,
    /// Somebody was.
    Lost,
}

/// One that an instance of the service was named for.
#[derive(Debug, Default, Clone, Copy)]
struct ZoneState {
    is_served: bool,
    /// A request went elsewhere since it was last served.
    is_left: bool,
    /// As it was told.
    empty: Option<Severity>,
}

impl Zones {
    /// The route's zones are these; what becomes of them is told to `metrics`.
    pub(super) fn new(routed: BTreeSet<String>, metrics: Arc<WorkerMetrics>) -> Self {
        Self { routed: RefCell::new(routed), metrics, by_service: RefCell::default() }
    }

    /// The route's zones are these from now on. What was told of others is over: they have no accounts.
    pub(super) fn route_to(&self, routed: BTreeSet<String>) {
        for (service, zones) in &mut *self.by_service.borrow_mut() {
            zones.retain(|name, _| {
                let stays = routed.contains(name);
                if !stays {
                    self.clear(service, name);
                }
                stays
            });
        }
        *self.routed.borrow_mut() = routed;
    }

    /// A service is named no more: what was told of its zones is over.
    pub(super) fn forget(&self, service: &str) {
        let zones = self.by_service.borrow_mut().remove(service);
        for name in zones.iter().flat_map(BTreeMap::keys) {
            self.clear(service, name);
        }
    }

    fn clear(&self, service: &str, zone: &str) {
        self.metrics.clear(&Subject::zone_empty(service, zone));
        self.metrics.clear(&Subject::zone_fallback(service, zone));
    }

    /// The instances of a service that have not left are named for these zones, and those that may be chosen are in
    /// `served`.
    pub(super) fn changed<'a>(
        &self,
        service: &str,
        named: impl Iterator<Item = (&'a str, LinkPresence)>,
        served: &BTreeSet<&str>,
    ) {
        let mut best: BTreeMap<&str, LinkPresence> = BTreeMap::new();
        for (zone, presence) in named {
            best.entry(zone).and_modify(|best| *best = presence.min(*best)).or_insert(presence);
        }
        let mut by_service = self.by_service.borrow_mut();
        let zones = by_service.entry(service.to_owned()).or_default();
        let routed = self.routed.borrow();
        for zone in best.keys().filter(|zone| routed.contains(**zone)) {
            zones.entry((*zone).to_owned()).or_default();
        }
        let is_any_left = best.values().any(|presence| *presence != LinkPresence::Lost);
        for (name, zone) in zones {
            let is_served = served.contains(name.as_str());
            if is_served && !zone.is_served {
                zone.is_left = false;
                self.metrics.clear(&Subject::zone_fallback(service, name));
            }
            zone.is_served = is_served;
            match best.get(name.as_str()) {
                Some(LinkPresence::Linked) if zone.empty.take().is_some() => {
                    self.metrics.clear(&Subject::zone_empty(service, name));
                }
                Some(LinkPresence::Linked | LinkPresence::Awaited) if zone.empty.is_none() => {}
                _ => zone.tell_empty(service, name, is_any_left, &self.metrics),
            }
        }
    }

    /// A request of an account of this zone goes to another zone's instance.
    pub(super) fn fell_back(&self, service: &str, zone: &str) {
        let mut by_service = self.by_service.borrow_mut();
        let Some(known) = by_service.get_mut(service).and_then(|zones| zones.get_mut(zone)) else { return };
        if std::mem::replace(&mut known.is_left, true) {
            return;
        }
        let detail = "gateway_zone_fallback_total counts its requests that go elsewhere";
        self.metrics.raise(Event::zone_fallback(service, zone, detail));
    }
}

impl ZoneState {
    /// Nobody is there; told again where that means more, or less, than before.
    fn tell_empty(&mut self, service: &str, name: &str, is_any_left: bool, metrics: &WorkerMetrics) {
        let (severity, detail) = match is_any_left {
            true => (Severity::Warning, "other zones take its accounts"),
            false => (Severity::Error, "nor has any other zone: its requests are refused with 300"),
        };
        if self.empty.replace(severity) != Some(severity) {
            metrics.raise(Event::zone_empty(severity, service, name, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use LinkPresence::{Awaited, Linked, Lost};

    use super::*;
    use crate::monitor::metrics::Metrics;

    /// Value of a series of the events of one kind.
    fn value(metrics: &Metrics, family: &str, event: &str) -> u64 {
        let series = format!("gateway_events_{family}{{event=\"{event}\"}} ");
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    }

    fn zones() -> (Metrics, Zones) {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let zones = Zones::new(["a", "b"].map(str::to_owned).into(), metrics.worker(0));
        (metrics, zones)
    }

    /// Those that are linked serve.
    fn are(zones: &Zones, service: &str, instances: &[(&str, LinkPresence)]) {
        let linked = instances.iter().filter(|(_, presence)| *presence == Linked);
        zones.changed(service, instances.iter().copied(), &linked.map(|(zone, _)| *zone).collect());
    }

    #[test]
    fn e13_a_zone_is_empty_when_it_loses_its_last_and_left_with_the_first_request() {
        let (metrics, zones) = zones();
        are(&zones, "chat", &[("a", Linked), ("b", Awaited)]);
        assert_eq!(value(&metrics, "total", "zone_empty"), 0, "nobody knows yet");
        are(&zones, "chat", &[("a", Linked), ("b", Linked), ("b", Linked)]);
        are(&zones, "chat", &[("a", Linked), ("b", Lost), ("b", Linked)]);
        assert_eq!(value(&metrics, "total", "zone_empty"), 0);
        are(&zones, "chat", &[("a", Linked), ("b", Lost), ("b", Lost)]);
        assert_eq!(value(&metrics, "active", "zone_empty"), 1);
        assert_eq!(value(&metrics, "active", "zone_fallback"), 0, "nobody had to go elsewhere yet");
        for _ in 0..3 {
            zones.fell_back("chat", "b");
            are(&zones, "chat", &[("a", Linked), ("b", Lost)]);
        }
        assert_eq!(value(&metrics, "total", "zone_fallback"), 1, "not per request");
        are(&zones, "chat", &[("a", Lost), ("b", Lost)]);
        assert_eq!(value(&metrics, "active", "zone_empty"), 2, "E14");
        are(&zones, "chat", &[("a", Linked), ("b", Linked)]);
        assert_eq!(
            (value(&metrics, "active", "zone_empty"), value(&metrics, "active", "zone_fallback")),
            (0, 0)
        );
        are(&zones, "chat", &[("a", Linked), ("b", Lost)]);
        zones.fell_back("chat", "b");
        assert_eq!(value(&metrics, "total", "zone_fallback"), 2, "again");
    }

    /// What is told of a zone is what was told of its instances.
    #[test]
    fn h24_what_is_linked_and_does_not_serve_makes_no_zone_empty_nor_does_what_nobody_lost() {
        let (metrics, zones) = zones();
        let told = || (value(&metrics, "active", "zone_empty"), value(&metrics, "total", "zone_empty"));
        are(&zones, "chat", &[("a", Linked), ("b", Linked)]);
        zones.changed("chat", [("a", Linked), ("b", Linked)].into_iter(), &["a"].into());
        assert_eq!(told(), (0, 0), "warming, or it did not answer");
        zones.fell_back("chat", "b");
        assert_eq!(value(&metrics, "active", "zone_fallback"), 1);
        are(&zones, "chat", &[("a", Awaited), ("b", Awaited)]);
        assert_eq!(told(), (0, 0), "the end of the gateway");
        are(&zones, "chat", &[("a", Awaited), ("b", Lost)]);
        assert_eq!(told(), (1, 1), "never reached, and said to be lost");
        are(&zones, "chat", &[("a", Awaited), ("b", Awaited)]);
        assert_eq!(told(), (1, 1), "until it is back");
        zones.changed("chat", [("a", Awaited), ("b", Linked)].into_iter(), &BTreeSet::new());
        assert_eq!(told(), (0, 1), "as soon as it is linked");
    }

    #[test]
    fn a_zone_that_nobody_is_named_for_is_not_reported_and_one_that_all_have_left_is() {
        let (metrics, zones) = zones();
        zones.fell_back("login", "b");
        are(&zones, "login", &[("a", Linked)]);
        zones.fell_back("login", "b");
        assert_eq!(value(&metrics, "total", "zone_fallback"), 0, "b is meant to be served from a");
        are(&zones, "login", &[]);
        assert_eq!(value(&metrics, "active", "zone_empty"), 1, "its instances left discovery");
    }

    #[test]
    fn what_is_no_zone_of_the_route_has_no_accounts_to_miss_it() {
        let (metrics, zones) = zones();
        are(&zones, "chat", &[("a", Linked), ("spare", Linked), ("", Linked)]);
        are(&zones, "chat", &[("a", Linked), ("spare", Lost), ("", Lost)]);
        are(&zones, "chat", &[("a", Linked)]);
        assert_eq!(value(&metrics, "total", "zone_empty"), 0);
    }
}
