//! Accepts TCP connections, plain or for TLS, for frames or for WebSocket, and gives each a task of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;
use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::config::{TlsIdentity, UpgradePolicy};
use crate::limits::{ACCEPT_PAUSE, LINGER, TCP_PROBES};
use crate::monitor::metrics::{Reject, Transport};
use crate::server::admission::{Entrance, HandshakeShare, Handshakes, Handshaking, NewcomerStage};
use crate::server::connection::{Accepted, Connection, ConnectionContext};
use crate::server::reaper::reap;
use crate::server::tcp_transport::{TcpTransport, linger};
use crate::server::tls;
use crate::server::tls_handshake::{TURNED_AWAY, shake_hands};
use crate::server::websocket;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};
use gateway_net::accept_pause::AcceptPause;

const EMFILE: i32 = nix::errno::Errno::EMFILE as i32;
const ENFILE: i32 = nix::errno::Errno::ENFILE as i32;

/// What is spoken on a socket.
#[derive(Clone)]
pub(crate) struct Spoken {
    /// None: in clear.
    tls: Option<Arc<ServerConfig>>,
    /// None: frames as they are.
    websocket: Option<Arc<UpgradePolicy>>,
}

impl Spoken {
    /// Frames, or WebSocket where there is a policy for it; under TLS where there is a certificate.
    ///
    /// # Errors
    /// Certificate and key do not belong together, or rustls cannot use them.
    pub(crate) fn new(
        identity: Option<&TlsIdentity>,
        websocket: Option<&Arc<UpgradePolicy>>,
    ) -> Result<Self, rustls::Error> {
        let alpn = if websocket.is_some() { tls::HTTP_ALPN } else { tls::ALPN };
        let tls = identity.map(|identity| tls::server_config(identity, alpn)).transpose()?;
        Ok(Self { tls: tls.map(Arc::new), websocket: websocket.map(Arc::clone) })
    }

    const fn transport(&self) -> Transport {
        match (&self.tls, &self.websocket) {
            (None, None) => Transport::Tcp,
            (Some(_), None) => Transport::Tls,
            (None, Some(_)) => Transport::Ws,
            (Some(_), Some(_)) => Transport::Wss,
        }
    }

    /// The places of handshakes in progress; none where there is no handshake.
    fn handshakes<'a>(&self, entrance: &'a Entrance) -> Option<&'a Rc<Handshakes>> {
        match self.transport() {
            Transport::Tls => Some(&entrance.tls),
            Transport::Ws | Transport::Wss => Some(&entrance.websocket),
            Transport::Tcp | Transport::Quic => None,
        }
    }

    fn newcomer_stage(&self) -> NewcomerStage {
        match (self.transport(), &self.websocket) {
            (transport, Some(policy)) => NewcomerStage::Upgrade(transport, policy.max_head),
            (Transport::Tls, None) => NewcomerStage::Handshake(Transport::Tls),
            (transport, None) => NewcomerStage::Login(transport),
        }
    }

    /// What is said to a client that is turned away, in a few bytes for which a fresh socket has room. Under TLS the reason
    /// could be said only after a handshake, which is too much for one who is turned away for want of room.
    fn refusal(&self, reason: CloseReason) -> Bytes {
        match (&self.tls, &self.websocket) {
            (Some(_), _) => Bytes::from_static(&TURNED_AWAY),
            (None, Some(_)) => Bytes::from_static(websocket::TURNED_AWAY),
            (None, None) => frame::encode(Opcode::Close, &reason.payload()),
        }
    }
}

/// A bound socket and what is spoken on it.
pub(crate) struct Listener {
    socket: TcpListener,
    spoken: Spoken,
}

impl Listener {
    /// Must be called within the worker's runtime.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub(crate) fn new(socket: std::net::TcpListener, spoken: Spoken) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(socket)?, spoken })
    }

    /// Serves until it is dropped. At the drain what has connected is accepted and closed 3000, then the socket is
    /// closed.
    pub(crate) async fn serve(self, shared: Rc<ConnectionContext>, drain: CancellationToken) {
        let Self { socket, spoken } = self;
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
                        admit(stream, peer.ip(), &spoken, &shared, &drain, &mut connections);
                    }
                    Err(error) => accept_failed(&error, &shared, &mut pause).await,
                },
            }
        }
        while let Poll::Ready(Ok((stream, peer))) = poll_fn(|cx| Poll::Ready(socket.poll_accept(cx))).await {
            shared.metrics.reject(Reject::Draining);
            if spoken.transport() == Transport::Tcp {
                admit(stream, peer.ip(), &spoken, &shared, &drain, &mut connections);
            } else {
                // The worker may be gone before its handshake is done.
                turn_away(stream, &spoken, CloseReason::Draining, &shared, &mut connections);
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
    spoken: &Spoken,
    shared: &Rc<ConnectionContext>,
    drain: &CancellationToken,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = prepare(&stream, shared.limits.tcp_user_timeout) {
        // It was gone before it was looked at.
        debug!(%peer, %error, "connection ended at once");
        return shared.metrics.reject(Reject::AcceptReset);
    }
    let at = Instant::now();
    let Some((accepted, handshake)) = let_in(peer, at, spoken, shared) else {
        return turn_away(stream, spoken, CloseReason::Overloaded, shared, connections);
    };
    let shared = Rc::clone(shared);
    match handshake {
        Some(handshake) => {
            let served =
                serve_after_handshake(stream, spoken.clone(), shared, accepted, handshake, drain.clone());
            connections.spawn_local(served)
        }
        None => connections.spawn_local(Connection::new(TcpTransport::new(stream), shared, accepted).run()),
    };
}

/// The places of a handshake in progress.
struct InHandshake {
    handshakes: Rc<Handshakes>,
    _place: Handshaking,
    _share: HandshakeShare,
}

/// Everything that a connection needs to be let in; none if something of it is not to be had, which is counted.
fn let_in(
    peer: IpAddr,
    at: Instant,
    spoken: &Spoken,
    shared: &Rc<ConnectionContext>,
) -> Option<(Accepted, Option<InHandshake>)> {
    let ConnectionContext { admission, entrance, metrics, .. } = &**shared;
    let mut handshake = None;
    if let Some(handshakes) = spoken.handshakes(entrance) {
        let Some(place) = handshakes.begin() else {
            metrics.reject(Reject::Handshakes);
            return None;
        };
        let share = admission.begin_handshake(peer, metrics)?;
        handshake = Some(InHandshake { handshakes: Rc::clone(handshakes), _place: place, _share: share });
    }
    let admitted = admission.admit(spoken.transport(), peer, at, metrics)?;
    // Last: it sends others away.
    let Some(newcomer) = entrance.newcomers.arrive(spoken.newcomer_stage()) else {
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

/// The handshakes are awaited here, in the connection's own task.
async fn serve_after_handshake(
    stream: TcpStream,
    spoken: Spoken,
    shared: Rc<ConnectionContext>,
    accepted: Accepted,
    handshake: InHandshake,
    drain: CancellationToken,
) {
    let Spoken { tls, websocket } = spoken;
    let Some(config) = tls else {
        if let Some(policy) = websocket {
            websocket::serve(stream, policy, shared, accepted, handshake, drain).await;
        }
        return;
    };
    // Boxed, so that its memory is given back when it is done.
    let shaking = shake_hands(stream, &config, &handshake.handshakes, &accepted, &shared, &drain);
    let stream = Box::pin(shaking).await;
    drop(config);
    match (stream, websocket) {
        (Some(stream), Some(policy)) => {
            websocket::serve(stream, policy, shared, accepted, handshake, drain).await;
        }
        (Some(stream), None) => {
            drop((handshake, drain));
            Connection::new(TcpTransport::new(stream), shared, accepted).run().await;
        }
        (None, _) => {}
    }
}

/// Says why. What the client has sent and still sends is read, or the close would become a reset that destroys the words
/// (row D9).
fn turn_away(
    stream: TcpStream,
    spoken: &Spoken,
    reason: CloseReason,
    shared: &Rc<ConnectionContext>,
    connections: &mut JoinSet<()>,
) {
    let _best_effort = stream.try_write(&spoken.refusal(reason));
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
