//! Clients that are signed in, while others offer twice the logins a gateway admits.

use std::thread;

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::report::{Bound, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::login_load::LoginOver;
use crate::role::window::Measured;
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::{Contender, WARM};
use crate::scenario::latency::{P99, distribution, with_latency};
use crate::scenario::loads::{self, LoadOrder};

/// Those who are signed in, and their messages a second.
const ORDER: LoadOrder =
    LoadOrder { clients: 2000, body: 64, work: LoadWork::Echo, stalled: 0, rate: 2000.0 };

/// New connections a second a gateway admits by default.
const ADMITTED: u32 = 2500;

const QUIET: &str = "messages, quiet";
const STORM: &str = "messages, storm";
const LOGINS: &str = "logins of the storm";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    bench.tell("storm: starting");
    let gateway = GatewayUnderTest::start_admitting(bench, 0, ADMITTED)?;
    let offered = f64::from(2 * ADMITTED);
    let mut echo =
        Contender::gateway(QUIET, gateway.id(), loads::tcp(bench, gateway.clients, ORDER, Speaks::Gateway)?);
    let logins = loads::logins(bench, gateway.clients, LoginOver::Tcp, offered)?;
    let mut storm = Contender::gateway(LOGINS, gateway.id(), logins);
    let mut counted: [Vec<Measured>; 3] = Default::default();
    for round in 1..=bench.settings.rounds {
        bench.tell(&format!("storm, round {round}: quiet"));
        counted[0].push(echo.measure(bench.settings.window)?);
        bench.tell(&format!("storm, round {round}: twice what is admitted"));
        let (messages, logins) = both(bench, &mut echo, &mut storm)?;
        counted[1].push(messages);
        counted[2].push(logins);
    }
    let rows: Vec<_> = [QUIET, STORM, LOGINS].into_iter().zip(&counted).collect();
    let results = rows.iter().map(|(who, counted)| with_latency(who, counted)).collect();
    let mut work =
        WorkResult::new(&format!("{offered} logins a second offered, {ADMITTED} admitted"), results);
    work.distributions = rows.iter().map(|(who, counted)| distribution(who, counted)).collect();
    let (storm, quiet) = (work.values(STORM, P99), work.values(QUIET, P99));
    let what = "p99 of messages, storm / quiet";
    work.targets = vec![TargetVerdict::ratio(what, storm, quiet, Bound::AtMost(3.0)).with_goal(1.2)];
    let LoadOrder { clients, rate, .. } = ORDER;
    let title = format!("{clients} clients with {rate} messages a second in a storm of logins");
    Ok(ScenarioResult { id: "B7".to_owned(), title, works: vec![work], notes: vec![NOTE.to_owned()] })
}

const NOTE: &str = "a login that is refused is tried again after half a second to one; the run fails if one never succeeds, so \
                    all came in; their latency is that until they were in";

/// Both loads at once: the storm begins first and ends last.
fn both(
    bench: &BenchRun<'_>,
    echo: &mut Contender,
    storm: &mut Contender,
) -> Result<(Measured, Measured), BenchError> {
    let window = bench.settings.window;
    thread::scope(|scope| {
        let raging = scope.spawn(|| storm.measure(window + 2 * WARM));
        thread::sleep(WARM);
        let messages = echo.measure(window);
        let logins = raging.join().map_err(|_| BenchError::failed("the storm failed"))?;
        Ok((messages?, logins?))
    })
}
