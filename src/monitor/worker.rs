//! One worker's cells, on cache lines of their own, summed when scraped.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::counters::{
    BOUNDS_MICROS, BUCKETS, Counter, Counters, Gauge, Histogram, SESSION_BOUNDS_MICROS, SESSION_BUCKETS,
};
use super::events::Events;
use super::events::event::{Event, Subject};
use super::labels::{
    AnswerOrigin, Direction, Heartbeat, LinkState, PathChange, PushDrop, Reject, Signout, Transport,
};
use super::login_labels::{LoginResult, RenewalResult};
use super::loop_lag::LoopLag;
use crate::statistics::WorkerStatistics;
use crate::wire::close::CloseReason;
use crate::wire::command;

/// The statuses of protocol §3; every other one is counted as "other".
pub(super) const STATUSES: [i32; 9] = [0, 100, 101, 103, 105, 210, 300, 301, 404];

/// Counters of one worker. Every method that counts is a few loads and stores: no lock, no allocation, and only
/// for this worker's thread. Those about events are for rare ones and take a short lock.
///
/// Aligned to 128 bytes, the reach of the prefetcher, so that no two workers write to one line.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    pub(super) opened: Counters<{ Transport::COUNT }>,
    pub(super) closes: [Counters<{ CloseReason::ALL.len() }>; Transport::COUNT],
    pub(super) logins: Counters<{ LoginResult::COUNT }>,
    pub(super) auto_logins: Counters<{ Transport::COUNT }>,
    pub(super) sessions: Histogram<SESSION_BUCKETS>,
    pub(super) renewals: Counters<{ RenewalResult::COUNT }>,
    pub(super) packets: [Counters<{ command::KNOWN.len() }>; Direction::COUNT],
    pub(super) bytes: [Counters<{ command::KNOWN.len() }>; Direction::COUNT],
    pub(super) heartbeats: Counters<{ Heartbeat::COUNT }>,
    pub(super) requests_received: Counter,
    pub(super) requests_forwarded: Counter,
    pub(super) requests_rejected: Counter,
    pub(super) pending: Gauge,
    /// Without connections that were turned away.
    pub(super) served_connections: Gauge,
    pub(super) answers: [Counters<{ STATUSES.len() + 1 }>; AnswerOrigin::COUNT],
    pub(super) latency: Histogram<BUCKETS>,
    pub(super) pushes_received: Counter,
    pub(super) pushes_delivered: Counter,
    pub(super) push_drops: Counters<{ PushDrop::COUNT }>,
    pub(super) rejects: Counters<{ Reject::COUNT }>,
    pub(super) queued_messages: Gauge,
    pub(super) queued_bytes: Gauge,
    pub(super) partial_bytes: Gauge,
    pub(super) before_login_bytes: Gauge,
    pub(super) signouts: Counters<{ Signout::COUNT }>,
    pub(super) signouts_waiting: Gauge,
    pub(super) signout_answers: Counters<{ STATUSES.len() + 1 }>,
    pub(super) spilled: Counter,
    pub(super) path_changes: Counters<{ PathChange::COUNT }>,
    pub(super) unproven_bytes: Counters<{ Direction::COUNT }>,
    pub(super) link_transitions: Counters<{ LinkState::COUNT }>,
    /// By name; read by the collector, and else only where somebody is lost.
    zones: RwLock<BTreeMap<String, ZoneCells>>,
    pub(super) beat: LoopLag,
    statistics: WorkerStatistics,
    /// Its number among the workers.
    index: usize,
    events: Events,
}

/// What is counted of a zone.
#[derive(Debug, Default)]
struct ZoneCells {
    fallbacks: Counter,
    no_instances: Counter,
}

/// Where a status is counted: with the others if it is none of the protocol.
fn status_index(status: i32) -> usize {
    STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len())
}

impl WorkerMetrics {
    /// Zeros. `index` says which worker's they are when it raises events.
    pub(super) fn new(index: usize, events: Events, statistics: WorkerStatistics) -> Self {
        Self {
            opened: Counters::default(),
            closes: Default::default(),
            logins: Counters::default(),
            auto_logins: Counters::default(),
            sessions: Histogram::new(&SESSION_BOUNDS_MICROS),
            renewals: Counters::default(),
            packets: Default::default(),
            bytes: Default::default(),
            heartbeats: Counters::default(),
            requests_received: Counter::default(),
            requests_forwarded: Counter::default(),
            requests_rejected: Counter::default(),
            pending: Gauge::default(),
            served_connections: Gauge::default(),
            answers: Default::default(),
            latency: Histogram::new(&BOUNDS_MICROS),
            pushes_received: Counter::default(),
            pushes_delivered: Counter::default(),
            push_drops: Counters::default(),
            rejects: Counters::default(),
            queued_messages: Gauge::default(),
            queued_bytes: Gauge::default(),
            partial_bytes: Gauge::default(),
            before_login_bytes: Gauge::default(),
            signouts: Counters::default(),
            signouts_waiting: Gauge::default(),
            signout_answers: Counters::default(),
            spilled: Counter::default(),
            path_changes: Counters::default(),
            unproven_bytes: Counters::default(),
            link_transitions: Counters::default(),
            zones: RwLock::default(),
            beat: LoopLag::new(Instant::now()),
            statistics,
            index,
            events,
        }
    }

    /// This worker sees a condition that the administrator is told about; see [`Events::raise`].
    pub fn raise(&self, event: Event) {
        self.events.raise(self.index, event);
    }

    /// And no longer sees it.
    pub fn clear(&self, subject: &Subject) {
        self.events.clear(self.index, subject);
    }

    /// An instance is linked again, or has left for good: neither lost nor refusing.
    pub fn clear_instance(&self, service: &str, instance: &str, zone: &str) {
        self.clear(&Subject::instance_lost(service, instance, zone));
        self.clear(&Subject::link_refused(service, instance, zone));
    }

    /// A client connection was accepted. Each must be followed by one [`connection_closed`](Self::connection_closed).
    pub fn connection_opened(&self, transport: Transport) {
        self.opened.add(transport.index(), 1);
    }

    /// A client connection ended. The gauge of open connections is what was opened less what was closed, so the
    /// two cannot drift apart.
    pub fn connection_closed(&self, transport: Transport, reason: CloseReason) {
        self.closes[transport.index()].add(reason.index(), 1);
    }

    /// The instance of a new channel's account was overloaded, so the next one took it.
    pub fn spilled(&self) {
        self.spilled.add(1);
    }

    /// A QUIC client's change of its address came to this.
    pub fn path_change(&self, outcome: PathChange) {
        self.path_changes.add(outcome.index(), 1);
    }

    /// So many bytes of UDP payload came from an address that has not proven itself, or went there.
    pub fn unproven_bytes(&self, direction: Direction, bytes: usize) {
        self.unproven_bytes.add(direction.index(), bytes as u64);
    }

    /// A link to a logic instance is in another state, or anew in the same.
    pub fn link_transition(&self, to: LinkState) {
        self.link_transitions.add(to.index(), 1);
    }

    /// A login ended.
    pub fn login(&self, result: LoginResult) {
        self.logins.add(result.index(), 1);
    }

    /// A client that took whatever got through signed in over this.
    pub fn auto_login(&self, transport: Transport) {
        self.auto_logins.add(transport.index(), 1);
    }

    /// A session that the login service had opened ended after this time.
    pub fn session_ended(&self, length: Duration) {
        self.sessions.observe(length);
    }

    /// Who is active on this worker.
    pub fn statistics(&self) -> &WorkerStatistics {
        &self.statistics
    }

    /// A renewal of a token ended.
    pub fn renewal(&self, result: RenewalResult) {
        self.renewals.add(result.index(), 1);
    }

    /// A LogicPkt of a client went by. `command_label` is that of [`command::label_index`], `bytes` the length of
    /// its frame, head included.
    pub fn packet(&self, direction: Direction, command_label: usize, bytes: usize) {
        self.packets[direction.index()].add(command_label, 1);
        self.bytes[direction.index()].add(command_label, bytes as u64);
    }

    /// A heartbeat of a client was answered.
    pub fn heartbeat(&self, kind: Heartbeat) {
        self.heartbeats.add(kind.index(), 1);
    }

    /// A well-formed request arrived on an open channel, or a sign-in. It must later count as
    /// [forwarded](Self::request_forwarded) or [rejected](Self::request_rejected), once (G9).
    pub fn request_received(&self) {
        self.requests_received.add(1);
    }

    /// The first byte of a request may be with a logic instance.
    pub fn request_forwarded(&self) {
        self.requests_forwarded.add(1);
    }

    /// A request was answered by the gateway without a hand-over.
    pub fn request_rejected(&self) {
        self.requests_rejected.add(1);
    }

    /// A request now waits for its answer.
    pub fn pending_opened(&self) {
        self.pending.add(1);
    }

    /// A request no longer waits: answered, timed out, or its channel ended.
    pub fn pending_closed(&self) {
        self.pending.add(-1);
    }

    /// So many more connections are served; those that are turned away never are.
    pub(crate) fn connections_served(&self, more: i64) {
        self.served_connections.add(more);
    }

    /// An answer was put into a client's queue.
    pub fn answered(&self, status: i32, origin: AnswerOrigin) {
        self.answers[origin.index()].add(status_index(status), 1);
    }

    /// From the arrival of a request's last byte to its answer.
    pub fn latency(&self, duration: Duration) {
        self.latency.observe(duration);
    }

    /// A push is for `n` channels, or names none that can be read and counts as one.
    pub fn push_received(&self, n: u64) {
        self.pushes_received.add(n);
    }

    /// `n` pushes were written to their client whole.
    pub fn push_delivered(&self, n: u64) {
        self.pushes_delivered.add(n);
    }

    /// A push did not reach `n` channels it named; 1 where it cannot be said how many.
    pub fn push_dropped(&self, reason: PushDrop, n: u64) {
        self.push_drops.add(reason.index(), n);
    }

    /// Something was refused, ignored, corrected or survived.
    pub fn reject(&self, reason: Reject) {
        self.rejects.add(reason.index(), 1);
    }

    /// The outgoing queues of the channels grew or shrank.
    pub fn queued(&self, delta_messages: i64, delta_bytes: i64) {
        self.queued_messages.add(delta_messages);
        self.queued_bytes.add(delta_bytes);
    }

    /// Bytes in the outgoing queues of the channels now.
    pub fn queued_bytes(&self) -> u64 {
        u64::try_from(self.queued_bytes.get()).unwrap_or_default()
    }

    /// Frames of clients whose end has not come hold so many bytes more, or less.
    pub fn partial(&self, delta_bytes: i64) {
        self.partial_bytes.add(delta_bytes);
    }

    /// Bytes of frames of clients whose end has not come.
    pub fn partial_bytes(&self) -> u64 {
        u64::try_from(self.partial_bytes.get()).unwrap_or_default()
    }

    /// Connections that have not signed in cost so many bytes more, or less.
    pub fn before_login(&self, delta_bytes: i64) {
        self.before_login_bytes.add(delta_bytes);
    }

    /// The worker's loop is at work now; to be said every [`PRESSURE_LOOK`](crate::limits::PRESSURE_LOOK).
    pub fn beat(&self, now: Instant) {
        self.beat.beat(now);
    }

    /// The worker's loop has ended: it is not late any more.
    pub fn loop_ended(&self) {
        self.beat.end();
    }

    /// The worst delay of a beat since this was last asked for, one that has not come yet included.
    pub(crate) fn take_lag(&self, now: Instant) -> Duration {
        self.beat.take_lag(now)
    }

    /// A sign-out reached its end.
    pub fn signout(&self, outcome: Signout) {
        self.signouts.add(outcome.index(), 1);
    }

    /// A login service answered a sign-out that was written to it.
    pub fn signout_answered(&self, status: i32) {
        self.signout_answers.add(status_index(status), 1);
    }

    /// The number of sign-outs that wait for a link changed.
    pub fn signouts_waiting(&self, delta: i64) {
        self.signouts_waiting.add(delta);
    }

    /// A zone had no instance of the service and another zone's was chosen for a packet (row E13). A zone that no route
    /// has named is not counted.
    pub fn zone_fallback(&self, zone: &str) {
        self.count_zone(zone, |cells| &cells.fallbacks);
    }

    /// A request of an account of this zone found no instance at all, in no zone (row E14). `zone` as above.
    pub fn no_instance(&self, zone: &str) {
        self.count_zone(zone, |cells| &cells.no_instances);
    }

    fn count_zone(&self, zone: &str, cell: impl FnOnce(&ZoneCells) -> &Counter) {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cells) = zones.get(zone) {
            cell(cells).add(1);
        }
    }

    /// Counts for these zones, too. Those of earlier routes stay, as counters do.
    pub(super) fn count_zones(&self, names: &[String]) {
        let mut zones = self.zones.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            zones.entry(name.clone()).or_default();
        }
    }

    /// Fallbacks and requests that found nobody, by zone.
    pub(super) fn zones(&self) -> Vec<(String, [u64; 2])> {
        let zones = self.zones.read().unwrap_or_else(PoisonError::into_inner);
        let counted = |cells: &ZoneCells| [cells.fallbacks.get(), cells.no_instances.get()];
        zones.iter().map(|(name, cells)| (name.clone(), counted(cells))).collect()
    }
}
