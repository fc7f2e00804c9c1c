//! What a logic service pushes to many channels, one message at a time and 64 at once, beside loops that write
//! the same, and servers that publish.

use std::time::Duration;

use crate::bench::{ANY, BenchRun, ContenderPart};
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::peer::{self, PeerServer, missing_peers};
use crate::report::{Bound, MetricSeries, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::control::{Listening, Ready};
use crate::role::datagrams::{self, DatagramLoad, SendtoFloor};
use crate::role::window::Measured;
use crate::role::work::{LoadWork, Speaks};
use crate::role::writer_floor::{self, WriterFloor};
use crate::scenario::contest::{CPU, Contender, contest, result, rounds};
use crate::scenario::loads::{self, LoadOrder};
use crate::syscalls;

/// Bytes of a push's body.
const BODY: usize = 128;

/// Bytes of a QUIC packet that carries one: the frame, and what QUIC adds to it.
const DATAGRAM: usize = 210;

/// Pushes of a burst, and who gets them.
const BURST: u32 = 64;
const BURST_CHANNELS: usize = 1000;

/// Who gets one push.
const CHANNELS: [usize; 2] = [1000, 5000];

/// Who publishes, where they are installed.
const PEERS: [&str; 3] = ["nats-server", "redis-server", "mosquitto"];

const TCP: &str = "gateway over TCP";
const QUIC: &str = "gateway over QUIC";
const WRITER: &str = "writer loop";
const SENDTO: &str = "sendto loop";

/// Logical messages of one datagram.
const PER_DATAGRAM: &str = "per datagram";

/// System calls of the server for one delivery.
const SYSCALLS: &str = "syscalls";

/// One push at a time.
pub(crate) fn sparse(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let mut works = Vec::new();
    for channels in CHANNELS {
        works.push(over_tcp(bench, channels, 1)?);
        works.push(one_over_quic(bench, channels)?);
    }
    let title =
        format!("one push of {BODY} bytes to many channels, and the next when all have it; by delivery");
    let notes = missing_peers(&PEERS);
    Ok(ScenarioResult { id: "B9".to_owned(), title, works, notes })
}

/// Many at once.
pub(crate) fn burst(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let mut notes = missing_peers(&PEERS);
    let mut tcp = over_tcp(bench, BURST_CHANNELS, BURST)?;
    let cpu =
        TargetVerdict::absolute("CPU of a delivery over TCP", "µs", tcp.values(TCP, CPU), Bound::AtMost(0.5));
    tcp.targets = vec![cpu.with_goal(0.2)];
    tcp.targets.extend(syscall_target(&tcp, TCP));
    let quic = burst_over_quic(bench)?;
    if tcp.values(TCP, SYSCALLS).is_empty() {
        notes.push("perf is not installed, or may not count; system calls are left out".to_owned());
    }
    let title = format!("{BURST} pushes of {BODY} bytes at once to {BURST_CHANNELS} channels; by delivery");
    Ok(ScenarioResult { id: "B10".to_owned(), title, works: vec![tcp, quic], notes })
}

const fn order(clients: usize, count: u32) -> LoadOrder {
    LoadOrder { clients, body: BODY, work: LoadWork::Push { count }, stalled: 0, rate: 0.0 }
}

fn over_tcp(bench: &BenchRun<'_>, channels: usize, count: u32) -> Result<WorkResult, BenchError> {
    let title = format!("TCP, {channels} channels");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, BODY)?;
    let load = loads::tcp(bench, gateway.clients, order(channels, count), Speaks::Gateway)?;
    let floor = WriterFloor { listen: ANY, body: BODY, count: count as usize };
    let (process, Listening { address }) = bench.role(writer_floor::NAME, &floor, bench.server_core())?;
    let writes = loads::tcp(bench, address, order(channels, count), Speaks::Bytes)?;
    let mut contenders = vec![
        Contender::gateway(TCP, gateway.id(), load),
        Contender::with_parts(WRITER, process.id(), writes, vec![ContenderPart::Role { process }]),
    ];
    let peers: [(&str, Option<PeerServer>, Speaks); 3] = [
        ("nats", peer::nats(bench)?, Speaks::Nats),
        ("redis PUBLISH", peer::redis(bench)?, Speaks::Redis),
        ("mosquitto", peer::mosquitto(bench)?, Speaks::Mqtt),
    ];
    for (who, server, speaks) in peers {
        let Some(PeerServer { process, address }) = server else { continue };
        let load = loads::tcp(bench, address, order(channels, count), speaks)?;
        contenders.push(Contender::with_parts(
            who,
            process.id(),
            load,
            vec![ContenderPart::Program { process }],
        ));
    }
    let mut work = contest(bench, &title, &mut contenders)?;
    add_syscalls(bench, &mut work, &mut contenders[0])?;
    let (ours, floor) = (work.values(TCP, CPU), work.values(WRITER, CPU));
    if count == 1 {
        let what = "CPU, writer loop / gateway over TCP";
        work.targets = vec![TargetVerdict::ratio(what, floor, ours, Bound::AtLeast(0.85))];
    }
    Ok(work)
}

/// One more measurement, in which system calls are counted.
fn add_syscalls(
    bench: &BenchRun<'_>,
    work: &mut WorkResult,
    contender: &mut Contender,
) -> Result<(), BenchError> {
    bench.tell(&format!("{}: counting system calls", work.title));
    let window = bench.settings.window;
    // The whole measurement is counted, and so are all of its deliveries: the rates of both are compared.
    let counter = syscalls::SyscallCounter::start(contender.pids[0], window);
    let measured = contender.measure(window + Duration::from_millis(200))?;
    if let Some(per_second) = counter.and_then(syscalls::SyscallCounter::per_second) {
        let per_delivery = per_second / measured.rate();
        work.add(&contender.who, MetricSeries::new(SYSCALLS, vec![per_delivery]));
    }
    Ok(())
}

fn syscall_target(work: &WorkResult, who: &str) -> Option<TargetVerdict> {
    let counted = work.values(who, SYSCALLS);
    let verdict = TargetVerdict::absolute("system calls of a delivery", "", counted, Bound::AtMost(0.05));
    (!counted.is_empty()).then_some(verdict)
}

fn one_over_quic(bench: &BenchRun<'_>, channels: usize) -> Result<WorkResult, BenchError> {
    let title = format!("QUIC, {channels} channels");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, BODY)?;
    let load = loads::quic(bench, gateway.clients, order(channels, 1), true)?;
    let floor = SendtoFloor { size: DATAGRAM };
    let (process, Listening { address }) = bench.role(datagrams::FLOOR, &floor, bench.server_core())?;
    let receivers = DatagramLoad { target: address, receivers: channels };
    let (datagrams, Ready {}) = bench.role(datagrams::LOAD, &receivers, bench.load_core())?;
    let mut contenders = vec![
        Contender::gateway(QUIC, gateway.id(), load),
        Contender::with_parts(SENDTO, process.id(), datagrams, vec![ContenderPart::Role { process }]),
    ];
    let mut work = contest(bench, &title, &mut contenders)?;
    let (ours, floor) = (work.values(QUIC, CPU), work.values(SENDTO, CPU));
    let what = "CPU, sendto loop / gateway over QUIC";
    work.targets = vec![TargetVerdict::ratio(what, floor, ours, Bound::AtLeast(0.5))];
    Ok(work)
}

fn burst_over_quic(bench: &BenchRun<'_>) -> Result<WorkResult, BenchError> {
    let title = format!("QUIC, {BURST_CHANNELS} channels");
    bench.tell(&format!("{title}: starting"));
    let gateway = GatewayUnderTest::start(bench, BODY)?;
    let load = loads::quic(bench, gateway.clients, order(BURST_CHANNELS, BURST), true)?;
    let mut contenders = [Contender::gateway(QUIC, gateway.id(), load)];
    let counted = rounds(bench, &title, &mut contenders)?;
    let mut ours = result(QUIC, &counted[0]);
    let per_datagram = |measured: &Measured| measured.units as f64 / measured.datagrams.max(1) as f64;
    ours.metrics.push(MetricSeries::new(PER_DATAGRAM, counted[0].iter().map(per_datagram).collect()));
    let mut work = WorkResult::new(&title, vec![ours]);
    add_syscalls(bench, &mut work, &mut contenders[0])?;
    let absolute = |what: &str, unit: &str, metric: &str, bound: Bound| {
        TargetVerdict::absolute(what, unit, work.values(QUIC, metric), bound)
    };
    let mut targets = vec![
        absolute("CPU of a delivery over QUIC", "µs", CPU, Bound::AtMost(1.5)),
        absolute("messages of a datagram", "", PER_DATAGRAM, Bound::AtLeast(7.0)),
    ];
    targets.extend(syscall_target(&work, QUIC));
    work.targets = targets;
    Ok(work)
}
