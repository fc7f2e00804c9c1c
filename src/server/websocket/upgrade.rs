//! The HTTP upgrade of one connection: its head is read within bounds of bytes and time, and answered.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::request::{HeadScanner, TURNED_AWAY, UpgradeRefusal, UpgradeRequest, judge};
use crate::config::UpgradePolicy;
use crate::limits::{LINGER, UPGRADE_READ};
use crate::monitor::metrics::Reject;
use crate::server::connection::{Accepted, ConnectionContext};
use crate::server::tcp_stream::TcpBased;
use crate::server::tcp_transport::linger;
use crate::wire::close::CloseReason;

/// What an upgrade needs beside its connection.
pub(super) struct Upgrading<'a> {
    pub(super) policy: &'a UpgradePolicy,
    pub(super) accepted: &'a Accepted,
    pub(super) shared: &'a ConnectionContext,
    pub(super) drain: &'a CancellationToken,
}

/// Why a connection does not become a WebSocket.
enum UpgradeFailure {
    /// The client is told so.
    Refused(UpgradeRefusal),
    /// The client that a proxy named may not come, or have no more connections, which has been counted.
    Overcharged(CloseReason),
    /// The peer went without a word: it wanted to know whether the port is open, as balancers do every few seconds.
    Unused,
    /// The client is gone.
    Broken(io::Error),
}

impl From<io::Error> for UpgradeFailure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Returns the client's address once the connection speaks WebSocket. Everything else is counted, and the client is told by
/// a status.
pub(super) async fn upgrade<S: TcpBased>(stream: &mut S, upgrading: Upgrading<'_>) -> Option<IpAddr> {
    let Upgrading { policy, accepted, shared, drain } = &upgrading;
    let login_by = accepted.at + shared.limits.now().login_deadline;
    let by = (Instant::now() + policy.head_deadline).min(login_by);
    let outcome = tokio::select! {
        biased;
        outcome = shared.entrance.websocket.in_time(timeout_at(by.into(), negotiate(stream, &upgrading))) => {
            outcome.and_then(Result::ok).unwrap_or(Err(UpgradeFailure::Refused(UpgradeRefusal::Late)))
        }
        () = accepted.newcomer.must_go() => {
            accepted.admitted.set_reason(CloseReason::Overloaded);
            // Who makes room for others is not waited for.
            let _best_effort = timeout(std::time::Duration::ZERO, stream.write_all(TURNED_AWAY)).await;
            return None;
        }
        () = drain.cancelled() => Err(UpgradeFailure::Refused(UpgradeRefusal::Unavailable)),
    };
    match outcome {
        Ok(client) => return Some(client),
        Err(UpgradeFailure::Unused) => accepted.admitted.set_reason(CloseReason::PeerClosed),
        Err(UpgradeFailure::Broken(error)) => {
            accepted.admitted.set_reason(CloseReason::PeerLost);
            shared.metrics.reject(Reject::HandshakeFailed);
            debug!(%error, "WebSocket upgrade failed");
        }
        Err(UpgradeFailure::Overcharged(reason)) => {
            accepted.admitted.set_reason(reason);
            let is_barred = reason == CloseReason::Kicked;
            let refusal = if is_barred { UpgradeRefusal::Barred } else { UpgradeRefusal::Unavailable };
            last_words(stream, &refusal.answer()).await;
        }
        Err(UpgradeFailure::Refused(refusal)) => {
            let (reason, reject) = account_for(refusal);
            accepted.admitted.set_reason(reason);
            shared.metrics.reject(reject);
            debug!(?refusal, "WebSocket upgrade refused");
            last_words(stream, &refusal.answer()).await;
        }
    }
    None
}

const fn account_for(refusal: UpgradeRefusal) -> (CloseReason, Reject) {
    match refusal {
        UpgradeRefusal::Late => (CloseReason::LoginTimeout, Reject::HandshakeFailed),
        UpgradeRefusal::Unavailable => (CloseReason::Draining, Reject::Draining),
        UpgradeRefusal::Origin => (CloseReason::ProtocolError, Reject::OriginRefused),
        _ => (CloseReason::ProtocolError, Reject::UpgradeRefused),
    }
}

async fn negotiate<S: TcpBased>(stream: &mut S, upgrading: &Upgrading<'_>) -> Result<IpAddr, UpgradeFailure> {
    let Upgrading { policy, accepted, shared, .. } = upgrading;
    let head = read_head(stream, policy.max_head).await?;
    let UpgradeRequest { client, answer } = judge(&head, policy, accepted.peer);
    drop(head);
    // Before the request is refused: that costs as much.
    let is_proxied = policy.trusted.contains(accepted.peer);
    if is_proxied && !shared.admission.charge(&accepted.admitted, client, Instant::now(), &shared.metrics) {
        return Err(UpgradeFailure::Overcharged(shared.admission.why_not(client)));
    }
    let answer = answer.map_err(UpgradeFailure::Refused)?;
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    Ok(client)
}

/// Reads one head and nothing behind it.
async fn read_head<S: TcpBased>(stream: &mut S, max: usize) -> Result<Vec<u8>, UpgradeFailure> {
    let (mut head, mut scanner) = (Vec::new(), HeadScanner::default());
    let mut chunk = [0; UPGRADE_READ];
    loop {
        // One more than is allowed, so that what is too large shows.
        let room = UPGRADE_READ.min(max + 1 - head.len());
        let read = match stream.read(&mut chunk[..room]).await {
            Ok(0) | Err(_) if head.is_empty() => return Err(UpgradeFailure::Unused),
            Ok(0) => return Err(UpgradeFailure::Broken(io::ErrorKind::UnexpectedEof.into())),
            read => read?,
        };
        // No more than is charged for: a vector would double.
        if head.capacity() < head.len() + read {
            head.reserve_exact(UPGRADE_READ);
        }
        head.extend_from_slice(&chunk[..read]);
        let end = scanner.scan(&head).map_err(UpgradeFailure::Refused)?;
        if end.is_none() && head.len() > max || end.is_some_and(|end| end > max) {
            return Err(UpgradeFailure::Refused(UpgradeRefusal::TooLarge));
        }
        match end {
            None => {}
            Some(end) if end == head.len() => return Ok(head),
            // A client waits for the answer (RFC 6455 section 4.1): who does not means something else by these bytes.
            Some(_) => {
                return Err(UpgradeFailure::Refused(UpgradeRefusal::Malformed(
                    "there are bytes behind the request",
                )));
            }
        }
    }
}

/// What was written must not be destroyed by a reset (row D9).
async fn last_words<S: TcpBased>(stream: &mut S, words: &str) {
    let said = async {
        stream.write_all(words.as_bytes()).await?;
        stream.shutdown().await?;
        linger(stream.socket()).await;
        io::Result::Ok(())
    };
    let _best_effort = timeout(LINGER, said).await;
}
