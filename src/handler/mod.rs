//! What the gateway decides about a client's packets: `accept` the first one, `receive` the others, and what
//! becomes of those that are not answered in time. No I/O, no clock: the time is passed in.

use std::cell::{Ref, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::{TokenError, Verifier};
use crate::bans::Bans;
use crate::dispatch::{Dispatch, Refused};
use crate::jwks::KeyRefresh;
use crate::limits::{DEADLINE_TICK_MS, Limits, STRIKE_WINDOW, STRIKES};
use crate::monitor::metrics::{AnswerOrigin, Direction, Reject, WorkerMetrics};
use crate::overload::pressure::Pressure;
use crate::rate_limit::RateLimiter;
use crate::session::channel::{Channel, Ticket};
use crate::session::channels::Channels;
use crate::session::outgoing::{Outgoing, StreamId};
use crate::session::pending::NewTicket;
use crate::session::sliding_count::SlidingCount;
use crate::wire::close::CloseReason;
use crate::wire::command;
use crate::wire::header::{HeaderError, HeaderView};
use crate::wire::packet::LogicPacket;
use crate::wire::pb::Status;
use crate::wire::rewrite;
use crate::wire::scanned_header::ScannedHeader;

pub(crate) use channel_ids::{ChannelIds, Numbers};
pub(crate) use login::{Acceptance, Arrival, AwaitedKey};

mod channel_ids;
mod login;
mod renewal;
mod traced;

/// The address that goes into a Session: without port, IPv4 as IPv4.
pub(crate) fn get_ip(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// What may keep a login out although its token is good.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    /// How overloaded the process is.
    pub(crate) pressure: Pressure,
    /// How often each app and account signs in, over all workers.
    pub(crate) accounts: Arc<RateLimiter>,
    /// Who is banned.
    pub(crate) bans: Arc<Bans>,
    /// Fetches keys that are not known; none where none are fetched.
    pub(crate) key_refresh: Option<KeyRefresh>,
}

/// The decisions of one worker.
#[derive(Debug)]
pub(crate) struct Handler {
    dispatch: Rc<Dispatch>,
    channels: Rc<Channels>,
    gate: Gate,
    verifier: RefCell<Arc<Verifier>>,
    ids: ChannelIds,
    /// Ticks of deadlines are counted from here.
    epoch: Instant,
    metrics: Arc<WorkerMetrics>,
}

impl Handler {
    pub(crate) fn new(
        dispatch: Rc<Dispatch>,
        verifier: Arc<Verifier>,
        gate: Gate,
        ids: ChannelIds,
        epoch: Instant,
    ) -> Self {
        let channels = Rc::clone(&dispatch.channels);
        let metrics = Arc::clone(&dispatch.metrics);
        Self { dispatch, channels, gate, verifier: RefCell::new(verifier), ids, epoch, metrics }
    }

    /// Tokens are judged by this from now on. Whoever is signed in stays.
    pub(crate) fn verify_with(&self, verifier: Arc<Verifier>) {
        self.verifier.replace(verifier);
    }

    fn limits(&self) -> Rc<Limits> {
        self.dispatch.settings.limits.now()
    }

    fn verifier(&self) -> Ref<'_, Verifier> {
        Ref::map(self.verifier.borrow(), |verifier| &**verifier)
    }

    /// Returns `true` if nothing more may be read of large frames that have begun.
    pub(crate) fn frames_wait(&self) -> bool {
        self.gate.pressure.frames_wait()
    }

    /// Forwards a request of an open channel, or answers it (protocol §4.5). Answers are queued on its stream. Only a
    /// renewal asks for the seconds since 1970.
    ///
    /// # Errors
    /// Why the channel must end.
    pub(crate) fn receive(
        &self,
        channel: &Rc<Channel>,
        stream: StreamId,
        packet: &LogicPacket,
        now: Instant,
        now_unix: impl FnOnce() -> u64,
        strikes: &mut SlidingCount,
    ) -> Result<(), CloseReason> {
        let view = self.scan(&packet.header)?;
        self.metrics.packet(Direction::In, command::label_index(view.command), packet.frame_len());
        self.metrics.request_received();
        channel.count_request();
        self.count_forgeries(&view, &channel.id);
        let refuse = |status, text| {
            self.trace_refused(channel, &view, packet, (status, text));
            self.answer(&channel.outgoing, stream, &view, packet, status, text);
        };
        if !command::is_well_formed(view.command) {
            self.metrics.reject(Reject::BadCommand);
            refuse(Status::InvalidCommand, "malformed command");
            return Ok(());
        }
        if view.command == command::LOGIN_SIGNOUT {
            self.metrics.request_rejected();
            self.trace_goodbye(channel, &view, packet);
            return Err(CloseReason::Bye);
        }
        if view.command == command::LOGIN_SIGNIN {
            self.metrics.reject(Reject::Relogin);
            refuse(Status::InvalidCommand, "already signed in");
            let abuse = strikes.add(now, STRIKE_WINDOW) >= STRIKES;
            return if abuse { Err(CloseReason::Abuse) } else { Ok(()) };
        }
        if view.command == command::LOGIN_RENEW {
            let (status, text) = self.renew(channel, &packet.body, now, now_unix());
            refuse(status, text);
            return Ok(());
        }
        if command::service_of(view.command) == command::LOGIN_SERVICE {
            self.metrics.reject(Reject::BadCommand);
            refuse(Status::InvalidCommand, "login commands are not forwarded");
            return Ok(());
        }
        if channel.outgoing.closing().is_some() {
            self.metrics.reject(Reject::ChannelClosing);
            refuse(Status::SystemException, "the channel is closing");
            return Ok(());
        }
        if channel.pending.borrow().len() >= self.limits().max_pending {
            self.metrics.reject(Reject::TooManyPending);
            refuse(Status::SystemException, "too many requests are unanswered");
            return Ok(());
        }
        let ticket = ticket(channel, &view, packet, stream, now, false);
        match self.dispatch.forward(channel, &view, &ticket, packet.body.clone()) {
            Ok(()) => {
                self.trace_forwarded(channel, &ticket, &view, packet);
                channel.pending.borrow_mut().push(ticket);
                self.metrics.pending_opened();
            }
            Err(Refused::UnknownService) => refuse(Status::InvalidCommand, "no such service"),
            Err(Refused::NoInstance) => refuse(Status::SystemException, "the service is not available"),
            Err(Refused::QueueFull) => refuse(Status::SystemException, "the service is overloaded"),
        }
        Ok(())
    }

    /// When the oldest unanswered request of a channel has had its time. Deadlines are rounded down to ticks, so that
    /// timers coalesce and no answer comes late (G1).
    pub(crate) fn answer_due(&self, channel: &Channel) -> Option<Instant> {
        let oldest = channel.pending.borrow().oldest()?;
        let limits = self.limits();
        let deadline = if channel.is_opening() { limits.login_answer } else { limits.request_deadline };
        let exact = (oldest + deadline).saturating_duration_since(self.epoch);
        // Whole milliseconds of 64 bits: this is asked in every turn.
        let millis = exact.as_secs() * 1000 + u64::from(exact.subsec_millis());
        Some(self.epoch + Duration::from_millis(millis - millis % DEADLINE_TICK_MS))
    }

    /// Answers what is older than its deadline: 300 if it could be taken back, else 210 (G1, G4).
    pub(crate) fn expire(&self, channel: &Channel, now: Instant) {
        while self.answer_due(channel).is_some_and(|due| due <= now) {
            let Some(ticket) = channel.pending.borrow_mut().take_oldest() else { return };
            self.dispatch.timed_out(&ticket, now);
            if self.dispatch.withdraw(&ticket) {
                self.dispatch.fail(
                    channel,
                    &ticket,
                    Status::SystemException,
                    "no logic service took it in time",
                );
            } else {
                self.dispatch.fail(channel, &ticket, Status::OutcomeUnknown, "no answer in time");
            }
        }
    }

    fn scan<'a>(&self, header: &'a [u8]) -> Result<HeaderView<'a>, CloseReason> {
        HeaderView::scan(header, &self.limits().header()).map_err(|error| {
            let limit = error == HeaderError::TooManyMetas;
            self.metrics.reject(if limit { Reject::MetaLimit } else { Reject::BadHeader });
            CloseReason::ProtocolError
        })
    }

    fn count_forgeries(&self, view: &HeaderView<'_>, channel_id: &str) {
        let found = rewrite::forgeries(view, channel_id);
        let counted = [
            (found.meta, Reject::ForgedMeta),
            (found.channel, Reject::ForgedChannel),
            (found.normalised, Reject::Normalised),
        ];
        for (_, reason) in counted.into_iter().filter(|(found, _)| *found) {
            self.metrics.reject(reason);
        }
    }

    /// Queues an answer of the gateway's own to something that was not forwarded.
    fn answer(
        &self,
        outgoing: &Outgoing,
        stream: StreamId,
        view: &HeaderView<'_>,
        packet: &LogicPacket,
        status: Status,
        text: &'static str,
    ) {
        self.metrics.request_rejected();
        let answer = rewrite::answer(view, packet.dialect, status, text);
        let (label, bytes) = (command::label_index(view.command), answer.len());
        match outgoing.reply(stream, answer) {
            Ok(()) => {
                self.metrics.answered(status as i32, AnswerOrigin::Gateway);
                self.metrics.packet(Direction::Out, label, bytes);
            }
            Err(_) => self.metrics.reject(Reject::AnswerLost),
        }
    }
}

/// The header of a request with a longer body is copied, bytes: else its ticket would keep the frame alive until the
/// answer. A shorter one shares the buffer it came in, which the client's own rate bounds.
const SMALL_BODY: usize = 1024;

fn ticket(
    channel: &Rc<Channel>,
    view: &HeaderView<'_>,
    packet: &LogicPacket,
    stream: StreamId,
    arrived: Instant,
    is_signin: bool,
) -> Rc<Ticket> {
    // The ticket of a sign-in lives as long as its channel, and must not hold on to the token.
    let header = if packet.body.len() <= SMALL_BODY && !is_signin {
        ScannedHeader::share(view, &packet.header)
    } else {
        ScannedHeader::copy(view)
    };
    let is_traced = channel.is_traced();
    Ticket::new(channel, NewTicket { stream, header, arrived, is_signin, is_traced })
}

fn token_reject(error: &TokenError) -> Reject {
    let label = error.reject_label();
    Reject::ALL.iter().copied().find(|reason| reason.label() == label).unwrap_or(Reject::JwtClaims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_unmapped() {
        assert_eq!(get_ip("::ffff:192.0.2.7".parse().unwrap()), "192.0.2.7");
        assert_eq!(get_ip("2001:db8::1".parse().unwrap()), "2001:db8::1");
    }
}
