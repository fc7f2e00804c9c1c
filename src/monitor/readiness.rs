//! Should traffic be sent here? What the gateway reports, and the verdict over it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::LOGIN_OUTAGE;

/// What the gateway reports about itself. Written on rare events only, so a short mutex is enough.
#[derive(Debug)]
pub struct Readiness {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    listeners_bound: bool,
    /// Configured services that have not had a live link since the start.
    never_linked: BTreeSet<String>,
    /// Since when no login instance is linked.
    login_lost: Option<Instant>,
    draining: bool,
}

/// Ready, or why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    reasons: Vec<String>,
}

impl Verdict {
    /// May traffic be sent here?
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why not, in plain words; empty when ready.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

impl Readiness {
    /// Not ready: nothing is bound, and none of these services has had a link.
    pub fn new(services: impl IntoIterator<Item = String>) -> Self {
        let state = State {
            listeners_bound: false,
            never_linked: services.into_iter().collect(),
            login_lost: None,
            draining: false,
        };
        Self { state: Mutex::new(state) }
    }

    /// Every client listener is bound.
    pub fn listeners_bound(&self) {
        self.state().listeners_bound = true;
    }

    /// An instance of this service has a live link. Told once or often, the effect is the same.
    pub fn service_linked(&self, service: &str) {
        self.state().never_linked.remove(service);
    }

    /// This many login instances are linked now.
    pub fn login_links(&self, count: usize, now: Instant) {
        let mut state = self.state();
        state.login_lost = if count == 0 { Some(state.login_lost.unwrap_or(now)) } else { None };
    }

    /// The process is going away. There is no way back.
    pub fn draining(&self) {
        self.state().draining = true;
    }

    /// Ready at this moment?
    pub fn verdict(&self, now: Instant) -> Verdict {
        self.state().verdict(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn verdict(&self, now: Instant) -> Verdict {
        let mut reasons = Vec::new();
        if self.draining {
            reasons.push("draining: the gateway is going away".to_owned());
        }
        if !self.listeners_bound {
            reasons.push("the listeners are not bound yet".to_owned());
        }
        for service in &self.never_linked {
            reasons.push(format!("no instance of service {service} has been linked yet"));
        }
        // A short outage is no reason: clients that wait are signed in when the link is back.
        if self.never_linked.is_empty()
            && let Some(lost) = self.login_lost
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
        (Readiness::new(["login".to_owned(), "chat".to_owned()]), Instant::now())
    }

    fn ready() -> (Readiness, Instant) {
        let (readiness, now) = started();
        readiness.listeners_bound();
        readiness.service_linked("login");
        readiness.service_linked("chat");
        readiness.login_links(1, now);
        (readiness, now)
    }

    #[test]
    fn not_ready_until_bound_and_every_service_had_a_link() {
        let (readiness, now) = started();
        assert_eq!(readiness.verdict(now).reasons().len(), 3);
        readiness.listeners_bound();
        readiness.service_linked("login");
        readiness.service_linked("login");
        readiness.service_linked("not configured");
        assert_eq!(
            readiness.verdict(now).reasons(),
            ["no instance of service chat has been linked yet"],
            "each missing service is named"
        );
        readiness.service_linked("chat");
        assert!(readiness.verdict(now).is_ready());
    }

    #[test]
    fn a_login_outage_counts_after_its_tolerance_and_ends_with_the_first_link() {
        let (readiness, now) = ready();
        readiness.login_links(0, now);
        // Told again later, the outage still began when it began.
        readiness.login_links(0, now + Duration::from_secs(9));
        assert!(readiness.verdict(now + LOGIN_OUTAGE).is_ready());
        let later = now + LOGIN_OUTAGE + Duration::from_millis(1);
        assert!(!readiness.verdict(later).is_ready());
        readiness.login_links(1, later);
        assert!(readiness.verdict(later + LOGIN_OUTAGE * 2).is_ready());
    }

    #[test]
    fn an_outage_before_the_first_link_is_reported_once() {
        let (readiness, now) = started();
        readiness.listeners_bound();
        readiness.login_links(0, now);
        let reasons = readiness.verdict(now + LOGIN_OUTAGE * 2).reasons().to_vec();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
    }

    #[test]
    fn draining_is_for_good() {
        let (readiness, now) = ready();
        assert!(readiness.verdict(now).is_ready());
        readiness.draining();
        readiness.listeners_bound();
        assert_eq!(readiness.verdict(now).reasons(), ["draining: the gateway is going away"]);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_is_no_outage() {
        let (readiness, now) = ready();
        readiness.login_links(0, now + Duration::from_secs(60));
        assert!(readiness.verdict(now).is_ready());
    }
}
