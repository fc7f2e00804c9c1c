//! What the administrator is told: an instance lost, a zone empty, a certificate near its end.
//!
//! An [`event`] is a condition that begins (*raised*) and ends (*cleared*). Whoever notices one says so through [`Events`],
//! which counts, writes one log line and hands a payload to the [`sender`], the thread that posts it to the webhook. No
//! call here waits for anything: a webhook that hangs costs memory for 1,000 payloads and nothing else.
//!
//! A condition that comes and goes does not flood anybody: of each, one raising is told in
//! `conditions::QUIET`, with the number of those that were not. The counter counts them all, and how things
//! stand at the end is always told.

mod conditions;
pub mod event;
mod outbox;
mod payload;
pub mod sender;
mod watch;
pub mod webhook;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use self::conditions::{Conditions, Told};
use self::event::{Event, Subject};
use self::outbox::Outbox;
use self::payload::EventPayload;
use super::counters::Counters;
use super::labels::{Delivery, EventKind};
use crate::limits::RECENT_EVENTS;

/// Who payloads, where it is not one of the workers or watchers that are numbered from 0.
pub const PROCESS: usize = usize::MAX;

/// The same for strangers: what they bring about and what the process itself is in may hold at the same time.
pub const STRANGERS: usize = usize::MAX - 1;

/// Whoever looks at files that may be replaced: what it finds and what a reload finds may hold at the same time.
pub const FILES: usize = usize::MAX - 2;

/// Takes events. Clones share everything.
#[derive(Debug, Clone)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    gateway: String,
    /// Tells this life of the gateway from others, in ids.
    started: String,
    raised: Counters<{ EventKind::COUNT }>,
    state: Mutex<State>,
    outbox: Outbox,
    /// Whether there is a webhook. Without one nothing is kept.
    keeps: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    conditions: Conditions,
    /// Of the last payload.
    sequence: u64,
    /// The last payloads, whoever wants them.
    recent: VecDeque<Arc<EventPayload>>,
    has_ended: bool,
}

impl Events {
    /// Events of the gateway with this id.
    pub fn new(gateway: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Arc::new(Shared {
            gateway: gateway.to_owned(),
            started: format!("{:x}", since.as_micros()),
            raised: Counters::default(),
            state: Mutex::default(),
            outbox: Outbox::default(),
            keeps: AtomicBool::new(false),
        }))
    }

    /// A condition holds, as `source` sees it: a worker by its index, a watcher of Consul by its own, or [`PROCESS`].
    /// Raised again by the same source it changes nothing but its severity. It holds until every source that raised it
    /// has [cleared](Self::clear) it.
    ///
    /// Callable from any thread: a short mutex, no allocation beyond the event's few hundred bytes, no waiting.
    pub fn raise(&self, source: usize, event: Event) {
        let _told = self.raise_and_tell(source, event);
    }

    /// The same. Returns `false` if nothing was told: it holds already, or comes and goes too often.
    pub fn raise_and_tell(&self, source: usize, event: Event) -> bool {
        self.raise_at(source, event, Instant::now(), SystemTime::now())
    }

    /// A condition no longer holds, as `source` sees it. Without an effect where it was not raised.
    pub fn clear(&self, source: usize, subject: &Subject) {
        self.clear_at(source, subject, Instant::now(), SystemTime::now());
    }

    fn raise_at(&self, source: usize, event: Event, now: Instant, wall: SystemTime) -> bool {
        let mut state = self.state();
        if state.has_ended {
            return false;
        }
        let kind = event.subject.kind();
        let change = state.conditions.raise(source, event, now);
        if change.began {
            self.0.raised.add_shared(kind.index(), 1);
        }
        let payloads = change.told.map(|told| self.note(&mut state, told, wall));
        drop(state);
        payloads.iter().for_each(|payload| payload.log());
        payloads.is_some()
    }

    fn clear_at(&self, source: usize, subject: &Subject, now: Instant, wall: SystemTime) {
        let mut state = self.state();
        let told = state.conditions.clear(source, subject, now);
        let payload = told.map(|told| self.note(&mut state, told, wall));
        drop(state);
        payload.iter().for_each(|payload| payload.log());
    }

    /// The gateway has ended: nothing holds any more, and nothing is raised from now on. Its `drain` is cleared last.
    pub fn end(&self) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut state = self.state();
        state.has_ended = true;
        let told = state.conditions.end(now);
        let payloads: Vec<_> = told.into_iter().map(|told| self.note(&mut state, told, wall)).collect();
        drop(state);
        payloads.iter().for_each(|payload| payload.log());
    }

    /// Tells what was held back and still stands. Called now and then.
    fn tell_due(&self, now: Instant, wall: SystemTime) {
        let mut state = self.state();
        let told = state.conditions.take_due(now);
        let payloads: Vec<_> = told.into_iter().map(|told| self.note(&mut state, told, wall)).collect();
        drop(state);
        payloads.iter().for_each(|payload| payload.log());
    }

    /// Numbers what is told and puts it into the outbox, under the lock so that numbers and places agree.
    fn note(&self, state: &mut State, told: Told, wall: SystemTime) -> Arc<EventPayload> {
        state.sequence += 1;
        let payload =
            Arc::new(EventPayload::new(&self.0.gateway, &self.0.started, state.sequence, told, wall));
        if state.recent.len() == RECENT_EVENTS {
            state.recent.pop_front();
        }
        state.recent.push_back(Arc::clone(&payload));
        if self.0.keeps.load(Ordering::Relaxed) {
            self.0.outbox.push(Arc::clone(&payload));
        }
        payload
    }

    /// From now on payloads are kept for a webhook, or are not.
    fn keep(&self, keeps: bool) {
        self.0.keeps.store(keeps, Ordering::Relaxed);
    }

    fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told last, the last one first, as the webhook is told it.
    pub(crate) fn recent(&self) -> Vec<Value> {
        let payloads: Vec<_> = self.state().recent.iter().rev().cloned().collect();
        payloads.iter().map(|payload| payload.to_json()).collect()
    }

    /// How often a condition of this kind began.
    pub(super) fn raised(&self, kind: EventKind) -> u64 {
        self.0.raised.get(kind.index())
    }

    /// Conditions that hold now, in the order of [`EventKind::ALL`].
    pub(super) fn active(&self) -> [usize; EventKind::COUNT] {
        self.state().conditions.active()
    }

    /// Of the webhook.
    pub(super) fn deliveries(&self, outcome: Delivery) -> u64 {
        self.0.outbox.deliveries(outcome)
    }

    /// Notices that wait for the webhook.
    pub(super) fn waiting(&self) -> usize {
        self.0.outbox.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::event::Severity;
    use super::*;

    fn lost(instance: &str) -> Event {
        Event::instance_lost("chat", instance, "zone_a", "the connection was reset")
    }

    fn bodies(events: &Events) -> Vec<Value> {
        std::iter::from_fn(|| {
            let payload = events.outbox().take()?;
            events.outbox().delivered();
            Some(serde_json::from_slice(&payload.body()).unwrap())
        })
        .collect()
    }

    #[test]
    fn a_body_says_what_is_documented() {
        let events = Events::new("gate01");
        events.keep(true);
        let (now, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        events.raise_at(0, lost("chat01"), now, wall);
        let later = Duration::from_secs(42);
        events.clear_at(0, &Subject::instance_lost("chat", "chat01", "zone_a"), now + later, wall + later);
        let told = bodies(&events);
        let id = told[0]["id"].as_str().unwrap().to_owned();
        assert!(id.starts_with("gate01-") && id.ends_with("-1"), "{id}");
        let expected = serde_json::json!({
            "id": id, "seq": 1, "gateway": "gate01", "event": "instance_lost", "severity": "warning",
            "state": "raised", "time": "2023-11-14T22:13:20.123Z", "service": "chat", "instance": "chat01",
            "zone": "zone_a", "detail": "the connection was reset", "suppressed": 0,
        });
        assert_eq!(told[0], expected);
        assert_eq!((&told[1]["state"], &told[1]["seq"]), (&"cleared".into(), &2.into()));
        assert_eq!(
            (&told[1]["detail"], &told[1]["time"]),
            (&"it lasted 42s".into(), &"2023-11-14T22:14:02.123Z".into())
        );
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn the_counter_counts_all_and_the_gauge_what_stands() {
        let events = Events::new("gate01");
        let (now, wall) = (Instant::now(), SystemTime::now());
        let subject = Subject::instance_lost("chat", "chat01", "zone_a");
        for n in 0..5 {
            events.raise_at(0, lost("chat01"), now + Duration::from_millis(n), wall);
            events.raise_at(1, lost("chat01"), now + Duration::from_millis(n), wall);
            events.clear_at(0, &subject, now + Duration::from_millis(n), wall);
            assert_eq!(events.active()[EventKind::InstanceLost.index()], 1, "the other worker has none");
            events.clear_at(1, &subject, now + Duration::from_millis(n), wall);
        }
        assert_eq!(events.raised(EventKind::InstanceLost), 5, "once each, whoever noticed");
        assert_eq!(events.active(), [0; EventKind::COUNT]);
        assert_eq!(events.waiting(), 0, "nobody wants them");
    }

    #[test]
    fn ids_differ_between_lives_and_are_in_order_within_one() {
        let ids = |events: &Events| -> Vec<String> {
            events.keep(true);
            events.raise(PROCESS, Event::drain(Severity::Info, "a signal"));
            events.raise(PROCESS, lost("chat01"));
            bodies(events).iter().map(|body| body["id"].as_str().unwrap().to_owned()).collect()
        };
        let first = ids(&Events::new("gate01"));
        std::thread::sleep(Duration::from_millis(1));
        let second = ids(&Events::new("gate01"));
        assert!(first[0].ends_with("-1") && first[1].ends_with("-2"), "{first:?}");
        assert!(first.iter().all(|id| !second.contains(id)), "{first:?} {second:?}");
    }
}
