//! What the gateway adds to the time of a message at low load, beside a relay of two hops. An open loop: messages are
//! sent when they are due.

use crate::bench::{ANY, BenchRun, ContenderPart};
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::peer::{self, PeerServer, missing_peers};
use crate::report::{Bound, Distribution, MetricSeries, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::control::Listening;
use crate::role::echo_floor::{self, EchoFloor};
use crate::role::relay_floor::{self, RelayFloor};
use crate::role::window::Measured;
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::{Contender, result, rounds};
use crate::scenario::loads::{self, LoadOrder};
use crate::stats::median;

/// Clients, and messages of all of them a second.
const ORDER: LoadOrder = LoadOrder { clients: 200, body: 64, work: LoadWork::Echo, stalled: 0, rate: 5000.0 };

const TCP: &str = "gateway over TCP";
const QUIC: &str = "gateway over QUIC";
const RELAY: &str = "two-hop relay";
const DIRECT: &str = "the service itself";
const HAPROXY: &str = "haproxy tcp";

/// Latencies of an open loop.
pub(crate) const P50: &str = "p50 µs";
pub(crate) const P99: &str = "p99 µs";
const P999: &str = "p99.9 µs";

/// How late the load sent, which is none of the server's.
const LATE: &str = "sent late p99 µs";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let LoadOrder { clients, body, rate, .. } = ORDER;
    let title = format!("{clients} connections, {rate} messages of {body} bytes a second");
    bench.tell("latency: starting");
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let over_tcp = loads::tcp(bench, gateway.clients, ORDER, Speaks::Gateway)?;
    let over_quic = loads::quic(bench, gateway.clients, ORDER, true)?;
    let mut contenders = vec![
        Contender::gateway(TCP, gateway.id(), over_tcp),
        Contender::gateway(QUIC, gateway.id(), over_quic),
        relay(bench)?,
        direct(bench)?,
    ];
    contenders.extend(haproxy(bench)?);
    let counted = rounds(bench, "latency", &mut contenders)?;
    let results = contenders.iter().zip(&counted).map(|(one, counted)| with_latency(&one.who, counted));
    let mut work = WorkResult::new(&title, results.collect());
    work.distributions =
        contenders.iter().zip(&counted).map(|(one, counted)| distribution(&one.who, counted)).collect();
    work.targets = targets(&work);
    let what = "latency added at low load".to_owned();
    let notes = [missing_peers(&["haproxy"]), vec![NOTE.to_owned()]].concat();
    Ok(ScenarioResult { id: "B3".to_owned(), title: what, works: vec![work], notes })
}

const NOTE: &str =
    "added: the latency less that of the service itself, which the load reaches without anything between";

/// The numbers of a contender, with latencies.
pub(crate) fn with_latency(who: &str, counted: &[Measured]) -> crate::report::ContenderResult {
    let mut numbers = result(who, counted);
    let latencies = || counted.iter().filter_map(|measured| measured.latency.as_ref());
    for (name, values) in [
        (P50, latencies().map(|latency| latency.p50).collect()),
        (P99, latencies().map(|latency| latency.p99).collect()),
        (P999, latencies().map(|latency| latency.p999).collect()),
        (LATE, latencies().map(|latency| latency.late_p99).collect()),
    ] {
        numbers.metrics.push(MetricSeries::new(name, values));
    }
    numbers
}

/// The distribution over all rounds: at each share the median of them.
pub(crate) fn distribution(who: &str, counted: &[Measured]) -> Distribution {
    let rounds: Vec<_> = counted.iter().filter_map(|measured| measured.latency.as_ref()).collect();
    let shares = rounds.first().map_or(&[][..], |first| &first.points);
    let at = |index: usize| rounds.iter().map(|one| one.points[index].1).collect::<Vec<f64>>();
    let points = shares.iter().enumerate().map(|(index, (share, _))| (*share, median(&at(index)))).collect();
    Distribution { who: who.to_owned(), points }
}

fn targets(work: &WorkResult) -> Vec<TargetVerdict> {
    let added = |who: &str, metric: &str| -> Vec<f64> {
        let without = median(work.values(DIRECT, metric));
        work.values(who, metric).iter().map(|value| value - without).collect()
    };
    let ratio = |metric: &str, bound: f64| {
        let what = format!("added {metric}, gateway over TCP / two-hop relay");
        TargetVerdict::ratio(&what, &added(TCP, metric), &added(RELAY, metric), Bound::AtMost(bound))
    };
    let (quic, tcp) = (work.values(QUIC, P50), work.values(TCP, P50));
    vec![
        ratio(P50, 1.15),
        ratio(P99, 1.5),
        TargetVerdict::ratio("p50, over QUIC / over TCP", quic, tcp, Bound::AtMost(1.3)),
    ]
}

fn echo_service(bench: &BenchRun<'_>) -> Result<(ContenderPart, std::net::SocketAddr, u32), BenchError> {
    let floor = EchoFloor { listen: ANY };
    let (process, Listening { address }) = bench.role(echo_floor::NAME, &floor, bench.load_core())?;
    let pid = process.id();
    Ok((ContenderPart::Role { process }, address, pid))
}

fn relay(bench: &BenchRun<'_>) -> Result<Contender, BenchError> {
    let (service, behind, _) = echo_service(bench)?;
    let floor = RelayFloor { listen: ANY, behind };
    let (process, Listening { address }) = bench.role(relay_floor::NAME, &floor, bench.server_core())?;
    let load = loads::tcp(bench, address, ORDER, Speaks::Bytes)?;
    Ok(Contender::with_parts(RELAY, process.id(), load, vec![ContenderPart::Role { process }, service]))
}

fn direct(bench: &BenchRun<'_>) -> Result<Contender, BenchError> {
    let (service, address, pid) = echo_service(bench)?;
    let load = loads::tcp(bench, address, ORDER, Speaks::Bytes)?;
    Ok(Contender::with_parts(DIRECT, pid, load, vec![service]))
}

fn haproxy(bench: &BenchRun<'_>) -> Result<Option<Contender>, BenchError> {
    let (service, behind, _) = echo_service(bench)?;
    let server = peer::haproxy(bench, behind, false)?;
    let Some(PeerServer { process, address }) = server else { return Ok(None) };
    let load = loads::tcp(bench, address, ORDER, Speaks::Bytes)?;
    let pid = process.id();
    let parts = vec![ContenderPart::Program { process }, service];
    Ok(Some(Contender::with_parts(HAPROXY, pid, load, parts)))
}
