//! A target, and whether it was met.

use serde::Serialize;

use crate::stats::median;

/// On which side of a number a target lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Bound {
    /// It is met by this or less.
    AtMost(f64),
    /// It is met by this or more.
    AtLeast(f64),
}

impl Bound {
    /// Whether a value is on the right side.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    /// Such as "≤ 1.45".
    pub fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound}"),
            Self::AtLeast(bound) => format!("≥ {bound}"),
        }
    }
}

/// What is aimed at, what was measured, and whether that is enough.
#[derive(Debug, Clone, Serialize)]
pub struct TargetVerdict {
    /// What is compared.
    pub what: String,
    /// Its unit: "×" of ratios.
    pub unit: String,
    /// The target.
    pub bound: Bound,
    /// What is aimed at once it is met.
    pub goal: Option<f64>,
    /// What decides: the ratio of the medians, or the median; none where one side could not be measured.
    pub value: Option<f64>,
    /// The same round by round.
    pub rounds: Vec<f64>,
}

impl TargetVerdict {
    /// Compares two series of values, round by round and by their medians.
    pub fn ratio(what: &str, of: &[f64], to: &[f64], bound: Bound) -> Self {
        let measured = !of.is_empty() && !to.is_empty() && median(to) > 0.0;
        Self {
            what: what.to_owned(),
            unit: "×".to_owned(),
            bound,
            goal: None,
            value: measured.then(|| median(of) / median(to)),
            rounds: of.iter().zip(to).map(|(of, to)| of / to).collect(),
        }
    }

    /// Compares one series with a number.
    pub fn absolute(what: &str, unit: &str, of: &[f64], bound: Bound) -> Self {
        Self {
            what: what.to_owned(),
            unit: unit.to_owned(),
            bound,
            goal: None,
            value: (!of.is_empty()).then(|| median(of)),
            rounds: of.to_vec(),
        }
    }

    /// With what is aimed at once it is met.
    #[must_use]
    pub fn with_goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Whether the target was met; none where one side could not be measured.
    pub fn is_met(&self) -> Option<bool> {
        self.value.map(|value| self.bound.holds(value))
    }

    /// Whether the further goal was met; none where there is none.
    pub fn is_goal_met(&self) -> Option<bool> {
        let goal = match self.bound {
            Bound::AtMost(_) => Bound::AtMost(self.goal?),
            Bound::AtLeast(_) => Bound::AtLeast(self.goal?),
        };
        self.value.map(|value| goal.holds(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_the_ratio_of_the_medians() {
        let verdict = TargetVerdict::ratio("a", &[6.0, 9.0, 6.0], &[4.0, 5.0, 5.0], Bound::AtMost(1.2));
        assert_eq!((verdict.value, verdict.is_met()), (Some(1.2), Some(true)));
        assert_eq!(verdict.rounds, [1.5, 1.8, 1.2]);
        let verdict = verdict.with_goal(1.1);
        assert_eq!(verdict.is_goal_met(), Some(false));
        let faster = TargetVerdict::ratio("b", &[3.0], &[1.0], Bound::AtLeast(3.5)).with_goal(2.0);
        assert_eq!((faster.is_met(), faster.is_goal_met()), (Some(false), Some(true)));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let verdict = TargetVerdict::ratio("a", &[1.0], &[], Bound::AtMost(1.0)).with_goal(1.0);
        assert_eq!((verdict.is_met(), verdict.is_goal_met()), (None, None));
    }
}
