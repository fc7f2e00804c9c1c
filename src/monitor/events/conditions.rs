//! Which conditions hold, and what of their coming and going is told. Time is passed in.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use super::event::{Event, Severity, Subject};
use crate::limits::CONDITIONS_KEPT;
use crate::monitor::labels::EventKind;

/// Of one condition, one raising is told in this time: a person can follow a line every ten seconds, and nobody wants
/// sixty messages a minute about one instance.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// Said of what held when the gateway ended.
const UNWATCHED: &str = "the gateway has ended and looks no more";

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    by_subject: HashMap<Subject, Condition>,
}

#[derive(Debug)]
struct Condition {
    /// Who says that it holds, and how bad it is there. None: it does not.
    holders: Vec<(usize, Severity)>,
    detail: Box<str>,
    /// When it last began.
    began: Instant,
    /// What was told last; none: that it does not hold.
    told: Option<Severity>,
    /// When a raising was last told.
    told_at: Option<Instant>,
    /// Beginnings that were not told since then.
    suppressed: u64,
}

/// What an administrator is to be told now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) subject: Subject,
    pub(super) state: ConditionState,
    pub(super) severity: Severity,
    pub(super) detail: Box<str>,
    pub(super) suppressed: u64,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionState {
    Raised,
    Cleared,
}

impl ConditionState {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        }
    }
}

/// What came of a raising.
#[derive(Debug)]
pub(super) struct Raising {
    /// Nobody had raised it before.
    pub(super) began: bool,
    pub(super) told: Option<Told>,
}

impl Conditions {
    /// A source says that it holds.
    pub(super) fn raise(&mut self, source: usize, event: Event, now: Instant) -> Raising {
        let is_full = self.by_subject.len() >= CONDITIONS_KEPT;
        let condition = match self.by_subject.entry(event.subject.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => return Raising { began: true, told: None },
            Entry::Vacant(new) => new.insert(Condition::new(now)),
        };
        let began = condition.holders.is_empty();
        let before = condition.severity();
        match condition.holders.iter_mut().find(|(holder, _)| *holder == source) {
            Some((_, severity)) => *severity = event.severity,
            None => condition.holders.push((source, event.severity)),
        }
        if before == condition.severity() {
            return Raising { began: false, told: None };
        }
        condition.detail = event.detail;
        if began {
            condition.began = now;
        }
        let told = condition.changed(began, now);
        Raising { began, told: told.then(|| condition.tell(&event.subject, now)) }
    }

    /// A source says that it does not hold, or no longer.
    pub(super) fn clear(&mut self, source: usize, subject: &Subject, now: Instant) -> Option<Told> {
        let condition = self.by_subject.get_mut(subject)?;
        let before = condition.severity();
        condition.holders.retain(|(holder, _)| *holder != source);
        let is_other = condition.severity() != before;
        (is_other && condition.changed(false, now)).then(|| condition.tell(subject, now))
    }

    /// What was held back, has been quiet for long enough and is not how things were last told; and forgets what is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Told> {
        let due = self
            .by_subject
            .iter_mut()
            .filter(|(_, condition)| condition.severity() != condition.told && condition.is_quiet(now));
        let told = due.map(|(subject, condition)| condition.tell(subject, now)).collect();
        self.by_subject.retain(|_, condition| {
            !(condition.holders.is_empty() && condition.told.is_none() && condition.is_quiet(now))
        });
        told
    }

    /// Nobody looks any more, so nothing holds: what was told as raised is told as cleared, the end of the gateway last.
    pub(super) fn end(&mut self, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for (subject, mut condition) in std::mem::take(&mut self.by_subject) {
            condition.holders.clear();
            if condition.told.is_none() {
                continue;
            }
            let end = condition.tell(&subject, now);
            let detail = if subject.kind() == EventKind::Drain { end.detail } else { UNWATCHED.into() };
            told.push(Told { detail, ..end });
        }
        told.sort_by_key(|told| told.subject.kind() == EventKind::Drain);
        told
    }

    /// How many of each kind hold, in the order of [`EventKind::ALL`].
    pub(super) fn active(&self) -> [usize; EventKind::COUNT] {
        let mut counts = [0; EventKind::COUNT];
        let active = self.by_subject.iter().filter(|(_, condition)| !condition.holders.is_empty());
        active.for_each(|(subject, _)| counts[subject.kind().index()] += 1);
        counts
    }
}

impl Condition {
    fn new(now: Instant) -> Self {
        Self {
            holders: Vec::new(),
            detail: Box::default(),
            began: now,
            told: None,
            told_at: None,
            suppressed: 0,
        }
    }

    fn severity(&self) -> Option<Severity> {
        self.holders.iter().map(|(_, severity)| *severity).max()
    }

    fn is_quiet(&self, now: Instant) -> bool {
        self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= QUIET)
    }

    /// Returns `true` if the change is told now. What is over is told at once, and what is worse than ever, which happens
    /// at most twice in a row; a new beginning waits.
    fn changed(&mut self, began: bool, now: Instant) -> bool {
        let now_tell = match (self.told, self.severity()) {
            (before, after) if before == after => false,
            (Some(_), None) => true,
            (Some(before), Some(after)) if after > before => true,
            (_, Some(_)) => self.is_quiet(now),
            (None, None) => false,
        };
        if began && !now_tell {
            self.suppressed += 1;
        }
        now_tell
    }

    fn tell(&mut self, subject: &Subject, now: Instant) -> Told {
        let before = self.told;
        self.told = self.severity();
        let (state, detail) = match self.told {
            Some(_) => {
                self.told_at = Some(now);
                (ConditionState::Raised, self.detail.clone())
            }
            None => (ConditionState::Cleared, lasted(now.saturating_duration_since(self.began))),
        };
        let severity = self.told.or(before).unwrap_or(Severity::Info);
        let suppressed = std::mem::take(&mut self.suppressed);
        Told { subject: subject.clone(), state, severity, detail, suppressed }
    }
}

/// Since it last began, in whole seconds or, below one, milliseconds.
fn lasted(time: Duration) -> Box<str> {
    let shown = match time.as_secs() {
        0 => Duration::from_millis(u64::from(time.subsec_millis())),
        seconds => Duration::from_secs(seconds),
    };
    format!("it lasted {}", humantime::format_duration(shown)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lost() -> Event {
        Event::instance_lost("chat", "chat01", "zone_a", "reset")
    }

    fn subject() -> Subject {
        Subject::instance_lost("chat", "chat01", "zone_a")
    }

    /// As `raised 2` or `cleared 0`, the number being that of the suppressed ones.
    fn shown(told: &Told) -> String {
        format!("{} {}", told.state.label(), told.suppressed)
    }

    #[test]
    fn what_begins_and_ends_is_told_at_once_and_once() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        let first = conditions.raise(0, lost(), now);
        assert!(first.began);
        assert_eq!(shown(&first.told.unwrap()), "raised 0");
        let again = conditions.raise(0, lost(), now + SECOND * 60);
        assert!(!again.began && again.told.is_none(), "it held already");
        assert_eq!(conditions.take_due(now + SECOND * 60), []);
        let told = conditions.clear(0, &subject(), now + SECOND * 90).unwrap();
        assert_eq!((shown(&told).as_str(), &*told.detail), ("cleared 0", "it lasted 1m 30s"));
        assert_eq!(told.severity, Severity::Warning, "as bad as it was");
        assert_eq!(conditions.clear(0, &subject(), now), None);
    }

    #[test]
    fn e7_one_that_flaps_each_second_is_told_twice_in_ten_and_its_end_is_never_missed() {
        let start = Instant::now();
        let mut conditions = Conditions::default();
        let (mut began, mut told) = (0, Vec::new());
        for n in 0..60 {
            let now = start + SECOND * n;
            let raising = conditions.raise(0, lost(), now);
            began += usize::from(raising.began);
            told.extend(raising.told);
            told.extend(conditions.clear(0, &subject(), now + SECOND / 2));
            told.extend(conditions.take_due(now + SECOND / 2));
        }
        assert_eq!(began, 60);
        let seen: Vec<_> = told.iter().map(shown).collect();
        assert_eq!(&seen[..4], ["raised 0", "cleared 0", "raised 9", "cleared 0"], "{seen:?}");
        assert_eq!(seen.len(), 12, "{seen:?}");
        // It goes down for good while it is quiet.
        let now = start + SECOND * 60;
        assert!(conditions.raise(0, lost(), now).told.is_some());
        assert!(conditions.clear(0, &subject(), now + SECOND).is_some());
        assert!(conditions.raise(0, lost(), now + SECOND * 2).told.is_none());
        assert_eq!(conditions.take_due(now + QUIET - Duration::from_millis(1)), []);
        let late = conditions.take_due(now + QUIET);
        assert_eq!(late.iter().map(shown).collect::<Vec<_>>(), ["raised 1"]);
    }

    #[test]
    fn what_began_and_ended_untold_is_forgotten() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        for second in 0..2 {
            conditions.raise(0, lost(), now + SECOND * second);
            conditions.clear(0, &subject(), now + SECOND * second);
        }
        assert_eq!(conditions.take_due(now + SECOND * 2), []);
        assert_eq!(conditions.by_subject.len(), 1);
        assert_eq!(conditions.take_due(now + QUIET), [], "it is as it was told");
        assert_eq!(conditions.by_subject.len(), 0);
    }

    #[test]
    fn it_holds_while_anybody_says_so() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        assert!(conditions.raise(0, lost(), now).told.is_some());
        let second = conditions.raise(1, lost(), now);
        assert!(!second.began && second.told.is_none());
        assert_eq!(conditions.active()[EventKind::InstanceLost.index()], 1);
        assert_eq!(conditions.clear(0, &subject(), now), None);
        assert_eq!(conditions.clear(7, &subject(), now), None, "it never said so");
        assert!(conditions.clear(1, &subject(), now).is_some());
        assert_eq!(conditions.active(), [0; EventKind::COUNT]);
    }

    #[test]
    fn worse_is_told_at_once_and_better_when_it_is_quiet() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        let mut raise = |severity, at| {
            let raising = conditions.raise(0, Event::overload(severity, "queued bytes"), at);
            assert_eq!(raising.began, at == now);
            raising.told.map(|told| told.severity)
        };
        assert_eq!(raise(Severity::Warning, now), Some(Severity::Warning));
        assert_eq!(raise(Severity::Error, now + SECOND), Some(Severity::Error));
        assert_eq!(raise(Severity::Warning, now + SECOND * 2), None);
        assert_eq!(raise(Severity::Error, now + SECOND * 3), None, "as it was told");
        assert_eq!(raise(Severity::Warning, now + SECOND * 4), None);
        let late = conditions.take_due(now + SECOND + QUIET);
        assert_eq!((late[0].state, late[0].severity), (ConditionState::Raised, Severity::Warning));
    }

    #[test]
    fn h24_what_holds_at_the_end_of_the_gateway_is_cleared_the_drain_last() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        conditions.raise(usize::MAX, Event::drain(Severity::Info, "asked to"), now);
        for source in 0..2 {
            conditions.raise(source, lost(), now);
        }
        conditions.raise(0, Event::overload(Severity::Error, "queued bytes"), now);
        conditions.clear(0, &Subject::overload(), now);
        let told = conditions.end(now + SECOND);
        assert_eq!(told.iter().map(shown).collect::<Vec<_>>(), ["cleared 0"; 2]);
        let kinds: Vec<_> = told.iter().map(|told| (told.subject.kind(), &*told.detail)).collect();
        assert_eq!(kinds, [(EventKind::InstanceLost, UNWATCHED), (EventKind::Drain, "it lasted 1s")]);
        assert_eq!(conditions.active(), [0; EventKind::COUNT]);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let now = Instant::now();
        let mut conditions = Conditions::default();
        for n in 0..CONDITIONS_KEPT + 5 {
            let event = Event::instance_lost("chat", &format!("chat{n}"), "z", "reset");
            let raising = conditions.raise(0, event, now);
            assert!(raising.began);
            assert_eq!(raising.told.is_some(), n < CONDITIONS_KEPT);
        }
        assert_eq!(conditions.by_subject.len(), CONDITIONS_KEPT);
    }
}
