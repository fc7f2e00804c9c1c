//! The dashboard: every query asks for something the gateway has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::files::Files;
use super::scrape::Families;

const NAME: &str = "grafana/dashboards/gateway.json";

/// Metrics that Prometheus makes itself.
const OF_PROMETHEUS: &str = "up";

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

struct Selector {
    name: String,
    /// Label, operator, value.
    matchers: Vec<(String, String, String)>,
}

/// What can be said of an expression without a parser of the whole language.
struct Query {
    selectors: Vec<Selector>,
    /// Metric names without braces: they would count all gateways whatever is chosen above.
    bare: Vec<String>,
    /// Labels behind `by`.
    grouped: BTreeSet<String>,
}

impl Query {
    fn parse(text: &str) -> Self {
        let mut query = Self { selectors: Vec::new(), bare: Vec::new(), grouped: BTreeSet::new() };
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"') {
            rest = &rest[start..];
            if let Some(quoted) = rest.strip_prefix('"') {
                rest = quoted.split_once('"').map_or("", |(_, after)| after);
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if let Some(inside) = after.strip_prefix('{') {
                let (inside, after) = inside.split_once('}').unwrap_or((inside, ""));
                let matchers = inside.split(',').filter_map(matcher).collect();
                query.selectors.push(Selector { name: word.to_owned(), matchers });
                rest = after;
            } else if word == "by" {
                let (labels, after) =
                    after.trim_start().trim_start_matches('(').split_once(')').unwrap_or((after, ""));
                query.grouped.extend(labels.split(',').map(|label| label.trim().to_owned()));
                rest = after;
            } else if word.contains('_') && word != "histogram_quantile" && word != "__rate_interval" {
                query.bare.push(word.to_owned());
            }
        }
        query
    }

    fn check(&self, families: &Families, place: &str, found: &mut Vec<String>) {
        if self.selectors.is_empty() {
            found.push(format!("{place}: asks for no metric"));
        }
        for name in &self.bare {
            found.push(format!("{place}: {name} is asked for without braces, so of all gateways"));
        }
        let mut labels = BTreeSet::new();
        for Selector { name, matchers } in &self.selectors {
            let Some(family) = families.get(name) else {
                found.push(format!("{place}: there is no metric {name}"));
                continue;
            };
            labels.extend(family.keys());
            if !matchers.iter().any(|(label, _, value)| label == "instance" && value == "$gateway") {
                found.push(format!("{place}: {name} is not filtered by the gateways chosen above"));
            }
            for (label, operator, value) in matchers {
                match family.get(label) {
                    None => found.push(format!("{place}: {name} has no label {label}")),
                    Some(values) if operator == "=" && name != OF_PROMETHEUS && !values.contains(value) => {
                        found.push(format!("{place}: {name} never has {label}={value:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        for label in self.grouped.iter().filter(|label| !labels.contains(label)) {
            found.push(format!("{place}: it is grouped by {label}, which its metrics do not have"));
        }
    }
}

fn matcher(text: &str) -> Option<(String, String, String)> {
    let at = text.find(['=', '!'])?;
    let (label, rest) = text.split_at(at);
    let (operator, value) = rest.split_once('"')?;
    Some((label.trim().to_owned(), operator.to_owned(), value.trim_end_matches('"').to_owned()))
}

#[test]
fn a_query_is_taken_apart() {
    let query = Query::parse(
        r#"histogram_quantile(0.9, sum by (le, zone) (rate(a_bucket{x="1,5",y!~"b|c"}[$__rate_interval]))) / b_total"#,
    );
    assert_eq!(query.grouped.iter().collect::<Vec<_>>(), ["le", "zone"]);
    assert_eq!(query.bare, ["b_total"]);
    assert_eq!(query.selectors.len(), 1);
    let query = Query::parse(r#"sum(rate(a_total{x="1",y!~"b|c"}[5m]))"#);
    let matchers = &query.selectors[0].matchers;
    let matcher = |index: usize| {
        let (label, operator, value) = &matchers[index];
        [label.as_str(), operator.as_str(), value.as_str()]
    };
    assert_eq!((matcher(0), matcher(1)), (["x", "=", "1"], ["y", "!~", "b|c"]));
}
