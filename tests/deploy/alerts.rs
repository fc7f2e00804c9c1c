//! The alerts: every rule asks for something the gateway has, every event has a rule, and Prometheus finds the file.

use std::collections::BTreeSet;

use serde_json::Value;

use super::files::Files;
use super::query::Query;
use super::scrape::Families;

const NAME: &str = "alerts.yml";
const RUNBOOKS: &str = "docs/runbooks.md";

/// What whoever is woken up sorts by.
const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];

pub fn check(files: &Files, families: &Families, found: &mut Vec<String>) {
    mounted(files, found);
    let file = files.yaml(NAME);
    let groups = file["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rules: Vec<&Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let (records, rules): (Vec<&Value>, Vec<&Value>) =
        rules.into_iter().partition(|rule| rule["record"].is_string());
    recorded(&records, families, found);
    let mut names = BTreeSet::new();
    let mut told = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap_or_default();
        let place = format!("{NAME}: {name}");
        if name.is_empty() || !names.insert(name) {
            found.push(format!("{place}: an alert has a name of its own"));
        }
        let query = Query::parse(rule["expr"].as_str().unwrap_or_default());
        query.check(families, &place, found);
        for metric in &query.bare {
            found.push(format!("{place}: {metric} is asked for without job=\"gateway\""));
        }
        for metric in query.without_matcher("job", "gateway") {
            found.push(format!("{place}: {metric} is asked for without job=\"gateway\""));
        }
        texts(rule, &query, families, &place, found);
        let runbook = format!("{RUNBOOKS}#{}", name.to_lowercase());
        if rule["annotations"]["runbook_url"] != runbook.as_str() {
            found.push(format!("{place}: its runbook_url is not {runbook}"));
        }
        told.extend(rule["labels"]["event"].as_str());
    }
    runbooks(files.text(RUNBOOKS), &names, found);
    let events = families.get("gateway_events_total").and_then(|labels| labels.get("event"));
    for event in events.into_iter().flatten() {
        if !told.remove(event.as_str()) {
            found.push(format!("{NAME}: no alert tells of the event {event}"));
        }
    }
    for event in told {
        found.push(format!("{NAME}: there is no event {event}"));
    }
}

/// What is recorded is kept by gateway, under names as Prometheus has them: level, metric, operation.
fn recorded(records: &[&Value], families: &Families, found: &mut Vec<String>) {
    if records.is_empty() {
        found.push(format!("{NAME}: nothing is recorded"));
    }
    for rule in records {
        let name = rule["record"].as_str().unwrap_or_default();
        let place = format!("{NAME}: {name}");
        let parts: Vec<&str> = name.split(':').collect();
        if parts.len() != 3 || parts[0] != "instance" || !parts[1].starts_with("gateway_") {
            found.push(format!("{place}: it is not named instance:gateway_…:operation"));
        }
        let query = Query::parse(rule["expr"].as_str().unwrap_or_default());
        query.check(families, &place, found);
        if !query.grouped.contains("instance") {
            found.push(format!("{place}: it is not by instance"));
        }
        for metric in query.without_matcher("job", "gateway") {
            found.push(format!("{place}: {metric} is asked for without job=\"gateway\""));
        }
    }
}

/// Every alert has its section, every section its alert, and each says the three things that whoever is woken up asks.
fn runbooks(text: &str, alerts: &BTreeSet<&str>, found: &mut Vec<String>) {
    let sections: Vec<(&str, &str)> =
        text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    for alert in alerts.iter().filter(|alert| !sections.iter().any(|(name, _)| name == *alert)) {
        found.push(format!("{RUNBOOKS}: {alert} has no section"));
    }
    for (name, section) in sections {
        if !alerts.contains(name) {
            found.push(format!("{RUNBOOKS}: there is no alert {name}"));
        }
        for question in ["**Users:**", "**Look:**", "**Do:**"] {
            if !section.contains(question) {
                found.push(format!("{RUNBOOKS}: {name} does not say {question}"));
            }
        }
    }
}

/// The label severity, and texts that name only labels the alert has.
fn texts(rule: &Value, query: &Query, families: &Families, place: &str, found: &mut Vec<String>) {
    let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
    if !SEVERITIES.contains(&severity) {
        found.push(format!("{place}: its severity is {severity:?}"));
    }
    let own = query.selectors.first().and_then(|selector| families.get(&selector.name));
    for key in ["summary", "description"] {
        let text = rule["annotations"][key].as_str().unwrap_or_default();
        if text.is_empty() {
            found.push(format!("{place}: it has no {key}"));
        }
        for part in text.split("$labels.").skip(1) {
            let label: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let has = match query.grouped.is_empty() {
                true => own.is_some_and(|labels| labels.contains_key(&label)),
                false => query.grouped.contains(&label),
            };
            if !has {
                found.push(format!("{place}: its {key} names {label}, which the alert does not have"));
            }
        }
    }
}

/// Prometheus reads the file, and in the container it lies beside the configuration that names it.
fn mounted(files: &Files, found: &mut Vec<String>) {
    let prometheus = files.yaml("prometheus.yml");
    if prometheus["rule_files"] != serde_json::json!([NAME]) {
        found.push(format!("prometheus.yml: its rule_files are not {NAME}"));
    }
    let compose = files.yaml("docker-compose.yml");
    let volumes = compose["services"]["prometheus"]["volumes"].as_array().cloned().unwrap_or_default();
    let target = |name: &str| {
        let mounts = volumes.iter().filter_map(Value::as_str);
        let target =
            mounts.filter_map(|mount| mount.strip_prefix(&format!("./{name}:"))?.strip_suffix(":ro"));
        target.filter_map(|path| path.strip_suffix(name)).next().map(str::to_owned)
    };
    if target(NAME).is_none() || target(NAME) != target("prometheus.yml") {
        found.push(format!("docker-compose.yml: {NAME} is not mounted beside prometheus.yml"));
    }
}
