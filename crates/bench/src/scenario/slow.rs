//! Pushes to many, of whom some have stopped to read.

use std::time::Duration;

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::report::{Bound, MetricSeries, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::Contender;
use crate::scenario::latency::{P99, distribution, with_latency};
use crate::scenario::loads::{self, LoadOrder};

/// Channels, those of them that do not read, and pushes a second: about half of what a core delivers.
const CHANNELS: usize = 5000;
const STALLED: usize = CHANNELS / 100;
const PUSHES: f64 = 15.0;

/// Bytes of a push.
const BODY: usize = 4096;

/// How long it goes on before anything is counted: 240 KB for each, several times what their sockets take.
const FILL: Duration = Duration::from_secs(4);

/// What is counted lies before the gateway closes those that do not read, some 9 s after the first push.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(4);

/// Pushes that wait in the gateway for a client that has really stalled, at least.
const WAITING: usize = 16;

const HEALTHY: &str = "all read";
const SLOW: &str = "some do not";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let title = format!("{PUSHES} pushes of {BODY} bytes a second to {CHANNELS} channels");
    let (works, notes) = match measure(bench)? {
        Some(work) => (vec![work], vec![NOTE.to_owned()]),
        None => (Vec::new(), vec![NOT_MEASURED.to_owned()]),
    };
    Ok(ScenarioResult { id: "B13".to_owned(), title, works, notes })
}

/// None if those that do not read did not stall.
fn measure(bench: &BenchRun<'_>) -> Result<Option<WorkResult>, BenchError> {
    let mut counted = [Vec::new(), Vec::new()];
    let mut waiting = Vec::new();
    for round in 1..=bench.settings.rounds {
        for ((who, stalled), counted) in [(HEALTHY, 0), (SLOW, STALLED)].into_iter().zip(&mut counted) {
            bench.tell(&format!("slow clients, round {round}: {who}"));
            // A gateway for each: it closes those that do not read.
            let gateway = GatewayUnderTest::start(bench, BODY)?;
            let work = LoadWork::Push { count: 1 };
            let order = LoadOrder { clients: CHANNELS, body: BODY, work, stalled, rate: PUSHES };
            let load = loads::tcp(bench, gateway.clients, order, Speaks::Gateway)?;
            let mut contender = Contender::gateway(who, gateway.id(), load);
            counted.push(contender.measure_after(FILL, bench.settings.window.clamp(SHORTEST, LONGEST))?);
            if stalled > 0 {
                // The others have everything: what waits is theirs.
                let queued = gateway.metric("gateway_queued_bytes", "")?;
                if !have_stalled(gateway.metric("gateway_closes_total", "\"slow_consumer\"")?, queued) {
                    return Ok(None);
                }
                waiting.push(queued / 1024.0 / STALLED as f64);
            }
        }
    }
    let rows: Vec<_> = [HEALTHY, SLOW].into_iter().zip(&counted).collect();
    let results = rows.iter().map(|(who, counted)| with_latency(who, counted)).collect();
    let mut work = WorkResult::new(&format!("{STALLED} of {CHANNELS} do not read"), results);
    work.distributions = rows.iter().map(|(who, counted)| distribution(who, counted)).collect();
    let (slow, healthy) = (work.values(SLOW, P99), work.values(HEALTHY, P99));
    let what = "p99 of those who read, with and without those who do not";
    work.targets = vec![TargetVerdict::ratio(what, slow, healthy, Bound::AtMost(1.1))];
    work.add(SLOW, MetricSeries::new("KB wait for each", waiting));
    Ok(Some(work))
}

/// Whether each of those that do not read was closed for it, or has pushes waiting.
fn have_stalled(closed: f64, queued_bytes: f64) -> bool {
    queued_bytes >= (STALLED as f64 - closed) * (WAITING * BODY) as f64
}

const NOTE: &str = "the other half of this scenario, twice the capacity, is not measured";

const NOT_MEASURED: &str = "not measured: the sockets of those that do not read took in what was pushed, so nobody had stalled; the \
                            machine is too slow for these pushes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_do_not_read_have_stalled_when_they_were_closed_or_pushes_wait_for_all_of_them() {
        let each = (WAITING * BODY) as f64;
        assert!(!have_stalled(0.0, 0.0));
        assert!(!have_stalled(0.0, 49.0 * each));
        assert!(have_stalled(0.0, 50.0 * each));
        assert!(have_stalled(10.0, 40.0 * each));
        assert!(have_stalled(50.0, 0.0));
    }
}
