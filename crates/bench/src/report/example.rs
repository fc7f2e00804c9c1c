//! A report for tests.

use crate::report::{
    Bound, ContenderResult, Distribution, MachineFacts, MemorySlope, MetricSeries, RunReport, ScenarioResult,
    TargetVerdict, WorkResult,
};

/// A report with a little of everything.
pub(crate) fn report() -> RunReport {
    let contender = |who: &str, cpu: [f64; 3]| ContenderResult {
        who: who.to_owned(),
        metrics: vec![MetricSeries::new("CPU µs", cpu.to_vec())],
    };
    let (ours, floor) = (contender("gateway", [6.0, 6.6, 6.3]), contender("floor", [4.0, 4.5, 4.2]));
    let ratio = TargetVerdict::ratio(
        "gateway / floor",
        ours.values("CPU µs"),
        floor.values("CPU µs"),
        Bound::AtMost(1.45),
    );
    let work = WorkResult {
        title: "64 clients".to_owned(),
        contenders: vec![ours, floor],
        targets: vec![ratio.with_goal(1.2)],
        distributions: vec![Distribution {
            who: "gateway".to_owned(),
            points: vec![(0.5, 40.0), (0.9, 70.0), (0.99, 200.0)],
        }],
        slopes: vec![MemorySlope { who: "TCP".to_owned(), points: vec![(4000.0, 20.0), (12000.0, 48.0)] }],
    };
    RunReport {
        machine: MachineFacts {
            processor: "a <processor>".to_owned(),
            cores: 2,
            kernel: "6.1".to_owned(),
            pinned: "server on core 1".to_owned(),
            gateway: "0.1.0".to_owned(),
        },
        rounds: 3,
        seconds: 2.0,
        scenarios: vec![ScenarioResult {
            id: "B1".to_owned(),
            title: "TCP echo".to_owned(),
            works: vec![work],
            notes: vec!["nats-server is not installed".to_owned()],
        }],
    }
}
