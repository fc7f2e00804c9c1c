//! Pushes to many, of whom some have stopped to read.

use std::time::Duration;

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::report::{Bound, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::Contender;
use crate::scenario::latency::{P99, distribution, with_latency};
use crate::scenario::loads::{self, LoadOrder};

/// Channels, those of them that do not read, and pushes a second: about half of what a core delivers.
const CHANNELS: usize = 5000;
const STALLED: usize = CHANNELS / 100;
const PUSHES: f64 = 15.0;

/// Bytes of a push: what nobody reads fills a socket within seconds.
const BODY: usize = 4096;

/// How long it goes on before anything is counted, so that the sockets are full.
const FILL: Duration = Duration::from_secs(4);

const HEALTHY: &str = "all read";
const SLOW: &str = "some do not";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let mut counted = [Vec::new(), Vec::new()];
    for round in 1..=bench.settings.rounds {
        for (who, stalled, counted) in [(HEALTHY, 0), (SLOW, STALLED)]
            .into_iter()
            .zip(&mut counted)
            .map(|((who, stalled), counted)| (who, stalled, counted))
        {
            bench.tell(&format!("slow clients, round {round}: {who}"));
            // A gateway for each: it closes those that do not read.
            let gateway = GatewayUnderTest::start(bench, BODY)?;
            let work = LoadWork::Push { count: 1 };
            let order = LoadOrder { clients: CHANNELS, body: BODY, work, stalled, rate: PUSHES };
            let load = loads::tcp(bench, gateway.clients, order, Speaks::Gateway)?;
            let mut contender = Contender::gateway(who, gateway.id(), load);
            counted.push(contender.measure_after(FILL, bench.settings.window.max(FILL / 2))?);
        }
    }
    let rows: Vec<_> = [HEALTHY, SLOW].into_iter().zip(&counted).collect();
    let results = rows.iter().map(|(who, counted)| with_latency(who, counted)).collect();
    let mut work = WorkResult::new(&format!("{STALLED} of {CHANNELS} do not read"), results);
    work.distributions = rows.iter().map(|(who, counted)| distribution(who, counted)).collect();
    let (slow, healthy) = (work.values(SLOW, P99), work.values(HEALTHY, P99));
    let what = "p99 of those who read, with and without those who do not";
    work.targets = vec![TargetVerdict::ratio(what, slow, healthy, Bound::AtMost(1.1))];
    let title = format!("{PUSHES} pushes of {BODY} bytes a second to {CHANNELS} channels");
    Ok(ScenarioResult { id: "B13".to_owned(), title, works: vec![work], notes: vec![NOTE.to_owned()] })
}

const NOTE: &str = "the other half of this scenario, twice the capacity, is not measured";
