//! Every link of a worker, those that are being closed included, by keys that are never used again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::config::Instance;
use crate::dispatch::link::Link;
use crate::dispatch::queue::QueueBounds;
use crate::monitor::metrics::Metrics;
use crate::session::pending::InstanceKey;

/// See the module.
#[derive(Debug)]
pub(crate) struct LinkTable {
    /// In the order of their keys, which only grow.
    links: RefCell<Vec<Rc<Link>>>,
    next_key: Cell<usize>,
    /// Of the queue of each.
    bounds: Cell<QueueBounds>,
    cells: Metrics,
}

impl LinkTable {
    /// None yet. Each link will get cells of `cells`, which go when it goes.
    pub(crate) fn new(bounds: QueueBounds, cells: Metrics) -> Self {
        Self { links: RefCell::default(), next_key: Cell::new(0), bounds: Cell::new(bounds), cells }
    }

    /// A link for an instance, not connected yet.
    pub(crate) fn add(&self, instance: Instance, is_of_first_set: bool) -> Rc<Link> {
        let key = self.next_key.get();
        self.next_key.set(key + 1);
        let cells = self.cells.link(&instance.service, &instance.id, &instance.zone);
        let link = Link::new(InstanceKey(key), instance, is_of_first_set, self.bounds.get(), cells);
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
}
