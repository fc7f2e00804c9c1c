//! From a request to the logic instance that gets it, and back.
//!
//! `reconciler` hears who there is, `membership` is what their coming and going means, `selector` decides, `services` knows
//! who can be chosen and `health` how well they are, `link` and its task hold one connection per instance, `delivery` puts
//! what comes back into channels. Nothing here awaits a client.

pub(crate) mod connection;
mod corked;
pub(crate) mod delivery;
pub(crate) mod dialer;
pub(crate) mod health;
pub(crate) mod link;
pub(crate) mod links;
mod lost;
mod membership;
pub(crate) mod queue;
mod read_budget;
pub(crate) mod reconciler;
pub(crate) mod reconnect;
mod reload;
pub mod selector;
pub(crate) mod services;
mod spans;
pub(crate) mod traced;
pub(crate) mod turn;
mod zones;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::timeout_at;

use crate::dispatch::health::{HealthEvent, Rule, Standing};
use crate::dispatch::link::Link;
use crate::dispatch::lost::Lost;
use crate::dispatch::queue::{Payload, Progress};
use crate::dispatch::selector::ZoneIndex;
use crate::dispatch::services::{Chosen, NoChoice, Purpose, Services};
use crate::limits::{LiveLimits, SLICES_PER_WRITE};
use crate::monitor::metrics::{AnswerOrigin, Direction, LoginResult, Reject, Signout, WorkerMetrics};
use crate::monitor::readiness::Readiness;
use crate::overload::pressure::Pressure;
use crate::session::channel::{Channel, ChannelState, Ticket};
use crate::session::channels::Channels;
use crate::session::outgoing::Full;
use crate::session::pending::RequestStage;
use crate::session::signout::SignOut;
use crate::session::signouts::{Placed, SignOuts};
use crate::session::signouts_by_identity::{Relogin, UnderWay};
use crate::wire::close::CloseReason;
use crate::wire::command;
use crate::wire::header::HeaderView;
use crate::wire::packet::Encoded;
use crate::wire::pb;
use crate::wire::rewrite;

/// A request was not handed over, and never will be by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The command names no configured service: 103.
    UnknownService,
    /// The service has no instance now: 300.
    NoInstance,
    /// The instance's queue is full: 300.
    QueueFull,
}

/// A write is under way that may begin this sign-in; see [`Dispatch::announce_signins`].
#[derive(Debug)]
pub(crate) struct SignInWrite {
    signin: Rc<Ticket>,
    write: UnderWay,
}

impl Drop for SignInWrite {
    fn drop(&mut self) {
        if self.signin.is_sent() {
            self.write.begin();
        }
    }
}

/// What a worker knows about its gateway. What may change is in cells.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Its index, from 0.
    pub(crate) worker: usize,
    pub(crate) gate_id: String,
    pub(crate) login_service: String,
    pub(crate) signout_after_kick: Cell<bool>,
    pub(crate) limits: Rc<LiveLimits>,
    /// Whether logic services may be read (row E19).
    pub(crate) pressure: Pressure,
}

/// The dispatcher of one worker.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) settings: Settings,
    pub(crate) channels: Rc<Channels>,
    pub(crate) signouts: Rc<SignOuts>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) services: Services,
    lost: Lost,
    rule: Cell<Rule>,
    readiness: Arc<Readiness>,
    serial: Cell<u64>,
    rerouted: Notify,
}

/// The parts of a [`Dispatch`].
pub(crate) struct DispatchParts {
    pub(crate) settings: Settings,
    pub(crate) channels: Rc<Channels>,
    pub(crate) signouts: Rc<SignOuts>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) services: Services,
    pub(crate) readiness: Arc<Readiness>,
}

impl Dispatch {
    pub(crate) fn new(parts: DispatchParts) -> Rc<Self> {
        let DispatchParts { settings, channels, signouts, metrics, services, readiness } = parts;
        let rule = Rule::of(&settings.limits.now());
        Rc::new(Self {
            settings,
            channels,
            signouts,
            metrics,
            services,
            lost: Lost::default(),
            rule: Cell::new(rule),
            readiness,
            serial: Cell::new(0),
            rerouted: Notify::new(),
        })
    }

    /// A number for the next push, never 0.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// Hands a request, or a sign-in, to the instance of its account.
    ///
    /// # Errors
    /// [`Refused`], and counted: nothing was handed over, and the ticket stands in no queue.
    pub(crate) fn forward(
        &self,
        channel: &Channel,
        view: &HeaderView<'_>,
        ticket: &Rc<Ticket>,
        body: Bytes,
    ) -> Result<(), Refused> {
        let service = self.service_of(ticket.is_signin, view.command);
        let identity = &channel.identity;
        let chosen = self.choose_for_request(service, &identity.app, &identity.account, Some(channel))?;
        let origin = channel.origin(&self.settings.gate_id);
        let dialect = chosen.link.instance.dialect;
        let frame = match ticket.span() {
            None => rewrite::forward(view, dialect, &origin, body),
            Some(span) => rewrite::forward_traced(view, dialect, &origin, &span.handed_on.to_string(), body),
        };
        self.place(&chosen, Some(channel), ticket, frame)
    }

    fn service_of<'a>(&'a self, is_signin: bool, command: &'a str) -> &'a str {
        if is_signin { &self.settings.login_service } else { command::service_of(command) }
    }

    /// The instance of an account, for what nobody answers: it waits, and asks again.
    fn choose(&self, service: &str, app: &str, account: &str) -> Option<Rc<Link>> {
        let Chosen { link, fallback_of, .. } =
            self.services.choose(service, app, account, Purpose::EventPayload)?;
        self.count_fallback(service, fallback_of);
        Some(link)
    }

    /// The instance for a request, counted by zone when there is nobody.
    fn choose_for_request(
        &self,
        service: &str,
        app: &str,
        account: &str,
        channel: Option<&Channel>,
    ) -> Result<Chosen, Refused> {
        match self.services.choose_for(service, app, account, channel) {
            Ok(chosen) => {
                self.count_fallback(service, chosen.fallback_of);
                Ok(chosen)
            }
            Err(NoChoice::UnknownService) => Err(self.refuse(Refused::UnknownService)),
            Err(NoChoice::NoInstance(zone)) => {
                self.metrics.no_instance(self.services.selector().zone_name(zone));
                Err(self.refuse(Refused::NoInstance))
            }
        }
    }

    fn count_fallback(&self, service: &str, of: Option<ZoneIndex>) {
        if let Some(zone) = of {
            let selector = self.services.selector();
            let zone = selector.zone_name(zone);
            self.metrics.zone_fallback(zone);
            self.services.fell_back(service, zone);
        }
    }

    fn place(
        &self,
        chosen: &Chosen,
        channel: Option<&Channel>,
        ticket: &Rc<Ticket>,
        frame: Encoded,
    ) -> Result<(), Refused> {
        let link = &chosen.link;
        if !link.queue().has_room(frame.len()) {
            return Err(self.refuse(Refused::QueueFull));
        }
        link.enqueue(Payload::Request(Rc::clone(ticket)), frame);
        if let (Some(service), Some(channel)) = (chosen.home, channel) {
            channel.set_home(service, link.key);
        }
        if chosen.is_spilled {
            self.metrics.spilled();
        }
        if link.standing() == Some(Standing::HalfOpen) {
            self.on(link, HealthEvent::Asked, Instant::now());
        }
        Ok(())
    }

    /// Takes a request out of its queue; false when its first byte may have been written (G4).
    pub(crate) fn withdraw(&self, ticket: &Ticket) -> bool {
        match ticket.stage() {
            RequestStage::Unplaced => true,
            RequestStage::Queued(instance, number) => {
                // A link that is gone has left nothing in its queue.
                let withdrawn = self
                    .services
                    .links
                    .get(instance)
                    .is_none_or(|link| link.change_queue(|queue| queue.cancel(number)));
                if withdrawn {
                    ticket.set_stage(RequestStage::Unplaced);
                    self.metrics.request_rejected();
                }
                withdrawn
            }
            RequestStage::Sent(_) | RequestStage::Lost(_) => false,
        }
    }

    /// Counts a refusal where it is decided.
    fn refuse(&self, refused: Refused) -> Refused {
        self.metrics.reject(match refused {
            Refused::UnknownService => Reject::BadCommand,
            Refused::NoInstance => Reject::NoInstance,
            Refused::QueueFull => Reject::QueueFull,
        });
        refused
    }

    /// Answers a ticket that was taken out of its channel's pending table in the gateway's own name. A sign-in
    /// that fails ends its channel.
    pub(crate) fn fail(&self, channel: &Channel, ticket: &Ticket, status: pb::Status, text: &'static str) {
        ticket.complete();
        self.end_request_span(channel, ticket, None, status as i32);
        self.metrics.pending_closed();
        self.metrics.latency(Instant::now().saturating_duration_since(ticket.arrived()));
        match channel.answer(ticket, status, text) {
            Ok(bytes) => {
                self.trace_failure(channel, ticket, bytes, (status, text));
                self.metrics.packet(Direction::Out, command::label_index(ticket.header.command()), bytes);
                self.metrics.answered(status as i32, AnswerOrigin::Gateway);
            }
            Err(full) => self.answer_lost(full),
        }
        if ticket.is_signin {
            let sent = ticket.is_sent();
            self.metrics.login(if sent { LoginResult::Unanswered } else { LoginResult::Unavailable });
            channel.set_state(ChannelState::Refused);
            channel.outgoing.close(CloseReason::LoginUnavailable);
        }
    }

    /// Counts an answer that no longer finds its stream, or its channel.
    pub(crate) fn answer_lost(&self, full: Full) {
        self.metrics.reject(if full == Full::Gone { Reject::StreamReset } else { Reject::AnswerLost });
    }

    /// To be told before a write: it may begin these sign-ins. What is returned is to live until
    /// [`Dispatch::progressed`] knows what it began; sign-outs of those accounts are placed by no worker meanwhile.
    pub(crate) fn announce_signins(&self, link: &Link) -> Vec<SignInWrite> {
        let mut writes = Vec::new();
        if self.signouts.is_any_owed() {
            link.queue().fresh_signins(SLICES_PER_WRITE).for_each(|signin| {
                // That of a channel that has ended supersedes nothing: its own sign-out is owed, too.
                let channel = signin.channel.upgrade().filter(|channel| self.channels.is_registered(channel));
                let write = channel.and_then(|channel| self.signouts.writing_signin(&channel.identity));
                writes.extend(write.map(|write| SignInWrite { signin: Rc::clone(signin), write }));
            });
        }
        writes
    }

    /// What a write to a link meant.
    pub(crate) fn progressed(&self, link: &Link, progress: Progress) {
        match progress {
            Progress::Begun(ticket) => {
                link.metrics.requests_sent(1);
                self.metrics.request_forwarded();
                ticket.note_hand_over(Instant::now);
                if ticket.is_signin {
                    ticket.restart(Instant::now());
                }
            }
            Progress::SignedOut(signout) => {
                link.signed_out();
                self.metrics.signout(Signout::Written);
                self.signouts.discharge(&signout);
            }
        }
    }

    /// Keeps sign-outs going for as long as it runs. Cancel safe.
    pub(crate) async fn run_signouts(&self) {
        loop {
            match self.signouts.next_due() {
                None => self.signouts.changed().await,
                Some(due) => {
                    let _changed_or_due = timeout_at(due.into(), self.signouts.changed()).await;
                }
            }
            while self.place_due_signouts(Instant::now()) {
                yield_now().await;
            }
        }
    }

    /// Places what is due, some of it at most. Returns `true` if there is more.
    fn place_due_signouts(&self, now: Instant) -> bool {
        let slice = self.signouts.place_due(now, |signout| self.place_signout(signout));
        for _ in 0..slice.given_up {
            self.metrics.signout(Signout::GivenUp);
        }
        slice.again
    }

    fn place_signout(&self, signout: &Rc<SignOut>) -> Placed {
        let Some(signin) = &signout.signin else { return Placed::NotOwed };
        if self.withdraw(signin) {
            return Placed::NotOwed;
        }
        match signout.relogin() {
            Relogin::None => {}
            Relogin::InDoubt => return Placed::InDoubt,
            Relogin::Forwarded => {
                self.metrics.signout(Signout::Superseded);
                return Placed::NotOwed;
            }
        }
        if signout.is_known && !self.settings.signout_after_kick.get() {
            self.metrics.signout(Signout::AfterKick);
            return Placed::NotOwed;
        }
        let signed_in_at = signout.signed_in_at().and_then(|key| self.services.links.get(key));
        let link = signed_in_at.filter(|link| link.is_live()).or_else(|| {
            let identity = &signout.identity;
            let service = &self.settings.login_service;
            self.choose(service, &identity.app, &identity.account)
        });
        let Some(link) = link else { return Placed::Later };
        let origin = signout.origin(&self.settings.gate_id);
        let frame = rewrite::signout(link.instance.dialect, &origin, signout.reason.token());
        link.enqueue(Payload::SignOut(Rc::clone(signout)), frame);
        Placed::Queued
    }
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests;
