//! Accepts TCP connections and gives each a task of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::limits::ACCEPT_PAUSE;
use crate::monitor::metrics::{Reject, Transport};
use crate::server::connection::{Accepted, Connection, Shared};
use crate::server::reaper::reap;
use crate::server::tcp_transport::TcpTransport;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};

const EMFILE: i32 = nix::errno::Errno::EMFILE as i32;
const ENFILE: i32 = nix::errno::Errno::ENFILE as i32;

/// Serves a listener until it is dropped. At the drain what has connected is accepted and closed 3000, then the
/// listener is closed.
pub(crate) async fn serve(listener: TcpListener, shared: Rc<Shared>, drain: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut pause = ACCEPT_PAUSE.0;
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => reap(ended, &shared.metrics),
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    pause = ACCEPT_PAUSE.0;
                    let connection = admit(stream, peer.ip(), &shared);
                    if let Some(connection) = connection {
                        connections.spawn_local(connection.run());
                    }
                }
                Err(error) => accept_failed(&error, &shared, &mut pause).await,
            },
        }
    }
    while let Poll::Ready(Ok((stream, peer))) = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
        shared.metrics.reject(Reject::Draining);
        if let Some(connection) = admit(stream, peer.ip(), &shared) {
            connections.spawn_local(connection.run());
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        reap(ended, &shared.metrics);
    }
    // The worker ends its tasks; none of them ends by itself.
    std::future::pending().await
}

fn admit(stream: TcpStream, peer: IpAddr, shared: &Rc<Shared>) -> Option<Connection<TcpTransport>> {
    if let Err(error) = stream.set_nodelay(true) {
        // It was gone before it was looked at.
        debug!(%peer, %error, "connection ended at once");
        shared.metrics.reject(Reject::AcceptReset);
        return None;
    }
    let admitted = shared.admission.admit(Transport::Tcp, &shared.metrics);
    let Some(admitted) = admitted else {
        turn_away(&stream, CloseReason::Overloaded);
        return None;
    };
    let accepted = Accepted { admitted, peer, at: Instant::now() };
    Some(Connection::new(TcpTransport::new(stream), Rc::clone(shared), accepted))
}

/// Says why without waiting for anything: a fresh socket has room for it. What the client has sent is read, or the
/// close would become a reset that destroys the words (row D9).
fn turn_away(stream: &TcpStream, reason: CloseReason) {
    let _best_effort = stream.try_write(&frame::encode(Opcode::Close, &reason.payload()));
    let _best_effort = socket2::SockRef::from(stream).shutdown(Shutdown::Write);
    let _best_effort = stream.try_read(&mut [0; 2048]);
}

/// A connection that failed is its peer's affair; a process without files or memory pauses (row D5).
async fn accept_failed(error: &io::Error, shared: &Shared, pause: &mut Duration) {
    let ended_early = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if ended_early {
        shared.metrics.reject(Reject::AcceptReset);
        return;
    }
    if *pause == ACCEPT_PAUSE.0 {
        error!(event = "accept_failed", %error, "cannot accept connections; raise the open-file limit?");
    } else {
        warn!(event = "accept_failed", %error, ?pause, "still cannot accept connections");
    }
    let out_of_files = matches!(error.raw_os_error(), Some(code) if code == EMFILE || code == ENFILE);
    shared.metrics.reject(if out_of_files { Reject::AcceptEmfile } else { Reject::AcceptError });
    sleep(*pause).await;
    *pause = (*pause * 2).min(ACCEPT_PAUSE.1);
}
