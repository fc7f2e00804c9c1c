//! What can be said of a query of Prometheus without a parser of the whole language.

use std::collections::BTreeSet;

use super::scrape::Families;

pub struct Selector {
    pub name: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// An expression.
pub struct Query {
    pub selectors: Vec<Selector>,
    /// Metric names without braces.
    pub bare: Vec<String>,
    /// Labels behind `by`.
    pub grouped: BTreeSet<String>,
}

impl Query {
    pub fn parse(text: &str) -> Self {
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

    /// The metrics that do not have this label matched against this value.
    pub fn without_matcher(&self, label: &str, value: &str) -> Vec<&str> {
        let has = |selector: &&Selector| !selector.matchers.iter().any(|(l, _, v)| l == label && v == value);
        self.selectors.iter().filter(has).map(|selector| selector.name.as_str()).collect()
    }

    /// Metrics, labels and values are there.
    pub fn check(&self, families: &Families, place: &str, found: &mut Vec<String>) {
        if self.selectors.is_empty() {
            found.push(format!("{place}: asks for no metric"));
        }
        let mut labels = BTreeSet::new();
        for Selector { name, matchers } in &self.selectors {
            let Some(family) = families.get(name) else {
                found.push(format!("{place}: there is no metric {name}"));
                continue;
            };
            labels.extend(family.keys());
            for (label, operator, value) in matchers {
                match family.get(label) {
                    None => found.push(format!("{place}: {name} has no label {label}")),
                    // Which gateways there are is not known here.
                    Some(_) if label == "instance" => {}
                    Some(values) => {
                        let wanted =
                            if operator.contains('~') { value.split('|').collect() } else { vec![&**value] };
                        for value in wanted.into_iter().filter(|value| !values.contains(*value)) {
                            found.push(format!("{place}: {name} never has {label}={value:?}"));
                        }
                    }
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
