//! What it means that an instance comes, is linked, is lost, or leaves: who may be chosen, and where its queue goes.
//!
//! An instance that leaves the set while its link lives (row E11) is out of selection at once, and what stands in its
//! queue moves as from a lost link if another instance can take it. Its link is kept until what it owes is answered,
//! at most for the time a request has; then it is closed. A channel that waits for it may send it more for [`FOLLOW`],
//! so that its requests stay in order (with `route.bounded_load`). The set says who gets new work, the link what is still to
//! come. One that is back before that, the same in everything, keeps its link. One that returns at another address, in
//! another zone or with another dialect is another instance of the same name: it has a link of its own and is warming.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tracing::{debug, info};

use crate::config::Instance;
use crate::dispatch::health::{HealthEvent, Loss, Transition};
use crate::dispatch::link::{Drain, Link};
use crate::dispatch::queue::{LinkQueue, Payload};
use crate::dispatch::{Dispatch, Refused};
use crate::limits::LOST_PER_TURN;
use crate::monitor::events::event;
use crate::monitor::metrics::LinkState;
use crate::session::channel::Ticket;
use crate::session::pending::RequestStage;
use crate::wire::dialect::Dialect;
use crate::wire::header::{HeaderLimits, HeaderView};
use crate::wire::packet::Encoded;
use crate::wire::pb;
use crate::wire::rewrite;

/// How long a channel that always waits for an instance that has left may follow it with more requests. Most wait for
/// nothing within milliseconds; who never does must go elsewhere at last.
const FOLLOW: Duration = Duration::from_secs(1);

impl Dispatch {
    /// A new instance of a known service. Whoever runs its link calls [`Dispatch::remove`] when that has ended.
    pub(crate) fn add(&self, instance: Instance, is_of_first_set: bool) -> Rc<Link> {
        report("instance_new", &instance, "an instance of a logic service is known; it is dialled");
        self.services.links.add(instance, is_of_first_set)
    }

    /// These instances are no longer in the set; see the module.
    pub(crate) fn drain(&self, links: &[Rc<Link>], now: Instant) {
        let limits = self.settings.limits.now();
        let is_bounded = self.services.is_bounded();
        let follow_until = if is_bounded { now + FOLLOW } else { now };
        let by = follow_until + limits.request_deadline.max(limits.login_answer);
        // First all of them, so that nothing moves from one that leaves to another that does.
        for link in links {
            report(
                "instance_left",
                &link.instance,
                "an instance of a logic service has left; it gets no new requests",
            );
            link.drain(Drain { follow_until, by });
        }
        for link in links {
            self.services.refresh(&link.instance.service);
        }
        self.report_login_links(now);
        for link in links.iter().filter(|link| self.services.has_candidates(&link.instance.service)) {
            // Behind a request that the instance has, what follows stays, to keep the order of its channel.
            let may_move = |ticket: &Ticket| {
                let channel = if is_bounded { ticket.channel.upgrade() } else { None };
                channel.is_none_or(|channel| !channel.pending.borrow().is_any_sent_to(link.key))
            };
            self.move_queue(link, may_move);
        }
    }

    /// An instance is back, the same in everything, before its link had ended.
    pub(crate) fn undrain(&self, link: &Link, now: Instant) {
        report(
            "instance_back",
            &link.instance,
            "an instance of a logic service is back before its link was closed",
        );
        link.undrain();
        self.services.refresh(&link.instance.service);
        self.report_login_links(now);
        self.signouts.nudge();
    }

    /// An operator ejects an instance: it gets no new requests until [`Dispatch::take_back`], however often it is
    /// connected anew, or leaves and comes. What stands in its queue moves as far as others take it; what it has or keeps
    /// may still be answered, and what its clients owe it, their sign-outs, goes there. Returns how many requests moved.
    pub(crate) fn set_aside(&self, service: &str, id: &str, now: Instant) -> usize {
        let links = self.services.links.set_aside(service, id, now);
        self.services.refresh(service);
        self.report_login_links(now);
        let mut moved = 0;
        for link in &links {
            report(
                "instance_ejected",
                &link.instance,
                "an operator has ejected an instance; it gets no new requests",
            );
            moved += self.move_taken(link);
        }
        moved
    }

    /// An operator returns an instance: it is what its health says. Returns the services where it was ejected.
    pub(crate) fn take_back(&self, service: Option<&str>, id: &str, now: Instant) -> Vec<String> {
        let mut services = Vec::new();
        for (service, links) in self.services.links.take_back(service, id) {
            for link in links {
                report("instance_returned", &link.instance, "an operator has returned an instance");
            }
            self.services.refresh(&service);
            services.push(service);
        }
        self.report_login_links(now);
        self.signouts.nudge();
        services
    }

    /// The link of an instance that left has ended.
    pub(crate) fn remove(&self, link: &Link) {
        self.services.links.remove(link.key);
        self.services.refresh(&link.instance.service);
        let Instance { service, id, zone, .. } = &link.instance;
        let is_named = |other: &Rc<Link>| {
            let other = &other.instance;
            (&other.service, &other.id, &other.zone) == (service, id, zone)
        };
        // One of its name that came since may be lost itself.
        if !self.services.links.all().iter().any(is_named) {
            self.metrics.clear_instance(service, id, zone);
        }
    }

    /// The link's first sign of life: its instance may be chosen from now on if it is healthy, or its service has no
    /// healthy one. Warming ones that served for want of a healthy instance keep what stands in their queues.
    pub(crate) fn link_up(&self, link: &Link, now: Instant) {
        self.on(link, HealthEvent::Alive, now);
        let Instance { service, id, zone, .. } = &link.instance;
        self.metrics.clear_instance(service, id, zone);
        self.readiness.service_linked(self.settings.worker, service);
        self.signouts.nudge();
    }

    /// An instance has, or another gateway took, a link with this gateway's id. True if the gateway is not ready for it: it
    /// is certain that another one runs, or no instance of the service is left (row F15).
    pub(crate) fn contested(&self, service: &str, is_certain: bool) -> bool {
        let counts = is_certain || self.services.links.live(service) == 0;
        if counts {
            self.readiness.contested(service, is_certain, Instant::now());
        }
        counts
    }

    /// A link broke: its instance leaves selection and its queue moves, oldest first, in one step without an await
    /// (G4). What may have reached it will be answered 210.
    pub(crate) fn link_lost(&self, link: &Link, loss: Loss, now: Instant) {
        self.on(link, HealthEvent::Lost(loss), now);
        link.change_queue(LinkQueue::cut);
        self.move_queue(link, |_| true);
        link.lose();
        self.lost.wake(&link.corked);
        self.lost.search();
    }

    /// A link was lost, refused or not reached: the administrator is told of the instance, and behind it of its zone, if
    /// that has nobody else.
    pub(crate) fn tell_lost(&self, link: &Link, told: event::Event) {
        link.note_trouble(told.detail());
        self.metrics.raise(told);
        if link.tell_lost() {
            self.services.refresh(&link.instance.service);
        }
    }

    /// An instance did not answer a request in its time. Too many of them eject it.
    pub(crate) fn timed_out(&self, ticket: &Ticket, now: Instant) {
        let Some(link) = ticket.placed_with().and_then(|key| self.services.links.get(key)) else { return };
        // Where this worker stood still, the answer may lie unread.
        let stood_still = link.stands_still(now, self.settings.limits.now().backend_ping * 2);
        if stood_still || !link.health().is_about_now(ticket.arrived()) {
            return;
        }
        let may_eject = self.services.links.may_eject(&link);
        self.on(&link, HealthEvent::TimedOut { may_eject }, now);
    }

    /// Lets something happen to a link; whoever may be chosen changes with it.
    pub(crate) fn on(&self, link: &Link, event: HealthEvent, now: Instant) {
        let before = (link.standing(), link.presence());
        if let Some(transition) = link.on(event, now, &self.rule.get()) {
            self.metrics.link_transition(transition.to);
            report_transition(&link.instance, transition);
        }
        if (link.standing(), link.presence()) != before {
            self.services.refresh(&link.instance.service);
            self.report_login_links(now);
        }
    }

    fn report_login_links(&self, now: Instant) {
        let live = self.services.links.live(&self.settings.login_service);
        self.readiness.login_links(self.settings.worker, live, now);
    }

    /// The requests go to other instances at once; the sign-outs, of which there may be 100,000, are placed anew.
    fn move_queue(&self, link: &Link, may_move: impl Fn(&Ticket) -> bool) {
        self.move_requests(link, may_move);
        self.signouts.requeue(link.change_queue(LinkQueue::take_signouts));
    }

    fn move_requests(&self, link: &Link, may_move: impl Fn(&Ticket) -> bool) {
        for (ticket, frame) in link.change_queue(|queue| queue.take_requests(may_move)) {
            self.move_on(&ticket, frame, link.instance.dialect);
        }
    }

    /// What others take goes to them, the rest stays. Returns how many requests went.
    fn move_taken(&self, link: &Link) -> usize {
        let mut moved = 0;
        // What follows one that stays does so too, to keep the order of its channel.
        let mut staying = HashSet::new();
        for (ticket, frame) in link.change_queue(|queue| queue.take_requests(|_| true)) {
            ticket.set_stage(RequestStage::Unplaced);
            let channel = ticket.channel.as_ptr();
            if !staying.contains(&channel) && self.is_taken(&ticket, &frame, link.instance.dialect) {
                moved += 1;
            } else {
                staying.insert(channel);
                link.enqueue(Payload::Request(ticket), frame);
            }
        }
        moved
    }

    fn move_on(&self, ticket: &Rc<Ticket>, frame: Encoded, spoken: Dialect) {
        ticket.set_stage(RequestStage::Unplaced);
        if self.place_again(ticket, frame, spoken).is_ok() {
            return;
        }
        self.metrics.request_rejected();
        let Some(channel) = ticket.channel.upgrade() else { return };
        if channel.pending.borrow_mut().take(ticket) {
            self.fail(&channel, ticket, pb::Status::SystemException, "no logic service can take the request");
        }
    }

    /// Answers what was sent over links that broke, for as long as it runs. Cancel safe.
    pub(crate) async fn run_lost(&self) {
        loop {
            self.lost.changed().await;
            while self.answer_lost_slice() {
                yield_now().await;
            }
        }
    }

    /// Looks for some of it, or answers it. Returns `true` if there is more.
    pub(super) fn answer_lost_slice(&self) -> bool {
        let mut left = LOST_PER_TURN;
        while left > 0
            && let Some(ticket) = self.lost.take(&self.channels, &mut left)
        {
            let Some(channel) = ticket.channel.upgrade() else { continue };
            if channel.pending.borrow_mut().take(&ticket) {
                self.fail(&channel, &ticket, pb::Status::OutcomeUnknown, "the logic service was lost");
            }
        }
        self.lost.wake_some();
        self.lost.is_any()
    }

    fn place_again(&self, ticket: &Rc<Ticket>, frame: Encoded, spoken: Dialect) -> Result<(), Refused> {
        let Ok(view) = HeaderView::scan(frame.header(), &HeaderLimits::BACKEND) else {
            return Err(self.refuse(Refused::NoInstance));
        };
        let service = self.service_of(ticket.is_signin, view.command);
        let key = |key| view.last_meta(key).unwrap_or_default();
        let channel = ticket.channel.upgrade();
        let chosen = self.choose_for_request(service, key("app"), key("account"), channel.as_deref())?;
        let frame = spoken_by(&chosen.link, &view, &frame, spoken);
        self.place(&chosen, channel.as_deref(), ticket, frame)
    }

    /// The same for a request that may stay where it is: whoever does not take it refuses nothing, so nothing is counted.
    fn is_taken(&self, ticket: &Rc<Ticket>, frame: &Encoded, spoken: Dialect) -> bool {
        let Ok(view) = HeaderView::scan(frame.header(), &HeaderLimits::BACKEND) else { return false };
        let service = self.service_of(ticket.is_signin, view.command);
        let key = |key| view.last_meta(key).unwrap_or_default();
        let channel = ticket.channel.upgrade();
        let chosen = self.services.choose_for(service, key("app"), key("account"), channel.as_deref());
        let Ok(chosen) = chosen else { return false };
        let frame = spoken_by(&chosen.link, &view, frame, spoken);
        if !chosen.link.queue().has_room(frame.len()) {
            return false;
        }
        self.count_fallback(service, chosen.fallback_of);
        self.place(&chosen, channel.as_deref(), ticket, frame).is_ok()
    }
}

fn spoken_by(link: &Link, view: &HeaderView<'_>, frame: &Encoded, spoken: Dialect) -> Encoded {
    match link.instance.dialect {
        same if same == spoken => frame.clone(),
        other => rewrite::translate(view, other, frame.body()),
    }
}

/// One line for each change; those of an instance that is tried again and again are for whoever looks closely.
fn report_transition(instance: &Instance, transition: Transition) {
    let Transition { from, to, reason } = transition;
    let Instance { service, id, zone, address, .. } = instance;
    let (is_retry, from, to) = (
        matches!((from, to), (LinkState::Broken, _) | (LinkState::Dialling, LinkState::Broken)),
        from.label(),
        to.label(),
    );
    if is_retry {
        debug!(event = "link_state", service, instance = id, zone, address, from, to, reason);
    } else {
        info!(event = "link_state", service, instance = id, zone, address, from, to, reason);
    }
}

fn report(event: &'static str, instance: &Instance, what: &'static str) {
    let Instance { service, id, zone, address, dialect } = instance;
    info!(event, service, instance = id, zone, address, %dialect, "{what}");
}
