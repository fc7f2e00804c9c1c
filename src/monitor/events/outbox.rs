//! What waits for the webhook: bounded, and whoever puts something in never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::payload::EventPayload;
use crate::limits::EVENTS_KEPT;
use crate::monitor::counters::Counters;
use crate::monitor::labels::Delivery;

/// The queue between those who notice something and the one who posts. Beyond [`EVENTS_KEPT`] the oldest is dropped.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    outcomes: Counters<{ Delivery::COUNT }>,
    /// Something may have come. For one waiter.
    pub(super) arrived: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<EventPayload>>,
    /// The first one is being posted: it may have arrived, so it is not the one to drop.
    in_flight: bool,
}

impl Outbox {
    /// Takes a payload; drops the oldest where there are too many.
    pub(super) fn push(&self, payload: Arc<EventPayload>) {
        let mut queue = self.queue();
        if queue.waiting.len() >= EVENTS_KEPT {
            let oldest = usize::from(queue.in_flight);
            queue.waiting.remove(oldest);
            self.outcomes.add_shared(Delivery::Dropped.index(), 1);
        }
        queue.waiting.push_back(payload);
        drop(queue);
        self.arrived.notify_one();
    }

    /// The oldest payload, to be posted. It stays here until it is [delivered](Self::delivered).
    pub(super) fn take(&self) -> Option<Arc<EventPayload>> {
        let mut queue = self.queue();
        let first = queue.waiting.front().cloned();
        queue.in_flight = first.is_some();
        first
    }

    /// The payload that was taken has arrived.
    pub(super) fn delivered(&self) {
        self.outcomes.add_shared(Delivery::Delivered.index(), 1);
        let mut queue = self.queue();
        queue.in_flight = false;
        queue.waiting.pop_front();
    }

    /// The payload that was taken has not arrived, as far as one can tell.
    pub(super) fn failed(&self) {
        self.outcomes.add_shared(Delivery::Failed.index(), 1);
        self.queue().in_flight = false;
    }

    /// How many wait, the one being posted included.
    pub(super) fn len(&self) -> usize {
        self.queue().waiting.len()
    }

    /// How often this was the outcome.
    pub(super) fn deliveries(&self, outcome: Delivery) -> u64 {
        self.outcomes.get(outcome.index())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::monitor::events::conditions::{ConditionState, Told};
    use crate::monitor::events::event::{Severity, Subject};

    fn payload(number: u64) -> Arc<EventPayload> {
        let (subject, state, severity) = (Subject::drain(), ConditionState::Raised, Severity::Info);
        let told = Told { subject, state, severity, detail: "d".into(), suppressed: 0 };
        Arc::new(EventPayload::new("g", "0", number, told, SystemTime::UNIX_EPOCH))
    }

    fn full() -> Outbox {
        let outbox = Outbox::default();
        (0..EVENTS_KEPT as u64).for_each(|number| outbox.push(payload(number)));
        outbox
    }

    fn taken(outbox: &Outbox) -> String {
        outbox.take().unwrap().id.clone()
    }

    #[test]
    fn beyond_a_thousand_the_oldest_is_dropped_and_counted() {
        let outbox = full();
        assert_eq!((outbox.len(), outbox.deliveries(Delivery::Dropped)), (1_000, 0));
        outbox.push(payload(5_000));
        outbox.push(payload(5_001));
        assert_eq!((outbox.len(), outbox.deliveries(Delivery::Dropped)), (1_000, 2));
        for expected in (2..1_000).chain([5_000, 5_001]) {
            assert_eq!(taken(&outbox), format!("g-0-{expected}"));
            outbox.delivered();
        }
        assert!(outbox.take().is_none());
        assert_eq!(outbox.deliveries(Delivery::Delivered), 1_000);
    }

    #[test]
    fn what_is_being_posted_is_not_dropped_and_what_failed_is_the_oldest_again() {
        let outbox = full();
        assert_eq!(taken(&outbox), "g-0-0");
        outbox.push(payload(5_000));
        outbox.failed();
        assert_eq!(taken(&outbox), "g-0-0", "the same again");
        outbox.delivered();
        assert_eq!(taken(&outbox), "g-0-2", "1 was the oldest that was not on its way");
        outbox.failed();
        outbox.push(payload(5_001));
        outbox.push(payload(5_002));
        assert_eq!(taken(&outbox), "g-0-3", "2 had its chance");
        let counts = Delivery::ALL.iter().map(|outcome| outbox.deliveries(*outcome)).collect::<Vec<_>>();
        assert_eq!(counts, [1, 2, 2], "delivered, failed, dropped");
    }
}
