//! The instances of the logic services, each over all workers that have a link to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::cells::LinkMetrics;
use super::labels::LinkState;

/// One instance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InstanceRow {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) zone: String,
    /// The worst of its links: `healthy`, `warming`, `ejected`, `dialling` or `broken`.
    pub(crate) state: &'static str,
    /// One for each worker.
    pub(crate) links: u64,
    pub(crate) healthy_links: u64,
    /// Since it is known; likewise below.
    pub(crate) requests: u64,
    pub(crate) pushes: u64,
    pub(crate) reconnects: u64,
    /// Now.
    pub(crate) queued_packets: i64,
    pub(crate) queued_bytes: i64,
}

/// Its links together.
#[derive(Default)]
pub(super) struct LinkTotals {
    pub(super) worst: usize,
    pub(super) links: u64,
    pub(super) healthy: u64,
    pub(super) reconnects: u64,
    pub(super) requests: u64,
    pub(super) pushes: u64,
    pub(super) packets: i64,
    pub(super) bytes: i64,
}

impl LinkTotals {
    /// By service, instance and zone.
    pub(super) fn of(links: &[Arc<LinkMetrics>]) -> BTreeMap<[&str; 3], Self> {
        let mut instances: BTreeMap<[&str; 3], Self> = BTreeMap::new();
        for link in links {
            instances.entry([&link.service, &link.instance, &link.zone]).or_default().add(link);
        }
        instances
    }

    fn add(&mut self, link: &LinkMetrics) {
        let state = link.state();
        self.worst = self.worst.max(state.index());
        self.links += 1;
        self.healthy += u64::from(state == LinkState::Healthy);
        self.reconnects += link.reconnects.get();
        self.requests += link.requests_sent.get();
        self.pushes += link.pushes_received.get();
        self.packets += link.queued_packets.get();
        self.bytes += link.queued_bytes.get();
    }
}

impl InstanceRow {
    pub(super) fn of(links: &[Arc<LinkMetrics>]) -> Vec<Self> {
        let row = |([service, instance, zone], totals): ([&str; 3], LinkTotals)| Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            state: LinkState::ALL.get(totals.worst).map_or("unknown", |state| state.label()),
            links: totals.links,
            healthy_links: totals.healthy,
            requests: totals.requests,
            pushes: totals.pushes,
            reconnects: totals.reconnects,
            queued_packets: totals.packets,
            queued_bytes: totals.bytes,
        };
        LinkTotals::of(links).into_iter().map(row).collect()
    }
}
