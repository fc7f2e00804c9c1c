//! The books: of the addresses of a socket, and of where the client of each connection is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quinn::ServerConfig;
use quinn::udp::RecvMeta;

use super::acks::Acks;
use super::credit::Credit;
use super::frames::{Token, acknowledged, answers, carries_stream};
use super::proven::Proven;
use crate::limits::ADDRESS_CHANGES_PER_MINUTE;
use crate::monitor::metrics::{Direction, PathChange, WorkerMetrics};
use crate::session::sliding_count::SlidingCount;
use crate::wire::close::CloseReason;

/// See [`ADDRESS_CHANGES_PER_MINUTE`].
const MINUTE: Duration = Duration::from_secs(60);

/// Sealed packets with a challenge that have not left. A connection has one at a time, and few change their address at
/// the same moment.
const SEALED: usize = 256;

/// The addresses of one socket. It belongs to one worker, whose thread alone runs quinn on it: the lock, which quinn's
/// traits demand, is never waited for.
#[derive(Debug)]
pub(crate) struct Paths {
    settings: Mutex<PathSettings>,
    metrics: Arc<WorkerMetrics>,
    books: Mutex<Books>,
}

/// What a reload may change.
#[derive(Debug)]
struct PathSettings {
    /// For connections that begin.
    server: ServerConfig,
    /// How long a client may go on sending and acknowledge nothing.
    stall: Duration,
}

#[derive(Debug)]
struct Books {
    proven: Proven,
    credit: Credit,
    /// Oldest first.
    sealed: Vec<(Sealed, Token, Weak<Path>)>,
}

/// A packet with a challenge whose padding was left out, known again by its seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    /// The last bytes of it that are to be sent.
    pub(super) tag: [u8; 16],
    /// How many bytes behind them are not.
    pub(super) cut: usize,
}

impl Sealed {
    fn end_in(&self, datagram: &[u8]) -> Option<usize> {
        let end = datagram.len().checked_sub(self.cut)?;
        datagram[..end].ends_with(&self.tag).then_some(end)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Paths {
    pub(crate) fn new(server: ServerConfig, metrics: Arc<WorkerMetrics>, stall: Duration) -> Arc<Self> {
        let books = Books { proven: Proven::new(), credit: Credit::new(), sealed: Vec::new() };
        let settings = Mutex::new(PathSettings { server, stall });
        Arc::new(Self { settings, metrics, books: Mutex::new(books) })
    }

    /// For connections that begin now.
    pub(crate) fn server(&self) -> ServerConfig {
        lock(&self.settings).server.clone()
    }

    /// This from now on, for all connections but what they have agreed on with their clients.
    pub(crate) fn follow(&self, server: ServerConfig, stall: Duration) {
        *lock(&self.settings) = PathSettings { server, stall };
    }

    fn stall(&self) -> Duration {
        lock(&self.settings).stall
    }

    pub(super) fn received(&self, datagrams: &[RecvMeta]) {
        let mut books = lock(&self.books);
        for datagram in datagrams {
            if !books.proven.holds(&datagram.addr) {
                books.credit.received(&datagram.addr, datagram.len);
                self.metrics.unproven_bytes(Direction::In, datagram.len);
            }
        }
    }

    /// Returns `true` if something must be decided before datagrams leave for this address.
    pub(super) fn needs_a_look(&self, to: SocketAddr) -> bool {
        let books = lock(&self.books);
        !books.sealed.is_empty() || !books.proven.holds(&to)
    }

    /// The part of a datagram that is to be sent.
    pub(super) fn kept<'a>(&self, datagram: &'a [u8]) -> &'a [u8] {
        let books = lock(&self.books);
        let end = books.sealed.iter().find_map(|(sealed, ..)| sealed.end_in(datagram));
        &datagram[..end.unwrap_or(datagram.len())]
    }

    pub(super) fn may_send(&self, to: SocketAddr, bytes: usize) -> bool {
        let mut books = lock(&self.books);
        books.proven.holds(&to) || books.credit.allows(&to, bytes)
    }

    pub(super) fn sent(&self, to: SocketAddr, bytes: usize) {
        let mut books = lock(&self.books);
        if !books.proven.holds(&to) {
            books.credit.spend(&to, bytes);
            self.metrics.unproven_bytes(Direction::Out, bytes);
        }
    }

    /// A datagram was sent or given up: if it holds a challenge, this is the address it is about.
    pub(super) fn left(&self, datagram: &[u8], to: SocketAddr) {
        let mut books = lock(&self.books);
        let found = books.sealed.iter().position(|(sealed, ..)| sealed.end_in(datagram).is_some());
        let Some(found) = found else { return };
        let (_, token, path) = books.sealed.remove(found);
        drop(books);
        if let Some(path) = path.upgrade() {
            path.challenged(token, to, Instant::now());
        }
    }

    fn enter(&self, address: SocketAddr) {
        lock(&self.books).proven.enter(address);
    }

    fn leave(&self, address: SocketAddr) {
        lock(&self.books).proven.leave(address);
    }
}

/// Where the client of one connection is.
#[derive(Debug)]
pub(crate) struct Path {
    paths: Arc<Paths>,
    /// What is asked of every packet, without the lock.
    is_home_proven: AtomicBool,
    is_away: AtomicBool,
    state: Mutex<PathState>,
    /// The same of `acks`.
    is_waiting: AtomicBool,
    acks: Mutex<Acks>,
}

#[derive(Debug)]
struct PathState {
    /// Where the client has proven to be, or where its handshake came from.
    home: SocketAddr,
    /// Where it seems to be now, with the challenge it has to answer there.
    away: Option<(SocketAddr, Token)>,
    /// The challenge that was sent last.
    last: Option<Token>,
    changes: SlidingCount,
    verdict: Option<CloseReason>,
    waker: Option<Waker>,
}

impl PathState {
    /// The connection is to end with this reason, unless it has one already.
    fn end(&mut self, verdict: CloseReason) {
        self.verdict.get_or_insert(verdict);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Path {
    pub(super) fn new(paths: Arc<Paths>, home: SocketAddr) -> Self {
        let state = PathState {
            home,
            away: None,
            last: None,
            changes: SlidingCount::default(),
            verdict: None,
            waker: None,
        };
        let (is_home_proven, is_away) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            paths,
            is_home_proven,
            is_away,
            state: Mutex::new(state),
            is_waiting: AtomicBool::new(false),
            acks: Mutex::new(Acks::new(Instant::now())),
        }
    }

    /// Ready once the client has changed its address too often, or acknowledges nothing although it goes on sending.
    pub(crate) fn poll_verdict(&self, cx: &Context<'_>) -> Poll<CloseReason> {
        let mut state = lock(&self.state);
        if let Some(verdict) = state.verdict {
            return Poll::Ready(verdict);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn prove_home(&self) {
        if !self.is_home_proven.swap(true, Relaxed) {
            self.paths.enter(lock(&self.state).home);
        }
    }

    /// A packet of the handshake, or one behind it, was opened: only who got the gateway's flight has its keys. Such
    /// packets are not opened from elsewhere before the handshake is done.
    pub(super) fn opened(&self, payload: &[u8]) {
        self.prove_home();
        if self.is_away.load(Relaxed) {
            self.answered(payload);
        }
    }

    /// A packet was made for the client.
    pub(super) fn sending(&self, packet: u64, payload: &[u8]) {
        if carries_stream(payload) {
            lock(&self.acks).sent(packet, Instant::now());
            self.is_waiting.store(true, Relaxed);
        }
    }

    /// A packet of the client was opened, behind its handshake.
    pub(super) fn received(&self, packet: u64, payload: &[u8]) {
        if !self.is_waiting.load(Relaxed) {
            return;
        }
        let mut acks = lock(&self.acks);
        let _rest_is_not_known = acknowledged(payload, |first, last| acks.acknowledged(first, last));
        let is_stalled = acks.heard(packet, Instant::now(), self.paths.stall());
        self.is_waiting.store(acks.is_waiting(), Relaxed);
        drop(acks);
        if is_stalled {
            lock(&self.state).end(CloseReason::SlowConsumer);
        }
    }

    fn answered(&self, payload: &[u8]) {
        let mut state = lock(&self.state);
        let Some((address, token)) = state.away else { return };
        if !answers(payload, token) {
            return;
        }
        self.paths.metrics.path_change(PathChange::Proven);
        self.paths.enter(address);
        self.paths.leave(std::mem::replace(&mut state.home, address));
        state.away = None;
        self.is_away.store(false, Relaxed);
    }

    /// A packet with a challenge was made; where it goes is known when it leaves.
    pub(super) fn sealed(self: &Arc<Self>, sealed: Sealed, token: Token) {
        let mut books = lock(&self.paths.books);
        if books.sealed.len() == SEALED {
            books.sealed.remove(0);
        }
        books.sealed.push((sealed, token, Arc::downgrade(self)));
    }

    /// A challenge left for this address. quinn sends one to the address before, too, and repeats each until it is
    /// answered.
    fn challenged(&self, token: Token, to: SocketAddr, now: Instant) {
        let mut state = lock(&self.state);
        if state.last == Some(token) || state.away.is_some_and(|away| away == (to, token)) {
            return;
        }
        state.last = Some(token);
        if to == state.home && state.away.is_none() {
            return;
        }
        if state.away.is_some() {
            self.paths.metrics.path_change(PathChange::Unproven);
        }
        state.away = (to != state.home).then_some((to, token));
        self.is_away.store(state.away.is_some(), Relaxed);
        if state.changes.add(now, MINUTE) > ADDRESS_CHANGES_PER_MINUTE && state.verdict.is_none() {
            self.paths.metrics.path_change(PathChange::Abuse);
            state.end(CloseReason::Abuse);
        }
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let is_home_proven = self.is_home_proven.load(Relaxed);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.away.is_some() {
            self.paths.metrics.path_change(PathChange::Unproven);
        }
        if is_home_proven {
            self.paths.leave(state.home);
        }
    }
}
