//! Accepts TCP connections, plain or for TLS, for frames or for WebSocket, and gives each a task of its own.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use socket2::TcpKeepalive;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::config::ProxyProtocol;
use crate::limits::{ACCEPT_PAUSE, LINGER, PROXY_HEADER_DEADLINE, TCP_PROBES};
use crate::monitor::metrics::{Reject, Transport};
use crate::server::admission::{
    Complaint, Handshakes, Handshaking, NetworkShare, Newcomer, NewcomerStage, Seat, TurnedAway,
};
use crate::server::connection::{Accepted, Connection, ConnectionContext};
use crate::server::proxy_protocol::{ProxyFault, client_of};
use crate::server::reaper::reap;
use crate::server::spoken::Spoken;
use crate::server::tcp_transport::{TcpTransport, linger};
use crate::server::tls_handshake::shake_hands;
use crate::server::websocket;
use crate::wire::close::CloseReason;
use gateway_net::accept_pause::AcceptPause;

const EMFILE: i32 = nix::errno::Errno::EMFILE as i32;
const ENFILE: i32 = nix::errno::Errno::ENFILE as i32;

/// A bound socket and what is spoken on it.
pub(crate) struct Listener {
    socket: TcpListener,
    spoken: Spoken,
    /// None: it is not spoken.
    proxy: Option<Arc<ProxyProtocol>>,
}

impl Listener {
    /// Must be called within the worker's runtime.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub(crate) fn new(
        socket: std::net::TcpListener,
        spoken: Spoken,
        proxy: Option<Arc<ProxyProtocol>>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(socket)?, spoken, proxy })
    }

    /// Serves until it is dropped. At the drain what has connected is accepted and closed 3000, then the socket is
    /// closed.
    pub(crate) async fn serve(self, shared: Rc<ConnectionContext>, drain: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut pause = AcceptPause::new(ACCEPT_PAUSE);
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => reap(ended, &shared.metrics),
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        pause.reset();
                        self.admit(stream, peer.ip(), &shared, &drain, &mut connections);
                    }
                    Err(error) => accept_failed(&error, &shared, &mut pause).await,
                },
            }
        }
        while let Poll::Ready(Ok((stream, peer))) =
            poll_fn(|cx| Poll::Ready(self.socket.poll_accept(cx))).await
        {
            shared.metrics.reject(Reject::Draining);
            if self.spoken.transport() == Transport::Tcp {
                self.admit(stream, peer.ip(), &shared, &drain, &mut connections);
            } else {
                // The worker may be gone before its handshake is done.
                turn_away(stream, &self.spoken, CloseReason::Draining, &shared, &mut connections);
            }
        }
        drop(self);
        while let Some(ended) = connections.join_next().await {
            reap(ended, &shared.metrics);
        }
        // The worker ends its tasks; none of them ends by itself.
        std::future::pending().await
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        shared: &Rc<ConnectionContext>,
        drain: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        if let Err(error) = prepare(&stream, shared.limits.now().tcp_user_timeout) {
            // It was gone before it was looked at.
            debug!(%peer, %error, "connection ended at once");
            return shared.metrics.reject(Reject::AcceptReset);
        }
        let arrival = TcpArrival { peer, at: Instant::now(), seat: None };
        match &self.proxy {
            Some(proxy) if proxy.trusted.contains(peer) => {
                let spoken = self.spoken.clone();
                let Some(waiting) = ProxiedConnection::arrive(arrival, spoken, proxy, shared) else {
                    return turn_away(stream, &self.spoken, CloseReason::Overloaded, shared, connections);
                };
                connections.spawn_local(waiting.serve(stream, Rc::clone(shared), drain.clone()));
            }
            Some(proxy) if proxy.is_required => {
                debug!(%peer, "connection past the balancers");
                shared.metrics.reject(Reject::ProxyUntrusted);
                turn_away(stream, &self.spoken, CloseReason::ProtocolError, shared, connections);
            }
            _ => match let_in(arrival, &self.spoken, shared) {
                Some(entered) => self.spawn(stream, entered, shared, drain, connections),
                None => turn_away(stream, &self.spoken, shared.admission.why_not(peer), shared, connections),
            },
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        (accepted, handshake): Entered,
        shared: &Rc<ConnectionContext>,
        drain: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        let shared = Rc::clone(shared);
        match handshake {
            Some(handshake) => {
                let (spoken, drain) = (self.spoken.clone(), drain.clone());
                connections
                    .spawn_local(serve_after_handshake(stream, spoken, shared, accepted, handshake, drain));
            }
            None => {
                connections.spawn_local(Connection::new(TcpTransport::new(stream), shared, accepted).run());
            }
        }
    }
}

/// Whose connection it is, and since when it is here.
struct TcpArrival {
    peer: IpAddr,
    at: Instant,
    /// Its place among the connections of the process, if it has one already.
    seat: Option<Seat>,
}

/// A connection that a balancer passes on, before its header has come. It costs the process what any connection does, and no
/// address anything: the balancer's has a share and a rate for its own alone, and the client's is not known yet.
struct ProxiedConnection {
    arrival: TcpArrival,
    seat: Seat,
    newcomer: Newcomer,
    spoken: Spoken,
    is_required: bool,
}

impl ProxiedConnection {
    /// None if there is no room, which is counted.
    fn arrive(
        arrival: TcpArrival,
        spoken: Spoken,
        proxy: &ProxyProtocol,
        shared: &ConnectionContext,
    ) -> Option<Self> {
        let seat = shared.admission.seat(&shared.metrics)?;
        // Last: it sends others away.
        let newcomer = shared.entrance.newcomers.arrive(NewcomerStage::ProxyHeader)?;
        Some(Self { arrival, seat, newcomer, spoken, is_required: proxy.is_required })
    }

    /// Reads the header, then serves the client as if it had come itself.
    async fn serve(self, stream: TcpStream, shared: Rc<ConnectionContext>, drain: CancellationToken) {
        let spoken = self.spoken.clone();
        // Boxed, so that its memory is given back when it is done.
        let entered = Box::pin(self.enter(stream, &shared)).await;
        let Some((stream, (accepted, handshake))) = entered else { return };
        match handshake {
            Some(handshake) => {
                serve_after_handshake(stream, spoken, shared, accepted, handshake, drain).await;
            }
            None => Connection::new(TcpTransport::new(stream), shared, accepted).run().await,
        }
    }

    async fn enter(self, stream: TcpStream, shared: &ConnectionContext) -> Option<(TcpStream, Entered)> {
        let Self { arrival, seat, newcomer, spoken, is_required } = self;
        let balancer = arrival.peer;
        let deadline = PROXY_HEADER_DEADLINE.min(shared.limits.now().login_deadline);
        let client = tokio::select! {
            biased;
            client = client_of(&stream, balancer, is_required, deadline) => client,
            () = newcomer.must_go() => {
                turn_away_here(stream, &spoken, CloseReason::Overloaded, shared).await;
                return None;
            }
        };
        drop(newcomer);
        let reason = match client {
            Ok(client) => {
                let arrival = TcpArrival { peer: client, seat: Some(seat), ..arrival };
                match let_in(arrival, &spoken, shared) {
                    Some(entered) => return Some((stream, entered)),
                    None => shared.admission.why_not(client),
                }
            }
            Err(ProxyFault::Unused) => return None,
            Err(fault) => {
                report_proxy(&fault, balancer, shared);
                CloseReason::ProtocolError
            }
        };
        turn_away_here(stream, &spoken, reason, shared).await;
        None
    }
}

/// A balancer is not a stranger, and what it does wrong locks out all its clients: it is worth a line of the log.
fn report_proxy(fault: &ProxyFault, balancer: IpAddr, shared: &ConnectionContext) {
    shared.metrics.reject(Reject::ProxyHeader);
    if let Some(times) = shared.admission.complain(Complaint::ProxyHeader, Instant::now()) {
        warn!(event = "proxy_header", %balancer, %fault, times, "no client's address in a connection from a balancer");
    }
}

/// The places of a handshake in progress.
struct InHandshake {
    handshakes: Rc<Handshakes>,
    _place: Handshaking,
    /// None where its payer is not known yet.
    _share: Option<NetworkShare>,
}

/// A connection that was let in.
type Entered = (Accepted, Option<InHandshake>);

/// Everything that a connection needs to be let in; none if something of it is not to be had, which is counted.
fn let_in(arrival: TcpArrival, spoken: &Spoken, shared: &ConnectionContext) -> Option<Entered> {
    let ConnectionContext { admission, entrance, metrics, .. } = shared;
    let TcpArrival { peer, at, seat } = arrival;
    // An HTTP proxy speaks for many clients, and the request names the one that pays.
    let payer = (!spoken.trusts(peer)).then_some(peer);
    let mut handshake = None;
    if let Some(handshakes) = spoken.handshakes(entrance) {
        let Some(place) = handshakes.begin() else {
            metrics.reject(Reject::Handshakes);
            return None;
        };
        let share = match payer {
            Some(payer) => Some(admission.begin_handshake(payer, metrics)?),
            None => None,
        };
        handshake = Some(InHandshake { handshakes: Rc::clone(handshakes), _place: place, _share: share });
    }
    let admitted = match (seat, payer) {
        (None, Some(payer)) => admission.admit(spoken.transport(), payer, at, metrics)?,
        (seat, payer) => {
            let seat = seat.or_else(|| admission.seat(metrics))?;
            admission.admit_seated(seat, spoken.transport(), payer, Instant::now(), metrics)?
        }
    };
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
            websocket::serve(stream, policy.now(), shared, accepted, handshake, drain).await;
        }
        return;
    };
    // Boxed, so that its memory is given back when it is done.
    let shaking = shake_hands(stream, &config, &handshake.handshakes, &accepted, &shared, &drain);
    let stream = Box::pin(shaking).await;
    drop(config);
    match (stream, websocket) {
        (Some(stream), Some(policy)) => {
            websocket::serve(stream, policy.now(), shared, accepted, handshake, drain).await;
        }
        (Some(stream), None) => {
            drop((handshake, drain));
            // Boxed as in `websocket::serve`.
            Box::pin(Connection::new(TcpTransport::new(stream), shared, accepted).run()).await;
        }
        (None, _) => {}
    }
}

/// Says why, and waits for the client in a task of its own if there is room for that.
fn turn_away(
    stream: TcpStream,
    spoken: &Spoken,
    reason: CloseReason,
    shared: &ConnectionContext,
    connections: &mut JoinSet<()>,
) {
    if let Some(place) = say_why(&stream, spoken, reason, shared) {
        connections.spawn_local(see_off(stream, place));
    }
}

/// The same in the connection's own task.
async fn turn_away_here(stream: TcpStream, spoken: &Spoken, reason: CloseReason, shared: &ConnectionContext) {
    if let Some(place) = say_why(&stream, spoken, reason, shared) {
        see_off(stream, place).await;
    }
}

/// In a few bytes for which a fresh socket has room. What the client has sent and still sends is read, or the close would
/// become a reset that destroys the words (row D9); returns the place for that, if there is one. Under TLS the reason itself
/// could be said only after a handshake, which is too much for one who is turned away.
fn say_why(
    stream: &TcpStream,
    spoken: &Spoken,
    reason: CloseReason,
    shared: &ConnectionContext,
) -> Option<TurnedAway> {
    let _best_effort = stream.try_write(&spoken.refusal(reason));
    let _best_effort = socket2::SockRef::from(stream).shutdown(Shutdown::Write);
    let place = shared.admission.turn_away();
    if place.is_none() {
        let _best_effort = stream.try_read(&mut [0; 2048]);
    }
    place
}

async fn see_off(mut stream: TcpStream, place: TurnedAway) {
    let _best_effort = timeout(LINGER, linger(&mut stream)).await;
    drop(place);
}

/// A connection that failed is its peer's affair; a process without files or memory pauses (row D5).
async fn accept_failed(error: &io::Error, shared: &ConnectionContext, pause: &mut AcceptPause) {
    let Some(pause) = pause.after(error) else {
        return shared.metrics.reject(Reject::AcceptReset);
    };
    if let Some(times) = shared.admission.complain(Complaint::Accept, Instant::now()) {
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
