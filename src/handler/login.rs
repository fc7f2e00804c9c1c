//! The first packet of a connection: a client signs in, or is turned away.

use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use prost::Message as _;

use super::{Handler, get_ip, ticket, token_reject};
use crate::auth::{Claims, claimed};
use crate::clock::EPOCH_2020;
use crate::jwks::{FetchEnd, KeyRefresh};
use crate::monitor::metrics::{Direction, LoginResult, Reject, Transport};
use crate::session::channel::{Channel, Identity};
use crate::session::channels::ChannelGuard;
use crate::session::outgoing::{Outgoing, StreamId};
use crate::wire::close::CloseReason;
use crate::wire::command;
use crate::wire::header::HeaderView;
use crate::wire::packet::{AUTO_TAG, GO_AWAY_TAG, LogicPacket};
use crate::wire::pb::{self, Status};

/// The first packet of a connection and its surroundings.
pub(crate) struct Arrival<'a> {
    pub(crate) packet: LogicPacket,
    pub(crate) peer: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) outgoing: &'a Rc<Outgoing>,
    pub(crate) now: Instant,
    /// Seconds since 1970, for tokens only.
    pub(crate) now_unix: u64,
    /// Whether the keys it waited for could be fetched; none for one that has not waited.
    pub(crate) fetched: Option<bool>,
}

/// What becomes of a login that is not refused.
pub(crate) enum Acceptance {
    /// It was forwarded.
    Channel(ChannelGuard),
    /// Its token names a key that may have been published since.
    AwaitsKey(Box<AwaitedKey>),
}

/// A login that waits for keys to be fetched.
pub(crate) struct AwaitedKey {
    /// To be accepted again.
    pub(crate) packet: LogicPacket,
    /// The end of the fetch.
    pub(crate) end: Pin<Box<dyn Future<Output = FetchEnd>>>,
}

impl Handler {
    /// Signs a client in as far as the gateway can: token, channel id, registration, forward (protocol §4.1–§4.3).
    /// The login service's answer opens the channel.
    ///
    /// # Errors
    /// Why the connection must end; what the client is to be told is queued.
    pub(crate) fn accept(&self, arrival: Arrival<'_>) -> Result<Acceptance, CloseReason> {
        let packet = &arrival.packet;
        let view = self.scan(&packet.header)?;
        // A login that waits is counted when it is decided.
        if let Some(refresh) = self.refresh_for(&arrival, &view) {
            let end = Box::pin(refresh.next_end());
            refresh.ask();
            return Ok(Acceptance::AwaitsKey(Box::new(AwaitedKey { packet: arrival.packet, end })));
        }
        self.metrics.packet(Direction::In, command::label_index(view.command), packet.frame_len());
        self.metrics.request_received();
        let login = (view.command == command::LOGIN_SIGNIN)
            .then(|| pb::LoginReq::decode(packet.body.clone()).ok())
            .flatten();
        let Some(login) = login else {
            self.metrics.reject(Reject::NotLoggedIn);
            self.metrics.login(LoginResult::Malformed);
            self.refuse(&arrival, &view, Status::InvalidCommand, "the first packet must be login.signin");
            return Err(CloseReason::NotLoggedIn);
        };
        if self.gate.pressure.refuses_logins() {
            return Err(self.turn_away(&arrival, &view, Reject::OverloadLogin, "the gateway is overloaded"));
        }
        // No token can be judged by such a clock. It is not the client's fault.
        if arrival.now_unix < EPOCH_2020 {
            return Err(self.turn_away(&arrival, &view, Reject::Clock, "the gateway's clock is wrong"));
        }
        let limits = self.limits();
        // It may have come before its address was banned.
        if self.gate.bans.bars_address(arrival.peer, arrival.now) {
            let text = "this address is banned";
            return Err(self.reject(&arrival, &view, Reject::Banned, text, CloseReason::Kicked));
        }
        if arrival.fetched == Some(false) && self.verifier().lacks_key_of(&login.token, limits.max_token) {
            return Err(self.turn_away(&arrival, &view, Reject::KeyFetch, "the keys cannot be fetched"));
        }
        let claims = self.judge(&login.token, &arrival).map_err(|reject| {
            self.reject(&arrival, &view, reject, "the token was refused", CloseReason::Unauthenticated)
        })?;
        if self.channels.opening() >= limits.max_logins_waiting || self.dispatch.signouts.is_full() {
            return Err(self.turn_away(
                &arrival,
                &view,
                Reject::LoginsWaiting,
                "too many logins are waiting",
            ));
        }
        // Behind the token: else anybody could use up what an account may do (row B20).
        if !self.gate.accounts.take(&(&claims.app, &claims.account), arrival.now) {
            let text = "this account signs in too often";
            return Err(self.turn_away(&arrival, &view, Reject::AccountRate, text));
        }
        self.sign_in(&arrival, &view, login, claims).map(Acceptance::Channel)
    }

    /// Who fetches the key that a token names and nobody knows. Each login waits once, and none does that is refused
    /// anyway.
    fn refresh_for(&self, arrival: &Arrival<'_>, view: &HeaderView<'_>) -> Option<&KeyRefresh> {
        let refresh = self.gate.key_refresh.as_ref().filter(|_| arrival.fetched.is_none())?;
        let is_refused = self.gate.pressure.refuses_logins() || arrival.now_unix < EPOCH_2020;
        if view.command != command::LOGIN_SIGNIN || is_refused {
            return None;
        }
        let login = pb::LoginReq::decode(arrival.packet.body.clone()).ok()?;
        self.verifier().lacks_key_of(&login.token, self.limits().max_token).then_some(refresh)
    }

    /// Whose token it is, or as what its refusal is counted. A ban is looked at before the signature, which costs more. Its
    /// client is answered like that of a bad token: by a token without one anybody could find out who is banned.
    fn judge(&self, token: &str, arrival: &Arrival<'_>) -> Result<Claims, Reject> {
        let limits = self.limits();
        if self.is_banned(token, limits.max_token, arrival.now) {
            return Err(Reject::Banned);
        }
        let claims = self.verifier().verify(token, arrival.now_unix, limits.max_token, limits.max_account);
        claims.map_err(|error| token_reject(&error))
    }

    /// Answers a login that is refused for good.
    fn reject(
        &self,
        arrival: &Arrival<'_>,
        view: &HeaderView<'_>,
        reject: Reject,
        text: &'static str,
        close: CloseReason,
    ) -> CloseReason {
        self.metrics.reject(reject);
        self.metrics.login(LoginResult::Unauthenticated);
        self.trace_refused_login(arrival, view, reject.label());
        self.refuse(arrival, view, Status::Unauthenticated, text);
        close
    }

    fn is_banned(&self, token: &str, max_token: usize, now: Instant) -> bool {
        let bans = &self.gate.bans;
        bans.has_identities()
            && claimed(token, max_token).is_some_and(|(app, account)| bans.bars_account(&app, &account, now))
    }

    /// Answers a login that may be tried again later.
    fn turn_away(
        &self,
        arrival: &Arrival<'_>,
        view: &HeaderView<'_>,
        reason: Reject,
        text: &'static str,
    ) -> CloseReason {
        self.metrics.reject(reason);
        self.metrics.login(LoginResult::Overloaded);
        self.trace_refused_login(arrival, view, reason.label());
        self.refuse(arrival, view, Status::SystemException, text);
        CloseReason::Overloaded
    }

    fn sign_in(
        &self,
        arrival: &Arrival<'_>,
        view: &HeaderView<'_>,
        login: pb::LoginReq,
        claims: Claims,
    ) -> Result<ChannelGuard, CloseReason> {
        let packet = &arrival.packet;
        let id = self.ids.generate_channel_id(&claims.account);
        let lifetime = self.verifier().session_lifetime(&claims, arrival.now_unix);
        let has_tag = |wanted: &str| login.tags.iter().any(|tag| tag == wanted);
        let (knows_go_away, took_what_got_through) = (has_tag(GO_AWAY_TAG), has_tag(AUTO_TAG));
        let session = pb::Session {
            channel_id: id.to_string(),
            gate_id: self.dispatch.settings.gate_id.clone(),
            account: claims.account.clone(),
            zone: login.zone,
            isp: login.isp,
            remote_ip: get_ip(arrival.peer),
            device: claims.device,
            app: claims.app.clone(),
            tags: login.tags,
        };
        let identity = Identity { app: claims.app, account: claims.account };
        let channel = Channel::new(id, identity, packet.dialect, Rc::clone(arrival.outgoing));
        self.channels.look_whether_traced(&channel);
        let ticket = ticket(&channel, view, packet, StreamId::LOGIN, arrival.now, true);
        channel.set_signin(Rc::clone(&ticket));
        if took_what_got_through {
            self.metrics.auto_login(arrival.transport);
        }
        if knows_go_away {
            channel.set_knows_go_away();
        }
        // No end for a token whose end no clock of ours reaches.
        channel.set_expiry(lifetime.and_then(|lifetime| arrival.now.checked_add(lifetime)));
        let mut guard = self.channels.register(Rc::clone(&channel));
        self.count_forgeries(view, &channel.id);
        match self.dispatch.forward(&channel, view, &ticket, session.encode_to_vec().into()) {
            Ok(()) => {
                self.trace_login(&channel, &ticket, arrival, view);
                channel.pending.borrow_mut().push(ticket);
                self.metrics.pending_opened();
                Ok(guard)
            }
            Err(_) => {
                self.metrics.login(LoginResult::Unavailable);
                self.trace_refused_login(arrival, view, "login_unavailable");
                self.refuse(arrival, view, Status::SystemException, "no login service can be reached");
                guard.set_reason(CloseReason::LoginUnavailable);
                Err(CloseReason::LoginUnavailable)
            }
        }
    }

    fn refuse(&self, arrival: &Arrival<'_>, view: &HeaderView<'_>, status: Status, text: &'static str) {
        self.answer(arrival.outgoing, StreamId::LOGIN, view, &arrival.packet, status, text);
    }
}
