//! The conditions nobody runs into: looked at now and then.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval};

use super::event::{Event, Severity, Subject};
use super::{Events, PROCESS};
use crate::monitor::readiness::Readiness;

/// Between two looks at what has no moment of its own: how late such an event may be.
const LOOK: Duration = Duration::from_secs(1);

/// A worker without a login link for so long cannot sign anybody in, and it is no mere restart.
const LOGIN_MISSING: Duration = Duration::from_secs(1);

/// The certificate is looked at once a day: it can only get older.
const CERTIFICATE_LOOK: Duration = DAY;

/// Less than this left of the certificate is worth a word.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(30 * DAY.as_secs());

/// And less than this a loud one.
const CERTIFICATE_ERROR: Duration = Duration::from_secs(7 * DAY.as_secs());

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at what has no moment of its own.
#[derive(Debug)]
pub(super) struct Watch {
    login_service: String,
    /// Seconds since 1970.
    certificate_ends: Option<i64>,
    certificate_looked: Option<Instant>,
    login_missing: Option<Instant>,
}

impl Watch {
    pub(super) fn new(login_service: String, certificate_ends: Option<i64>) -> Self {
        Self { login_service, certificate_ends, certificate_looked: None, login_missing: None }
    }

    /// Looks again and again, and asks `certificate_ends` each time. Never ends; cancel safe.
    pub(super) async fn run(
        mut self,
        readiness: &Readiness,
        events: &Events,
        certificate_ends: impl Fn() -> Option<i64>,
    ) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.certificate_is(certificate_ends());
            self.look(readiness, events, Instant::now(), SystemTime::now());
        }
    }

    /// The certificate ends then; it is looked at next time if that is news.
    fn certificate_is(&mut self, ends: Option<i64>) {
        if self.certificate_ends != ends {
            (self.certificate_ends, self.certificate_looked) = (ends, None);
        }
    }

    fn look(&mut self, readiness: &Readiness, events: &Events, now: Instant, wall: SystemTime) {
        events.tell_due(now, wall);
        self.look_for_login(readiness, events, now, wall);
        if self.certificate_looked.is_none_or(|at| now.saturating_duration_since(at) >= CERTIFICATE_LOOK) {
            self.certificate_looked = Some(now);
            self.look_at_certificate(events, now, wall);
        }
    }

    fn look_for_login(&mut self, readiness: &Readiness, events: &Events, now: Instant, wall: SystemTime) {
        if readiness.is_draining() {
            // Nobody signs in any more, and workers that have ended have no links.
            return;
        }
        if readiness.has_login() {
            self.login_missing = None;
            events.clear_at(PROCESS, &Subject::login_unreachable(&self.login_service), now, wall);
            return;
        }
        let since = *self.login_missing.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOGIN_MISSING {
            let detail = "a worker of the gateway has no link to any instance of it";
            events.raise_at(PROCESS, Event::login_unreachable(&self.login_service, detail), now, wall);
        }
    }

    fn look_at_certificate(&self, events: &Events, now: Instant, wall: SystemTime) {
        let Some(ends) = self.certificate_ends else { return };
        let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(ends).unwrap_or(0));
        let left = end.duration_since(wall).unwrap_or_default();
        let severity = match left {
            left if left < CERTIFICATE_ERROR => Severity::Error,
            left if left < CERTIFICATE_WARNING => Severity::Warning,
            // The clock was put right: it is not that late.
            _ => return events.clear_at(PROCESS, &Subject::certificate_ending(), now, wall),
        };
        let verb = if left.is_zero() { "ended" } else { "ends" };
        let detail = format!("it {verb} at {}", humantime::format_rfc3339_seconds(end));
        events.raise_at(PROCESS, Event::certificate_ending(severity, detail), now, wall);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::labels::EventKind;

    const MS: Duration = Duration::from_millis(1);

    /// State, severity and detail of each payload since the last call.
    fn told(events: &Events) -> Vec<String> {
        std::iter::from_fn(|| {
            let payload = events.outbox().take()?;
            events.outbox().delivered();
            let body: serde_json::Value = serde_json::from_slice(&payload.body()).unwrap();
            let text = |key: &str| body[key].as_str().unwrap().to_owned();
            Some(format!("{} {} {}: {}", text("event"), text("state"), text("severity"), text("detail")))
        })
        .collect()
    }

    fn kept() -> Events {
        let events = Events::new("gate01");
        events.keep(true);
        events
    }

    #[test]
    fn a_certificate_is_told_thirty_days_before_its_end_and_again_seven_days_before() {
        let (events, now) = (kept(), Instant::now());
        let ready = Readiness::new(0, []);
        let end = UNIX_EPOCH + DAY * 20_000;
        let mut watch = Watch::new("login".to_owned(), Some(20_000 * 24 * 60 * 60));
        let mut days = Vec::new();
        for left in (0..40).rev() {
            watch.look(&ready, &events, now + DAY * (40 - left), end - DAY * left - MS);
            days.extend(told(&events).into_iter().map(|told| format!("{left} {told}")));
        }
        let when = "it ends at 2024-10-04T00:00:00Z";
        assert_eq!(
            days,
            [
                format!("30 certificate_ending raised warning: {when}").replace("30 ", "29 "),
                format!("6 certificate_ending raised error: {when}")
            ],
            "one millisecond more than that was left on the days before"
        );
    }

    #[test]
    fn the_certificate_is_looked_at_at_the_start_and_once_a_day() {
        let (events, now) = (kept(), Instant::now());
        let ready = Readiness::new(0, []);
        let end = UNIX_EPOCH + DAY * 20_000;
        let mut watch = Watch::new("login".to_owned(), Some(20_000 * 24 * 60 * 60));
        watch.look(&ready, &events, now, end + MS);
        assert_eq!(told(&events), ["certificate_ending raised error: it ended at 2024-10-04T00:00:00Z"]);
        watch.look(&ready, &events, now + DAY - MS, end - DAY * 100);
        assert_eq!(told(&events), [""; 0]);
        watch.look(&ready, &events, now + DAY, end - DAY * 100);
        assert_eq!(told(&events), ["certificate_ending cleared error: it lasted 1day"]);
    }

    #[test]
    fn a_login_service_that_is_missing_for_a_second_is_told_and_so_is_its_return() {
        let (events, now, wall) = (kept(), Instant::now(), UNIX_EPOCH + DAY);
        let readiness = Readiness::new(2, []);
        let mut watch = Watch::new("login".to_owned(), None);
        let mut look = |at| {
            watch.look(&readiness, &events, now + at, wall);
            told(&events)
        };
        assert_eq!(look(Duration::ZERO), [""; 0]);
        assert_eq!(look(LOGIN_MISSING * 9), [""; 0], "no worker has begun yet");
        for worker in 0..2 {
            readiness.worker_started(worker);
            readiness.login_links(worker, 1, now);
        }
        assert_eq!(look(LOGIN_MISSING * 10), [""; 0]);
        readiness.login_links(1, 0, now);
        assert_eq!(look(LOGIN_MISSING * 11), [""; 0]);
        assert_eq!(look(LOGIN_MISSING * 12 - MS), [""; 0]);
        let raised =
            "login_unreachable raised error: a worker of the gateway has no link to any instance of it";
        assert_eq!(look(LOGIN_MISSING * 12), [raised]);
        assert_eq!(look(LOGIN_MISSING * 13), [""; 0], "once");
        readiness.login_links(1, 2, now);
        assert_eq!(look(LOGIN_MISSING * 14), ["login_unreachable cleared error: it lasted 2s"]);
        assert_eq!(events.raised(EventKind::LoginUnreachable), 1);
    }

    #[test]
    fn a_login_service_that_was_never_there_is_told_too() {
        let (events, now, wall) = (kept(), Instant::now(), UNIX_EPOCH + DAY);
        let readiness = Readiness::new(1, ["login".to_owned()]);
        readiness.worker_started(0);
        let mut watch = Watch::new("login".to_owned(), None);
        watch.look(&readiness, &events, now, wall);
        watch.look(&readiness, &events, now + LOGIN_MISSING, wall);
        assert_eq!(told(&events).len(), 1);
        readiness.draining();
        watch.look(&readiness, &events, now + LOGIN_MISSING * 2, wall);
        assert_eq!(told(&events), [""; 0], "that it goes away is no reason to say that it got better");
    }

    #[test]
    fn h24_a_worker_that_has_ended_misses_no_login_service() {
        let (events, now, wall) = (kept(), Instant::now(), UNIX_EPOCH + DAY);
        let readiness = Readiness::new(2, []);
        for worker in 0..2 {
            readiness.worker_started(worker);
            readiness.login_links(worker, 1, now);
        }
        let mut watch = Watch::new("login".to_owned(), None);
        readiness.draining();
        readiness.login_links(0, 0, now);
        for seconds in 0..9 {
            watch.look(&readiness, &events, now + LOGIN_MISSING * seconds, wall);
        }
        assert_eq!(told(&events), [""; 0]);
    }
}
