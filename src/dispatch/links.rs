//! The registry of a worker's links: one for each instance, those of instances that have left until they end.
//!
//! It alone owns them. What `services` keeps to choose from is made of it anew whenever a standing changes, and `reconciler`
//! runs a task for each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use crate::config::Instance;
use crate::dispatch::health::Standing;
use crate::dispatch::link::Link;
use crate::dispatch::queue::QueueBounds;
use crate::monitor::metrics::Metrics;
use crate::session::pending::InstanceKey;

/// See the module. Keys are never used again.
#[derive(Debug)]
pub(crate) struct LinkRegistry {
    /// In the order of their keys, which only grow.
    links: RefCell<Vec<Rc<Link>>>,
    next_key: Cell<usize>,
    /// Service and id of the instances that an operator has ejected, and since when, whether they are here or not.
    set_aside: RefCell<BTreeMap<(String, String), Instant>>,
    /// Of the queue of each.
    bounds: Cell<QueueBounds>,
    cells: Metrics,
}

impl LinkRegistry {
    /// None yet. Each link will get cells of `cells`, which go when it goes.
    pub(crate) fn new(bounds: QueueBounds, cells: Metrics) -> Self {
        Self {
            links: RefCell::default(),
            next_key: Cell::new(0),
            set_aside: RefCell::default(),
            bounds: Cell::new(bounds),
            cells,
        }
    }

    /// A link for an instance, not connected yet.
    pub(crate) fn add(&self, instance: Instance, is_of_first_set: bool) -> Rc<Link> {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        let cells = self.cells.link(&instance.service, &instance.id, &instance.zone);
        let name = (instance.service.clone(), instance.id.clone());
        let link = Link::new(InstanceKey(key), instance, is_of_first_set, self.bounds.get(), cells);
        if let Some(since) = self.set_aside.borrow().get(&name) {
            link.set_aside(Some(*since));
        }
        self.links.borrow_mut().push(Rc::clone(&link));
        link
    }

    /// The queues of all are bounded so from now on. What waits already is not dropped.
    pub(crate) fn set_bounds(&self, bounds: QueueBounds) {
        self.bounds.set(bounds);
        self.links.borrow().iter().for_each(|link| link.change_queue(|queue| queue.set_bounds(bounds)));
    }

    /// The link with this key, unless it is gone.
    pub(crate) fn get(&self, key: InstanceKey) -> Option<Rc<Link>> {
        let links = self.links.borrow();
        let position = links.binary_search_by_key(&key, |link| link.key).ok()?;
        Some(Rc::clone(&links[position]))
    }

    /// The link with this key is gone.
    pub(crate) fn remove(&self, key: InstanceKey) {
        self.links.borrow_mut().retain(|link| link.key != key);
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Rc<Link>> {
        self.links.borrow().clone()
    }

    /// Those of a service, the oldest first.
    pub(crate) fn of_service(&self, service: &str) -> Vec<Rc<Link>> {
        self.links.borrow().iter().filter(|link| link.instance.service == service).cloned().collect()
    }

    /// Those of an instance: more than one if it came again in another place before the last one's link had ended.
    fn of_instance(&self, service: &str, id: &str) -> Vec<Rc<Link>> {
        let mut links = self.of_service(service);
        links.retain(|link| link.instance.id == id);
        links
    }

    /// An operator ejects this instance, also when it comes again; returns its links.
    pub(super) fn set_aside(&self, service: &str, id: &str, now: Instant) -> Vec<Rc<Link>> {
        let name = (service.to_owned(), id.to_owned());
        let since = *self.set_aside.borrow_mut().entry(name).or_insert(now);
        let links = self.of_instance(service, id);
        links.iter().for_each(|link| link.set_aside(Some(since)));
        links
    }

    /// An operator returns this instance, of whatever service where none is named; service and links of each that was ejected.
    pub(super) fn take_back(&self, service: Option<&str>, id: &str) -> Vec<(String, Vec<Rc<Link>>)> {
        let is_meant =
            |name: &(String, String)| service.is_none_or(|service| name.0 == service) && name.1 == id;
        let mut names: Vec<_> =
            self.set_aside.borrow().keys().filter(|name| is_meant(name)).cloned().collect();
        let mut set_aside = self.set_aside.borrow_mut();
        names.retain(|name| set_aside.remove(name).is_some());
        let back = names.into_iter().map(|(service, id)| {
            let links = self.of_instance(&service, &id);
            links.iter().for_each(|link| link.set_aside(None));
            (service, links)
        });
        back.collect()
    }

    /// Ids of the instances of a service that an operator has ejected.
    pub(super) fn ids_set_aside(&self, service: &str) -> Vec<String> {
        let set_aside = self.set_aside.borrow();
        set_aside.keys().filter(|(of, _)| of == service).map(|(_, id)| id.clone()).collect()
    }

    /// How many instances of a service are linked and not ejected by an operator, warming ones included.
    pub(crate) fn live(&self, service: &str) -> usize {
        let links = self.links.borrow();
        links.iter().filter(|link| link.instance.service == service && link.standing().is_some()).count()
    }

    /// Returns `true` if enough instances of its zone would remain without this one. At most half of those that are
    /// linked are ejected, and never the only one.
    pub(crate) fn may_eject(&self, link: &Link) -> bool {
        let links = self.links.borrow();
        let is_here = |other: &&Rc<Link>| {
            (&other.instance.service, &other.instance.zone) == (&link.instance.service, &link.instance.zone)
        };
        let standings = links.iter().filter(is_here).filter_map(|other| other.standing());
        let (mut linked, mut ejected) = (0, 0);
        for standing in standings {
            linked += 1;
            ejected += usize::from(standing > Standing::Warming);
        }
        ejected < linked / 2
    }
}
