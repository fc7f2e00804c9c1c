//! The services of the configuration and, for each, a sorted snapshot of the instances that may be chosen.
//!
//! Those are its healthy ones, in whatever zone; while it has none, its warming ones (protocol §6); and beside either those
//! half-open, each for one request. While it has neither, all that are linked: an instance that did not
//! answer before is better than none.

mod explained;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::dispatch::health::Standing;
use crate::dispatch::link::Link;
use crate::dispatch::links::LinkRegistry;
use crate::dispatch::selector::{Candidates, Choice, RouteKey, RouteSelector, ZoneIndex};
use crate::dispatch::zones::Zones;
use crate::monitor::metrics::WorkerMetrics;
use crate::session::channel::{Channel, ServiceNumber};

/// What may be chosen of one service.
#[derive(Debug)]
struct ServiceInstances {
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
    /// Of all services, whether or not they may be chosen.
    pub(crate) links: LinkRegistry,
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
    /// These services, without instances. `is_bounded`: see [`Services::choose_for`]. Zones that become empty, and requests
    /// that leave them, are told to `metrics`.
    pub(crate) fn new(
        selector: RouteSelector,
        names: impl IntoIterator<Item = String>,
        is_bounded: bool,
        links: LinkRegistry,
        metrics: &Arc<WorkerMetrics>,
    ) -> Self {
        let routed = selector.zones().map(|(_, name)| name.to_owned()).collect();
        let services = Self {
            links,
            selector: RefCell::new(Rc::new(selector)),
            by_name: RefCell::default(),
            next_number: Cell::new(0),
            is_bounded: Cell::new(is_bounded),
            zones: Zones::new(routed, Arc::clone(metrics)),
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
        let home = channel.and_then(|channel| self.home(service, channel));
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

    /// The instance a channel has, if it stays there.
    fn home(&self, service: &ServiceInstances, channel: &Channel) -> Option<Rc<Link>> {
        let link = self.links.get(channel.home(service.number)?)?;
        keeps(service, &link, channel).then_some(link)
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

    /// Returns `true` if there is an instance of this service that can be chosen.
    pub(crate) fn has_candidates(&self, service: &str) -> bool {
        self.service(service).is_some_and(|service| !service.candidates.borrow().is_empty())
    }

    /// A link came, changed its standing or went: its service's snapshot is made anew.
    pub(crate) fn refresh(&self, name: &str) {
        let Some(service) = self.service(name) else { return };
        let links = self.links.of_service(name);
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

/// An instance is overloaded with more than this share of the mean, in quarters: 1.25 times.
const QUARTERS: usize = 5;

/// And with so many requests more than the mean at least: below, differences are chance.
const SLACK: usize = 64;

/// What several instances owe together: bounded-load hashing. While nobody is overloaded it decides nothing, and every
/// gateway of a fleet comes to the same choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Loads {
    instances: usize,
    pending: usize,
}

impl Loads {
    /// One instance more, with so many pending requests.
    #[must_use]
    const fn and(self, pending: usize) -> Self {
        Self { instances: self.instances + 1, pending: self.pending.saturating_add(pending) }
    }

    /// Returns `true` if one of them, with so many pending requests, is far above the mean.
    const fn is_exceeded_by(self, pending: usize) -> bool {
        let total = pending.saturating_mul(self.instances);
        total.saturating_mul(4) > self.pending.saturating_mul(QUARTERS)
            && total >= self.pending.saturating_add(SLACK.saturating_mul(self.instances))
    }
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
mod tests;
