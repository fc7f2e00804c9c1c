//! Consul's answer: instances that can be dialled, each id and address once, whatever the order of the list; what is wrong
//! is counted once while it stays.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::config::{Instance, is_host_and_port, is_instance_id};
use crate::discovery::consul::entries::EntryReader;
use crate::monitor::labels::DiscoveryError;
use crate::monitor::metrics::DiscoveryMetrics;
use crate::monitor::metrics::Metrics;
use crate::wire::dialect::Dialect;

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new("gate01", 1, Vec::new()));

/// The body of an answer of the health endpoint.
pub fn target(data: &[u8]) {
    let Ok(entries) = serde_json::from_slice::<Vec<Value>>(data) else { return };
    let zones: BTreeSet<String> = ["za", "zb"].map(str::to_owned).into();
    for last_resort in [false, true] {
        let metrics = METRICS.discovery([]);
        let mut reader = EntryReader::new("chat", zones.clone(), last_resort, Dialect::XIm);
        let instances = reader.read(entries.clone(), &metrics);
        check(&instances, entries.len(), &zones, last_resort);
        let counted = errors(&metrics);
        assert_eq!(reader.read(entries.clone(), &metrics), instances);
        let reversed = entries.iter().rev().cloned().collect();
        assert_eq!(reader.read(reversed, &metrics), instances, "the order of the list matters");
        assert_eq!(errors(&metrics), counted, "counted again although it stayed");
    }
}

fn check(instances: &[Instance], entries: usize, zones: &BTreeSet<String>, last_resort: bool) {
    assert!(instances.len() <= entries && instances.is_sorted_by(|one, next| one.id < next.id));
    let addresses: HashSet<&str> = instances.iter().map(|instance| instance.address.as_str()).collect();
    assert_eq!(addresses.len(), instances.len());
    for Instance { service, id, address, zone, .. } in instances {
        assert!(service == "chat" && is_instance_id(id) && is_host_and_port(address));
        assert!(zones.contains(zone) || (last_resort && zone.is_empty()));
    }
}

fn errors(metrics: &Arc<DiscoveryMetrics>) -> Vec<u64> {
    DiscoveryError::ALL.iter().map(|kind| metrics.errors(*kind)).collect()
}
