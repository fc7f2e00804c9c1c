//! A network that loses packets, both ways, between clients and gateway. It is a network of its own: the thread of this
//! scenario leaves that of the machine, and nft drops packets of the clients' port there.

use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::GatewayUnderTest;
use crate::peer;
use crate::report::{Bound, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::work::{LoadWork, Speaks};
use crate::scenario::contest::Contender;
use crate::scenario::latency::{P99, distribution, with_latency};
use crate::scenario::loads::{self, LoadOrder};

/// Clients, and messages of all of them a second.
const ORDER: LoadOrder = LoadOrder { clients: 200, body: 64, work: LoadWork::Echo, stalled: 0, rate: 4000.0 };

/// Packets of a hundred that are lost, each way.
const LOSSES: [u32; 3] = [1, 5, 10];

/// Shortest time that is counted: the tail is what matters.
const WINDOW: Duration = Duration::from_secs(4);

/// How long `ip` and `nft` may take.
const TOOL: Duration = Duration::from_secs(10);

const TCP: &str = "gateway over TCP";
const QUIC: &str = "gateway over QUIC";

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let scoped = thread::scope(|scope| scope.spawn(|| in_a_network_of_its_own(bench)).join());
    let (works, mut notes) = match scoped.map_err(|_| BenchError::failed("the scenario failed"))? {
        Ok(works) => (works, Vec::new()),
        Err(NoNetwork::CannotBeHad(why)) => (Vec::new(), vec![format!("left out: {why}")]),
        Err(NoNetwork::Failed(error)) => return Err(error),
    };
    notes.push(
        "the mobile card (RTT 350 ms, loss 5 %) is not measured: it takes netem, which drops and delays"
            .to_owned(),
    );
    let LoadOrder { clients, rate, .. } = ORDER;
    let title = format!("loss both ways: {clients} clients, {rate} messages a second");
    Ok(ScenarioResult { id: "B11".to_owned(), title, works, notes })
}

/// Why there is nothing to show.
enum NoNetwork {
    /// Whoever is not root, or has no nft, has none.
    CannotBeHad(String),
    Failed(BenchError),
}

impl From<BenchError> for NoNetwork {
    fn from(error: BenchError) -> Self {
        Self::Failed(error)
    }
}

fn in_a_network_of_its_own(bench: &BenchRun<'_>) -> Result<Vec<WorkResult>, NoNetwork> {
    let cannot = |why: String| NoNetwork::CannotBeHad(why);
    let (Some(nft), Some(ip)) = (peer::find("nft"), peer::find("ip")) else {
        return Err(cannot("nft or ip is not installed (Debian: nftables, iproute2)".to_owned()));
    };
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| cannot(format!("no network of its own: {error}; root may")))?;
    bench
        .finish("ip", Command::new(ip).args(["link", "set", "lo", "up"]), TOOL)
        .map_err(|error| cannot(error.to_string()))?;
    let nft = |rules: String| bench.finish("nft", Command::new(&nft).arg(rules), TOOL);
    nft("add table inet bench; add chain inet bench in { type filter hook input priority 0 ; }".to_owned())
        .map_err(|error| cannot(error.to_string()))?;
    bench.tell("loss: starting");
    let gateway = GatewayUnderTest::start(bench, 0)?;
    let port = gateway.clients.port();
    let mut contenders = [
        Contender::gateway(TCP, gateway.id(), loads::tcp(bench, gateway.clients, ORDER, Speaks::Gateway)?),
        Contender::gateway(QUIC, gateway.id(), loads::quic(bench, gateway.clients, ORDER, true)?),
    ];
    let mut works = Vec::new();
    for loss in LOSSES {
        let lose =
            |what: &str| format!("add rule inet bench in {what} {port} numgen random mod 100 < {loss} drop");
        let rules = ["tcp dport", "tcp sport", "udp dport", "udp sport"].map(lose).join("; ");
        nft(format!("flush chain inet bench in; {rules}"))?;
        works.push(with_loss(bench, loss, &mut contenders)?);
    }
    Ok(works)
}

fn with_loss(
    bench: &BenchRun<'_>,
    loss: u32,
    contenders: &mut [Contender; 2],
) -> Result<WorkResult, BenchError> {
    let mut counted = [Vec::new(), Vec::new()];
    for round in 1..=bench.settings.rounds {
        for (contender, counted) in contenders.iter_mut().zip(&mut counted) {
            bench.tell(&format!("loss of {loss} %, round {round}: {}", contender.who));
            counted.push(contender.measure(bench.settings.window.max(WINDOW))?);
        }
    }
    let rows: Vec<_> = [TCP, QUIC].into_iter().zip(&counted).collect();
    let results = rows.iter().map(|(who, counted)| with_latency(who, counted)).collect();
    let mut work = WorkResult::new(&format!("{loss} % lost each way"), results);
    work.distributions = rows.iter().map(|(who, counted)| distribution(who, counted)).collect();
    let (quic, tcp) = (work.values(QUIC, P99), work.values(TCP, P99));
    let what = format!("p99 at {loss} %, QUIC / TCP");
    work.targets = vec![TargetVerdict::ratio(&what, quic, tcp, Bound::AtMost(0.15)).with_goal(0.05)];
    Ok(work)
}
