//! What is known about one service, and when to believe that it is less (rows E9 and E11).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Instance;

/// The instances in use, and those that wait to be believed.
#[derive(Debug, Clone)]
pub(super) struct KnownInstances {
    current: Vec<Instance>,
    held: Option<HeldInstances>,
    hold: Duration,
}

#[derive(Debug, Clone)]
struct HeldInstances {
    instances: Vec<Instance>,
    until: Instant,
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InstancesUpdate {
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

impl KnownInstances {
    /// Nothing is known. Smaller sets are held back for `hold`.
    pub(super) const fn new(hold: Duration) -> Self {
        Self { current: Vec::new(), held: None, hold }
    }

    /// How many instances are in use.
    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    /// Consul lists these now.
    pub(super) fn listed(&mut self, instances: Vec<Instance>, now: Instant) -> InstancesUpdate {
        if instances == self.current {
            self.held = None;
            return InstancesUpdate::Unchanged;
        }
        if instances.is_empty() {
            self.held = None;
            return InstancesUpdate::Empty;
        }
        if instances.len() * 2 >= self.current.len() {
            return self.change(instances);
        }
        // A set that changes while it is held has stood for as long as it has been too small.
        match &mut self.held {
            Some(held) if held.until <= now => self.change(instances),
            Some(held) => {
                held.instances = instances;
                InstancesUpdate::StillHeld
            }
            None => {
                self.held = Some(HeldInstances { instances, until: now + self.hold });
                InstancesUpdate::Held
            }
        }
    }

    /// When the smaller set is believed, if Consul does not say otherwise.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// The smaller set stands, and is due.
    pub(super) fn stands(&mut self) -> InstancesUpdate {
        match self.held.take() {
            Some(held) => self.change(held.instances),
            None => InstancesUpdate::Unchanged,
        }
    }

    fn change(&mut self, instances: Vec<Instance>) -> InstancesUpdate {
        self.held = None;
        self.current.clone_from(&instances);
        InstancesUpdate::Changed(instances)
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

    fn known(ids: &str) -> (KnownInstances, Instant) {
        let (mut known, now) = (KnownInstances::new(HOLD), Instant::now());
        assert_eq!(known.listed(set(ids), now), InstancesUpdate::Changed(set(ids)));
        (known, now)
    }

    #[test]
    fn e11_more_than_half_gone_at_once_is_held_and_then_believed() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set("d"), now), InstancesUpdate::Held);
        assert_eq!((known.len(), known.due()), (4, Some(now + HOLD)));
        assert_eq!(known.stands(), InstancesUpdate::Changed(set("d")));
        assert_eq!((known.len(), known.due()), (1, None));
    }

    #[test]
    fn half_may_go_and_any_number_may_come() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set("ab"), now), InstancesUpdate::Changed(set("ab")));
        assert_eq!(known.listed(set("a"), now), InstancesUpdate::Changed(set("a")));
        assert_eq!(known.listed(set("abcdefgh"), now), InstancesUpdate::Changed(set("abcdefgh")));
        assert_eq!(known.listed(set("stuvwxyz"), now), InstancesUpdate::Changed(set("stuvwxyz")));
    }

    #[test]
    fn a_set_that_returns_ends_the_hold() {
        let (mut known, now) = known("abcd");
        known.listed(set("d"), now);
        assert_eq!(known.listed(set("abcd"), now + HOLD - MS), InstancesUpdate::Unchanged);
        assert_eq!(known.due(), None);
        assert_eq!(known.listed(set("d"), now + HOLD), InstancesUpdate::Held, "a new hold");
        assert_eq!(known.listed(set("cd"), now + HOLD), InstancesUpdate::Changed(set("cd")));
        assert_eq!(known.stands(), InstancesUpdate::Unchanged);
    }

    #[test]
    fn a_set_that_keeps_changing_is_not_held_longer() {
        let (mut known, now) = known("abcd");
        known.listed(set("d"), now);
        assert_eq!(known.listed(set("c"), now + HOLD - MS), InstancesUpdate::StillHeld);
        assert_eq!(known.due(), Some(now + HOLD));
        assert_eq!(known.listed(set("b"), now + HOLD), InstancesUpdate::Changed(set("b")));
    }

    #[test]
    fn e9_an_empty_list_changes_nothing_and_forgets_what_was_held() {
        let (mut known, now) = known("abcd");
        assert_eq!(known.listed(set(""), now), InstancesUpdate::Empty);
        known.listed(set("d"), now);
        assert_eq!(known.listed(set(""), now), InstancesUpdate::Empty);
        assert_eq!((known.len(), known.due()), (4, None));
        let mut nothing = KnownInstances::new(HOLD);
        assert_eq!(nothing.listed(set(""), now), InstancesUpdate::Unchanged);
    }
}
