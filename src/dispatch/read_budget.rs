//! What is still read of a link while the clients of this process have more queued than they may (row E19): enough for
//! the answers of a service that does not flood, next to nothing of one that does.

use std::time::Instant;

use crate::limits::{PRESSURE_LOOK, READ_CHUNK};

/// Bytes of one link in each [`PRESSURE_LOOK`]: one read.
const TRICKLE: usize = READ_CHUNK;

/// How much of it a link has had.
#[derive(Debug, Default)]
pub(super) struct ReadBudget {
    /// The period now began then.
    since: Option<Instant>,
    taken: usize,
}

impl ReadBudget {
    /// So many bytes were read.
    pub(super) fn took(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// Returns `true` if the link has had all that it gets in the current period.
    pub(super) fn is_used_up(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PRESSURE_LOOK) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken >= TRICKLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e19_one_read_passes_in_each_period_however_it_is_divided() {
        let mut read_budget = ReadBudget::default();
        let start = Instant::now();
        assert!(!read_budget.is_used_up(start));
        read_budget.took(TRICKLE - 1);
        assert!(!read_budget.is_used_up(start));
        read_budget.took(1);
        assert!(read_budget.is_used_up(start));
        assert!(read_budget.is_used_up(start + PRESSURE_LOOK / 2));
        assert!(!read_budget.is_used_up(start + PRESSURE_LOOK));
        read_budget.took(usize::MAX);
        read_budget.took(1);
        assert!(
            read_budget.is_used_up(start + PRESSURE_LOOK),
            "what it took before the pause counts as well"
        );
        assert!(!read_budget.is_used_up(start + PRESSURE_LOOK * 5));
    }
}
