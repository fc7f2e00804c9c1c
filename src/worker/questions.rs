//! What a worker answers the administrator. It takes one question after the other, and looks at a crowd in slices.

use std::future::pending;
use std::ops::Bound;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::operator_drain::OperatorDrain;
use crate::admin::listing::{ConnectionFilter, ListedConnection, Listing, PageRows};
use crate::admin::mailbox::{Mailbox, Question};
use crate::admin::model::{
    CloseRow, ConnectionRow, ConnectionView, LinkRow, RouteExplanation, ServiceExplanation,
};
use crate::dispatch::Dispatch;
use crate::dispatch::health::Standing;
use crate::dispatch::link::Link;
use crate::dispatch::selector::ZoneReason;
use crate::handler::get_ip;
use crate::limits::{ADMIN_LOOK, ADMIN_PER_TURN, RECENT_CLOSES};
use crate::monitor::metrics::LinkState;
use crate::packet_trace::{PacketKind, Tap, TracedPacket};
use crate::server::connection::ConnectionContext;
use crate::server::recent_closes::RecentClose;
use crate::session::channel::{Channel, ChannelState, Identity};
use crate::session::connected::ConnectedClient;
use crate::session::inspection::Inspection;
use crate::session::outgoing::Outgoing;
use crate::wire::close::CloseReason;

/// Why an instance gets nothing that is well.
const BY_AN_OPERATOR: &str = "by an operator";

/// What a worker knows, as the administrator sees it.
pub(super) struct Overview {
    pub(super) dispatch: Rc<Dispatch>,
    pub(super) shared: Rc<ConnectionContext>,
    pub(super) drain: Rc<OperatorDrain>,
    pub(super) epoch: Instant,
}

/// Answers for as long as it is polled.
pub(super) async fn answer(mut mailbox: Mailbox, overview: Overview) {
    while let Some(question) = mailbox.questions.recv().await {
        overview.answer(question).await;
    }
    // Nobody asks any more: the process is ending, and a task that ended would be a fault of the worker.
    pending().await
}

impl Overview {
    async fn answer(&self, question: Question) {
        match question {
            Question::Connections(listing, reply) => reply.send(self.list(&listing).await),
            Question::Connection(id, reply) => reply.send(self.view(&id).await.map(Box::new)),
            Question::Links(reply) => reply.send(self.links()),
            Question::Explain(whom, reply) => reply.send(self.explain(&whom.0, &whom.1)),
            Question::Kick(filter, reply) => reply.send(self.kick(&filter).await),
            Question::Closes(reply) => reply.send(self.closes()),
            Question::Notice(plan, reply) => reply.send(self.notice(&plan).await),
            Question::Drain(plan, reply) => reply.send(self.drain.begin(plan)),
            Question::Undrain(reply) => reply.send(self.drain.end()),
            Question::Eject(of, reply) => {
                reply.send(self.dispatch.set_aside(&of.service, &of.instance, Instant::now()));
            }
            Question::Return(of, reply) => {
                let service = of.service.as_deref();
                reply.send(self.dispatch.take_back(service, &of.instance, Instant::now()));
            }
            Question::Trace(tap, reply) => reply.send(self.trace(tap).await),
        }
    }

    fn worker(&self) -> usize {
        self.dispatch.settings.worker
    }

    /// Shows every connection, some in a turn.
    pub(super) async fn for_each(&self, mut visit: impl FnMut(&SeenConnection<'_>)) {
        let mut from = Bound::Unbounded;
        loop {
            let now = Instant::now();
            let see = |number, connected: &ConnectedClient| {
                let channel = connected.channel();
                visit(&SeenConnection { of: self, number, connected, channel: channel.as_ref(), now });
            };
            let Some(last) = self.dispatch.channels.for_connections(from, ADMIN_PER_TURN, see) else {
                return;
            };
            from = Bound::Excluded(last);
            yield_now().await;
        }
    }

    async fn list(&self, listing: &Listing) -> PageRows {
        let mut rows = PageRows::new();
        self.for_each(|seen| rows.look(listing, &seen.candidate(), || seen.row())).await;
        rows
    }

    async fn kick(&self, filter: &ConnectionFilter) -> usize {
        let mut kicked = 0;
        self.for_each(|seen| kicked += usize::from(filter.matches(&seen.candidate()) && seen.kick())).await;
        kicked
    }

    /// Begins a trace; how many channels are there that it is about.
    async fn trace(&self, tap: Tap) -> usize {
        let tap = tap.of_worker(self.worker());
        self.dispatch.channels.taps.add(tap.clone());
        let mut found = 0;
        self.for_each(|seen| found += usize::from(seen.trace(&tap))).await;
        found
    }

    async fn view(&self, id: &str) -> Option<ConnectionView> {
        let mut found = None;
        self.for_each(|seen| {
            if seen.is(id) {
                found = Some((seen.view(), Rc::clone(&seen.connected.outgoing)));
            }
        })
        .await;
        let (mut view, outgoing) = found?;
        if let Some(inspection) = inspect(&outgoing).await {
            view.complete(&inspection);
        }
        Some(view)
    }

    fn links(&self) -> Vec<LinkRow> {
        let now = Instant::now();
        self.dispatch.services.links.all().iter().map(|link| link_row(link, self.worker(), now)).collect()
    }

    fn explain(&self, app: &str, account: &str) -> RouteExplanation {
        let services = &self.dispatch.services;
        let (mut zone, mut why) = (String::new(), serde_json::Value::Null);
        let explained = services.names().into_iter().filter_map(|service| {
            services.explain(&service, app, account, |explained| {
                explained.zone.clone_into(&mut zone);
                why = match explained.why {
                    ZoneReason::Whitelist => json!({ "whitelist": app }),
                    ZoneReason::Slot { by, key, hash, slot, slots } => json!({
                        "route_by": by.as_str(), "key": key, "crc32": hash, "slot": slot, "slots": slots,
                    }),
                };
                ServiceExplanation {
                    service: service.clone(),
                    candidates: explained.candidates.iter().map(|id| (*id).to_owned()).collect(),
                    fallback: explained.fallback,
                    instance: explained.instance.map(str::to_owned),
                    position: explained.position,
                    ejected_by_operator: services.ids_set_aside(&service),
                }
            })
        });
        let services = explained.collect();
        RouteExplanation { app: app.to_owned(), account: account.to_owned(), zone, why, services }
    }

    fn closes(&self) -> Vec<CloseRow> {
        let (mut closes, now) = (Vec::with_capacity(RECENT_CLOSES), Instant::now());
        self.shared.closes.for_newest(|close| {
            closes.push(close_row(close, now));
            true
        });
        closes
    }

    fn last_close(&self, of: &Channel, now: Instant) -> Option<CloseRow> {
        let mut last = None;
        self.shared.closes.for_newest(|close| {
            last = (close.identity == of.identity).then(|| close_row(close, now));
            last.is_none()
        });
        last
    }
}

/// What the task of a connection says of it, unless it is ending.
async fn inspect(outgoing: &Outgoing) -> Option<Inspection> {
    let answer = outgoing.inspection.ask();
    outgoing.wake();
    timeout(ADMIN_LOOK, answer).await.ok()?.ok()
}

/// One connection, at one moment.
pub(super) struct SeenConnection<'a> {
    of: &'a Overview,
    number: u64,
    connected: &'a ConnectedClient,
    channel: Option<&'a Rc<Channel>>,
    now: Instant,
}

impl SeenConnection<'_> {
    fn candidate(&self) -> ListedConnection<'_> {
        let origin = &self.connected.origin;
        let identity = self.channel.map(|channel| &channel.identity);
        ListedConnection {
            worker: self.of.worker(),
            number: self.number,
            channel: self.channel.map(|channel| &*channel.id),
            app: identity.map(|identity| identity.app.as_str()),
            account: identity.map(|identity| identity.account.as_str()),
            address: origin.address,
            transport: origin.transport,
            since: origin.since.saturating_duration_since(self.of.epoch),
            age: self.age(),
            queued_bytes: self.connected.outgoing.queued().bytes,
        }
    }

    /// Its channel, if that is open and matches.
    pub(super) fn open_channel(&self, filter: &ConnectionFilter) -> Option<&Rc<Channel>> {
        let is_open = |channel: &Channel| matches!(channel.state(), ChannelState::Open(_));
        self.channel.filter(|channel| is_open(channel) && filter.matches(&self.candidate()))
    }

    /// Has it end; false if it was ending already, and will not come back for that.
    fn kick(&self) -> bool {
        let outgoing = &self.connected.outgoing;
        if outgoing.closing().is_some_and(|reason| reason != CloseReason::Draining) {
            return false;
        }
        match self.channel {
            Some(channel) => {
                channel.kick();
                self.of.dispatch.channels.trace(channel, || TracedPacket::notice("kicked"));
            }
            None => outgoing.close(CloseReason::Kicked),
        }
        true
    }

    /// Has its packets be shown, if it is of the account.
    fn trace(&self, tap: &Tap) -> bool {
        let Some(channel) = self.channel.filter(|channel| {
            let Identity { app, account } = &channel.identity;
            tap.is_about(app, account)
        }) else {
            return false;
        };
        channel.set_traced(true);
        let origin = &self.connected.origin;
        let connected = TracedPacket {
            kind: PacketKind::Connected,
            outcome: self.state(),
            transport: Some(origin.transport.label()),
            address: Some(origin.address),
            ..TracedPacket::default()
        };
        tap.tell((&channel.identity.app, &channel.identity.account), Some(&channel.id), &connected);
        true
    }

    /// Whether this is the id of its channel, or its own.
    fn is(&self, id: &str) -> bool {
        self.channel.is_some_and(|channel| &*channel.id == id) || self.name() == id
    }

    fn name(&self) -> String {
        format!("{}.{}", self.of.worker(), self.number)
    }

    fn age(&self) -> Duration {
        self.now.saturating_duration_since(self.connected.origin.since)
    }

    fn state(&self) -> &'static str {
        match self.channel {
            _ if self.connected.outgoing.closing().is_some() => "closing",
            None => "newcomer",
            Some(channel) => match channel.state() {
                ChannelState::Opening => "opening",
                ChannelState::Open(_) => "open",
                ChannelState::Refused => "closing",
            },
        }
    }

    fn row(&self) -> ConnectionRow {
        let queued = self.connected.outgoing.queued();
        let identity = self.channel.map(|channel| &channel.identity);
        ConnectionRow {
            connection: self.name(),
            channel: self.channel.map(|channel| channel.id.to_string()),
            app: identity.map(|identity| identity.app.clone()),
            account: identity.map(|identity| identity.account.clone()),
            address: get_ip(self.connected.origin.address),
            transport: self.connected.origin.transport.label(),
            state: self.state(),
            age_seconds: self.age().as_secs(),
            queued_messages: queued.messages,
            queued_bytes: queued.bytes,
            pending: self.channel.map_or(0, |channel| channel.pending.borrow().len()),
        }
    }

    fn view(&self) -> ConnectionView {
        let expiry = self.channel.and_then(|channel| channel.expiry());
        ConnectionView {
            row: self.row(),
            dialect: self.channel.map(|channel| channel.dialect.to_string()),
            expires_in_seconds: expiry.map(|at| at.saturating_duration_since(self.now).as_secs()),
            streams: None,
            frames_received: None,
            bytes_received: None,
            frames_per_second: None,
            bytes_per_second: None,
            round_trip_seconds: None,
            last_close: self.channel.and_then(|channel| self.of.last_close(channel, self.now)),
        }
    }
}

impl ConnectionView {
    /// What only its task knows.
    fn complete(&mut self, inspection: &Inspection) {
        let per_second = |count: u64| count as f64 / self.row.age_seconds.max(1) as f64;
        self.streams = Some(inspection.streams);
        self.frames_per_second = Some(per_second(inspection.frames_received));
        self.bytes_per_second = Some(per_second(inspection.bytes_received));
        self.frames_received = Some(inspection.frames_received);
        self.bytes_received = Some(inspection.bytes_received);
        self.round_trip_seconds = inspection.round_trip.map(|time| time.as_secs_f64());
    }
}

fn close_row(close: &RecentClose, now: Instant) -> CloseRow {
    CloseRow {
        ago_seconds: now.saturating_duration_since(close.at).as_secs_f64(),
        channel: close.channel.to_string(),
        app: close.identity.app.clone(),
        account: close.identity.account.clone(),
        address: get_ip(close.address),
        transport: close.transport.label(),
        reason: close.reason.token(),
    }
}

fn link_row(link: &Link, worker: usize, now: Instant) -> LinkRow {
    let (instance, why) = (&link.instance, link.why());
    let (queued_packets, queued_bytes) = link.queue().depth();
    let state: LinkState = link.state();
    let set_aside = link.set_aside_since();
    LinkRow {
        worker,
        service: instance.service.clone(),
        instance: instance.id.clone(),
        zone: instance.zone.clone(),
        address: instance.address.clone(),
        dialect: instance.dialect.to_string(),
        state: if link.is_leaving() { "leaving" } else { state.label() },
        serves: link.standing().is_some_and(|standing| standing <= Standing::Warming),
        why: if set_aside.is_some() { BY_AN_OPERATOR } else { why.reason },
        since_seconds: set_aside
            .or(why.since)
            .map(|since| now.saturating_duration_since(since).as_secs_f64()),
        last_trouble: why.trouble.as_deref().map(str::to_owned),
        pending: link.load(),
        queued_packets,
        queued_bytes,
        connected_times: link.lives(),
    }
}
