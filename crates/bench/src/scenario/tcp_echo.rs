//! Messages over TCP through the gateway to a logic service and back, beside an epoll echo, haproxy and NATS; and the
//! same over TLS and over WebSocket.

use std::net::SocketAddr;

use crate::bench::{ANY, BenchRun, ContenderPart};
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::peer::{self, PeerServer, missing_peers};
use crate::process::RoleProcess;
use crate::report::{Bound, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::control::{Listening, Ready};
use crate::role::echo_floor::{self, EchoFloor};
use crate::role::nats_echo::{self, NatsEcho};
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::{CPU, Contender, contest};
use crate::scenario::loads::{self, LoadCarrier, LoadOrder};

/// Bytes of a message's body.
const BODY: usize = 64;

/// How many clients there are.
const CLIENTS: [usize; 2] = [64, 1000];

const GATEWAY: &str = "gateway";
const FLOOR: &str = "epoll echo";
const HAPROXY: &str = "haproxy tcp";
const HAPROXY_TLS: &str = "haproxy TLS";
const OVER_TLS: &str = "gateway, TLS";
const OVER_WS: &str = "gateway, WebSocket";
const NATS: &str = "nats request/reply";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let notes = missing_peers(&["haproxy", "nats-server"]);
    let works: Result<Vec<_>, _> = CLIENTS.iter().map(|clients| with_clients(bench, *clients)).collect();
    let title = format!("TCP echo, each client has one message of {BODY} bytes in flight");
    Ok(ScenarioResult { id: "B1".to_owned(), title, works: works?, notes })
}

fn with_clients(bench: &BenchRun<'_>, clients: usize) -> Result<WorkResult, BenchError> {
    let title = format!("TCP, {clients} clients");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let load = load(bench, gateway.clients, clients, Speaks::Gateway)?;
    let mut contenders = vec![Contender::gateway(GATEWAY, gateway.id(), load), floor(bench, clients)?];
    contenders.extend(haproxy(bench, LoadCarrier::Plain, clients)?);
    contenders.extend(nats(bench, clients)?);
    let mut work = contest(bench, &title, &mut contenders)?;
    work.targets = targets(&work);
    Ok(work)
}

/// What a unit costs decides, of the peers as well: a rate says what the load could do, too.
fn targets(work: &WorkResult) -> Vec<TargetVerdict> {
    let cpu = |who: &str| work.values(who, CPU);
    vec![
        TargetVerdict::ratio("CPU, gateway / epoll echo", cpu(GATEWAY), cpu(FLOOR), Bound::AtMost(1.45))
            .with_goal(1.2),
        TargetVerdict::ratio("CPU, haproxy / gateway", cpu(HAPROXY), cpu(GATEWAY), Bound::AtLeast(1.5)),
        TargetVerdict::ratio("CPU, nats / gateway", cpu(NATS), cpu(GATEWAY), Bound::AtLeast(2.5)),
    ]
}

/// Over TLS and over WebSocket.
pub(crate) fn carried(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let works: Result<Vec<_>, _> = CLIENTS.iter().map(|clients| over_each(bench, *clients)).collect();
    let title = format!("TCP echo over TLS and over WebSocket, one message of {BODY} bytes in flight");
    Ok(ScenarioResult { id: "B1w".to_owned(), title, works: works?, notes: missing_peers(&["haproxy"]) })
}

fn over_each(bench: &BenchRun<'_>, clients: usize) -> Result<WorkResult, BenchError> {
    let title = format!("TLS and WebSocket, {clients} clients");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let of = |who: &str, carrier: LoadCarrier, target: SocketAddr| {
        let load = loads::carried(bench, carrier, target, order(clients), Speaks::Gateway)?;
        Ok(Contender::gateway(who, gateway.id(), load))
    };
    let mut contenders = vec![
        of(GATEWAY, LoadCarrier::Plain, gateway.clients)?,
        of(OVER_TLS, LoadCarrier::Tls, gateway.tls)?,
        of(OVER_WS, LoadCarrier::WebSocket, gateway.websocket)?,
    ];
    contenders.extend(haproxy(bench, LoadCarrier::Tls, clients)?);
    let mut work = contest(bench, &title, &mut contenders)?;
    let cpu = |who: &str| work.values(who, CPU);
    let (tls, ws) = (cpu(OVER_TLS), cpu(OVER_WS));
    work.targets = vec![
        TargetVerdict::ratio(
            "CPU, haproxy's TLS / gateway over TLS",
            cpu(HAPROXY_TLS),
            tls,
            Bound::AtLeast(1.5),
        ),
        TargetVerdict::ratio("CPU, gateway over WebSocket / over TCP", ws, cpu(GATEWAY), Bound::AtMost(1.35)),
    ];
    Ok(work)
}

const fn order(clients: usize) -> LoadOrder {
    LoadOrder { clients, body: BODY, work: LoadWork::Echo, stalled: 0, rate: 0.0 }
}

fn load(
    bench: &BenchRun<'_>,
    target: SocketAddr,
    clients: usize,
    speaks: Speaks,
) -> Result<RoleProcess, BenchError> {
    loads::tcp(bench, target, order(clients), speaks)
}

fn floor(bench: &BenchRun<'_>, clients: usize) -> Result<Contender, BenchError> {
    let (process, address) = echo_server(bench, bench.server_core())?;
    let load = load(bench, address, clients, Speaks::Bytes)?;
    Ok(Contender::with_parts(FLOOR, process.id(), load, vec![ContenderPart::Role { process }]))
}

fn echo_server(bench: &BenchRun<'_>, core: Option<usize>) -> Result<(RoleProcess, SocketAddr), BenchError> {
    let (process, Listening { address }) = bench.role(echo_floor::NAME, &EchoFloor { listen: ANY }, core)?;
    Ok((process, address))
}

/// haproxy, and behind it what is a logic service for others.
fn haproxy(
    bench: &BenchRun<'_>,
    carrier: LoadCarrier,
    clients: usize,
) -> Result<Option<Contender>, BenchError> {
    let (behind, address) = echo_server(bench, bench.load_core())?;
    let server = peer::haproxy(bench, address, carrier == LoadCarrier::Tls)?;
    let Some(PeerServer { process, address }) = server else { return Ok(None) };
    let load = loads::carried(bench, carrier, address, order(clients), Speaks::Bytes)?;
    let pid = process.id();
    let parts = vec![ContenderPart::Program { process }, ContenderPart::Role { process: behind }];
    let who = if carrier == LoadCarrier::Tls { HAPROXY_TLS } else { HAPROXY };
    Ok(Some(Contender::with_parts(who, pid, load, parts)))
}

fn nats(bench: &BenchRun<'_>, clients: usize) -> Result<Option<Contender>, BenchError> {
    let Some(PeerServer { process, address }) = peer::nats(bench)? else { return Ok(None) };
    let (behind, Ready {}) = bench.role(nats_echo::NAME, &NatsEcho { server: address }, bench.load_core())?;
    let load = load(bench, address, clients, Speaks::Nats)?;
    let pid = process.id();
    let parts = vec![ContenderPart::Program { process }, ContenderPart::Role { process: behind }];
    Ok(Some(Contender::with_parts(NATS, pid, load, parts)))
}
