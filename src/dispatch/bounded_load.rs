//! When an instance has so much more to do than its neighbours that new accounts go to the next one: bounded-load
//! hashing. While nobody is overloaded it decides nothing, and every gateway of a fleet comes to the same choice.

/// An instance is overloaded with more than this share of the mean, in quarters: 1.25 times.
const QUARTERS: usize = 5;

/// And with so many requests more than the mean at least: below, differences are chance.
const SLACK: usize = 64;

/// What several instances owe together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    instances: usize,
    pending: usize,
}

impl Loads {
    /// One instance more, with so many pending requests.
    #[must_use]
    pub(crate) const fn and(self, pending: usize) -> Self {
        Self { instances: self.instances + 1, pending: self.pending.saturating_add(pending) }
    }

    /// Returns `true` if one of them, with so many pending requests, is far above the mean.
    pub(crate) const fn is_exceeded_by(self, pending: usize) -> bool {
        let total = pending.saturating_mul(self.instances);
        total.saturating_mul(4) > self.pending.saturating_mul(QUARTERS)
            && total >= self.pending.saturating_add(SLACK.saturating_mul(self.instances))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(of: &[usize]) -> Loads {
        of.iter().fold(Loads::default(), |loads, pending| loads.and(*pending))
    }

    #[test]
    fn above_five_quarters_of_the_mean_and_at_least_64_more() {
        for (others, edge) in [
            // Two: the mean moves with the one that is looked at, half of the way.
            (&[0][..], 128),
            (&[100], 228),
            // 64 more is reached before five quarters are passed: 1000 and x, x > 1.25 * (1000 + x) / 2.
            (&[1000], 1667),
            (&[0, 0, 0], 86),
            (&[10, 10, 10], 96),
            (&[2000, 2000, 2000], 2728),
        ] {
            let of = |pending: usize| loads(others).and(pending).is_exceeded_by(pending);
            assert!(!of(edge - 1), "{others:?} and {}", edge - 1);
            assert!(of(edge), "{others:?} and {edge}");
        }
    }

    #[test]
    fn one_alone_and_equal_ones_are_never_exceeded() {
        for pending in [0, 1, 4096, usize::MAX] {
            assert!(!loads(&[pending]).is_exceeded_by(pending));
            assert!(!loads(&[pending; 3]).is_exceeded_by(pending));
        }
    }
}
