//! How things stand with Consul, over everyone who asks it: one word when it is lost and one when it is back, and
//! never more than one request a second in between (row E9).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::client::ConsulError;
use crate::limits::{BACKOFF_FACTOR, BACKOFF_JITTER, CONSUL_PACE, CONSUL_PAUSE_MAX};
use crate::monitor::events::event::{Event, Subject};
use crate::monitor::events::{Events, PROCESS};
use crate::monitor::metrics::{DiscoveryError, DiscoveryMetrics};
use gateway_net::backoff::{Backoff, Jitter};
use gateway_net::rng::Rng;

/// Pauses of one asker after failures. Jitter keeps gateways that lost Consul together from coming back together.
const PAUSES: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: CONSUL_PAUSE_MAX,
    factor: BACKOFF_FACTOR,
    jitter: Jitter::Around(BACKOFF_JITTER),
};

/// What all askers of one agent share.
#[derive(Debug)]
pub(super) struct Contact {
    metrics: Arc<DiscoveryMetrics>,
    events: Events,
    state: Mutex<ContactState>,
}

#[derive(Debug, Default)]
struct ContactState {
    /// Who got no good answer to the last question.
    failing: BTreeSet<String>,
    /// Since when there is such a one.
    since: Option<Instant>,
    /// The last request that was let through.
    last: Option<Instant>,
}

impl ContactState {
    /// Gives away the next moment for a request.
    fn next_slot(&mut self, now: Instant) -> Instant {
        let paced = self.since.is_some();
        let at = self.last.filter(|_| paced).map_or(now, |last| now.max(last + CONSUL_PACE));
        self.last = self.last.max(Some(at));
        at
    }
}

impl Contact {
    /// Nothing has been asked yet.
    pub(super) fn new(metrics: Arc<DiscoveryMetrics>, events: Events) -> Self {
        Self { metrics, events, state: Mutex::default() }
    }

    /// The counters.
    pub(super) fn metrics(&self) -> &DiscoveryMetrics {
        &self.metrics
    }

    /// An asker whose questions are counted under this name.
    pub(super) fn asker(self: &Arc<Self>, name: &str) -> Asker {
        Asker { contact: Arc::clone(self), name: name.to_owned(), failures: 0 }
    }

    /// Waits until the next request may go: at once while all is well.
    async fn await_slot(&self) {
        let at = self.state().next_slot(Instant::now());
        sleep_until(at).await;
    }

    fn succeeded(&self, name: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.succeeded(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let mut state = self.state();
        if state.failing.remove(name) && state.failing.is_empty() && state.since.take().is_some() {
            self.events.clear(PROCESS, &Subject::consul_unreachable());
        }
    }

    /// Those who are not named so ask no more.
    pub(super) fn keep(&self, is_named: impl Fn(&str) -> bool) {
        let mut state = self.state();
        state.failing.retain(|name| is_named(name));
        if state.failing.is_empty() && state.since.take().is_some() {
            self.events.clear(PROCESS, &Subject::consul_unreachable());
        }
    }

    fn failed(&self, name: &str, error: &ConsulError) {
        self.metrics.error(error.kind());
        let mut state = self.state();
        state.failing.insert(name.to_owned());
        if state.since.is_some() {
            debug!(event = "consul_still_unreachable", asked_for = name, %error);
            return;
        }
        state.since = Some(Instant::now());
        // Under the lock, so that its end is not told first. One source for all askers: here they are one already.
        self.events.raise(PROCESS, Event::consul_unreachable(format_args!("asked for {name}: {error}")));
    }

    fn state(&self) -> MutexGuard<'_, ContactState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who asks again and again.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    contact: Arc<Contact>,
    name: String,
    /// In a row.
    failures: u32,
}

impl Asker {
    /// Asks when it is its turn, and tells everyone how it went. Cancel safe if the question is.
    pub(super) async fn ask<T>(
        &mut self,
        question: impl Future<Output = Result<T, ConsulError>>,
    ) -> Result<T, ConsulError> {
        self.contact.await_slot().await;
        let outcome = question.await;
        match &outcome {
            Ok(_) => {
                self.failures = 0;
                self.contact.succeeded(&self.name);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.contact.failed(&self.name, error);
            }
        }
        outcome
    }

    /// Counts what is wrong with an answer.
    pub(super) fn error(&self, kind: DiscoveryError) {
        self.contact.metrics.error(kind);
    }

    /// The pause before the next attempt: longer after each failure in a row.
    pub(super) async fn pause(&self) {
        sleep(pause_after(self.failures)).await;
    }
}

fn pause_after(failures: u32) -> Duration {
    PAUSES.pause(failures.saturating_sub(1), &mut Rng::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::metrics::Metrics;

    fn contact() -> Arc<Contact> {
        contact_of(&Metrics::new("gate01", 1, Vec::new()))
    }

    fn contact_of(metrics: &Metrics) -> Arc<Contact> {
        Arc::new(Contact::new(metrics.discovery([]), metrics.events().clone()))
    }

    #[test]
    fn e9_all_askers_together_have_at_most_one_turn_a_second_while_it_fails() {
        let start = Instant::now();
        let mut state = ContactState { since: Some(start), ..ContactState::default() };
        let turns: Vec<_> = (0..4).map(|_| state.next_slot(start)).collect();
        let expected: Vec<_> = (0..4).map(|seconds| start + CONSUL_PACE * seconds).collect();
        assert_eq!(turns, expected);
        assert_eq!(
            state.next_slot(start + CONSUL_PACE * 60),
            start + CONSUL_PACE * 60,
            "a long silence owes nobody anything"
        );
        assert_eq!(state.next_slot(start + CONSUL_PACE * 60), start + CONSUL_PACE * 61);
        state.since = None;
        let all_is_well = start + CONSUL_PACE * 60;
        assert_eq!(state.next_slot(all_is_well), all_is_well);
    }

    #[tokio::test]
    async fn an_outage_begins_with_the_first_failure_and_ends_when_nobody_fails_any_more() {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let contact = contact_of(&metrics);
        let (chat, login) = (contact.asker("chat"), contact.asker("login"));
        let error = ConsulError::Status(500);
        contact.failed(&chat.name, &error);
        let began = contact.state().since;
        contact.failed(&login.name, &error);
        contact.failed(&chat.name, &error);
        let is_active = |count: u8| {
            let line = format!("gateway_events_active{{event=\"consul_unreachable\"}} {count}");
            metrics.render().lines().any(|shown| shown == line)
        };
        contact.succeeded(&chat.name);
        assert!(contact.state().since == began && is_active(1), "login still fails");
        contact.succeeded(&login.name);
        assert!(contact.state().since.is_none() && is_active(0));
        assert_eq!(contact.metrics.errors(DiscoveryError::Status), 3);
    }

    #[tokio::test]
    async fn failures_in_a_row_are_counted_until_a_good_answer() {
        let mut asker = contact().asker("chat");
        let bad = async { Err::<(), _>(ConsulError::Denied) };
        assert!(asker.ask(bad).await.is_err());
        assert_eq!((asker.failures, asker.contact.metrics.errors(DiscoveryError::Denied)), (1, 1));
        asker.contact.state().last = None;
        asker.ask(async { Ok(()) }).await.unwrap();
        assert_eq!(asker.failures, 0);
    }

    #[test]
    fn pauses_grow_with_jitter_up_to_the_longest() {
        let mut expected = 1.0_f64;
        for failures in 1..12 {
            let share = pause_after(failures).as_secs_f64() / expected;
            assert!((0.79..1.21).contains(&share), "{expected}: {share}");
            expected = (expected * 1.6).min(5.0);
        }
        let distinct: BTreeSet<_> = (0..20).map(|_| pause_after(9)).collect();
        assert!(distinct.len() > 15, "{distinct:?}");
        assert!(pause_after(u32::MAX) <= Duration::from_secs(6));
    }
}
