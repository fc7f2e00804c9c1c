//! From what Consul lists to instances that can be dialled. What cannot is skipped, with one warning and one count for
//! as long as it stays in the list. One whose zone is none of the route gets that, too, and serves all the same, if that
//! is configured: accounts whose own zone has nobody.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};

use crate::config::{Instance, is_host_and_port, is_instance_id};
use crate::monitor::metrics::{DiscoveryError, DiscoveryMetrics};
use crate::wire::dialect::Dialect;

/// What instances must serve: links are plain TCP.
const PROTOCOL: &str = "tcp";

/// Longest part of a foreign text in a log line, characters.
const MAX_SHOWN: usize = 64;

/// One entry of the health endpoint, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceEntry {
    node: Node,
    service: AgentService,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentService {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    modify_index: u64,
}

impl AgentService {
    fn meta(&self, key: &str) -> &str {
        self.meta.as_ref().and_then(|meta| meta.get(key)).map_or("", String::as_str)
    }
}

/// An instance, and what is needed to choose between two of one id or address.
struct FoundInstance {
    instance: Instance,
    /// What is to be said of it although it serves.
    remark: Option<Skipped>,
    registered: u64,
    weight: String,
}

impl FoundInstance {
    /// The smallest is kept. Everything that tells two apart is in it, what is said of them as well, because they may be
    /// registered at once.
    fn rank(&self) -> (Reverse<u64>, &str, &str, &str, usize, Option<&str>) {
        let Instance { id, address, zone, dialect, .. } = &self.instance;
        let remark = self.remark.as_ref().map(|(_, text)| text.as_str());
        (Reverse(self.registered), address, id, zone, dialect.index(), remark)
    }
}

/// What is wrong with an entry, and what is said about it.
type Skipped = (DiscoveryError, String);

/// Reads the entries of one service.
#[derive(Debug, Clone)]
pub(crate) struct EntryReader {
    service: String,
    zones: BTreeSet<String>,
    /// An instance of none of these zones is not skipped.
    last_resort: bool,
    dialect: Dialect,
    /// What was in the last answer: instances, and those that were skipped.
    seen: BTreeSet<String>,
}

impl EntryReader {
    /// Instances without a dialect of their own speak `dialect`.
    pub(crate) fn new(service: &str, zones: BTreeSet<String>, last_resort: bool, dialect: Dialect) -> Self {
        Self { service: service.to_owned(), zones, last_resort, dialect, seen: BTreeSet::new() }
    }

    /// The usable instances of an answer, sorted by id. No two have the same id or address.
    pub(crate) fn read(&mut self, entries: Vec<Value>, metrics: &DiscoveryMetrics) -> Vec<Instance> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for entry in entries {
            match self.instance(entry) {
                Ok(instance) => found.push(instance),
                Err(skipped) => self.remark(&mut seen, &skipped, metrics),
            }
        }
        // The newest registration first, whatever the order of the list.
        found.sort_by(|one, other| one.rank().cmp(&other.rank()));
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let mut instances = Vec::new();
        for FoundInstance { instance, remark, weight, .. } in found {
            let Instance { id, address, zone, dialect, .. } = &instance;
            if ids.contains(id) || addresses.contains(address) {
                let text = format!("{} at {address} has the id or the address of a newer one", shown(id));
                self.remark(&mut seen, &(DiscoveryError::Duplicate, text), metrics);
                continue;
            }
            if let Some(remark) = remark {
                self.remark(&mut seen, &remark, metrics);
            }
            let line = format!("{id} {address} {zone} {dialect}");
            if !self.seen.contains(&line) {
                info!(event = "instance_found", service = self.service, id, address, zone, %dialect, weight = shown(&weight));
            }
            seen.insert(line);
            ids.insert(id.clone());
            addresses.insert(address.clone());
            instances.push(instance);
        }
        self.seen = seen;
        instances.sort_by(|one, other| one.id.cmp(&other.id));
        instances
    }

    fn instance(&self, entry: Value) -> Result<FoundInstance, Skipped> {
        let bad = |text: String| (DiscoveryError::BadEntry, text);
        let entry: ServiceEntry =
            serde_json::from_value(entry).map_err(|_| bad("an entry without id or address".to_owned()))?;
        let ServiceEntry { node, service } = entry;
        let id = shown(&service.id);
        if !is_instance_id(&service.id) {
            return Err(bad(format!("{id}: the id is no word of 1 to 64 bytes")));
        }
        let protocol = service.meta("protocol");
        if !matches!(protocol, "" | PROTOCOL) {
            let text = format!("{id}: meta protocol is {:?}, only \"tcp\" is served", shown(protocol));
            return Err((DiscoveryError::OtherProtocol, text));
        }
        let (zone, remark) = match self.zone(&id, service.meta("zone")) {
            Ok(zone) => (zone, None),
            Err(unzoned) if self.last_resort => ("", Some(unzoned)),
            Err(unzoned) => return Err(unzoned),
        };
        let dialect = match service.meta("dialect") {
            "" => self.dialect,
            text => text
                .parse()
                .map_err(|_| bad(format!("{id}: meta dialect is {:?}, and not x_im or kim", shown(text))))?,
        };
        let host = if service.address.is_empty() { &node.address } else { &service.address };
        let address = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{}", service.port),
            false => format!("{host}:{}", service.port),
        };
        if !is_host_and_port(&address) {
            return Err(bad(format!("{id}: {:?} is no address", shown(&address))));
        }
        let instance = Instance {
            service: self.service.clone(),
            id: service.id.clone(),
            address,
            zone: zone.to_owned(),
            dialect,
        };
        let weight = service.meta("weight").to_owned();
        Ok(FoundInstance { instance, remark, registered: service.modify_index, weight })
    }

    /// A zone of the route. What an instance names beside them is not its zone for anybody: it has none.
    fn zone<'a>(&self, id: &str, named: &'a str) -> Result<&'a str, Skipped> {
        if self.zones.contains(named) {
            return Ok(named);
        }
        let becomes = if self.last_resort {
            "it serves only accounts whose own zone has nobody"
        } else {
            "discovery.consul.last_resort is false: it is skipped"
        };
        let text = format!("{id}: meta zone is {:?}, which is no zone of the route; {becomes}", shown(named));
        Err((DiscoveryError::BadZone, text))
    }

    fn remark(&self, seen: &mut BTreeSet<String>, (kind, text): &Skipped, metrics: &DiscoveryMetrics) {
        let line = format!("{} {text}", kind.label());
        let known = self.seen.contains(&line);
        // Twice in one answer is one thing that is wrong.
        if seen.insert(line) && !known {
            metrics.error(*kind);
            let serves = *kind == DiscoveryError::BadZone && self.last_resort;
            let event = if serves { "instance_unzoned" } else { "instance_skipped" };
            warn!(event, service = self.service, kind = kind.label(), "{text}");
        }
    }
}

/// A foreign text, cut short and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::monitor::metrics::Metrics;

    struct TestEntries {
        reader: EntryReader,
        metrics: Arc<DiscoveryMetrics>,
    }

    fn bench() -> TestEntries {
        let zones = ["za", "zb"].map(str::to_owned).into();
        let metrics = Metrics::new("gate01", 1, Vec::new()).discovery([]);
        TestEntries { reader: EntryReader::new("chat", zones, false, Dialect::XIm), metrics }
    }

    impl TestEntries {
        fn read(&mut self, entries: &[Value]) -> Vec<String> {
            let found = self.reader.read(entries.to_vec(), &self.metrics);
            found
                .iter()
                .map(|found| format!("{}@{} {} {}", found.id, found.address, found.zone, found.dialect))
                .collect()
        }
    }

    fn entry(id: &str, address: &str, port: u16, meta: Value, modified: u64) -> Value {
        json!({
            "Node": { "Node": "n1", "Address": "10.0.0.9" },
            "Service": {
                "ID": id, "Service": "chat", "Address": address, "Port": port, "Meta": meta,
                "ModifyIndex": modified, "Weights": { "Passing": 1 }
            },
            "Checks": []
        })
    }

    #[test]
    fn meta_says_zone_protocol_and_dialect_and_the_node_lends_its_address() {
        let read = bench().read(&[
            entry("b", "10.0.0.2", 9001, json!({"zone": "zb", "dialect": "kim", "weight": "7"}), 2),
            entry("a", "", 9001, json!({"zone": "za", "protocol": "tcp"}), 1),
            entry("c", "fd00::1", 9001, json!({"zone": "za"}), 1),
            entry("d", "chat.example.org", 9001, json!({"zone": "za"}), 1),
        ]);
        assert_eq!(
            read,
            [
                "a@10.0.0.9:9001 za x_im",
                "b@10.0.0.2:9001 zb kim",
                "c@[fd00::1]:9001 za x_im",
                "d@chat.example.org:9001 za x_im"
            ]
        );
    }

    #[test]
    fn what_cannot_be_used_is_skipped_and_counted_once_while_it_stays() {
        use DiscoveryError::{BadEntry, BadZone, OtherProtocol};
        let zone = json!({"zone": "za"});
        let cases = [
            (BadZone, entry("x", "h", 1, json!({"zone": "mars"}), 1)),
            (BadZone, entry("x", "h", 1, json!({}), 1)),
            (BadZone, entry("x", "h", 1, Value::Null, 1)),
            (OtherProtocol, entry("x", "h", 1, json!({"zone": "za", "protocol": "ws"}), 1)),
            (BadEntry, entry("x", "h", 1, json!({"zone": "za", "dialect": "go"}), 1)),
            (BadEntry, entry("", "h", 1, zone.clone(), 1)),
            (BadEntry, entry("a b", "h", 1, zone.clone(), 1)),
            (BadEntry, entry(&"i".repeat(65), "h", 1, zone.clone(), 1)),
            (BadEntry, entry("x", "h", 0, zone.clone(), 1)),
            (BadEntry, entry("x", "h/p", 1, zone.clone(), 1)),
            (BadEntry, json!({"Node": {}, "Service": {"ID": "x", "Port": 1, "Meta": {"zone": "za"}}})),
            (BadEntry, json!({"Service": {"ID": "x"}})),
            (BadEntry, json!(7)),
            (BadEntry, Value::Null),
        ];
        let good = entry("good", "h", 2, zone, 1);
        for (kind, bad) in cases {
            let mut bench = bench();
            for _ in 0..3 {
                assert_eq!(bench.read(&[bad.clone(), good.clone()]), ["good@h:2 za x_im"], "{bad}");
            }
            assert_eq!(bench.metrics.errors(kind), 1, "{bad}");
            bench.read(std::slice::from_ref(&good));
            bench.read(std::slice::from_ref(&bad));
            assert_eq!(bench.metrics.errors(kind), 2, "it was away meanwhile: {bad}");
        }
    }

    /// Their routes do not know of them either, and when a zone has nobody they are among all.
    #[test]
    fn an_instance_of_no_zone_of_the_route_serves_as_a_last_resort_and_is_told_once_while_it_stays() {
        let mut bench = bench();
        bench.reader.last_resort = true;
        let entries = [
            entry("a", "h", 1, json!({"zone": "za"}), 1),
            entry("b", "h", 2, json!({"zone": "mars"}), 1),
            entry("c", "h", 3, json!({}), 1),
            entry("d", "h", 4, json!({"zone": "za", "protocol": "ws"}), 1),
        ];
        for _ in 0..3 {
            assert_eq!(bench.read(&entries), ["a@h:1 za x_im", "b@h:2  x_im", "c@h:3  x_im"]);
        }
        assert_eq!(bench.metrics.errors(DiscoveryError::BadZone), 2);
    }

    #[test]
    fn e12_of_two_with_one_id_or_address_the_newest_registration_wins_in_any_order() {
        let zone = json!({"zone": "za"});
        let by_id = [entry("a", "old", 1, zone.clone(), 5), entry("a", "new", 1, zone.clone(), 9)];
        let by_address = [entry("old", "h", 1, zone.clone(), 5), entry("new", "h", 1, zone.clone(), 9)];
        let at_once = [entry("b", "h", 1, zone.clone(), 5), entry("a", "h", 1, zone.clone(), 5)];
        let in_two_zones = [entry("a", "h", 1, json!({"zone": "zb"}), 5), entry("a", "h", 1, zone, 5)];
        for (pair, expected) in [
            (by_id, "a@new:1 za x_im"),
            (by_address, "new@h:1 za x_im"),
            (at_once, "a@h:1 za x_im"),
            (in_two_zones, "a@h:1 za x_im"),
        ] {
            let mut bench = bench();
            assert_eq!(bench.read(&pair), [expected]);
            let [one, other] = pair;
            assert_eq!(bench.read(&[other, one]), [expected]);
            assert_eq!(bench.metrics.errors(DiscoveryError::Duplicate), 1);
        }
    }

    #[test]
    fn of_two_that_differ_in_the_zone_they_have_not_the_same_one_is_told_of_in_any_order() {
        let mut bench = bench();
        bench.reader.last_resort = true;
        let [one, other] = [json!({"zone": "mars"}), json!({})].map(|meta| entry("a", "h", 1, meta, 5));
        for pair in [[one.clone(), other.clone()], [other, one]] {
            assert_eq!(bench.read(&pair), ["a@h:1  x_im"]);
        }
        assert_eq!(bench.metrics.errors(DiscoveryError::BadZone), 1);
    }

    #[test]
    fn foreign_text_is_cut_short_before_it_is_shown() {
        assert_eq!(shown(&format!("a\n{}", "é".repeat(99))), format!("a?{}", "é".repeat(62)));
    }
}
