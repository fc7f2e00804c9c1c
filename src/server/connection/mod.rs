//! The driver: one task per client connection, the same for every transport (ARCHITECTURE §2).
//!
//! A turn reads at most [`FRAMES_PER_TURN`](crate::limits::FRAMES_PER_TURN) frames, looks at the deadlines, and writes what is queued; then the
//! task yields. Nothing in it awaits anything but its own client and its own queue.

mod ending;
mod reading;
mod timing;
mod writing;

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::handler::{AwaitedKey, Handler, get_ip};
use crate::limits::{Limits, LiveLimits};
use crate::monitor::metrics::WorkerMetrics;
use crate::server::access_log::AccessLog;
use crate::server::admission::{Admission, Admitted, Entrance, Newcomer};
use crate::server::rate::Rate;
use crate::server::stream::InboundStream;
use crate::server::transport::Transport;
use crate::session::channel::ChannelState;
use crate::session::channels::{ChannelGuard, Channels, ConnectionGuard};
use crate::session::outgoing::{Outgoing, OutgoingBounds, StreamId};
use crate::session::sliding_count::SlidingCount;
use crate::timer::Timer;
use crate::wire::close::CloseReason;
use crate::wire::dialect::Dialect;

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    pub(crate) handler: Handler,
    pub(crate) channels: Rc<Channels>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) entrance: Entrance,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) log: AccessLog,
    pub(crate) limits: Rc<LiveLimits>,
    /// For tokens alone: nothing else may care when somebody sets the clock (row F7).
    pub(crate) wall_clock: fn() -> SystemTime,
}

impl ConnectionContext {
    /// Seconds since 1970.
    fn now_unix(&self) -> u64 {
        (self.wall_clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionPhase {
    /// Waiting for the login packet.
    Login,
    /// Waiting for the key its token names to be fetched; nothing is read.
    AwaitingKey,
    /// Waiting for the login service; nothing is read.
    Opening,
    /// Requests and pushes.
    Open,
    /// Its close has begun: the last answers are awaited, and what is still asked is answered 300.
    Draining,
}

/// One client connection.
pub(crate) struct Connection<T> {
    transport: T,
    shared: Rc<ConnectionContext>,
    /// As they were in its last turn.
    limits: Rc<Limits>,
    outgoing: Rc<Outgoing>,
    guard: Option<ChannelGuard>,
    admitted: Admitted,
    awaited_key: Option<Box<AwaitedKey>>,
    /// Until its token was accepted.
    newcomer: Option<Newcomer>,
    _connected: ConnectionGuard,
    peer: IpAddr,
    phase: ConnectionPhase,
    dialect: Option<Dialect>,
    streams: Vec<InboundStream>,
    /// Streams whose client takes nothing, and since when.
    stalled: Vec<(StreamId, Instant)>,
    /// Since when more pushes wait than should.
    over_soft_bound: Option<Instant>,
    /// Position of the stream that is written to first in the next turn: each has its turn to be.
    first_to_write: usize,
    has_push_stream: bool,
    /// The client ended the session with a close frame.
    said_goodbye: bool,
    login_by: Instant,
    last_read: Instant,
    rate: Rate,
    strikes: SlidingCount,
    streams_opened: SlidingCount,
    timer: Timer,
    now: Instant,
}

/// A connection that was let in.
pub(crate) struct Accepted {
    pub(crate) admitted: Admitted,
    pub(crate) newcomer: Newcomer,
    pub(crate) peer: IpAddr,
    /// The login deadline runs from here, handshakes included.
    pub(crate) at: Instant,
}

/// More to do at once, or all done until something happens.
type Again = bool;

impl<T: Transport> Connection<T> {
    pub(crate) fn new(transport: T, shared: Rc<ConnectionContext>, accepted: Accepted) -> Self {
        let limits = shared.limits.now();
        let outgoing = Rc::new(Outgoing::new(OutgoingBounds::of(&limits), Arc::clone(&shared.metrics)));
        accepted.newcomer.awaits_login(transport.kind(), &outgoing);
        let login_by = accepted.at + limits.login_deadline;
        Self {
            _connected: shared.channels.connect(&outgoing),
            transport,
            outgoing,
            guard: None,
            admitted: accepted.admitted,
            awaited_key: None,
            newcomer: Some(accepted.newcomer),
            peer: accepted.peer,
            phase: ConnectionPhase::Login,
            dialect: None,
            streams: Vec::new(),
            stalled: Vec::new(),
            over_soft_bound: None,
            first_to_write: 0,
            has_push_stream: false,
            said_goodbye: false,
            login_by,
            last_read: accepted.at,
            rate: Rate::new(limits.frames_per_second, limits.bytes_per_second, accepted.at),
            strikes: SlidingCount::default(),
            streams_opened: SlidingCount::default(),
            timer: Timer::new(login_by),
            now: accepted.at,
            shared,
            limits,
        }
    }

    /// Serves the client until its connection ends. Dropping it is a crash of the connection: the guard still signs
    /// the client out.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its argument twice: in every connection of the process"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> {
        async move {
            let reason = poll_fn(|cx| self.drive(cx)).await;
            // Boxed, so that the memory of an ending is taken at the end and not for the life of the connection.
            Box::pin(self.end(reason)).await;
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.outgoing.begin_poll(cx);
        // One reading of the clock for the whole turn: whatever is compared within it agrees.
        self.now = Instant::now();
        if !self.shared.limits.are(&self.limits) {
            self.follow_limits();
        }
        let result = self.drive_once(cx);
        self.outgoing.end_poll();
        match result {
            Ok(true) => {
                // There is more to read. The other connections of this worker have their turn before it is.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) => Poll::Pending,
            // `run` polls no further: the ending has a loop of its own.
            Err(reason) => Poll::Ready(reason),
        }
    }

    /// A reload changed the limits since the last turn. What runs out is reckoned by the new ones from now on; frames on
    /// streams there are may stay as large as they were, for the end of one may be on its way.
    fn follow_limits(&mut self) {
        self.limits = self.shared.limits.now();
        self.rate.change(self.limits.frames_per_second, self.limits.bytes_per_second, self.now);
        self.outgoing.set_bounds(OutgoingBounds::of(&self.limits));
    }

    fn drive_once(&mut self, cx: &mut Context<'_>) -> Result<Again, CloseReason> {
        self.accept_streams(cx)?;
        self.apply_channel_state()?;
        let again = self.drive_read(cx)?;
        self.look_at_key(cx)?;
        // Reading may have stopped, or not begun, for want of room that writing is about to make.
        let without_room = if again { 0 } else { self.streams_without_room() };
        // Behind reading: a client whose bytes lay in the socket while this worker was late is not silent.
        self.check_deadlines()?;
        self.drive_write(cx)?;
        // Behind writing, because only what is left after a turn of its own makes a client slow.
        self.check_progress()?;
        self.outgoing.partial.set(self.streams.iter().map(|stream| stream.decoder.buffered()).sum());
        if self.is_done() {
            return Err(CloseReason::Draining);
        }
        self.apply_channel_state()?;
        if let Some(next) = self.next_deadline() {
            self.timer.arm(next, self.now, cx);
        }
        Ok(again || self.streams_without_room() < without_room || self.is_done())
    }

    /// Follows what others have decided: the login was answered, or the channel is to be closed.
    fn apply_channel_state(&mut self) -> Result<(), CloseReason> {
        if let Some(guard) = &mut self.guard
            && self.phase == ConnectionPhase::Opening
            && let ChannelState::Open(_) = guard.channel.state()
        {
            guard.end_opening();
            self.phase = ConnectionPhase::Open;
            self.last_read = self.now;
            for stream in &mut self.streams {
                // Streams that came before the login was answered were held to its smaller bound.
                stream.decoder.set_max_payload(self.limits.max_frame);
                stream.mid_frame_since = None;
            }
            let peer = get_ip(self.peer);
            self.shared.log.login(&guard.channel, self.transport.kind(), &peer, self.now);
        }
        match self.outgoing.closing() {
            Some(CloseReason::Draining) if self.shared.channels.is_cut_short() => Err(CloseReason::Draining),
            // What has come by now is still looked at, once.
            Some(CloseReason::Draining) if self.phase == ConnectionPhase::Open => {
                self.phase = ConnectionPhase::Draining;
                Ok(())
            }
            Some(CloseReason::Draining) if self.phase == ConnectionPhase::Draining || self.has_pending() => {
                Ok(())
            }
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Returns `true` if a draining channel has got its last answer.
    fn is_done(&self) -> bool {
        self.phase == ConnectionPhase::Draining && !self.has_pending()
    }

    fn has_pending(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.channel.pending.borrow().len() > 0)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod size {
    use super::{Connection, Outgoing};
    use crate::server::quic_transport::QuicTransport;
    use crate::server::tcp_stream::TlsOverTcp;
    use crate::server::tcp_transport::TcpTransport;
    use tokio::net::TcpStream;

    /// Row B8: what a silent connection costs beside its socket is far below 4 KiB.
    #[test]
    fn b8_a_connection_is_small() {
        let shared = size_of::<Outgoing>() + size_of::<tokio::time::Sleep>();
        assert!(size_of::<Connection<TcpTransport<TcpStream>>>() + shared <= 1024);
        assert!(size_of::<Connection<TcpTransport<TlsOverTcp>>>() + shared <= 1024);
        // And what is boxed in the last, without the buffers TLS has while it works.
        assert!(size_of::<<TlsOverTcp as std::ops::Deref>::Target>() <= 2048);
        assert!(size_of::<Connection<QuicTransport>>() + shared <= 1024);
    }

    #[test]
    fn b8_the_task_of_a_connection_keeps_it_once() {
        fn size_of_output<A, F>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        let connection = size_of::<Connection<TcpTransport<TcpStream>>>();
        assert!(size_of_output(Connection::<TcpTransport<TcpStream>>::run) < connection + 64);
    }
}
