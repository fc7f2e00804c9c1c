//! Accepts TCP connections, plain or for TLS, and gives each a task of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::limits::{ACCEPT_PAUSE, LINGER, TCP_PROBES};
use crate::monitor::metrics::{Reject, Transport};
use crate::server::admission::{HandshakeShare, Handshaking, NewcomerStage};
use crate::server::connection::{Accepted, Connection, ConnectionContext};
use crate::server::reaper::reap;
use crate::server::tcp_transport::{TcpTransport, linger};
use crate::server::tls;
use crate::server::tls_handshake::{TURNED_AWAY, shake_hands};
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};
use gateway_net::accept_pause::AcceptPause;

const EMFILE: i32 = nix::errno::Errno::EMFILE as i32;
const ENFILE: i32 = nix::errno::Errno::ENFILE as i32;

/// What lies between the socket and the frames.
#[derive(Clone)]
pub(crate) enum Encryption {
    Plain,
    Tls(Arc<ServerConfig>),
}

impl Encryption {
    /// TLS with the certificate that is in effect when a client comes.
    ///
    /// # Errors
    /// rustls was built without TLS 1.3.
    pub(crate) fn tls(certificate: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        Ok(Self::Tls(Arc::new(tls::server_config(certificate)?)))
    }

    const fn transport(&self) -> Transport {
        match self {
            Self::Plain => Transport::Tcp,
            Self::Tls(_) => Transport::Tls,
        }
    }
}

/// A bound socket and what is spoken on it.
pub(crate) struct Listener {
    socket: TcpListener,
    encryption: Encryption,
}

impl Listener {
    /// Must be called within the worker's runtime.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub(crate) fn new(socket: std::net::TcpListener, encryption: Encryption) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(socket)?, encryption })
    }

    /// Serves until it is dropped. At the drain what has connected is accepted and closed 3000, then the socket is
    /// closed.
    pub(crate) async fn serve(self, shared: Rc<ConnectionContext>, drain: CancellationToken) {
        let Self { socket, encryption } = self;
        let mut connections = JoinSet::new();
        let mut pause = AcceptPause::new(ACCEPT_PAUSE);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => reap(ended, &shared.metrics),
                accepted = socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        pause.reset();
                        admit(stream, peer.ip(), &encryption, &shared, &drain, &mut connections);
                    }
                    Err(error) => accept_failed(&error, &shared, &mut pause).await,
                },
            }
        }
        while let Poll::Ready(Ok((stream, peer))) = poll_fn(|cx| Poll::Ready(socket.poll_accept(cx))).await {
            shared.metrics.reject(Reject::Draining);
            match encryption {
                Encryption::Plain => admit(stream, peer.ip(), &encryption, &shared, &drain, &mut connections),
                // The worker may be gone before its handshake is done.
                Encryption::Tls(_) => {
                    turn_away(stream, &encryption, CloseReason::Draining, &shared, &mut connections)
                }
            }
        }
        drop(socket);
        while let Some(ended) = connections.join_next().await {
            reap(ended, &shared.metrics);
        }
        // The worker ends its tasks; none of them ends by itself.
        std::future::pending().await
    }
}

fn admit(
    stream: TcpStream,
    peer: IpAddr,
    encryption: &Encryption,
    shared: &Rc<ConnectionContext>,
    drain: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = prepare(&stream, shared.limits.now().tcp_user_timeout) {
        // It was gone before it was looked at.
        debug!(%peer, %error, "connection ended at once");
        return shared.metrics.reject(Reject::AcceptReset);
    }
    let at = Instant::now();
    let Some((accepted, handshake)) = let_in(peer, at, encryption.transport(), shared) else {
        return turn_away(stream, encryption, CloseReason::Overloaded, shared, connections);
    };
    let shared = Rc::clone(shared);
    match (encryption, handshake) {
        (Encryption::Tls(config), Some(handshake)) => {
            let (config, drain) = (Arc::clone(config), drain.clone());
            connections.spawn_local(serve_tls(stream, config, shared, accepted, handshake, drain));
        }
        (Encryption::Plain, _) | (_, None) => {
            connections.spawn_local(Connection::new(TcpTransport::new(stream), shared, accepted).run());
        }
    }
}

/// The places of a handshake in progress.
type InHandshake = (Handshaking, HandshakeShare);

/// Everything that a connection needs to be let in; none if something of it is not to be had, which is counted.
fn let_in(
    peer: IpAddr,
    at: Instant,
    transport: Transport,
    shared: &Rc<ConnectionContext>,
) -> Option<(Accepted, Option<InHandshake>)> {
    let ConnectionContext { admission, entrance, metrics, .. } = &**shared;
    let (mut stage, mut handshake) = (NewcomerStage::Login(transport), None);
    if transport == Transport::Tls {
        stage = NewcomerStage::Handshake(transport);
        let Some(place) = entrance.tls.begin() else {
            metrics.reject(Reject::Handshakes);
            return None;
        };
        handshake = Some((place, admission.begin_handshake(peer, metrics)?));
    }
    let admitted = admission.admit(transport, peer, at, metrics)?;
    // Last: it sends others away.
    let Some(newcomer) = entrance.newcomers.arrive(stage) else {
        admitted.set_reason(CloseReason::Overloaded);
        return None;
    };
    Some((Accepted { admitted, newcomer, peer, at }, handshake))
}

/// A client that has gone without a word is found although nothing is read from it and little is written to it (row
/// D1): the kernel asks, and gives up on what is not acknowledged.
fn prepare(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let (first, then) = TCP_PROBES;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(first).with_interval(then))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _only_linux_has_it = user_timeout;
    Ok(())
}

/// The handshake is awaited here, in the connection's own task.
async fn serve_tls(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    shared: Rc<ConnectionContext>,
    accepted: Accepted,
    handshake: InHandshake,
    drain: CancellationToken,
) {
    // Boxed, so that its memory is given back when it is done.
    let stream = Box::pin(shake_hands(stream, &config, &accepted, &shared, &drain)).await;
    drop((config, handshake, drain));
    if let Some(stream) = stream {
        Connection::new(TcpTransport::new(stream), shared, accepted).run().await;
    }
}

/// Says why, in a few bytes for which a fresh socket has room. What the client has sent and still sends is read, or the
/// close would become a reset that destroys the words (row D9). Under TLS the reason itself could be said only after a
/// handshake, which is too much for one who is turned away for want of room.
fn turn_away(
    stream: TcpStream,
    encryption: &Encryption,
    reason: CloseReason,
    shared: &Rc<ConnectionContext>,
    connections: &mut JoinSet<()>,
) {
    let _best_effort = match encryption {
        Encryption::Plain => stream.try_write(&frame::encode(Opcode::Close, &reason.payload())),
        Encryption::Tls(_) => stream.try_write(&TURNED_AWAY),
    };
    let _best_effort = socket2::SockRef::from(&stream).shutdown(Shutdown::Write);
    let Some(place) = shared.admission.turn_away() else {
        let _best_effort = stream.try_read(&mut [0; 2048]);
        return;
    };
    connections.spawn_local(async move {
        let mut stream = stream;
        let _best_effort = timeout(LINGER, linger(&mut stream)).await;
        drop(place);
    });
}

/// A connection that failed is its peer's affair; a process without files or memory pauses (row D5).
async fn accept_failed(error: &io::Error, shared: &ConnectionContext, pause: &mut AcceptPause) {
    let Some(pause) = pause.after(error) else {
        return shared.metrics.reject(Reject::AcceptReset);
    };
    if let Some(times) = shared.admission.complain(Instant::now()) {
        error!(event = "accept_failed", %error, times, "cannot accept connections; raise the open-file limit?");
    }
    let out_of_files = matches!(error.raw_os_error(), Some(code) if code == EMFILE || code == ENFILE);
    shared.metrics.reject(if out_of_files { Reject::AcceptEmfile } else { Reject::AcceptError });
    sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn d1_the_kernel_looks_after_a_silent_client_and_after_what_is_not_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        prepare(&ours, Duration::from_secs(30)).unwrap();
        let socket = socket2::SockRef::from(&ours);
        assert!(ours.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), TCP_PROBES.0);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), TCP_PROBES.1);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }
}
