//! Messages over QUIC through the gateway to a logic service and back, beside quinn alone with the gateway's transport
//! settings and with its own.

use crate::bench::{ANY, BenchRun, ContenderPart};
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::report::{Bound, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::control::Listening;
use crate::role::quinn_echo::{self, QuinnEcho};
use crate::role::work::LoadWork;
use crate::scenario::contest::{CPU, Contender, contest};
use crate::scenario::loads::{self, LoadOrder};

/// Bytes of a message's body.
const BODY: usize = 64;

/// How many connections there are.
const CONNECTIONS: [usize; 2] = [64, 1000];

const GATEWAY: &str = "gateway";
const OURS: &str = "quinn, our settings";
const STOCK: &str = "quinn, stock settings";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let works: Result<Vec<_>, _> = CONNECTIONS.iter().map(|count| with_connections(bench, *count)).collect();
    let title = format!("QUIC echo, each connection has one message of {BODY} bytes in flight");
    Ok(ScenarioResult { id: "B2".to_owned(), title, works: works?, notes: Vec::new() })
}

fn with_connections(bench: &BenchRun<'_>, count: usize) -> Result<WorkResult, BenchError> {
    let title = format!("QUIC, {count} connections");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let load = loads::quic(bench, gateway.clients, order(count), true)?;
    let mut contenders = vec![
        Contender::gateway(GATEWAY, gateway.id(), load),
        quinn(bench, OURS, count, false)?,
        quinn(bench, STOCK, count, true)?,
    ];
    let mut work = contest(bench, &title, &mut contenders)?;
    let ratio = |to: &str, bound: f64| {
        let what = format!("CPU, gateway / {to}");
        TargetVerdict::ratio(&what, work.values(GATEWAY, CPU), work.values(to, CPU), Bound::AtMost(bound))
    };
    work.targets = vec![ratio(OURS, 1.5).with_goal(1.0)];
    Ok(work)
}

const fn order(clients: usize) -> LoadOrder {
    LoadOrder { clients, body: BODY, work: LoadWork::Echo, stalled: 0, rate: 0.0 }
}

fn quinn(bench: &BenchRun<'_>, who: &str, count: usize, is_stock: bool) -> Result<Contender, BenchError> {
    let floor = QuinnEcho { listen: ANY, certificates: bench.scratch().join("certs"), is_stock };
    let (process, Listening { address }) = bench.role(quinn_echo::NAME, &floor, bench.server_core())?;
    let load = loads::quic(bench, address, order(count), false)?;
    Ok(Contender::with_parts(who, process.id(), load, vec![ContenderPart::Role { process }]))
}
