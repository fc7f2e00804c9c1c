//! What the handle, the pushes and the tasks of one connection share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{Answer, Login};
use crate::go_away::GoAway;
use crate::pending::PendingRequests;
use gateway_wire::close::CloseReason;
use gateway_wire::dialect::Dialect;
use gateway_wire::{command, pb};
use prost::Message as _;

/// From the first sign that the gateway closes, a notice or the end of a stream, to its close: it lets what it wrote
/// arrive first, for at most a second, and then the close is on its way.
pub(super) const CLOSE_FOLLOWS: Duration = Duration::from_secs(2);

/// What happened on a connection beside requests and pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Frame pongs received.
    pub frame_pongs: u64,
    /// BasicPkt pongs received.
    pub basic_pongs: u64,
    /// Pings of the gateway that were answered, of both kinds.
    pub pings_answered: u64,
    /// Responses that matched no request in flight: late, or answered twice.
    pub unmatched: u64,
}

/// Shared by everything that belongs to one connection.
#[derive(Debug)]
pub(super) struct ConnectionState {
    pub(super) dialect: Dialect,
    pub(super) pending: PendingRequests,
    login: OnceLock<Login>,
    opened: watch::Sender<bool>,
    closed: watch::Sender<Option<CloseReason>>,
    /// With the moment of the close.
    go_away: watch::Sender<Option<(Instant, GoAway)>>,
    /// Where to go then, as it was said first; there before that is.
    go_to: OnceLock<String>,
    /// The channel that was said to have signed in elsewhere: by a service, so that it may be another one.
    kicked: watch::Sender<Option<String>>,
    counts: watch::Sender<Counts>,
    /// Reads that brought bytes, on any stream.
    reads: AtomicU64,
    /// Readers that wait for the consumer of the pushes.
    held: AtomicUsize,
}

impl ConnectionState {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            pending: PendingRequests::new(),
            login: OnceLock::new(),
            opened: watch::Sender::new(false),
            closed: watch::Sender::new(None),
            go_away: watch::Sender::new(None),
            go_to: OnceLock::new(),
            kicked: watch::Sender::new(None),
            counts: watch::Sender::new(Counts::default()),
            reads: AtomicU64::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// A Response arrived. The reader that saw the login response opens the channel, so that what follows it on
    /// the same stream finds it open.
    pub(super) fn answer(&self, answer: Answer) {
        let opens = answer.is_success()
            && answer.header.command == command::LOGIN_SIGNIN
            && self.pending.expects(answer.header.sequence, command::LOGIN_SIGNIN);
        if opens && let Ok(response) = pb::LoginResp::decode(answer.body.clone()) {
            let login = Login { channel_id: response.channel_id, account: response.account };
            let _ = self.login.set(login);
            self.opened.send_replace(true);
        }
        if !self.pending.answer(answer) {
            self.count(|counts| counts.unmatched += 1);
        }
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.get()
    }

    pub(super) fn is_open(&self) -> bool {
        *self.opened.borrow()
    }

    pub(super) async fn opened(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
    }

    pub(super) async fn opened_or_closed(&self) {
        if self.is_open() {
            return;
        }
        tokio::select! {
            biased;
            () = self.opened() => {}
            _ = self.closed() => {}
        }
    }

    /// The connection is over; the first reason stands. Wakes everything that waits. Whoever was told that the account
    /// signed in elsewhere is kicked, however the connection ends: it must not come back and push the other out.
    pub(super) fn end(&self, reason: CloseReason) {
        let reason = if self.is_kicked() { CloseReason::Kicked } else { reason };
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(reason);
            first
        });
        self.pending.end();
    }

    /// A notice says that this channel is kicked. It may overtake the login response, so the channel of this
    /// connection may not be known yet.
    pub(super) fn kick(&self, channel_id: String) {
        if !self.is_kicked() {
            self.kicked.send_replace(Some(channel_id));
        }
    }

    fn is_kicked(&self) -> bool {
        self.names_this(self.kicked.borrow().as_deref())
    }

    fn names_this(&self, channel_id: Option<&str>) -> bool {
        self.login().is_some_and(|login| channel_id == Some(login.channel_id.as_str()))
    }

    /// Waits until this channel is known to be kicked; its close follows.
    pub(super) async fn kicked(&self) {
        self.opened().await;
        // The sender lives in self, so the wait cannot fail.
        let _ = self.kicked.subscribe().wait_for(|named| self.names_this(named.as_deref())).await;
    }

    /// The gateway said that it will close, and perhaps where to go. Another word counts if its close is nearer: the
    /// process ends, for one, while a drain goes on.
    pub(super) fn go_away(&self, told: GoAway, to: Option<&str>) {
        let at = Instant::now() + told.within;
        self.go_away.send_if_modified(|known| {
            let counts = known.is_none_or(|(before, _)| at < before);
            if counts {
                if let (None, Some(to)) = (&*known, to) {
                    let _first = self.go_to.set(to.to_owned());
                }
                *known = Some((at, told));
            }
            counts
        });
    }

    pub(super) fn go_to(&self) -> Option<&str> {
        self.go_to.get().map(String::as_str)
    }

    /// Waits for another word than the one that is known.
    pub(super) async fn going_away(&self, known: Option<GoAway>) -> GoAway {
        let mut told = self.go_away.subscribe();
        let is_new = |told: &Option<(Instant, GoAway)>| told.is_some_and(|(_, told)| Some(told) != known);
        match told.wait_for(is_new).await.ok().and_then(|told| *told) {
            Some((_, told)) => told,
            // The sender lives in self, so this is never reached.
            None => std::future::pending().await,
        }
    }

    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        *self.closed.borrow()
    }

    pub(super) async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.subscribe();
        let reason = closed.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        reason.unwrap_or(CloseReason::PeerLost)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(super) async fn counted(&self, until: impl FnMut(&Counts) -> bool) {
        let _ = self.counts.subscribe().wait_for(until).await;
    }

    pub(super) fn note_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Marks a reader as waiting for the consumer until the guard is dropped.
    pub(super) fn hold(&self) -> HoldGuard<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        HoldGuard(self)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }
}

/// See [`ConnectionState::hold`].
pub(super) struct HoldGuard<'a>(&'a ConnectionState);

impl Drop for HoldGuard<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}
