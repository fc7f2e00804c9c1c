//! What is known about one service, and when to believe that it is less (rows E9 and E11).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Instance;

/// The instances in use, and those that wait to be believed.
#[derive(Debug, Clone)]
pub(super) struct Known {
    current: Vec<Instance>,
    held: Option<Held>,
    hold: Duration,
}

#[derive(Debug, Clone)]
struct Held {
    instances: Vec<Instance>,
    until: Instant,
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Use these from now on.
    Changed(Vec<Instance>),
    /// It is as it was.
    Unchanged,
    /// More than half are gone at once: it may be Consul that is wrong.
    Held,
    /// As before, and the rest of the hold is still to come.
    StillHeld,
    /// Nothing is left, while there was something.
    Empty,
}

impl Known {
    /// Nothing is known. Smaller sets are held back for `hold`.
    pub(super) const fn new(hold: Duration) -> Self {
        Self { current: Vec::new(), held: None, hold }
    }

    /// How many instances are in use.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// Consul lists these now.
    pub(super) fn listed(&mut self, instances: Vec<Instance>, now: Instant) -> Verdict {
        if instances == self.current {
            self.held = None;
            return Verdict::Unchanged;
        }
        if instances.is_empty() {
            self.held = None;
            return Verdict::Empty;
        }
        if instances.len() * 2 >= self.current.len() {
            return self.change(instances);
        }
        // A set that changes while it is held has stood for as long as it has been too small.
        match &mut self.held {
            Some(held) if held.until <= now => self.change(instances),
            Some(held) => {
                held.instances = instances;
                Verdict::StillHeld
            }
            None => {
                self.held = Some(Held { instances, until: now + self.hold });
                Verdict::Held
            }
        }
    }

    /// When the smaller set is believed, if Consul does not say otherwise.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// The smaller set stands, and is due.
    pub(super) fn stands(&mut self) -> Verdict {
        match self.held.take() {
            Some(held) => self.change(held.instances),
            None => Verdict::Unchanged,
        }
    }

    fn change(&mut self, instances: Vec<Instance>) -> Verdict {
        self.held = None;
        self.current.clone_from(&instances);
        Verdict::Changed(instances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dialect::Dialect;

    const HOLD: Duration = Duration::from_secs(10);
    const MS: Duration = Duration::from_millis(1);

    fn set(ids: &str) -> Vec<Instance> {
        let instance = |id: char| Instance {
            service: "chat".into(),
            id: id.to_string(),
            address: "h:1".into(),
            zone: "za".into(),
            dialect: Dialect::XIm,
        };
        ids.chars().map(instance).collect()
    }

    fn known(ids: &str) -> (Known, Instant) {
        let (mut known, now) = (Known::new(HOLD), Instant::now());
        assert_eq!(known.listed(set(ids), now), Verdict::Changed(set(ids)));
        (known, now)
    }

    #[test]
    fn e11_more_than_half_gone_at_once_is_held_and_then_believed() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set("d"), now), Verdict::Held);
        assert_eq!((known.len(), known.due()), (4, Some(now + HOLD)));
        assert_eq!(known.stands(), Verdict::Changed(set("d")));
        assert_eq!((known.len(), known.due()), (1, None));
    }

    #[test]
    fn half_may_go_and_any_number_may_come() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set("ab"), now), Verdict::Changed(set("ab")));
        assert_eq!(known.listed(set("a"), now), Verdict::Changed(set("a")));
        assert_eq!(known.listed(set("abcdefgh"), now), Verdict::Changed(set("abcdefgh")));
        assert_eq!(known.listed(set("stuvwxyz"), now), Verdict::Changed(set("stuvwxyz")));
    }

    #[test]
    fn a_set_that_returns_ends_the_hold() {
        let (mut known, now) = known("abcd");
        known.listed(set("d"), now);
        assert_eq!(known.listed(set("abcd"), now + HOLD - MS), Verdict::Unchanged);
        assert_eq!(known.due(), None);
        assert_eq!(known.listed(set("d"), now + HOLD), Verdict::Held, "a new hold");
        assert_eq!(known.listed(set("cd"), now + HOLD), Verdict::Changed(set("cd")));
        assert_eq!(known.stands(), Verdict::Unchanged);
    }

    #[test]
    fn a_set_that_keeps_changing_is_not_held_longer() {
        let (mut known, now) = known("abcd");
        known.listed(set("d"), now);
        assert_eq!(known.listed(set("c"), now + HOLD - MS), Verdict::StillHeld);
        assert_eq!(known.due(), Some(now + HOLD));
        assert_eq!(known.listed(set("b"), now + HOLD), Verdict::Changed(set("b")));
    }

    #[test]
    fn e9_an_empty_list_changes_nothing_and_forgets_what_was_held() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set(""), now), Verdict::Empty);
        known.listed(set("d"), now);
        assert_eq!(known.listed(set(""), now), Verdict::Empty);
        assert_eq!((known.len(), known.due()), (4, None));
        let mut nothing = Known::new(HOLD);
        assert_eq!(nothing.listed(set(""), now), Verdict::Unchanged);
    }
}
