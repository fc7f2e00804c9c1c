//! Which zones of which services have an instance that may be chosen, for the administrator: a zone that had one and
//! has none is empty, and the first request that leaves it says so.
//!
//! A zone that no instance of a service was ever named for is meant to be served from elsewhere, and is not reported. One
//! of the route that all have left is empty however they left: its accounts have no home until somebody serves them
//! there, or the route gives them another. A zone that the route does not know has no accounts, so when nobody is named
//! for it any more there is nothing left to tell.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::monitor::events::event::{Event, Subject};
use crate::monitor::metrics::WorkerMetrics;

/// Zones by service and name.
#[derive(Debug)]
pub(super) struct Zones {
    /// Those of the route: accounts belong to them.
    routed: BTreeSet<String>,
    metrics: OnceCell<Arc<WorkerMetrics>>,
    by_service: RefCell<BTreeMap<String, BTreeMap<String, Zone>>>,
}

/// One that an instance of the service was named for.
#[derive(Debug, Default, Clone, Copy)]
struct Zone {
    is_served: bool,
    /// A request went elsewhere since it was last served.
    is_left: bool,
}

impl Zones {
    /// The route's zones are these.
    pub(super) fn new(routed: BTreeSet<String>) -> Self {
        Self { routed, metrics: OnceCell::new(), by_service: RefCell::default() }
    }

    /// Where events go; only the first call counts.
    pub(super) fn report_to(&self, metrics: &Arc<WorkerMetrics>) {
        let _set = self.metrics.set(Arc::clone(metrics));
    }

    /// The instances of a service that have not left are named for the zones `named`, and those that may be chosen are
    /// in `served`.
    pub(super) fn changed(&self, service: &str, named: BTreeSet<String>, served: &BTreeSet<String>) {
        let mut by_service = self.by_service.borrow_mut();
        let zones = by_service.entry(service.to_owned()).or_default();
        zones.retain(|name, _| {
            let is_kept = named.contains(name) || self.routed.contains(name);
            if !is_kept && let Some(metrics) = self.metrics.get() {
                metrics.clear(&Subject::zone_empty(service, name));
            }
            is_kept
        });
        for zone in named {
            zones.entry(zone).or_default();
        }
        for (name, zone) in zones {
            let is_served = served.contains(name);
            if std::mem::replace(&mut zone.is_served, is_served) == is_served {
                continue;
            }
            let Some(metrics) = self.metrics.get() else { continue };
            if is_served {
                zone.is_left = false;
                metrics.clear(&Subject::zone_empty(service, name));
                metrics.clear(&Subject::zone_fallback(service, name));
            } else if served.is_empty() {
                let detail = "nor has any other zone: its requests are refused with 300";
                metrics.raise(Event::zone_empty(service, name, detail));
            } else if self.routed.contains(name) {
                metrics.raise(Event::zone_empty(service, name, "other zones take its accounts"));
            } else {
                let detail = "the route does not know it: it stood in for zones that have none";
                metrics.raise(Event::zone_empty(service, name, detail));
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
        if let Some(metrics) = self.metrics.get() {
            let detail = "gateway_zone_fallback_total counts its requests that go elsewhere";
            metrics.raise(Event::zone_fallback(service, zone, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::metrics::Metrics;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Value of a series of the events of one kind.
    fn value(metrics: &Metrics, family: &str, event: &str) -> u64 {
        let series = format!("gateway_events_{family}{{event=\"{event}\"}} ");
        let text = metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    }

    fn zones() -> (Metrics, Zones) {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let zones = Zones::new(set(&["a", "b"]));
        zones.report_to(&metrics.worker(0));
        (metrics, zones)
    }

    #[test]
    fn e13_a_zone_is_empty_when_it_loses_its_last_and_left_with_the_first_request() {
        let (metrics, zones) = zones();
        let named = || set(&["a", "b"]);
        zones.changed("chat", named(), &set(&["a"]));
        assert_eq!(value(&metrics, "total", "zone_empty"), 0, "b was never served");
        zones.changed("chat", named(), &set(&["a", "b"]));
        assert_eq!(value(&metrics, "active", "zone_empty"), 0);
        zones.changed("chat", named(), &set(&["a"]));
        assert_eq!(value(&metrics, "active", "zone_empty"), 1);
        assert_eq!(value(&metrics, "active", "zone_fallback"), 0, "nobody had to go elsewhere yet");
        for _ in 0..3 {
            zones.fell_back("chat", "b");
            zones.changed("chat", named(), &set(&["a"]));
        }
        assert_eq!(value(&metrics, "total", "zone_fallback"), 1, "not per request");
        zones.changed("chat", named(), &set(&[]));
        assert_eq!(value(&metrics, "active", "zone_empty"), 2, "E14");
        zones.changed("chat", named(), &set(&["a", "b"]));
        assert_eq!(
            (value(&metrics, "active", "zone_empty"), value(&metrics, "active", "zone_fallback")),
            (0, 0)
        );
        zones.changed("chat", named(), &set(&["a"]));
        zones.fell_back("chat", "b");
        assert_eq!(value(&metrics, "total", "zone_fallback"), 2, "again");
    }

    #[test]
    fn a_zone_that_nobody_is_named_for_is_not_reported_and_one_that_all_have_left_is() {
        let (metrics, zones) = zones();
        zones.fell_back("login", "b");
        zones.changed("login", set(&["a"]), &set(&["a"]));
        zones.fell_back("login", "b");
        assert_eq!(value(&metrics, "total", "zone_fallback"), 0, "b is meant to be served from a");
        zones.changed("login", set(&[]), &set(&[]));
        assert_eq!(value(&metrics, "active", "zone_empty"), 1, "its instances left discovery");
    }

    #[test]
    fn a_zone_outside_the_route_is_empty_until_nobody_is_named_for_it() {
        let (metrics, zones) = zones();
        let active = || value(&metrics, "active", "zone_empty");
        zones.changed("chat", set(&["a", "spare"]), &set(&["a", "spare"]));
        zones.changed("chat", set(&["a", "spare"]), &set(&["a"]));
        assert_eq!(active(), 1, "its instance was lost");
        zones.changed("chat", set(&["a"]), &set(&["a"]));
        assert_eq!(active(), 0, "and taken out");
        zones.changed("chat", set(&["a", "spare"]), &set(&["a", "spare"]));
        zones.changed("chat", set(&["a"]), &set(&["a"]));
        assert_eq!((active(), value(&metrics, "total", "zone_empty")), (0, 1), "taken out while it served");
        zones.changed("login", set(&["spare"]), &set(&["spare"]));
        zones.changed("login", set(&["spare"]), &set(&[]));
        zones.changed("chat", set(&["a"]), &set(&["a"]));
        assert_eq!(active(), 1, "that of another service");
    }

    #[test]
    fn a_zone_whose_instances_were_never_up_is_left_all_the_same() {
        let (metrics, zones) = zones();
        zones.changed("chat", set(&["a", "b"]), &set(&["a"]));
        zones.fell_back("chat", "b");
        assert_eq!(value(&metrics, "active", "zone_fallback"), 1);
        zones.changed("chat", set(&["a", "b"]), &set(&["a", "b"]));
        assert_eq!(value(&metrics, "active", "zone_fallback"), 0);
    }
}
