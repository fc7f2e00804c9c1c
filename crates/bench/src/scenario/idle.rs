//! What idle clients cost: memory, by its slope over their number, and heartbeats.

use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use crate::bench::{ANY, BenchRun};
use crate::error::{BenchError, Trying as _};
use crate::gateway_under_test::GatewayUnderTest;
use crate::process::RoleProcess;
use crate::report::{
    Bound, ContenderResult, MemorySlope, MetricSeries, ScenarioResult, TargetVerdict, WorkResult,
};
use crate::role::control::Listening;
use crate::role::quinn_echo::{self, QuinnEcho};
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::{CPU, Contender, result, rounds};
use crate::scenario::loads::{self, LoadCarrier, LoadOrder};

/// Connections at the first look, and those that come until the second.
const FIRST: usize = 4000;
const MORE: usize = 8000;

/// How long everything is left alone before a look.
const SETTLE: Duration = Duration::from_secs(3);

/// A slope takes thousands of handshakes; it varies little.
const SLOPES: usize = 2;

/// Memory of one connection.
const EACH: &str = "KB each";

/// Heartbeats of all clients a second.
const BEATS: LoadOrder = LoadOrder { clients: 2000, body: 0, work: LoadWork::Beat, stalled: 0, rate: 1000.0 };

/// How long nobody is connected while wake-ups are counted.
const ALONE: Duration = Duration::from_secs(5);

/// Whose memory it is, by what carries the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Over(LoadCarrier),
    Quic,
    StockQuinn,
}

impl Holder {
    const ALL: [Self; 5] = [
        Self::Over(LoadCarrier::Plain),
        Self::Over(LoadCarrier::Tls),
        Self::Over(LoadCarrier::WebSocket),
        Self::Quic,
        Self::StockQuinn,
    ];

    const fn who(self) -> &'static str {
        match self {
            Self::Over(LoadCarrier::Plain) => "gateway, TCP",
            Self::Over(LoadCarrier::Tls) => "gateway, TLS",
            Self::Over(LoadCarrier::WebSocket) => "gateway, WebSocket",
            Self::Quic => "gateway, QUIC",
            Self::StockQuinn => "quinn, stock settings",
        }
    }

    /// The target and what is aimed at then, KB.
    const fn target(self) -> Option<(f64, Option<f64>)> {
        match self {
            Self::Over(LoadCarrier::Plain) => Some((1.5, Some(1.0))),
            Self::Over(LoadCarrier::Tls) => Some((9.0, None)),
            Self::Over(LoadCarrier::WebSocket) => Some((2.5, None)),
            Self::Quic => Some((28.0, Some(16.0))),
            Self::StockQuinn => None,
        }
    }
}

/// Memory.
pub(crate) fn memory(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let mut work = WorkResult::new("signed in and silent", Vec::new());
    for holder in Holder::ALL {
        let mut values = Vec::new();
        for round in 1..=bench.settings.rounds.min(SLOPES) {
            bench.tell(&format!("idle memory, {}, round {round}", holder.who()));
            let points = slope(bench, holder)?;
            let [(_, first), (_, last)] = points;
            values.push((last - first) * 1024.0 / MORE as f64);
            if round == 1 {
                work.slopes.push(MemorySlope { who: holder.who().to_owned(), points: points.to_vec() });
            }
        }
        if let Some((bound, goal)) = holder.target() {
            let verdict = TargetVerdict::absolute(holder.who(), "KB", &values, Bound::AtMost(bound));
            work.targets.push(if let Some(goal) = goal { verdict.with_goal(goal) } else { verdict });
        }
        let metrics = vec![MetricSeries::new(EACH, values)];
        work.contenders.push(ContenderResult { who: holder.who().to_owned(), metrics });
    }
    let title =
        format!("memory of an idle connection: slope of Pss from {FIRST} to {} connections", FIRST + MORE);
    Ok(ScenarioResult { id: "B4".to_owned(), title, works: vec![work], notes: Vec::new() })
}

/// Connections and MiB, at two numbers of connections.
fn slope(bench: &BenchRun<'_>, holder: Holder) -> Result<[(f64, f64); 2], BenchError> {
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let floor = match holder {
        Holder::StockQuinn => {
            let floor =
                QuinnEcho { listen: ANY, certificates: bench.scratch().join("certs"), is_stock: true };
            Some(bench.role::<_, Listening>(quinn_echo::NAME, &floor, bench.server_core())?)
        }
        _ => None,
    };
    let pid = floor.as_ref().map_or(gateway.id(), |(process, _)| process.id());
    let target = floor.as_ref().map(|(_, listening)| listening.address);
    let _first = connect(bench, holder, &gateway, target, FIRST)?;
    sleep(SETTLE);
    let at_first = (FIRST as f64, pss_mib(pid)?);
    let _more = connect(bench, holder, &gateway, target, MORE)?;
    sleep(SETTLE);
    Ok([at_first, ((FIRST + MORE) as f64, pss_mib(pid)?)])
}

fn connect(
    bench: &BenchRun<'_>,
    holder: Holder,
    gateway: &GatewayUnderTest,
    floor: Option<SocketAddr>,
    clients: usize,
) -> Result<RoleProcess, BenchError> {
    let order = LoadOrder { clients, body: 0, work: LoadWork::Echo, stalled: 0, rate: 0.0 };
    match holder {
        Holder::Over(carrier) => {
            let target = match carrier {
                LoadCarrier::Plain => gateway.clients,
                LoadCarrier::Tls => gateway.tls,
                LoadCarrier::WebSocket => gateway.websocket,
            };
            loads::carried(bench, carrier, target, order, Speaks::Gateway)
        }
        Holder::Quic => loads::quic(bench, gateway.clients, order, true),
        Holder::StockQuinn => loads::quic(bench, floor.unwrap_or(gateway.clients), order, false),
    }
}

/// A process's share of the memory it uses, MiB.
fn pss_mib(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).doing(|| format!("cannot read {path}"))?;
    number_behind(&text, "Pss:")
        .map(|kilobytes| kilobytes as f64 / 1024.0)
        .ok_or_else(|| BenchError::failed(format!("{path} is not as expected")))
}

fn number_behind(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Heartbeats.
pub(crate) fn heartbeats(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    bench.tell("heartbeats: starting");
    let gateway = GatewayUnderTest::start(bench, 0)?;
    bench.tell("heartbeats: wake-ups without a client");
    let alone = wakeups_alone(gateway.id())?;
    let mut contenders = [
        Contender::gateway("TCP", gateway.id(), loads::tcp(bench, gateway.clients, BEATS, Speaks::Gateway)?),
        Contender::gateway("QUIC", gateway.id(), loads::quic(bench, gateway.clients, BEATS, true)?),
    ];
    let counted = rounds(bench, "heartbeats", &mut contenders)?;
    let results = contenders.iter().zip(&counted).map(|(one, counted)| result(&one.who, counted)).collect();
    let mut beats =
        WorkResult::new(&format!("{} clients, {} heartbeats a second", BEATS.clients, BEATS.rate), results);
    let cpu = |who: &str| beats.values(who, CPU);
    beats.targets = vec![
        TargetVerdict::absolute("CPU of a heartbeat over TCP", "µs", cpu("TCP"), Bound::AtMost(8.0)),
        TargetVerdict::absolute("CPU of a heartbeat over QUIC", "µs", cpu("QUIC"), Bound::AtMost(20.0)),
    ];
    let series = vec![MetricSeries::new("wake-ups a second", vec![alone])];
    let mut quiet = WorkResult::new(
        "nobody is connected",
        vec![ContenderResult { who: "all threads".to_owned(), metrics: series }],
    );
    quiet.targets = vec![TargetVerdict::absolute("wake-ups a second", "", &[alone], Bound::AtMost(0.0))];
    let notes = vec![NOTE.to_owned()];
    let title = "heartbeats of clients that say nothing else".to_owned();
    Ok(ScenarioResult { id: "B5".to_owned(), title, works: vec![beats, quiet], notes })
}

const NOTE: &str = "heartbeats come one by one, so each pays for a wake-up; wake-ups without a client are those of the whole \
                    process, its watchdog and the pings of its links among them, which keep it from the target of none";

/// Voluntary switches of all threads of a process a second.
fn wakeups_alone(pid: u32) -> Result<f64, BenchError> {
    let before = switches(pid)?;
    sleep(ALONE);
    Ok(switches(pid)?.saturating_sub(before) as f64 / ALONE.as_secs_f64())
}

fn switches(pid: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/task");
    let mut sum = 0;
    for thread in fs::read_dir(&path).doing(|| format!("cannot read {path}"))? {
        let status = thread.and_then(|thread| fs::read_to_string(thread.path().join("status")));
        let status = status.doing(|| format!("cannot read {path}"))?;
        sum += number_behind(&status, "voluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_behind_their_names() {
        let text = "Rss:  900 kB\nPss:     812 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(number_behind(text, "Pss:"), Some(812));
        assert_eq!(number_behind(text, "Swap:"), None);
        assert!(pss_mib(std::process::id()).unwrap() > 0.5);
    }
}
