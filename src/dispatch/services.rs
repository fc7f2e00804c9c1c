//! The services of the configuration and, for each, a sorted snapshot of the instances that may be chosen.
//!
//! Those are its adult ones, in whatever zone; while it has none, its young ones (protocol §6).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dispatch::link::Link;
use crate::dispatch::maturity::Age;
use crate::dispatch::selector::{Candidates, RouteSelector, ZoneIndex};

/// The instances of one service.
#[derive(Debug)]
struct Service {
    links: Vec<Rc<Link>>,
    candidates: RefCell<Candidates<Rc<Link>>>,
}

/// An instance that was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) link: Rc<Link>,
    /// The zone that had no instance, when another zone's was taken instead (row E13).
    pub(crate) fallback_of: Option<ZoneIndex>,
}

/// All services, by name. The names come from the configuration and do not change.
#[derive(Debug)]
pub(crate) struct Services {
    selector: RouteSelector,
    by_name: BTreeMap<String, Service>,
}

impl Services {
    /// Groups the links by service; none of them may be chosen yet.
    pub(crate) fn new(selector: RouteSelector, login_service: &str, links: &[Rc<Link>]) -> Self {
        let mut grouped: BTreeMap<String, Vec<Rc<Link>>> = BTreeMap::new();
        grouped.entry(login_service.to_owned()).or_default();
        for link in links {
            grouped.entry(link.instance.service.clone()).or_default().push(Rc::clone(link));
        }
        let empty = |links| {
            let none: [(&str, &str, Rc<Link>); 0] = [];
            let candidates = RefCell::new(Candidates::new(&selector, none));
            Service { links, candidates }
        };
        let by_name = grouped.into_iter().map(|(name, links)| (name, empty(links))).collect();
        Self { selector, by_name }
    }

    /// Is it a service of the configuration?
    pub(crate) fn is_known(&self, service: &str) -> bool {
        self.by_name.contains_key(service)
    }

    /// The instance for an account (protocol §6); none while the service has none.
    pub(crate) fn choose(&self, service: &str, app: &str, account: &str) -> Option<Chosen> {
        let candidates = self.by_name.get(service)?.candidates.borrow();
        let choice = self.selector.lookup(app, account, &candidates)?;
        Some(Chosen { link: Rc::clone(choice.item), fallback_of: choice.fallback.then_some(choice.zone) })
    }

    /// The zone of an account, whether or not it has instances.
    pub(crate) fn zone(&self, app: &str, account: &str) -> ZoneIndex {
        self.selector.zone(app, account)
    }

    /// How many instances of a service are linked, young ones included.
    pub(crate) fn live(&self, service: &str) -> usize {
        let links = self.by_name.get(service).map_or(&[][..], |service| &service.links);
        links.iter().filter(|link| link.is_live()).count()
    }

    /// A link came, grew up or went: its service's snapshot is made anew.
    pub(crate) fn refresh(&self, service: &str) {
        let Some(service) = self.by_name.get(service) else { return };
        let of_age = |age| service.links.iter().filter(move |link| link.age() == Some(age));
        let age = if of_age(Age::Adult).next().is_some() { Age::Adult } else { Age::Young };
        let entries =
            of_age(age).map(|link| (link.instance.id.as_str(), link.instance.zone.as_str(), Rc::clone(link)));
        *service.candidates.borrow_mut() = Candidates::new(&self.selector, entries);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::Instance;
    use crate::dispatch::maturity::Rule;
    use crate::dispatch::queue::Bounds;
    use crate::monitor::metrics::Metrics;
    use crate::route::Route;
    use crate::session::pending::InstanceKey;
    use crate::wire::dialect::Dialect;

    const RULE: Rule = Rule { young: Duration::from_secs(10), returned_within: Duration::from_secs(5) };
    const MS: Duration = Duration::from_millis(1);

    /// Service `chat` in the zones `za` and `zb`, its time in the hands of the test.
    struct Chat {
        services: Services,
        links: Vec<Rc<Link>>,
        start: Instant,
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Instances by id and zone, none of them linked yet.
    fn chat(instances: &[(&str, &str)]) -> Chat {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let link = |(key, (id, zone)): (usize, &(&str, &str))| {
            let instance = Instance {
                service: "chat".to_owned(),
                id: (*id).to_owned(),
                address: "127.0.0.1:1".to_owned(),
                zone: (*zone).to_owned(),
                dialect: Dialect::XIm,
            };
            let bounds = Bounds { packets: 1, bytes: 1 };
            Link::new(InstanceKey(key), instance, bounds, metrics.link("chat", id, zone))
        };
        let links: Vec<_> = instances.iter().enumerate().map(link).collect();
        let route = r#"{"zones": [{"id": "za", "weight": 1}, {"id": "zb", "weight": 1}]}"#;
        let selector = RouteSelector::new(&Route::from_json(route).unwrap());
        Chat { services: Services::new(selector, "login", &links), links, start: Instant::now() }
    }

    impl Chat {
        fn link(&self, id: &str) -> &Link {
            self.links.iter().find(|link| link.instance.id == id).unwrap()
        }

        fn up(&self, id: &str, at: Duration) {
            self.link(id).came_up(self.start + at, &RULE);
            self.services.refresh("chat");
        }

        fn lost(&self, id: &str, at: Duration) {
            self.link(id).was_lost(self.start + at);
            self.services.refresh("chat");
        }

        /// It is that late now; who grew up?
        fn time(&self, at: Duration) -> Vec<&str> {
            let grown = self.links.iter().filter(|link| link.grow(self.start + at));
            let grown = grown.map(|link| link.instance.id.as_str()).collect();
            self.services.refresh("chat");
            grown
        }

        /// Everyone that any of many accounts gets, as `account's zone:instance`, `!` behind a fallback.
        fn chosen(&self) -> BTreeSet<String> {
            (0..200)
                .filter_map(|n| {
                    let account = format!("u{n}");
                    let Chosen { link, fallback_of } = self.services.choose("chat", "app", &account)?;
                    let zone = self.services.selector.zone_name(self.services.zone("app", &account));
                    let mark = if fallback_of.is_some() { "!" } else { "" };
                    Some(format!("{zone}:{}{mark}", link.instance.id))
                })
                .collect()
        }
    }

    fn set<const N: usize>(expected: [&str; N]) -> BTreeSet<String> {
        expected.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_set_serves_at_its_first_sign_of_life() {
        let chat = chat(&[("a1", "za"), ("b1", "zb")]);
        assert_eq!((chat.chosen(), chat.services.live("chat")), (set([]), 0));
        chat.up("a1", secs(0));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.up("b1", secs(3600));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
        assert_eq!(chat.services.live("chat"), 2);
    }

    #[test]
    fn e13_adulthood_is_per_service_a_zone_with_only_a_young_one_falls_back() {
        let chat = chat(&[("a1", "za"), ("a2", "za"), ("b1", "zb")]);
        for id in ["a1", "a2", "b1"] {
            chat.up(id, secs(0));
        }
        chat.lost("b1", secs(0));
        chat.up("b1", secs(6));
        let without = set(["za:a1", "za:a2", "zb:a1!", "zb:a2!"]);
        assert_eq!(chat.chosen(), without);
        assert_eq!(chat.services.live("chat"), 3, "linked all the same");
        assert_eq!(chat.time(secs(16) - MS), [""; 0]);
        assert_eq!(chat.chosen(), without);
        assert_eq!(chat.time(secs(16)), ["b1"]);
        assert_eq!(chat.chosen(), set(["za:a1", "za:a2", "zb:b1"]));
    }

    #[test]
    fn back_within_five_seconds_it_serves_at_once_and_later_it_waits() {
        for (away, both) in [(secs(0), true), (secs(5), true), (secs(5) + MS, false), (secs(60), false)] {
            let chat = chat(&[("a1", "za"), ("b1", "zb")]);
            chat.up("a1", secs(0));
            chat.up("b1", secs(0));
            chat.lost("b1", secs(100));
            chat.up("b1", secs(100) + away);
            let expected = if both { set(["za:a1", "zb:b1"]) } else { set(["za:a1", "zb:a1!"]) };
            assert_eq!(chat.chosen(), expected, "away for {away:?}");
        }
    }

    #[test]
    fn young_ones_serve_while_there_is_no_adult_and_leave_when_one_appears() {
        let chat = chat(&[("a1", "za"), ("a2", "za"), ("b1", "zb")]);
        for id in ["a1", "a2", "b1"] {
            chat.up(id, secs(0));
            chat.lost(id, secs(0));
        }
        assert_eq!(chat.chosen(), set([]));
        chat.up("a1", secs(6));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.up("b1", secs(7));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "all young ones, by zone as ever");
        assert_eq!(chat.time(secs(16)), ["a1"]);
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.lost("a1", secs(16));
        assert_eq!(chat.chosen(), set(["za:b1!", "zb:b1"]), "in the step that takes the last adult");
        assert_eq!(chat.time(secs(17)), ["b1"]);
        chat.up("a1", secs(18));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "two seconds away: still adult");
    }

    #[test]
    fn e7_one_that_flaps_slowly_gets_nothing_until_it_holds() {
        let chat = chat(&[("a1", "za"), ("b1", "zb")]);
        chat.up("a1", secs(0));
        chat.up("b1", secs(0));
        let mut at = secs(1);
        for _ in 0..20 {
            chat.lost("b1", at);
            chat.up("b1", at + secs(6));
            at += secs(15);
            assert_eq!(chat.time(at), [""; 0]);
            assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        }
        assert_eq!(chat.time(at + secs(1)), ["b1"]);
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
    }

    #[test]
    fn services_grow_up_apart() {
        let chat = chat(&[("a1", "za")]);
        chat.up("a1", secs(0));
        assert_eq!(chat.services.live("login"), 0);
        assert!(chat.services.choose("login", "app", "u1").is_none());
        assert_eq!(chat.services.live("no such service"), 0);
    }
}
