//! Follows what discovery says: a link for every instance of the set, and none for one that has left it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};
use tracing::warn;

use crate::config::Instance;
use crate::discovery::{Feed, Snapshot};
use crate::dispatch::Dispatch;
use crate::dispatch::dialer::TcpDialer;
use crate::dispatch::link::Link;
use crate::dispatch::reconnect::keep_connected;

/// Services that are not known and of which a word is said; more than a person could have meant.
const MAX_UNKNOWN: usize = 64;

/// The links of one worker and the tasks that keep them.
pub(crate) struct Reconciler {
    dispatch: Rc<Dispatch>,
    dialer: Rc<TcpDialer>,
    /// Services of which the source has named an instance: their first sets are known.
    first_sets: BTreeSet<String>,
    /// One task per link, and its link when it ends.
    tasks: JoinSet<Rc<Link>>,
    /// Services that were named and are not known, each told once.
    unknown: BTreeSet<String>,
}

/// What a snapshot means for the links there are.
#[derive(Debug, Default)]
struct Changes {
    leave: Vec<Rc<Link>>,
    stay: Vec<Rc<Link>>,
    come: Vec<Instance>,
}

impl Changes {
    /// Compares; an instance with anything else than before leaves and comes.
    fn between(links: &[Rc<Link>], snapshot: &Snapshot) -> Self {
        let mut changes = Self::default();
        for instance in &snapshot.instances {
            let same = |link: &&Rc<Link>| link.instance == *instance;
            match links.iter().find(|link| same(link) && !link.is_leaving()) {
                Some(_) => {}
                None => match links.iter().rfind(same) {
                    Some(link) => changes.stay.push(Rc::clone(link)),
                    None => changes.come.push(instance.clone()),
                },
            }
        }
        let has_left = |link: &&Rc<Link>| !link.is_leaving() && !snapshot.instances.contains(&link.instance);
        changes.leave = links.iter().filter(has_left).cloned().collect();
        changes
    }
}

impl Reconciler {
    pub(crate) fn new(dispatch: Rc<Dispatch>, dialer: Rc<TcpDialer>) -> Self {
        Self {
            dispatch,
            dialer,
            first_sets: BTreeSet::new(),
            tasks: JoinSet::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// Runs until it is dropped, which ends every link. A source that has ended leaves its last word.
    pub(crate) async fn follow(mut self, mut feed: Feed) {
        let (mut is_fed, dispatch) = (true, Rc::clone(&self.dispatch));
        let snapshot = feed.borrow_and_update().clone();
        self.apply(&snapshot, Instant::now());
        loop {
            tokio::select! {
                changed = feed.changed(), if is_fed => match changed {
                    Ok(()) => {
                        let snapshot = feed.borrow_and_update().clone();
                        self.apply(&snapshot, Instant::now());
                    }
                    Err(_) => is_fed = false,
                },
                // An instance may be of a service that was not known when it was named.
                () = dispatch.rerouted() => {
                    self.unknown.clear();
                    let snapshot = feed.borrow().clone();
                    self.apply(&snapshot, Instant::now());
                }
                Some(ended) = self.tasks.join_next() => self.ended(ended),
            }
        }
    }

    /// Makes the links those of the snapshot, in one step without an await.
    fn apply(&mut self, snapshot: &Snapshot, now: Instant) {
        let changes = Changes::between(&self.dispatch.services.links.all(), snapshot);
        for link in &changes.stay {
            self.dispatch.undrain(link, now);
        }
        if !changes.leave.is_empty() {
            self.dispatch.drain(&changes.leave, now);
        }
        let mut named = BTreeSet::new();
        for instance in changes.come {
            if !self.dispatch.services.is_known(&instance.service) {
                self.report_unknown(instance);
                continue;
            }
            named.insert(instance.service.clone());
            let is_of_first_set = !self.first_sets.contains(&instance.service);
            self.dispatch.add(instance, is_of_first_set);
        }
        self.first_sets.append(&mut named);
        self.start_waiting();
    }

    /// Starts the links that have no task. One waits until another to the same address has ended, because an instance
    /// refuses a second link of the same gateway id; one whose instance has left is not started, but removed.
    fn start_waiting(&mut self) {
        let links = self.dispatch.services.links.all();
        for link in links.iter().filter(|link| !link.has_task()) {
            let blocks = |other: &Rc<Link>| {
                other.has_task()
                    && other.is_leaving()
                    && (&other.instance.service, &other.instance.address)
                        == (&link.instance.service, &link.instance.address)
            };
            if link.is_leaving() {
                self.dispatch.remove(link);
            } else if !links.iter().any(blocks) {
                self.spawn(Rc::clone(link));
            }
        }
    }

    fn spawn(&mut self, link: Rc<Link>) {
        let (dispatch, dialer) = (Rc::clone(&self.dispatch), Rc::clone(&self.dialer));
        link.set_task(true);
        self.tasks.spawn_local(async move {
            keep_connected(Rc::clone(&link), dispatch, dialer).await;
            link
        });
    }

    /// The task of a link ended, because its instance has left; it may be back since. A panic is one of the worker's: what
    /// serves a connection has a task of its own.
    fn ended(&mut self, ended: Result<Rc<Link>, JoinError>) {
        match ended {
            Ok(link) => link.set_task(false),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
        self.start_waiting();
    }

    fn report_unknown(&mut self, instance: Instance) {
        if self.unknown.len() < MAX_UNKNOWN && !self.unknown.contains(&instance.service) {
            warn!(
                event = "service_unknown",
                service = instance.service,
                instance = instance.id,
                "discovery named an instance of a service that the configuration does not know; it gets nothing"
            );
            self.unknown.insert(instance.service);
        }
    }
}
