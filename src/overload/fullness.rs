//! Whether something is full. Begins at once and ends when there was room for a while, so that no client that comes and goes
//! makes it flap (row H20). Time is passed in.

use std::time::Instant;

use crate::limits::LEVEL_HOLD;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    is_full: bool,
    roomy_since: Option<Instant>,
}

/// How it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// There is no more, or somebody was refused since the last look.
    Full,
    /// Neither this nor that.
    Nearly,
    /// There is room.
    Roomy,
}

impl Fullness {
    /// How it was told last.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// What changed: it is full now, or it is no longer.
    pub(super) fn observe(&mut self, now: Instant, found: Occupancy) -> Option<bool> {
        if found != Occupancy::Roomy {
            self.roomy_since = None;
            return (found == Occupancy::Full && !std::mem::replace(&mut self.is_full, true)).then_some(true);
        }
        let since = *self.roomy_since.get_or_insert(now);
        let ends = self.is_full && now.saturating_duration_since(since) >= LEVEL_HOLD;
        self.is_full &= !ends;
        ends.then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Occupancy::{Full, Nearly, Roomy};
    use super::*;

    #[test]
    fn h20_it_begins_at_once_and_ends_when_there_was_room_for_a_second() {
        let start = Instant::now();
        let mut fullness = Fullness::default();
        for (at, found, changed) in [
            (0, Roomy, None),
            (100, Nearly, None),
            (200, Full, Some(true)),
            (300, Full, None),
            (400, Nearly, None),
            (500, Roomy, None),
            (1_400, Roomy, None),
            (1_450, Nearly, None),
            (1_500, Roomy, None),
            (2_499, Roomy, None),
            (2_500, Roomy, Some(false)),
            (9_000, Roomy, None),
            (9_100, Full, Some(true)),
        ] {
            assert_eq!(fullness.observe(start + Duration::from_millis(at), found), changed, "at {at} ms");
        }
    }
}
