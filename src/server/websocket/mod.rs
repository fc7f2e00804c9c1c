//! WebSocket on TCP, plain or under TLS: from an accepted socket over the HTTP upgrade to the driver (RFC 6455).

mod policy;
mod request;
mod transport;
mod upgrade;

use std::rc::Rc;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub(crate) use self::policy::LivePolicy;
pub(crate) use self::request::{BAD_REQUEST, TURNED_AWAY};
#[cfg(any(test, feature = "internals"))]
pub(crate) use self::request::{HeadScanner, UpgradeRefusal, UpgradeRequest, judge};
pub(crate) use self::transport::WebSocketTransport;
use self::upgrade::{Upgrading, upgrade};
use crate::config::UpgradePolicy;
use crate::server::connection::{Accepted, Connection, ConnectionContext};
use crate::server::tcp_stream::TcpBased;

/// Upgrades and serves; `places` are those of a handshake in progress, and are given back when it is over.
pub(crate) async fn serve<S: TcpBased, P>(
    mut stream: S,
    policy: Arc<UpgradePolicy>,
    shared: Rc<ConnectionContext>,
    mut accepted: Accepted,
    places: P,
    drain: CancellationToken,
) {
    let upgrading = Upgrading { policy: &policy, accepted: &accepted, shared: &shared, drain: &drain };
    // Boxed, so that its memory is given back when it is done.
    let client = Box::pin(upgrade(&mut stream, upgrading)).await;
    drop((policy, places, drain));
    if let Some(client) = client {
        accepted.peer = client;
        // Boxed: this task is that of other handshakes as well, and would be as large as the largest of what follows them.
        Box::pin(Connection::new(WebSocketTransport::new(stream), shared, accepted).run()).await;
    }
}
