//! [`Exposition`]: what `/metrics` showed at one moment, and what of it must balance (G9).

use std::collections::BTreeMap;

/// See the module. Series by their name and labels as they stand in the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    /// Reads Prometheus's text format.
    pub(crate) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of all series of this name with all of these labels, written `key="value"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let is_it = |series: &str| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
                && labels.iter().all(|label| series.contains(label))
        };
        self.0.iter().filter(|(series, _)| is_it(series)).map(|(_, value)| value).sum()
    }

    /// The state a link is in.
    pub(crate) fn link_state(&self, instance: &str) -> Option<&str> {
        let named = format!("instance=\"{instance}\"");
        let is_it = |series: &str| series.starts_with("gateway_link_state{") && series.contains(&named);
        let series = self.0.iter().find(|(series, value)| is_it(series) && **value == 1.0)?.0;
        series.split("state=\"").nth(1)?.split('"').next()
    }

    /// Returns `true` if no request is worked on, no push is being written and no sign-out is owed.
    pub(crate) fn is_quiet(&self) -> bool {
        [
            "gateway_pending_requests",
            "gateway_queued_messages",
            "gateway_link_queued_packets",
            "gateway_signouts_waiting",
        ]
        .iter()
        .all(|name| self.sum(name, &[]) == 0.0)
    }

    /// Balances that do not hold; to be called when it is quiet. `clients` are connected, and
    /// so many tasks were made to panic.
    pub(crate) fn imbalances(&self, clients: usize, panics: usize) -> Vec<String> {
        let all = |name: &str| self.sum(name, &[]);
        let mut found = Vec::new();
        let mut must = |what: &str, left: f64, right: f64| {
            if left != right {
                found.push(format!("{what}: {left} is not {right}"));
            }
        };
        must(
            "requests received = forwarded + rejected",
            all("gateway_requests_received_total"),
            all("gateway_requests_forwarded_total") + all("gateway_requests_rejected_total"),
        );
        must(
            "pushes received = delivered + dropped",
            all("gateway_pushes_received_total"),
            all("gateway_pushes_delivered_total") + all("gateway_push_drops_total"),
        );
        must(
            "connections = opened - closed",
            all("gateway_connections"),
            all("gateway_connections_opened_total") - all("gateway_closes_total"),
        );
        must("connections = clients", all("gateway_connections"), clients as f64);
        must("pending requests", all("gateway_pending_requests"), 0.0);
        must("queued messages", all("gateway_queued_messages"), 0.0);
        must("queued bytes", all("gateway_queued_bytes"), 0.0);
        must("packets queued for links", all("gateway_link_queued_packets"), 0.0);
        must("bytes queued for links", all("gateway_link_queued_bytes"), 0.0);
        must("sign-outs waiting", all("gateway_signouts_waiting"), 0.0);
        must("panics", self.sum("gateway_reject_total", &["reason=\"task_panics\""]), panics as f64);
        found
    }
}
