//! From a request to the logic instance that gets it, and back.
//!
//! `selector` decides, `services` knows who can be chosen and `maturity` from when on, `link` and its task hold one
//! connection per instance, `inbound` puts what comes back into channels. Nothing here awaits a client.

pub(crate) mod backoff;
pub(crate) mod dialer;
pub(crate) mod inbound;
pub(crate) mod link;
pub(crate) mod maturity;
pub(crate) mod queue;
pub mod selector;
pub(crate) mod services;
pub(crate) mod supervisor;
pub(crate) mod traffic;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;

use crate::dispatch::link::Link;
use crate::dispatch::maturity::Rule;
use crate::dispatch::queue::{Cargo, Item, Progress};
use crate::dispatch::services::{Chosen, Services};
use crate::limits::Limits;
use crate::monitor::metrics::{AnswerOrigin, Direction, LoginResult, Reject, Signout, WorkerMetrics};
use crate::monitor::readiness::Readiness;
use crate::session::channel::{Channel, State};
use crate::session::channels::Channels;
use crate::session::outgoing::Full;
use crate::session::pending::{Stage, Ticket};
use crate::session::signouts::{Placed, SignOut, SignOuts};
use crate::wire::close::CloseReason;
use crate::wire::command;
use crate::wire::dialect::Dialect;
use crate::wire::header::{HeaderLimits, HeaderView};
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

/// What a worker knows about its gateway, fixed for its life.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Its index, from 0.
    pub(crate) worker: usize,
    pub(crate) gate_id: String,
    pub(crate) login_service: String,
    pub(crate) signout_after_kick: bool,
    pub(crate) limits: Limits,
}

/// The dispatcher of one worker.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) settings: Settings,
    pub(crate) channels: Rc<Channels>,
    pub(crate) signouts: Rc<SignOuts>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    services: Services,
    links: Vec<Rc<Link>>,
    readiness: Arc<Readiness>,
    serial: Cell<u64>,
}

/// The parts of a [`Dispatch`].
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) channels: Rc<Channels>,
    pub(crate) signouts: Rc<SignOuts>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) services: Services,
    /// In the order of their keys.
    pub(crate) links: Vec<Rc<Link>>,
    pub(crate) readiness: Arc<Readiness>,
}

impl Dispatch {
    pub(crate) fn new(parts: Parts) -> Rc<Self> {
        let Parts { settings, channels, signouts, metrics, services, links, readiness } = parts;
        Rc::new(Self {
            settings,
            channels,
            signouts,
            metrics,
            services,
            links,
            readiness,
            serial: Cell::new(0),
        })
    }

    pub(crate) fn links(&self) -> &[Rc<Link>] {
        &self.links
    }

    /// A number for the next push, never 0.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// Hands a request, or a sign-in, to the instance of its account.
    ///
    /// # Errors
    /// [`Refused`]: nothing was handed over, and the ticket stands in no queue.
    pub(crate) fn forward(
        &self,
        channel: &Channel,
        view: &HeaderView<'_>,
        ticket: &Rc<Ticket>,
        body: Bytes,
    ) -> Result<(), Refused> {
        let service = self.service_of(ticket.is_signin, view.command);
        let identity = &channel.identity;
        let link = self.choose_for_request(service, &identity.app, &identity.account)?;
        let origin = channel.origin(&self.settings.gate_id);
        let frame = rewrite::forward(view, link.instance.dialect, &origin, body);
        self.place(&link, ticket, frame)
    }

    fn service_of<'a>(&'a self, is_signin: bool, command: &'a str) -> &'a str {
        if is_signin { &self.settings.login_service } else { command::service_of(command) }
    }

    fn choose(&self, service: &str, app: &str, account: &str) -> Result<Rc<Link>, Refused> {
        let Some(Chosen { link, fallback_of }) = self.services.choose(service, app, account) else {
            let known = self.services.is_known(service);
            return Err(if known { Refused::NoInstance } else { Refused::UnknownService });
        };
        if let Some(zone) = fallback_of {
            self.metrics.zone_fallback(zone.index());
        }
        Ok(link)
    }

    /// The same, counted by zone when there is nobody. A sign-out is not: it waits, and asks again.
    fn choose_for_request(&self, service: &str, app: &str, account: &str) -> Result<Rc<Link>, Refused> {
        self.choose(service, app, account).inspect_err(|refused| {
            if *refused == Refused::NoInstance {
                self.metrics.no_instance(self.services.zone(app, account).index());
            }
        })
    }

    fn place(&self, link: &Link, ticket: &Rc<Ticket>, frame: Encoded) -> Result<(), Refused> {
        if !link.has_room(frame.len()) {
            return Err(Refused::QueueFull);
        }
        link.enqueue(Cargo::Request(Rc::clone(ticket)), frame);
        Ok(())
    }

    /// Takes a request out of its queue; false when its first byte may have been written (G4).
    pub(crate) fn withdraw(&self, ticket: &Ticket) -> bool {
        match ticket.stage() {
            Stage::Unplaced => true,
            Stage::Queued(instance, number) => {
                let withdrawn = self.links[instance.0].cancel(number);
                if withdrawn {
                    ticket.set_stage(Stage::Unplaced);
                    self.metrics.request_rejected();
                }
                withdrawn
            }
            Stage::Sent(_) => false,
        }
    }

    /// The link's first sign of life: its instance may be chosen from now on if it is adult, or its service has no
    /// adult. Young ones that served for want of an adult keep what stands in their queues.
    pub(crate) fn link_up(&self, link: &Link, now: Instant) {
        let limits = &self.settings.limits;
        link.came_up(
            now,
            &Rule { young: limits.backend_young, returned_within: limits.backend_returned_within },
        );
        self.services.refresh(&link.instance.service);
        self.readiness.service_linked(self.settings.worker, &link.instance.service);
        self.report_login_links(now);
        self.signouts.nudge();
    }

    /// Time has passed for a link: true if its instance was young and may be chosen beside adults from now on.
    pub(crate) fn link_grown(&self, link: &Link, now: Instant) -> bool {
        let grown = link.grow(now);
        if grown {
            self.services.refresh(&link.instance.service);
        }
        grown
    }

    /// A link broke: its instance leaves selection and its queue moves, oldest first, in one step without an await
    /// (G4). What may have reached it is answered 210.
    pub(crate) fn link_lost(&self, link: &Link, now: Instant) {
        if link.is_live() {
            link.was_lost(now);
            self.services.refresh(&link.instance.service);
            self.report_login_links(now);
        }
        for item in link.take_unsent() {
            self.move_on(item, link.instance.dialect);
        }
        self.channels.for_each(|channel| {
            let lost = channel.pending.borrow_mut().take_sent_to(link.key);
            for ticket in lost {
                self.fail(channel, &ticket, pb::Status::OutcomeUnknown, "the logic service was lost");
            }
        });
    }

    fn report_login_links(&self, now: Instant) {
        let live = self.services.live(&self.settings.login_service);
        self.readiness.login_links(self.settings.worker, live, now);
    }

    fn move_on(&self, item: Item, spoken: Dialect) {
        let ticket = match item.cargo {
            Cargo::Request(ticket) => ticket,
            Cargo::SignOut(signout) => return self.signouts.requeue(signout),
            Cargo::Control => return,
        };
        ticket.set_stage(Stage::Unplaced);
        let Err(refused) = self.place_again(&ticket, item.frame, spoken) else { return };
        self.reject(refused);
        self.metrics.request_rejected();
        let Some(channel) = ticket.channel.upgrade() else { return };
        if channel.pending.borrow_mut().take(&ticket) {
            self.fail(
                &channel,
                &ticket,
                pb::Status::SystemException,
                "no logic service can take the request",
            );
        }
    }

    fn place_again(&self, ticket: &Rc<Ticket>, frame: Encoded, spoken: Dialect) -> Result<(), Refused> {
        let Ok(view) = HeaderView::scan(frame.header(), &HeaderLimits::BACKEND) else {
            return Err(Refused::NoInstance);
        };
        let service = self.service_of(ticket.is_signin, view.command);
        let key = |key| view.last_meta(key).unwrap_or_default();
        let link = self.choose_for_request(service, key("app"), key("account"))?;
        let frame = match link.instance.dialect {
            same if same == spoken => frame,
            other => rewrite::translate(&frame, other).map_err(|_| Refused::NoInstance)?,
        };
        self.place(&link, ticket, frame)
    }

    /// Counts a refusal.
    pub(crate) fn reject(&self, refused: Refused) {
        self.metrics.reject(match refused {
            Refused::UnknownService => Reject::BadCommand,
            Refused::NoInstance => Reject::NoInstance,
            Refused::QueueFull => Reject::QueueFull,
        });
    }

    /// Answers a ticket that was taken out of its channel's pending table in the gateway's own name. A sign-in
    /// that fails ends its channel.
    pub(crate) fn fail(&self, channel: &Channel, ticket: &Ticket, status: pb::Status, text: &'static str) {
        self.metrics.pending_closed();
        self.metrics.latency(Instant::now().saturating_duration_since(ticket.arrived()));
        match channel.answer(ticket, status, text) {
            Ok(bytes) => {
                let command = std::str::from_utf8(&ticket.command).unwrap_or_default();
                self.metrics.packet(Direction::Out, command::label_index(command), bytes);
                self.metrics.answered(status as i32, AnswerOrigin::Gateway);
            }
            Err(full) => self.answer_lost(full),
        }
        if ticket.is_signin {
            let sent = ticket.is_sent();
            self.metrics.login(if sent { LoginResult::Unanswered } else { LoginResult::Unavailable });
            channel.set_state(State::Refused);
            channel.outgoing.close(CloseReason::LoginUnavailable);
        }
    }

    /// Counts an answer that no longer finds its stream, or its channel.
    pub(crate) fn answer_lost(&self, full: Full) {
        self.metrics.reject(if full == Full::Gone { Reject::StreamReset } else { Reject::AnswerLost });
    }

    /// What a write to a link meant.
    pub(crate) fn progressed(&self, link: &Link, progress: Progress) {
        match progress {
            Progress::Begun(ticket) => {
                link.metrics.requests_sent(1);
                self.metrics.request_forwarded();
                if ticket.is_signin {
                    ticket.restart(Instant::now());
                    if let Some(channel) = ticket.channel.upgrade() {
                        self.signouts.supersede(&channel.identity);
                    }
                }
            }
            Progress::SignedOut(signout) => {
                self.metrics.signout(Signout::Written);
                self.signouts.settle(&signout);
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
            let given_up = self.signouts.run(Instant::now(), |signout| self.place_signout(signout));
            for _ in 0..given_up {
                self.metrics.signout(Signout::GivenUp);
            }
        }
    }

    fn place_signout(&self, signout: &Rc<SignOut>) -> Placed {
        let Some(signin) = &signout.signin else { return Placed::NotOwed };
        if self.withdraw(signin) {
            return Placed::NotOwed;
        }
        if signout.is_superseded() {
            self.metrics.signout(Signout::Superseded);
            return Placed::NotOwed;
        }
        if signout.reason == CloseReason::Kicked && !self.settings.signout_after_kick {
            self.metrics.signout(Signout::AfterKick);
            return Placed::NotOwed;
        }
        let signed_in_at = signout.signed_in_at().map(|key| Rc::clone(&self.links[key.0]));
        let link = signed_in_at.filter(|link| link.is_live()).or_else(|| {
            let identity = &signout.identity;
            self.choose(&self.settings.login_service, &identity.app, &identity.account).ok()
        });
        let Some(link) = link else { return Placed::Later };
        let origin = signout.origin(&self.settings.gate_id);
        let frame = rewrite::signout(link.instance.dialect, &origin, signout.reason.token());
        link.enqueue(Cargo::SignOut(Rc::clone(signout)), frame);
        Placed::Queued
    }
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod tests;
