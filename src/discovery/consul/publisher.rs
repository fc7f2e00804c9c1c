//! Puts the services together again: one snapshot of all, whenever one of them changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::info;

use crate::config::Instance;
use crate::discovery::source::{Feed, Snapshot};
use crate::monitor::metrics::DiscoveryMetrics;

/// The writing end of a [`Feed`].
#[derive(Debug)]
pub(super) struct Publisher {
    sets: Mutex<BTreeMap<String, Vec<Instance>>>,
    feed: watch::Sender<Arc<Snapshot>>,
    metrics: Arc<DiscoveryMetrics>,
}

impl Publisher {
    /// A publisher, and the feed of what it is told: nothing at first.
    pub(super) fn new(metrics: Arc<DiscoveryMetrics>) -> (Self, Feed) {
        let (sender, feed) = watch::channel(Arc::default());
        (Self { sets: Mutex::default(), feed: sender, metrics }, feed)
    }

    /// Others than these services have no instances any more.
    pub(super) fn keep(&self, services: &BTreeSet<String>) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sets.len();
        sets.retain(|service, _| services.contains(service));
        if sets.len() < known {
            self.say(&sets);
        }
    }

    /// These are the instances of a service from now on, sorted by id.
    pub(super) fn publish(&self, service: &str, instances: Vec<Instance>) {
        info!(event = "discovery_changed", service, instances = instances.len());
        self.metrics.updated(service, instances.len());
        // Held until the snapshot is out, so that none is overtaken by an older one.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.insert(service.to_owned(), instances);
        self.say(&sets);
    }

    fn say(&self, sets: &BTreeMap<String, Vec<Instance>>) {
        let instances = sets.values().flatten().cloned().collect();
        self.feed.send_replace(Arc::new(Snapshot { instances }));
    }
}
