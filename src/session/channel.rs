//! One signed-in client, or one that is signing in: its identity, its state, its outgoing queues, its requests.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use prost::Message as _;

use crate::session::outgoing::{Full, Outgoing};
use crate::session::pending::{self, InstanceKey, Pending};
use crate::spans::ConnectionSpan;
use crate::wire::command;
use crate::wire::dialect::Dialect;
use crate::wire::packet::{GoAway, encode_message};
use crate::wire::pb;
use crate::wire::rewrite::{self, Origin};

/// Who a token says the client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// The application.
    pub(crate) app: String,
    /// The user within it.
    pub(crate) account: String,
}

/// A request of a channel, or its sign-in.
pub(crate) type Ticket = pending::Ticket<Channel>;

/// Names a service in the memory of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServiceNumber(pub(crate) usize);

/// How far a channel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelState {
    /// The sign-in is under way.
    Opening,
    /// The login service said yes, at this time.
    Open(Instant),
    /// The login service said no, or nothing.
    Refused,
}

/// One client of this worker.
#[derive(Debug)]
pub(crate) struct Channel {
    /// `{gate}_{account}_{n}` (protocol §4.2).
    pub(crate) id: Rc<str>,
    /// The gateway's own knowledge; nothing a client says changes it (G7).
    pub(crate) identity: Identity,
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// What waits to be written to it.
    pub(crate) outgoing: Rc<Outgoing>,
    /// What it asked.
    pub(crate) pending: RefCell<Pending<Self>>,
    /// Its sign-in, once it was made.
    signin: RefCell<Option<Rc<Ticket>>>,
    /// The instance it has of each service it asked: as many as there are services at most.
    homes: RefCell<Vec<(ServiceNumber, InstanceKey)>>,
    state: Cell<ChannelState>,
    /// When its token expires, if its session ends then.
    expires: Cell<Option<Instant>>,
    /// The client knows [`GoAway`].
    knows_go_away: Cell<bool>,
    /// Requests that came and that the statistics do not know of yet.
    requests: Cell<u32>,
    /// The administrator has kicked it: the login service does not know.
    is_kicked_here: Cell<bool>,
    /// The administrator watches its packets, or did a while ago.
    is_traced: Cell<bool>,
    /// Of its connection, if that is recorded for a collector.
    span: OnceCell<Box<ConnectionSpan>>,
    /// The serial of the last push delivered, so that one that names it twice reaches it once (row E5).
    last_push: Cell<u64>,
}

impl Channel {
    pub(crate) fn new(id: Rc<str>, identity: Identity, dialect: Dialect, outgoing: Rc<Outgoing>) -> Rc<Self> {
        Rc::new(Self {
            id,
            identity,
            dialect,
            outgoing,
            pending: RefCell::default(),
            signin: RefCell::default(),
            homes: RefCell::default(),
            state: Cell::new(ChannelState::Opening),
            expires: Cell::new(None),
            knows_go_away: Cell::new(false),
            requests: Cell::new(0),
            is_kicked_here: Cell::new(false),
            is_traced: Cell::new(false),
            span: OnceCell::new(),
            last_push: Cell::new(0),
        })
    }

    pub(crate) fn state(&self) -> ChannelState {
        self.state.get()
    }

    /// The login service answered, or failed to. Has the connection's task look.
    pub(crate) fn set_state(&self, state: ChannelState) {
        self.state.set(state);
        self.outgoing.wake();
    }

    /// Returns `true` if the login service has still to answer.
    pub(crate) fn is_opening(&self) -> bool {
        self.state.get() == ChannelState::Opening
    }

    /// Its sign-in is on its way.
    pub(crate) fn set_signin(&self, ticket: Rc<Ticket>) {
        *self.signin.borrow_mut() = Some(ticket);
    }

    /// Its sign-in, if one was made.
    pub(crate) fn signin(&self) -> Option<Rc<Ticket>> {
        self.signin.borrow().clone()
    }

    /// The instance it has of a service.
    pub(crate) fn home(&self, service: ServiceNumber) -> Option<InstanceKey> {
        self.homes.borrow().iter().find(|(of, _)| *of == service).map(|(_, instance)| *instance)
    }

    /// From now on it has this instance of a service.
    pub(crate) fn set_home(&self, service: ServiceNumber, instance: InstanceKey) {
        let mut homes = self.homes.borrow_mut();
        match homes.iter_mut().find(|(of, _)| *of == service) {
            Some((_, home)) => *home = instance,
            None => homes.push((service, instance)),
        }
    }

    /// Returns `true` if it waits for an answer of this instance, or stands in its queue.
    pub(crate) fn is_waiting_for(&self, instance: InstanceKey) -> bool {
        self.pending.borrow().is_any_with(instance)
    }

    /// The session is to end then, because its token expires; `None`: never.
    pub(crate) fn set_expiry(&self, at: Option<Instant>) {
        self.expires.set(at);
    }

    /// When the session is to end because its token expires; `None`: never.
    pub(crate) fn expiry(&self) -> Option<Instant> {
        self.expires.get()
    }

    /// The client knows [`GoAway`]: it is on QUIC, or said so when it signed in (protocol §2).
    pub(crate) fn set_knows_go_away(&self) {
        self.knows_go_away.set(true);
    }

    /// Tells the client that its channel will be closed, and to which gateway it may go, if it can be told. Its pushes come
    /// the same way. Returns `true` if it is on its way: a queue that takes nothing more is a channel that ends anyway.
    pub(crate) fn announce_close(&self, go_away: GoAway, to: Option<&str>) -> bool {
        self.knows_go_away.get() && self.outgoing.announce(go_away.encode_to(self.dialect, to).into()).is_ok()
    }

    /// A request came.
    pub(crate) fn count_request(&self) {
        self.requests.set(self.requests.get().saturating_add(1));
    }

    /// The requests that came since this was last asked for.
    pub(crate) fn take_requests(&self) -> u32 {
        self.requests.take()
    }

    /// Has it end as kicked, by the administrator and not by the login service. Its client gets the notice of a kick.
    pub(crate) fn kick(&self) {
        self.is_kicked_here.set(true);
        let header = pb::Header {
            command: command::LOGIN_SIGNIN.to_owned(),
            channel_id: self.id.to_string(),
            flag: pb::Flag::Push as i32,
            ..pb::Header::default()
        };
        let notice = pb::KickOutNotify { channel_id: self.id.to_string() };
        let push = encode_message(self.dialect, &header, notice.encode_to_vec());
        // Where it cannot follow what is queued, the code of the close has to do.
        let _closing = self.outgoing.kick(push);
    }

    /// Returns `true` if somebody may watch its packets: what is asked for each of them.
    pub(crate) fn is_traced(&self) -> bool {
        self.is_traced.get()
    }

    /// Somebody watches its packets, or nobody does any more.
    pub(crate) fn set_traced(&self, is_traced: bool) {
        self.is_traced.set(is_traced);
    }

    /// Its connection is recorded for a collector.
    pub(crate) fn set_span(&self, span: ConnectionSpan) {
        let _the_first_stays = self.span.set(Box::new(span));
    }

    pub(super) fn span(&self) -> Option<&ConnectionSpan> {
        self.span.get().map(|span| &**span)
    }

    /// The login service kicks it as well, and so knows.
    pub(crate) fn set_kicked_by_service(&self) {
        self.is_kicked_here.set(false);
    }

    /// Returns `true` if the administrator has kicked it, and the login service has not.
    pub(super) fn is_kicked_here(&self) -> bool {
        self.is_kicked_here.get()
    }

    /// Marks the push with this serial as delivered; false if it was already.
    pub(crate) fn is_first_of_push(&self, serial: u64) -> bool {
        self.last_push.replace(serial) != serial
    }

    /// The delivery marked last did not happen yet and will be tried again.
    pub(crate) fn forget_push(&self) {
        self.last_push.set(0);
    }

    /// Answers a request in the gateway's own name, on the stream it came on (protocol §9).
    /// Returns how many bytes were queued.
    pub(crate) fn answer(
        &self,
        ticket: &Ticket,
        status: pb::Status,
        text: &'static str,
    ) -> Result<usize, Full> {
        let answer = rewrite::answer(&ticket.header.view(), self.dialect, status, text);
        let bytes = answer.len();
        self.outgoing.reply(ticket.stream, answer).map(|()| bytes)
    }

    /// What goes into the headers of its requests.
    pub(crate) fn origin<'a>(&'a self, gate_id: &'a str) -> Origin<'a> {
        let Identity { app, account } = &self.identity;
        Origin { channel_id: &self.id, app, account, gate_id }
    }
}
