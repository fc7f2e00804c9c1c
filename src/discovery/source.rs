//! A source of instances: what it is given, what it knows, and its end.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::change::SourceChange;
use crate::config::{Config, Instance};
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::owned_thread::OwnedThread;
use crate::resolve::Resolver;

/// The gateway as its source of instances sees it.
#[derive(Clone)]
pub(crate) struct DiscoveryContext {
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) listening: BoundPorts,
    pub(crate) resolver: Resolver,
    /// Begins the drain, once the source has said goodbye.
    pub(crate) drain: CancellationToken,
}

/// The ports that were bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoundPorts {
    pub(crate) tcp: Option<u16>,
    pub(crate) tls: Option<u16>,
    pub(crate) ws: Option<u16>,
    pub(crate) wss: Option<u16>,
    pub(crate) quic: Option<u16>,
    pub(crate) monitor: Option<SocketAddr>,
}

/// Every instance that is known now, of all services, sorted by service and id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// No two have the same service and id.
    pub instances: Vec<Instance>,
}

/// The newest snapshot, and word of the next. Clones follow independently; a source that has ended leaves its last word.
pub type Feed = watch::Receiver<Arc<Snapshot>>;

/// Whether clients and balancers are to find this gateway where it is registered. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct OwnEntry(Arc<watch::Sender<bool>>);

impl OwnEntry {
    /// They are, until it is told otherwise.
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }

    /// Takes the entry out, or makes it again. Returns at once; where there is none nothing happens.
    pub(crate) fn set(&self, is_listed: bool) {
        self.0.send_replace(is_listed);
    }

    pub(super) fn follow(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// Owns the source. Dropping it ends the source at once.
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(super) feed: Feed,
    pub(super) change: SourceChange,
    pub(super) leave: CancellationToken,
    pub(super) own_entry: OwnEntry,
    /// None where nothing has to be kept up to date.
    pub(super) _thread: Option<OwnedThread>,
}

impl Discovery {
    /// Instead of the configured source: nobody is told of the gateway.
    pub(crate) fn given(feed: Feed, context: DiscoveryContext) -> Self {
        let own_entry = OwnEntry::new();
        Self { feed, change: SourceChange::none(), leave: context.drain, own_entry, _thread: None }
    }

    /// What the source knows.
    pub(crate) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Takes other configurations to it.
    pub(crate) fn change(&self) -> SourceChange {
        self.change.clone()
    }

    /// Takes this gateway's entry out and makes it again, without a drain.
    pub(crate) fn own_entry(&self) -> OwnEntry {
        self.own_entry.clone()
    }

    /// Cancelled, it begins the drain: the source takes this gateway's entry out first, if there is one, and has about
    /// a second for it.
    pub(crate) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }
}
