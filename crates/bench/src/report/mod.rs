//! What a run found: numbers first, then how they are shown.

mod axis;
#[cfg(test)]
mod example;
pub mod html;
mod html_text;
mod plot;
pub mod table;
mod verdict;

use serde::Serialize;

pub use self::verdict::{Bound, TargetVerdict};

/// Everything a run found.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// Where it was measured.
    pub machine: MachineFacts,
    /// How often each measurement was made.
    pub rounds: usize,
    /// How long each counted, seconds.
    pub seconds: f64,
    /// By scenario.
    pub scenarios: Vec<ScenarioResult>,
}

/// The machine and what was measured on it.
#[derive(Debug, Clone, Serialize)]
pub struct MachineFacts {
    /// The processor.
    pub processor: String,
    /// Cores of the machine.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Which core was whose; a machine with one core pins nothing.
    pub pinned: String,
    /// Version and commit of the gateway.
    pub gateway: String,
}

/// What one scenario found.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioResult {
    /// Its name, in capitals.
    pub id: String,
    /// What is done.
    pub title: String,
    /// Each amount of it.
    pub works: Vec<WorkResult>,
    /// What was left out, and what else must be known to read the numbers.
    pub notes: Vec<String>,
}

/// One amount of work, done by several.
#[derive(Debug, Clone, Serialize)]
pub struct WorkResult {
    /// Such as "64 clients".
    pub title: String,
    /// Who did it.
    pub contenders: Vec<ContenderResult>,
    /// What is aimed at, and whether it was met.
    pub targets: Vec<TargetVerdict>,
    /// How long messages took, where that was measured.
    pub distributions: Vec<Distribution>,
    /// How memory grows, where that was measured.
    pub slopes: Vec<MemorySlope>,
}

/// How long messages of one contender took, over all rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Distribution {
    /// Whose they were.
    pub who: String,
    /// Shares of messages from 0 to 1, and the time in microseconds within which they were done.
    pub points: Vec<(f64, f64)>,
}

/// The memory of one contender by the number of idle connections.
#[derive(Debug, Clone, Serialize)]
pub struct MemorySlope {
    /// Whose it is.
    pub who: String,
    /// Connections, and the process's share of memory in MiB.
    pub points: Vec<(f64, f64)>,
}

impl WorkResult {
    /// Work that was done, without targets.
    pub(crate) fn new(title: &str, contenders: Vec<ContenderResult>) -> Self {
        Self {
            title: title.to_owned(),
            contenders,
            targets: Vec::new(),
            distributions: Vec::new(),
            slopes: Vec::new(),
        }
    }

    /// The names of everything that was measured, in order.
    pub(crate) fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for metric in self.contenders.iter().flat_map(|contender| &contender.metrics) {
            if !names.contains(&&*metric.name) {
                names.push(&metric.name);
            }
        }
        names
    }

    /// The values of one metric of one contender; none where it was not measured.
    pub fn values(&self, who: &str, metric: &str) -> &[f64] {
        self.contenders.iter().find(|result| result.who == who).map_or(&[], |result| result.values(metric))
    }

    /// Adds a metric to a contender that is there.
    pub(crate) fn add(&mut self, who: &str, metric: MetricSeries) {
        if let Some(result) = self.contenders.iter_mut().find(|result| result.who == who) {
            result.metrics.push(metric);
        }
    }
}

/// What one contender needed for it.
#[derive(Debug, Clone, Serialize)]
pub struct ContenderResult {
    /// Such as "gateway" or "epoll echo".
    pub who: String,
    /// One for each thing that was measured.
    pub metrics: Vec<MetricSeries>,
}

impl ContenderResult {
    /// The values of one metric; none where it was not measured.
    pub fn values(&self, name: &str) -> &[f64] {
        self.metrics.iter().find(|metric| metric.name == name).map_or(&[], |metric| &metric.values)
    }
}

/// One value for each round.
#[derive(Debug, Clone, Serialize)]
pub struct MetricSeries {
    /// What it is, with its unit.
    pub name: String,
    /// In the order of the rounds.
    pub values: Vec<f64>,
}

impl MetricSeries {
    /// A series.
    pub fn new(name: &str, values: Vec<f64>) -> Self {
        Self { name: name.to_owned(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_measured_stands_in_the_json() {
        let json = serde_json::to_value(example::report()).unwrap();
        let work = &json["scenarios"][0]["works"][0];
        assert_eq!(work["contenders"][0]["metrics"][0]["values"], serde_json::json!([6.0, 6.6, 6.3]));
        assert_eq!(work["targets"][0]["bound"], serde_json::json!({ "AtMost": 1.45 }));
        assert_eq!(work["distributions"][0]["points"][0], serde_json::json!([0.5, 40.0]));
        assert_eq!(work["slopes"][0]["who"], "TCP");
    }
}
