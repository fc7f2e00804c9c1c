//! Any gateway of this wire that runs: the TCP echo, with whatever service stands behind it.

use std::net::SocketAddr;

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::report::{ScenarioResult, WorkResult};
use crate::role::control::Ready;
use crate::role::tcp_load;
use crate::role::work::{LoadWork, Speaks, TcpLoad};
use crate::scenario::contest::{Contender, contest};

/// A gateway that runs, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct TargetGateway {
    /// Where it listens for TCP.
    pub address: SocketAddr,
    /// `x_im` or `kim`.
    pub dialect: String,
    /// The key of its tokens, as text.
    pub secret: String,
    /// Its process, if it runs on this machine: whose CPU time is read.
    pub pid: Option<u32>,
}

/// Bytes of a message's body.
const BODY: usize = 64;

/// How many clients there are.
const CLIENTS: [usize; 2] = [64, 1000];

pub(crate) fn run(bench: &BenchRun<'_>, target: &TargetGateway) -> Result<ScenarioResult, BenchError> {
    let works: Result<Vec<_>, _> =
        CLIENTS.iter().map(|clients| with_clients(bench, target, *clients)).collect();
    let title =
        format!("TCP echo through {}, each client has one message of {BODY} bytes in flight", target.address);
    let unknown = "CPU time is that of nobody: --pid names its process, if it runs here".to_owned();
    let notes = if target.pid.is_none() { vec![unknown] } else { Vec::new() };
    Ok(ScenarioResult { id: "target".to_owned(), title, works: works?, notes })
}

fn with_clients(
    bench: &BenchRun<'_>,
    target: &TargetGateway,
    clients: usize,
) -> Result<WorkResult, BenchError> {
    let load = TcpLoad {
        target: target.address,
        clients,
        depth: 1,
        body: BODY,
        speaks: Speaks::Gateway,
        stalled: 0,
        websocket: false,
        tls_ca: None,
        work: LoadWork::Echo,
        rate: 0.0,
        dialect: target.dialect.clone(),
        secret: target.secret.clone(),
        accounts: "bench".to_owned(),
    };
    let (load, Ready {}) = bench.role(tcp_load::NAME, &load, bench.load_core())?;
    let who = format!("{} ({})", target.address, target.dialect);
    let mut contender = Contender::gateway(&who, 0, load);
    contender.pids = target.pid.into_iter().collect();
    contest(bench, &format!("TCP, {clients} clients"), &mut [contender])
}
