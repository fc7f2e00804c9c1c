//! The services of the configuration and, for each, a sorted snapshot of the instances that may be chosen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dispatch::link::Link;
use crate::dispatch::selector::{Candidates, RouteSelector, ZoneIndex};

/// The instances of one service.
#[derive(Debug)]
struct Service {
    links: Vec<Rc<Link>>,
    live: RefCell<Candidates<Rc<Link>>>,
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
            let live = RefCell::new(Candidates::new(&selector, none));
            Service { links, live }
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
        let live = self.by_name.get(service)?.live.borrow();
        let choice = self.selector.lookup(app, account, &live)?;
        Some(Chosen { link: Rc::clone(choice.item), fallback_of: choice.fallback.then_some(choice.zone) })
    }

    /// How many instances of a service may be chosen.
    pub(crate) fn live(&self, service: &str) -> usize {
        self.by_name.get(service).map_or(0, |service| service.live.borrow().len())
    }

    /// A link came or went: its service's snapshot is made anew.
    pub(crate) fn refresh(&self, service: &str) {
        let Some(service) = self.by_name.get(service) else { return };
        let live = service.links.iter().filter(|link| link.is_live());
        let entries =
            live.map(|link| (link.instance.id.as_str(), link.instance.zone.as_str(), Rc::clone(link)));
        *service.live.borrow_mut() = Candidates::new(&self.selector, entries);
    }
}
