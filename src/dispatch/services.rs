//! The services of the configuration and, for each, a sorted snapshot of the instances that may be chosen.
//!
//! Those are its healthy ones, in whatever zone; while it has none, its warming ones (protocol §6); and beside either those
//! half-open, each for one request. While it has neither, all that are linked: an instance that did not
//! answer before is better than none.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::dispatch::bounded_load::Loads;
use crate::dispatch::health::Standing;
use crate::dispatch::link::Link;
use crate::dispatch::selector::{Candidates, Choice, RouteKey, RouteSelector, ZoneIndex};
use crate::dispatch::zones::Zones;
use crate::monitor::metrics::WorkerMetrics;
use crate::session::channel::{Channel, ServiceNumber};
use crate::session::pending::InstanceKey;

/// The instances of one service.
#[derive(Debug)]
struct ServiceInstances {
    links: RefCell<Vec<Rc<Link>>>,
    candidates: RefCell<Candidates<Rc<Link>>>,
    /// Some of the candidates are half-open.
    has_trials: Cell<bool>,
    /// No instance is healthy, so warming ones serve.
    has_only_warming: Cell<bool>,
    /// Zones of the route without an instance that serves.
    unserved: RefCell<Vec<ZoneIndex>>,
    /// Names it in the memory of channels.
    number: ServiceNumber,
}

impl ServiceInstances {
    fn link(&self, key: InstanceKey) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        // In the order of their keys: they come one after the other.
        let position = links.binary_search_by_key(&key, |link| link.key).ok()?;
        Some(Rc::clone(&links[position]))
    }
}

/// What is to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something that will be answered: it may be the trial of an instance.
    Request,
    /// Something that will not.
    EventPayload,
}

/// An instance that was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) link: Rc<Link>,
    /// The zone that had no instance, when another zone's was taken instead (row E13).
    pub(crate) fallback_of: Option<ZoneIndex>,
    /// Where its channel stays from now on, if it does.
    pub(crate) home: Option<ServiceNumber>,
    /// The instance of its account was overloaded, so the next one was taken.
    pub(crate) is_spilled: bool,
}

/// Why no instance was chosen for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// The configuration has no such service.
    UnknownService,
    /// The service has no instance now; the zone of the account.
    NoInstance(ZoneIndex),
}

/// All services, by name. The names come from the configuration.
#[derive(Debug)]
pub(crate) struct Services {
    /// Replaced whole by a reload; never held over an await, as whoever holds it chooses by one route.
    selector: RefCell<Rc<RouteSelector>>,
    by_name: RefCell<BTreeMap<String, Rc<ServiceInstances>>>,
    /// Of the next service that is new: channels remember numbers, so none comes twice.
    next_number: Cell<usize>,
    /// Channels keep their instances, and new ones avoid those that are overloaded.
    is_bounded: Cell<bool>,
    zones: Zones,
}

impl Services {
    /// These services, without instances. `is_bounded`: see [`Services::choose_for`].
    pub(crate) fn new(
        selector: RouteSelector,
        names: impl IntoIterator<Item = String>,
        is_bounded: bool,
    ) -> Self {
        let zones = Zones::new(selector.zones().map(|(_, name)| name.to_owned()).collect());
        let services = Self {
            selector: RefCell::new(Rc::new(selector)),
            by_name: RefCell::default(),
            next_number: Cell::new(0),
            is_bounded: Cell::new(is_bounded),
            zones,
        };
        names.into_iter().for_each(|name| services.serve(name));
        services
    }

    /// A service without instances; nothing if there is one of this name.
    fn serve(&self, name: String) {
        let number = ServiceNumber(self.next_number.get());
        self.by_name.borrow_mut().entry(name).or_insert_with(|| {
            self.next_number.set(number.0 + 1);
            let none: [(&str, &str, Rc<Link>); 0] = [];
            Rc::new(ServiceInstances {
                links: RefCell::default(),
                candidates: RefCell::new(Candidates::new(&self.selector.borrow(), none)),
                has_trials: Cell::new(false),
                has_only_warming: Cell::new(false),
                unserved: RefCell::default(),
                number,
            })
        });
    }

    fn service(&self, name: &str) -> Option<Rc<ServiceInstances>> {
        self.by_name.borrow().get(name).cloned()
    }

    /// Zones that become empty, and requests that leave them, are reported there from now on.
    pub(crate) fn report_to(&self, metrics: &Arc<WorkerMetrics>) {
        self.zones.report_to(metrics);
    }

    /// The route as it is now.
    pub(crate) fn selector(&self) -> Rc<RouteSelector> {
        Rc::clone(&self.selector.borrow())
    }

    /// Chooses by another route from now on, among these services. Channels that keep their instances do so, wherever
    /// their accounts belong. A service that is named no more takes nothing new; its links end when their instances leave.
    pub(crate) fn reroute(&self, selector: RouteSelector, names: BTreeSet<String>, is_bounded: bool) {
        self.zones.route_to(selector.zones().map(|(_, name)| name.to_owned()).collect());
        *self.selector.borrow_mut() = Rc::new(selector);
        self.is_bounded.set(is_bounded);
        self.by_name.borrow_mut().retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                self.zones.forget(name);
            }
            stays
        });
        for name in names {
            self.serve(name.clone());
            self.refresh(&name);
        }
    }

    /// A request of an account of this zone was given to another zone's instance.
    pub(crate) fn fell_back(&self, service: &str, zone: &str) {
        self.zones.fell_back(service, zone);
    }

    /// Returns `true` if channels keep their instances.
    pub(crate) fn is_bounded(&self) -> bool {
        self.is_bounded.get()
    }

    /// A link to a new instance. It may not be chosen yet.
    pub(crate) fn add(&self, link: &Rc<Link>) {
        if let Some(service) = self.service(&link.instance.service) {
            service.links.borrow_mut().push(Rc::clone(link));
        }
    }

    /// A link is gone.
    pub(crate) fn remove(&self, link: &Link) {
        if let Some(service) = self.service(&link.instance.service) {
            service.links.borrow_mut().retain(|other| other.key != link.key);
        }
        self.refresh(&link.instance.service);
    }

    /// Returns `true` if it is a service of the configuration.
    pub(crate) fn is_known(&self, service: &str) -> bool {
        self.by_name.borrow().contains_key(service)
    }

    /// The instance for an account (protocol §6); none while the service has none.
    pub(crate) fn choose(&self, service: &str, app: &str, account: &str, purpose: Purpose) -> Option<Chosen> {
        let service = self.service(service)?;
        let service = &*service;
        let key = self.selector.borrow().route_key(app, account);
        let candidates = service.candidates.borrow();
        choose_well(service, &candidates, &candidates.choose(key)?, key, purpose)
    }

    /// The instance for a request of a channel.
    ///
    /// Unbounded, it is that of its account. Bounded, a channel keeps its instance until that is not healthy, and leaves it
    /// only when nothing is pending there, so that its requests stay in order; an instance that does not answer, or is
    /// gone, keeps nobody. A channel that has none gets that of its account, or if that is overloaded the next one of the
    /// same zone that is not. Channels whose instance is elsewhere are a trial, too, while they wait for nothing.
    ///
    /// # Errors
    /// [`NoChoice`].
    pub(crate) fn choose_for(
        &self,
        service: &str,
        app: &str,
        account: &str,
        channel: Option<&Channel>,
    ) -> Result<Chosen, NoChoice> {
        let service = self.service(service).ok_or(NoChoice::UnknownService)?;
        let service = &*service;
        let route_key = || self.selector.borrow().route_key(app, account);
        let channel = channel.filter(|_| self.is_bounded.get());
        let home = channel.and_then(|channel| home(service, channel));
        if let (Some(link), Some(channel)) = (&home, channel)
            && (!service.has_trials.get() || channel.is_waiting_for(link.key))
        {
            return Ok(self.kept(service, Rc::clone(link), route_key));
        }
        let key = route_key();
        self.choose_anew(service, key, home, channel.is_some()).ok_or(NoChoice::NoInstance(key.zone))
    }

    /// The instance for a request by its account. A channel that `keeps` what it gets leaves its home only for a trial.
    fn choose_anew(
        &self,
        service: &ServiceInstances,
        key: RouteKey,
        home: Option<Rc<Link>>,
        keeps: bool,
    ) -> Option<Chosen> {
        let candidates = service.candidates.borrow();
        let choice = candidates.choose(key)?;
        let chosen = choose_well(service, &candidates, &choice, key, Purpose::Request)?;
        let is_trial = chosen.link.standing() == Some(Standing::HalfOpen) && service.has_trials.get();
        if !keeps || is_trial {
            return Some(chosen);
        }
        if let Some(link) = home {
            return Some(self.kept(service, link, || key));
        }
        let home = Some(service.number);
        Some(match spill(&choice, &chosen.link) {
            Some(link) => Chosen { link, home, is_spilled: true, ..chosen },
            None => Chosen { home, ..chosen },
        })
    }

    /// The instance a channel stays with. Its requests count as a fallback while that is of another zone than their own,
    /// and that has nobody.
    fn kept(
        &self,
        service: &ServiceInstances,
        link: Rc<Link>,
        route_key: impl FnOnce() -> RouteKey,
    ) -> Chosen {
        let unserved = service.unserved.borrow();
        let is_left = |zone: &ZoneIndex| {
            unserved.contains(zone) && self.selector.borrow().zone_name(*zone) != link.instance.zone
        };
        // Asked with every request of a channel that has its instance: where all zones are served, nothing is hashed.
        let key = (!unserved.is_empty()).then(route_key).filter(|key| !key.is_keyless);
        let fallback_of = key.map(|key| key.zone).filter(is_left);
        Chosen { link, fallback_of, home: None, is_spilled: false }
    }

    /// How many instances of a service are linked, warming ones included.
    pub(crate) fn live(&self, service: &str) -> usize {
        let Some(service) = self.service(service) else { return 0 };
        service.links.borrow().iter().filter(|link| link.is_live()).count()
    }

    /// Returns `true` if there is an instance of this service that can be chosen.
    pub(crate) fn has_candidates(&self, service: &str) -> bool {
        self.service(service).is_some_and(|service| !service.candidates.borrow().is_empty())
    }

    /// Returns `true` if enough instances of its zone would remain without this one. At most half of those that are
    /// linked are ejected, and never the only one.
    pub(crate) fn may_eject(&self, link: &Link) -> bool {
        let Some(service) = self.service(&link.instance.service) else { return false };
        let links = service.links.borrow();
        let standings = links
            .iter()
            .filter(|other| other.instance.zone == link.instance.zone)
            .filter_map(|other| other.standing());
        let (mut linked, mut ejected) = (0, 0);
        for standing in standings {
            linked += 1;
            ejected += usize::from(standing > Standing::Warming);
        }
        ejected < linked / 2
    }

    /// A link came, changed its standing or went: its service's snapshot is made anew.
    pub(crate) fn refresh(&self, name: &str) {
        let Some(service) = self.service(name) else { return };
        let links = service.links.borrow();
        let best = links.iter().filter_map(|link| link.standing()).min();
        let is_candidate = |standing| match best {
            Some(Standing::Healthy | Standing::Warming) => {
                Some(standing) == best || matches!(standing, Standing::HalfOpen | Standing::Asked)
            }
            _ => true,
        };
        let chosen = || links.iter().filter(move |link| link.standing().is_some_and(is_candidate));
        let is_trial = |link: &Rc<Link>| link.standing() > Some(Standing::Warming);
        service.has_only_warming.set(best == Some(Standing::Warming));
        let is_any_well = best.is_some_and(|best| best <= Standing::Warming);
        service.has_trials.set(is_any_well && chosen().any(is_trial));
        let entries =
            chosen().map(|link| (link.instance.id.as_str(), link.instance.zone.as_str(), Rc::clone(link)));
        let selector = self.selector();
        *service.candidates.borrow_mut() = Candidates::new(&selector, entries);
        // One half-open serves nobody but its trial, where others are well.
        let serving = || chosen().filter(|link| !is_any_well || is_well(link));
        let served: BTreeSet<_> = serving().map(|link| link.instance.zone.as_str()).collect();
        let unserved = selector.zones().filter(|(_, zone)| !served.contains(*zone));
        *service.unserved.borrow_mut() = unserved.map(|(index, _)| index).collect();
        let named = links.iter().filter(|link| !link.is_leaving());
        let named = named.map(|link| (link.instance.zone.as_str(), link.presence()));
        self.zones.changed(name, named, &served);
    }
}

fn is_well(link: &Rc<Link>) -> bool {
    link.standing().is_some_and(|standing| standing <= Standing::Warming)
}

/// What a choice comes to while some instances are only tried: those get their own accounts' requests, and others that
/// are well get the rest.
fn choose_well(
    service: &ServiceInstances,
    candidates: &Candidates<Rc<Link>>,
    choice: &Choice<'_, Rc<Link>>,
    key: RouteKey,
    purpose: Purpose,
) -> Option<Chosen> {
    let may_take = |link: &Rc<Link>| {
        is_well(link) || (purpose == Purpose::Request && link.standing() == Some(Standing::HalfOpen))
    };
    let chosen = |link: &Rc<Link>, fallback_of| {
        Some(Chosen { link: Rc::clone(link), fallback_of, home: None, is_spilled: false })
    };
    let fallback_of = choice.fallback.then_some(key.zone);
    if !service.has_trials.get() || may_take(choice.item) {
        return chosen(choice.item, fallback_of);
    }
    // Others are not tried on somebody else's accounts.
    if let Some(link) = choice.others().find(|link| is_well(link)) {
        return chosen(link, fallback_of);
    }
    let anywhere = candidates.choose_anywhere(key)?;
    let link = std::iter::once(anywhere.item).chain(anywhere.others()).find(|link| is_well(link))?;
    chosen(link, Some(key.zone))
}

/// The instance that takes new accounts in the place of the chosen one, if that is overloaded. None: it is not, or all
/// are.
fn spill(choice: &Choice<'_, Rc<Link>>, chosen: &Link) -> Option<Rc<Link>> {
    let ring = || std::iter::once(choice.item).chain(choice.others()).filter(|link| is_well(link));
    let loads = ring().fold(Loads::default(), |loads, link| loads.and(link.load()));
    let is_overloaded = |link: &Link| link.queue().is_crowded() || loads.is_exceeded_by(link.load());
    if !is_overloaded(chosen) {
        return None;
    }
    // From the chosen one on, wherever it stands.
    let behind = ring().skip_while(|link| link.key != chosen.key);
    behind.chain(ring()).find(|link| !is_overloaded(link)).cloned()
}

/// The instance a channel has, if it stays there.
fn home(service: &ServiceInstances, channel: &Channel) -> Option<Rc<Link>> {
    let link = service.link(channel.home(service.number)?)?;
    keeps(service, &link, channel).then_some(link)
}

/// Returns `true` if a channel stays with this instance.
fn keeps(service: &ServiceInstances, link: &Link, channel: &Channel) -> bool {
    match link.standing() {
        Some(Standing::Healthy) => true,
        Some(Standing::Warming) => service.has_only_warming.get() || channel.is_waiting_for(link.key),
        Some(Standing::HalfOpen | Standing::Asked | Standing::Ejected) => false,
        None => link.takes_followers(Instant::now()) && channel.is_waiting_for(link.key),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Instance;
    use crate::dispatch::health::{HealthEvent, Loss, Rule};
    use crate::dispatch::link::Drain;
    use crate::dispatch::queue::{Payload, QueueBounds};
    use crate::limits::Limits;
    use crate::monitor::metrics::Metrics;
    use crate::route::Route;
    use crate::session::fixtures::{TestMetrics, channel, ticket};
    use crate::session::pending::RequestStage;
    use crate::wire::dialect::Dialect;
    use crate::wire::packet::Encoded;

    const MS: Duration = Duration::from_millis(1);

    /// Service `chat` in the zones `za` and `zb`, its time in the hands of the test.
    struct Chat {
        services: Services,
        links: Vec<Rc<Link>>,
        start: Instant,
    }

    fn rule() -> Rule {
        Rule::of(&Limits::default())
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn chat_link(key: usize, id: &str, zone: &str) -> Rc<Link> {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let instance = Instance {
            service: "chat".to_owned(),
            id: id.to_owned(),
            address: "127.0.0.1:1".to_owned(),
            zone: zone.to_owned(),
            dialect: Dialect::XIm,
        };
        let bounds = QueueBounds { packets: 1, bytes: 1 };
        Link::new(InstanceKey(key), instance, true, bounds, metrics.link("chat", id, zone))
    }

    /// Instances by id and zone, none of them linked yet.
    fn chat(instances: &[(&str, &str)]) -> Chat {
        let link = |(key, (id, zone)): (usize, &(&str, &str))| chat_link(key, id, zone);
        let links: Vec<_> = instances.iter().enumerate().map(link).collect();
        let route = r#"{"zones": [{"id": "za", "weight": 1}, {"id": "zb", "weight": 1}]}"#;
        let selector = RouteSelector::new(&Route::from_json(route).unwrap());
        let services = Services::new(selector, ["login".to_owned(), "chat".to_owned()], false);
        links.iter().for_each(|link| services.add(link));
        Chat { services, links, start: Instant::now() }
    }

    impl Chat {
        fn link(&self, id: &str) -> &Link {
            self.links.iter().find(|link| link.instance.id == id).unwrap()
        }

        fn on(&self, id: &str, event: HealthEvent, at: Duration) {
            self.link(id).on(event, self.start + at, &rule());
            self.services.refresh("chat");
        }

        fn up(&self, id: &str, at: Duration) {
            self.on(id, HealthEvent::Alive, at);
        }

        fn lost(&self, id: &str, at: Duration) {
            self.on(id, HealthEvent::Lost(Loss::Ended), at);
        }

        /// It is that late now; returns those who grew up.
        fn time(&self, at: Duration) -> Vec<&str> {
            let grown = |link: &&Rc<Link>| link.on(HealthEvent::Time, self.start + at, &rule()).is_some();
            let grown = self.links.iter().filter(grown).map(|link| link.instance.id.as_str()).collect();
            self.services.refresh("chat");
            grown
        }

        /// Everyone that any of many accounts gets, as `account's zone:instance`, `!` behind a fallback.
        fn chosen(&self) -> BTreeSet<String> {
            (0..200)
                .filter_map(|n| {
                    let account = format!("u{n}");
                    let Chosen { link, fallback_of, .. } =
                        self.services.choose("chat", "app", &account, Purpose::Request)?;
                    let zone = self
                        .services
                        .selector()
                        .zone_name(self.services.selector().route_key("app", &account).zone)
                        .to_owned();
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
    fn e13_health_is_per_service_a_zone_with_only_a_warming_one_falls_back() {
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
    fn warming_ones_serve_while_there_is_no_healthy_and_leave_when_one_appears() {
        let chat = chat(&[("a1", "za"), ("a2", "za"), ("b1", "zb")]);
        for id in ["a1", "a2", "b1"] {
            chat.up(id, secs(0));
            chat.lost(id, secs(0));
        }
        assert_eq!(chat.chosen(), set([]));
        chat.up("a1", secs(6));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.up("b1", secs(7));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "all warming ones, by zone as ever");
        assert_eq!(chat.time(secs(16)), ["a1"]);
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.lost("a1", secs(16));
        assert_eq!(chat.chosen(), set(["za:b1!", "zb:b1"]), "in the step that takes the last healthy");
        assert_eq!(chat.time(secs(17)), ["b1"]);
        chat.up("a1", secs(18));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]), "two seconds away: still healthy");
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
        assert!(chat.services.choose("login", "app", "u1", Purpose::Request).is_none());
        assert_eq!(chat.services.live("no such service"), 0);
    }

    /// Makes an instance ejected that is up.
    fn eject(chat: &Chat, id: &str, at: Duration) {
        for _ in 0..5 {
            chat.on(id, HealthEvent::TimedOut { may_eject: true }, at);
        }
        assert_eq!(chat.link(id).standing(), Some(Standing::Ejected));
    }

    #[test]
    fn e2_one_half_open_gets_the_first_that_hashes_there_and_the_others_go_to_the_next_of_its_zone() {
        let chat = chat(&[("a1", "za"), ("a2", "za"), ("a3", "za"), ("b1", "zb")]);
        for id in ["a1", "a2", "a3", "b1"] {
            chat.up(id, secs(0));
        }
        let everyone = chat.chosen();
        eject(&chat, "a2", secs(0));
        assert!(!chat.chosen().iter().any(|chosen| chosen.contains("a2")), "it gets nothing");
        chat.time(secs(10));
        assert_eq!(chat.chosen(), everyone, "who hashes there may be its trial");
        chat.on("a2", HealthEvent::Asked, secs(10));
        assert_eq!(chat.chosen(), set(["za:a1", "za:a3", "zb:b1"]));
        // Those of a2 all go to a3: the accounts of the others stay where they are.
        let of = |account: &str| {
            chat.services.choose("chat", "app", account, Purpose::Request).unwrap().link.instance.id.clone()
        };
        let accounts: Vec<_> = (0..200).map(|n| format!("u{n}")).collect();
        let asked: Vec<_> = accounts.iter().map(|account| of(account)).collect();
        chat.on("a2", HealthEvent::Answered, secs(11));
        assert_eq!(chat.chosen(), everyone);
        for (account, then) in accounts.iter().zip(&asked) {
            let now = of(account);
            assert_eq!(*then, if now == "a2" { "a3".to_owned() } else { now }, "{account}");
        }
    }

    #[test]
    fn a_sign_out_is_no_trial_because_nothing_answers_it() {
        let chat = chat(&[("a1", "za"), ("a2", "za")]);
        chat.up("a1", secs(0));
        chat.up("a2", secs(0));
        eject(&chat, "a2", secs(0));
        chat.time(secs(10));
        for n in 0..50 {
            let account = format!("u{n}");
            let chosen = chat.services.choose("chat", "app", &account, Purpose::EventPayload).unwrap();
            assert_eq!(chosen.link.instance.id, "a1");
        }
    }

    #[test]
    fn e13_a_zone_whose_only_instance_is_being_tried_falls_back() {
        let chat = chat(&[("a1", "za"), ("b1", "zb")]);
        chat.up("a1", secs(0));
        chat.up("b1", secs(0));
        let metrics = Metrics::new("gate01", 1, Vec::new());
        chat.services.report_to(&metrics.worker(0));
        eject(&chat, "b1", secs(0));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.time(secs(10));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:b1"]));
        chat.on("b1", HealthEvent::Asked, secs(10));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]));
        chat.on("b1", HealthEvent::Answered, secs(11));
        // It was linked all the time; `zone_fallback` tells of what went elsewhere.
        assert!(metrics.render().lines().any(|line| line == "gateway_events_total{event=\"zone_empty\"} 0"));
    }

    #[test]
    fn a_zone_that_all_have_left_is_empty_if_the_route_knows_it() {
        let chat = chat(&[("a1", "za"), ("b1", "zb"), ("s1", "spare"), ("s2", "spare")]);
        let metrics = Metrics::new("gate01", 1, Vec::new());
        chat.services.report_to(&metrics.worker(0));
        let empty = || {
            let page = metrics.render();
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix("gateway_events_active{event=\"zone_empty\"} "));
            line.unwrap().to_owned()
        };
        let leave = |id| {
            let by = chat.start + secs(9);
            chat.link(id).drain(Drain { follow_until: chat.start, by });
            chat.services.refresh("chat");
        };
        for id in ["a1", "b1", "s1", "s2"] {
            chat.up(id, secs(0));
        }
        leave("s1");
        chat.lost("s2", secs(1));
        leave("s2");
        assert_eq!(empty(), "0", "nobody's accounts");
        leave("b1");
        assert_eq!(empty(), "1", "its accounts have no home, before its link has ended");
        chat.services.remove(chat.link("b1"));
        assert_eq!(empty(), "1");
    }

    #[test]
    fn e14_ejected_ones_serve_while_there_is_nobody_else() {
        let chat = chat(&[("a1", "za"), ("a2", "za")]);
        chat.up("a1", secs(0));
        chat.up("a2", secs(0));
        eject(&chat, "a2", secs(0));
        chat.on("a1", HealthEvent::Lost(Loss::Ended), secs(1));
        assert_eq!(chat.chosen(), set(["za:a2", "zb:a2!"]));
        chat.on("a1", HealthEvent::Alive, secs(60));
        assert_eq!(chat.chosen(), set(["za:a1", "zb:a1!"]), "warming");
        chat.time(secs(60));
        assert_eq!(chat.chosen(), set(["za:a1", "za:a2", "zb:a1!", "zb:a2!"]), "and a2 half-open beside it");
    }

    #[test]
    fn at_most_half_of_a_zones_linked_instances_are_ejected_and_never_the_only_one() {
        let chat =
            chat(&[("a1", "za"), ("a2", "za"), ("a3", "za"), ("a4", "za"), ("a5", "za"), ("b1", "zb")]);
        let may = |id| chat.services.may_eject(chat.link(id));
        for id in ["a1", "b1"] {
            chat.up(id, secs(0));
            assert!(!may(id), "{id} is alone");
        }
        for id in ["a2", "a3", "a4"] {
            chat.up(id, secs(0));
        }
        let mut ejected = 0;
        for id in ["a1", "a2", "a3", "a4"] {
            if may(id) {
                eject(&chat, id, secs(0));
                ejected += 1;
            }
        }
        assert_eq!(ejected, 2);
        chat.up("a5", secs(0));
        assert!(!may("a5"), "two of five");
        chat.lost("a3", secs(0));
        assert!(!may("a4"), "one that is away is no help");
    }

    #[test]
    fn e13_requests_of_a_channel_count_while_its_zone_has_nobody_and_no_longer() {
        let test_metrics = TestMetrics::new();
        let chat = chat(&[("a1", "za"), ("b1", "zb")]);
        chat.services.is_bounded.set(true);
        chat.up("a1", secs(0));
        // Of zone zb, by crc32.
        let alice = channel(&test_metrics, "alice");
        let ask = || {
            let Chosen { link, fallback_of, home, .. } =
                chat.services.choose_for("chat", "app", "alice", Some(&alice)).unwrap();
            if let Some(service) = home {
                alice.set_home(service, link.key);
            }
            (
                link.instance.id.clone(),
                fallback_of.map(|zone| chat.services.selector().zone_name(zone).to_owned()),
            )
        };
        for _ in 0..3 {
            assert_eq!(ask(), ("a1".to_owned(), Some("zb".to_owned())));
        }
        chat.up("b1", secs(1));
        assert_eq!(ask(), ("a1".to_owned(), None), "it stays, and its zone is served");
        chat.on("b1", HealthEvent::Lost(Loss::Ended), secs(2));
        assert_eq!(ask(), ("a1".to_owned(), Some("zb".to_owned())));
        // Its instance leaves, and has a request of it still.
        chat.up("b1", secs(2));
        let (waiting, b1) = (ticket(&alice, "chat.user.talk", 1), chat.link("b1").key);
        waiting.set_stage(RequestStage::Sent(b1));
        alice.pending.borrow_mut().push(waiting);
        alice.set_home(chat.services.service("chat").unwrap().number, b1);
        let follow_until = Instant::now() + secs(3600);
        chat.link("b1").drain(Drain { follow_until, by: follow_until });
        chat.services.refresh("chat");
        assert_eq!(ask(), ("b1".to_owned(), None), "that is no other zone");
    }

    /// The vectors hold for channels, with bounded load and without, while nobody is overloaded.
    #[test]
    fn every_lookup_of_the_vectors_for_a_channel() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/selector.json")).unwrap();
        let test_metrics = TestMetrics::new();
        let mut seen = 0;
        for (set, is_bounded) in
            vectors["sets"].as_array().unwrap().iter().flat_map(|set| [(set, true), (set, false)])
        {
            let route = Route::from_json(&set["route"].to_string()).unwrap();
            let names = ["chat".to_owned()];
            let services = Services::new(RouteSelector::new(&route), names, is_bounded);
            for (key, pair) in set["services"].as_array().unwrap().iter().enumerate() {
                let link = chat_link(key, pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
                link.on(HealthEvent::Alive, Instant::now(), &rule());
                services.add(&link);
            }
            services.refresh("chat");
            for case in set["cases"].as_array().unwrap() {
                let (app, account) = (case["app"].as_str().unwrap(), case["account"].as_str().unwrap());
                let channel = channel(&test_metrics, account);
                for _ in 0..2 {
                    let chosen = services.choose_for("chat", app, account, Some(&channel)).unwrap();
                    assert_eq!(chosen.link.instance.id, case["service"].as_str().unwrap(), "{case}");
                    assert!(!chosen.is_spilled);
                    // Of the one that is kept as well.
                    assert_eq!(chosen.fallback_of.is_some(), case["fallback"].as_bool().unwrap());
                    if let Some(service) = chosen.home {
                        channel.set_home(service, chosen.link.key);
                    }
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 4 * 220);
    }

    #[test]
    fn new_accounts_spill_within_their_zone_only() {
        let (test_metrics, bounded) = (TestMetrics::new(), true);
        let route = r#"{"zones": [{"id": "za", "weight": 1}, {"id": "zb", "weight": 1}]}"#;
        let selector = RouteSelector::new(&Route::from_json(route).unwrap());
        let services = Services::new(selector, ["chat".to_owned()], bounded);
        let links: Vec<_> = [("a1", "za"), ("a2", "za"), ("a3", "za"), ("b1", "zb")]
            .iter()
            .enumerate()
            .map(|(key, (id, zone))| chat_link(key, id, zone))
            .collect();
        for link in &links {
            link.on(HealthEvent::Alive, Instant::now(), &rule());
            services.add(link);
        }
        services.refresh("chat");
        let someone = channel(&test_metrics, "someone");
        let crowd = |at: usize| {
            let ticket = ticket(&someone, "chat.user.talk", 1);
            links[at].enqueue(Payload::Request(ticket), Encoded::whole(bytes::Bytes::from_static(b"x")));
        };
        let places = || {
            let place = |n| {
                let (account, new) = (format!("u{n}"), channel(&test_metrics, "new"));
                let zone = services
                    .selector()
                    .zone_name(services.selector().route_key("app", &account).zone)
                    .to_owned();
                let chosen = services.choose_for("chat", "app", &account, Some(&new)).unwrap();
                format!("{zone}:{}", chosen.link.instance.id)
            };
            (0..200).map(place).collect::<BTreeSet<_>>()
        };
        let everyone = set(["za:a1", "za:a2", "za:a3", "zb:b1"]);
        assert_eq!(places(), everyone);
        crowd(0);
        assert_eq!(places(), set(["za:a2", "za:a3", "zb:b1"]));
        crowd(3);
        assert_eq!(places(), set(["za:a2", "za:a3", "zb:b1"]), "alone in its zone");
        crowd(1);
        assert_eq!(places(), set(["za:a3", "zb:b1"]));
        crowd(2);
        assert_eq!(places(), everyone, "all are: each gets its own");
    }
}
