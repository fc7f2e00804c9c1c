//! The loads scenarios start, on the core that is theirs.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::gateway_under_test::SECRET;
use crate::process::RoleProcess;
use crate::role::control::Ready;
use crate::role::login_load::{self, LoginLoad, LoginOver};
use crate::role::quic_load::{self, QuicLoad};
use crate::role::tcp_load;
use crate::role::work::{LoadWork, Speaks, TcpLoad};

/// What carries frames over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadCarrier {
    Plain,
    Tls,
    WebSocket,
}

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadOrder {
    pub(crate) clients: usize,
    /// Bytes of a message's body.
    pub(crate) body: usize,
    pub(crate) work: LoadWork,
    /// So many of them never read.
    pub(crate) stalled: usize,
    /// Messages a second of an open loop; 0 for a closed one, with one message in flight for each client.
    pub(crate) rate: f64,
}

/// Clients over TCP.
pub(crate) fn tcp(
    bench: &BenchRun<'_>,
    target: SocketAddr,
    order: LoadOrder,
    speaks: Speaks,
) -> Result<RoleProcess, BenchError> {
    carried(bench, LoadCarrier::Plain, target, order, speaks)
}

/// The same over TLS or WebSocket.
pub(crate) fn carried(
    bench: &BenchRun<'_>,
    carrier: LoadCarrier,
    target: SocketAddr,
    order: LoadOrder,
    speaks: Speaks,
) -> Result<RoleProcess, BenchError> {
    let LoadOrder { clients, body, work, stalled, rate } = order;
    let load = TcpLoad {
        stalled,
        target,
        clients,
        depth: 1,
        body,
        speaks,
        websocket: carrier == LoadCarrier::WebSocket,
        tls_ca: (carrier == LoadCarrier::Tls).then(|| ca(bench)),
        work,
        rate,
        dialect: "x_im".to_owned(),
        secret: SECRET.to_owned(),
        accounts: "t".to_owned(),
    };
    bench.role(tcp_load::NAME, &load, bench.load_core()).map(|(load, Ready {})| load)
}

pub(crate) fn ca(bench: &BenchRun<'_>) -> PathBuf {
    bench.scratch().join("certs/ca.pem")
}

/// Clients over QUIC.
pub(crate) fn quic(
    bench: &BenchRun<'_>,
    target: SocketAddr,
    order: LoadOrder,
    signs_in: bool,
) -> Result<RoleProcess, BenchError> {
    let LoadOrder { clients, body, work, rate, .. } = order;
    let load = QuicLoad {
        target,
        clients,
        body,
        signs_in,
        work,
        rate,
        ca: ca(bench),
        secret: SECRET.to_owned(),
        accounts: "q".to_owned(),
    };
    bench.role(quic_load::NAME, &load, bench.load_core()).map(|(load, Ready {})| load)
}

/// Logins: 64 at once, or at a rate.
pub(crate) fn logins(
    bench: &BenchRun<'_>,
    target: SocketAddr,
    over: LoginOver,
    rate: f64,
) -> Result<RoleProcess, BenchError> {
    let load = LoginLoad { target, at_once: 64, rate, over, ca: ca(bench), secret: SECRET.to_owned() };
    bench.role(login_load::NAME, &load, bench.load_core()).map(|(load, Ready {})| load)
}
