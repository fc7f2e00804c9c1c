//! The dashboard: every query asks for something the gateway has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::files::Files;
use super::query::Query;
use super::scrape::Families;

const NAME: &str = "grafana/dashboards/gateway.json";

pub fn check(files: &Files, families: &Families, found: &mut Vec<String>) {
    let dashboard = files.json(NAME);
    let source = files.yaml("grafana/provisioning/datasources/prometheus.yml");
    let uid = source["datasources"][0]["uid"].as_str().unwrap_or_default();
    let mut asked = BTreeSet::new();
    let panels = dashboard["panels"].as_array().map(Vec::as_slice).unwrap_or_default();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        for target in panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if target["datasource"]["uid"] != uid || panel["datasource"]["uid"] != uid {
                found.push(format!("{NAME}: {title}: its datasource is not {uid:?}"));
            }
            let query = Query::parse(target["expr"].as_str().unwrap_or_default());
            query.check(families, &format!("{NAME}: {title}"), found);
            filters(&query, &format!("{NAME}: {title}"), found);
            legend(&query, target, &format!("{NAME}: {title}"), found);
            asked.extend(query.selectors.into_iter().map(|selector| selector.name));
        }
    }
    if panels.iter().filter(|panel| panel["type"] != "row").any(|panel| panel["targets"][0]["expr"].is_null())
    {
        found.push(format!("{NAME}: a panel asks for nothing"));
    }
    // Nothing an operator could want to know is left out.
    for name in families.keys().filter(|name| !asked.contains(*name)) {
        found.push(format!("{NAME}: no panel shows {name}"));
    }
}

/// Every metric is that of the gateways chosen above.
fn filters(query: &Query, place: &str, found: &mut Vec<String>) {
    for name in &query.bare {
        found.push(format!("{place}: {name} is asked for without braces, so of all gateways"));
    }
    for name in query.without_matcher("instance", "$gateway") {
        found.push(format!("{place}: {name} is not filtered by the gateways chosen above"));
    }
}

/// A legend names only labels that the query leaves.
fn legend(query: &Query, target: &Value, place: &str, found: &mut Vec<String>) {
    let text = target["legendFormat"].as_str().unwrap_or_default();
    for part in text.split("{{").skip(1) {
        let label = part.split("}}").next().unwrap_or_default();
        let kept = if query.grouped.is_empty() { label == "instance" } else { query.grouped.contains(label) };
        if !kept {
            found.push(format!("{place}: the legend names {label}, which the query does not leave"));
        }
    }
}
