//! Whether traffic should be sent here. What the gateway reports, and the verdict over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::{CONTESTED, LOGIN_OUTAGE};

/// What the gateway reports about itself. Written on rare events only, so a short mutex is enough.
#[derive(Debug)]
pub struct Readiness {
    state: Mutex<ReadinessState>,
}

#[derive(Debug)]
struct ReadinessState {
    workers: Vec<Worker>,
    draining: bool,
    /// An operator has it drain.
    resting: bool,
    full: bool,
    /// No token can be verified.
    keyless: bool,
    /// By service.
    contested: BTreeMap<String, Contested>,
}

/// Another gateway seems to have this one's id.
#[derive(Debug, Clone, Copy)]
struct Contested {
    /// Last.
    at: Instant,
    /// It threw this one out, and may at any moment again; else a link says that it is over.
    is_certain: bool,
}

/// What one worker reports. A client may land on any of them, so all must be ready.
#[derive(Debug, Clone)]
struct Worker {
    started: bool,
    /// Configured services that have not had a live link since the start.
    never_linked: BTreeSet<String>,
    /// Whether any login instance is linked.
    has_login: bool,
    /// Since when none is, if one was.
    login_lost: Option<Instant>,
}

/// Ready, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    reasons: Vec<String>,
}

impl Verdict {
    /// Returns `true` if traffic may be sent here.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why not, in plain words; empty when ready.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

impl Readiness {
    /// Not ready: none of the workers has started, and none of these services has had a link.
    pub fn new(workers: usize, services: impl IntoIterator<Item = String>) -> Self {
        let worker = Worker {
            started: false,
            never_linked: services.into_iter().collect(),
            has_login: false,
            login_lost: None,
        };
        Self {
            state: Mutex::new(ReadinessState {
                workers: vec![worker; workers],
                draining: false,
                resting: false,
                full: false,
                keyless: false,
                contested: BTreeMap::new(),
            }),
        }
    }

    /// A worker serves its listeners.
    ///
    /// # Panics
    /// Here and below if `worker` is not below the number given to [`Readiness::new`].
    pub fn worker_started(&self, worker: usize) {
        self.state().workers[worker].started = true;
    }

    /// An instance of this service has a live link to this worker. Told once or often, the effect is the same.
    pub fn service_linked(&self, worker: usize, service: &str) {
        let mut state = self.state();
        state.workers[worker].never_linked.remove(service);
        state.contested.retain(|contested, word| contested != service || word.is_certain);
    }

    /// A worker is linked to this many login instances now.
    pub fn login_links(&self, worker: usize, count: usize, now: Instant) {
        let mut state = self.state();
        state.workers[worker].has_login = count > 0;
        let lost = &mut state.workers[worker].login_lost;
        *lost = if count == 0 { Some(lost.unwrap_or(now)) } else { None };
    }

    /// Returns `true` if every worker that serves is linked to a login instance now.
    pub fn has_login(&self) -> bool {
        self.state().workers.iter().all(|worker| worker.has_login || !worker.started)
    }

    /// No instance of this service takes a link of this gateway because another one with its id is linked; or, and that is
    /// certain, one threw this gateway out (row F15). It holds for [`CONTESTED`] after the last word of it; what is not
    /// certain is over with the first link.
    pub fn contested(&self, service: &str, is_certain: bool, now: Instant) {
        let mut state = self.state();
        let word = state.contested.entry(service.to_owned()).or_insert(Contested { at: now, is_certain });
        *word = Contested { at: now, is_certain: is_certain || word.is_certain };
    }

    /// The process is going away. There is no way back.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// Returns `true` if the gateway is draining.
    pub fn is_draining(&self) -> bool {
        self.state().draining
    }

    /// An operator has the gateway drain, or has it take clients again.
    pub fn resting(&self, rests: bool) {
        self.state().resting = rests;
    }

    /// No more clients fit, or some do again.
    pub fn full(&self, is_full: bool) {
        self.state().full = is_full;
    }

    /// No key of tokens has been fetched yet, and none is configured; or there are some.
    pub fn keyless(&self, is_keyless: bool) {
        self.state().keyless = is_keyless;
    }

    /// Returns `true` if it is ready at this moment.
    pub fn verdict(&self, now: Instant) -> Verdict {
        self.state().verdict(now)
    }

    fn state(&self) -> MutexGuard<'_, ReadinessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessState {
    fn verdict(&self, now: Instant) -> Verdict {
        let mut reasons = Vec::new();
        if self.draining {
            reasons.push("draining: the gateway is going away".to_owned());
        }
        if self.resting {
            reasons.push("drained by an operator: `ctl undrain` has it take clients again".to_owned());
        }
        if self.full {
            reasons.push(
                "full: as many clients are connected as max_connections or the open files allow".to_owned(),
            );
        }
        if self.keyless {
            reasons.push(
                "no keys have been fetched from auth.jwks_url yet, so no token can be verified".to_owned(),
            );
        }
        if self.workers.iter().any(|worker| !worker.started) {
            reasons.push("the listeners are not bound yet".to_owned());
        }
        let never_linked: BTreeSet<_> = self.workers.iter().flat_map(|worker| &worker.never_linked).collect();
        for service in &never_linked {
            reasons.push(format!("no instance of service {service} has been linked yet"));
        }
        for (service, word) in &self.contested {
            if now.saturating_duration_since(word.at) < CONTESTED {
                reasons.push(format!(
                    "service {service} has a link of another gateway with this one's id: give each its own gateway.id"
                ));
            }
        }
        // A short outage is no reason: clients that wait are signed in when the link is back.
        let earliest = self.workers.iter().filter_map(|worker| worker.login_lost).min();
        if never_linked.is_empty()
            && let Some(lost) = earliest
            && now.saturating_duration_since(lost) > LOGIN_OUTAGE
        {
            reasons.push(format!("no login instance has been linked for {} s", LOGIN_OUTAGE.as_secs()));
        }
        Verdict { reasons }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn started() -> (Readiness, Instant) {
        (Readiness::new(1, ["login".to_owned(), "chat".to_owned()]), Instant::now())
    }

    fn ready() -> (Readiness, Instant) {
        let (readiness, now) = started();
        readiness.worker_started(0);
        readiness.service_linked(0, "login");
        readiness.service_linked(0, "chat");
        readiness.login_links(0, 1, now);
        (readiness, now)
    }

    #[test]
    fn not_ready_until_bound_and_every_service_had_a_link() {
        let (readiness, now) = started();
        assert_eq!(readiness.verdict(now).reasons().len(), 3);
        readiness.worker_started(0);
        readiness.service_linked(0, "login");
        readiness.service_linked(0, "login");
        readiness.service_linked(0, "not configured");
        assert_eq!(
            readiness.verdict(now).reasons(),
            ["no instance of service chat has been linked yet"],
            "each missing service is named"
        );
        readiness.service_linked(0, "chat");
        assert!(readiness.verdict(now).is_ready());
    }

    #[test]
    fn a_login_outage_counts_after_its_tolerance_and_ends_with_the_first_link() {
        let (readiness, now) = ready();
        readiness.login_links(0, 0, now);
        // Told again later, the outage still began when it began.
        readiness.login_links(0, 0, now + Duration::from_secs(9));
        assert!(readiness.verdict(now + LOGIN_OUTAGE).is_ready());
        let later = now + LOGIN_OUTAGE + Duration::from_millis(1);
        assert!(!readiness.verdict(later).is_ready());
        readiness.login_links(0, 1, later);
        assert!(readiness.verdict(later + LOGIN_OUTAGE * 2).is_ready());
    }

    #[test]
    fn an_outage_before_the_first_link_is_reported_once() {
        let (readiness, now) = started();
        readiness.worker_started(0);
        readiness.login_links(0, 0, now);
        let reasons = readiness.verdict(now + LOGIN_OUTAGE * 2).reasons().to_vec();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
    }

    #[test]
    fn f15_an_id_that_two_gateways_have_counts_until_nothing_was_heard_of_it_for_a_while() {
        let (readiness, now) = ready();
        readiness.contested("chat", false, now);
        assert!(readiness.verdict(now).reasons()[0].contains("chat"));
        readiness.service_linked(0, "chat");
        assert!(readiness.verdict(now).is_ready(), "it was an old link");
        readiness.contested("chat", true, now);
        // Linked again: the other one may come back at any moment.
        readiness.service_linked(0, "chat");
        let later = now + CONTESTED / 2;
        readiness.contested("chat", false, later);
        readiness.service_linked(0, "chat");
        let reasons = readiness.verdict(now + CONTESTED).reasons().to_vec();
        assert!(reasons.len() == 1 && reasons[0].contains("gateway.id"), "{reasons:?}");
        assert!(readiness.verdict(later + CONTESTED).is_ready());
    }

    #[test]
    fn draining_is_for_good() {
        let (readiness, now) = ready();
        assert!(readiness.verdict(now).is_ready());
        readiness.draining();
        readiness.worker_started(0);
        assert_eq!(readiness.verdict(now).reasons(), ["draining: the gateway is going away"]);
    }

    #[test]
    fn f17_what_an_operator_drains_is_not_ready_until_it_is_undone() {
        let (readiness, now) = ready();
        readiness.resting(true);
        assert_eq!(
            readiness.verdict(now).reasons(),
            ["drained by an operator: `ctl undrain` has it take clients again"]
        );
        assert!(!readiness.is_draining(), "it does not end");
        readiness.resting(false);
        assert!(readiness.verdict(now).is_ready());
    }

    #[test]
    fn h20_a_full_gateway_is_not_ready_until_there_is_room() {
        let (readiness, now) = ready();
        readiness.full(true);
        let verdict = readiness.verdict(now);
        assert!(verdict.reasons()[0].contains("max_connections"), "{verdict:?}");
        readiness.full(false);
        assert!(readiness.verdict(now).is_ready());
    }

    #[test]
    fn every_worker_must_be_ready() {
        let now = Instant::now();
        let readiness = Readiness::new(2, ["login".to_owned()]);
        for worker in 0..2 {
            assert!(!readiness.verdict(now).is_ready());
            readiness.worker_started(worker);
            readiness.service_linked(worker, "login");
            readiness.login_links(worker, 1, now);
        }
        assert!(readiness.verdict(now).is_ready());
        readiness.login_links(1, 0, now);
        readiness.login_links(0, 2, now);
        let later = now + LOGIN_OUTAGE + Duration::from_millis(1);
        assert_eq!(readiness.verdict(later).reasons().len(), 1, "half of the clients could not sign in");
        readiness.login_links(1, 1, later);
        assert!(readiness.verdict(later).is_ready());
    }

    #[test]
    fn a_clock_that_seems_to_go_back_is_no_outage() {
        let (readiness, now) = ready();
        readiness.login_links(0, 0, now + Duration::from_secs(60));
        assert!(readiness.verdict(now).is_ready());
    }
}
