//! When nothing new is sent, because the gateway is about to close the connection: what is on its way when it does has an
//! unknown outcome, and what waits goes out on the next connection.

use std::time::Duration;

use tokio::time::Instant;

/// Before the close that was announced: longer than a round trip on a slow network, because what was sent before must
/// have arrived, and the announcement was on its way as well.
const AHEAD: Duration = Duration::from_millis(500);

/// The close is this late at most: the announcement is in whole seconds, rounded down, and answers that are owed then
/// come first (4.5 s, G1). If it has not come by then, the gateway serves on.
const OVERDUE: Duration = Duration::from_secs(6);

/// See the module. Time is passed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum QuietPeriod {
    /// No close is announced.
    #[default]
    Never,
    /// From then on.
    From { from: Instant, until: Instant },
    /// Now.
    On { until: Instant },
}

impl QuietPeriod {
    /// The gateway will close after this time.
    pub(super) fn before(now: Instant, within: Duration) -> Self {
        let quiet = Self::From { from: now + within.saturating_sub(AHEAD), until: now + within + OVERDUE };
        quiet.at(now)
    }

    /// What it is at this time.
    pub(super) fn at(self, now: Instant) -> Self {
        match self {
            Self::From { until, .. } | Self::On { until } if until <= now => Self::Never,
            Self::From { from, until } if from <= now => Self::On { until },
            same => same,
        }
    }

    pub(super) const fn is_on(self) -> bool {
        matches!(self, Self::On { .. })
    }

    /// When it changes.
    pub(super) const fn alarm(self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::From { from: at, .. } | Self::On { until: at } => Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_before_the_announced_close_and_ends_when_that_does_not_come() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let told = QuietPeriod::before(now, 20 * second);
        let (begin, end) = (now + 20 * second - AHEAD, now + 20 * second + OVERDUE);
        assert!(!told.is_on() && told.alarm() == Some(begin));
        assert_eq!(told.at(begin - Duration::from_nanos(1)), told);
        let on = told.at(begin);
        assert!(on.is_on() && on.alarm() == Some(end));
        assert_eq!(on.at(end - Duration::from_nanos(1)), on);
        for over in [on.at(end), told.at(end)] {
            assert!(!over.is_on() && over.alarm().is_none());
        }
        assert_eq!(QuietPeriod::default().at(end), QuietPeriod::Never);
    }

    #[test]
    fn a_close_that_is_very_near_hushes_at_once() {
        let now = Instant::now();
        for within in [Duration::ZERO, AHEAD] {
            assert!(QuietPeriod::before(now, within).is_on(), "{within:?}");
        }
        assert!(!QuietPeriod::before(now, AHEAD + Duration::from_nanos(1)).is_on());
    }
}
