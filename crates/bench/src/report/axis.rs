//! The horizontal axis of a plot, and the few elements plots are made of.

use std::fmt::Write as _;

use crate::report::html_text::escaped;
use crate::stats::short;

/// The width of a plot in its own units, and the room on the right of its field.
pub(crate) const WIDTH: f64 = 560.0;
pub(crate) const RIGHT: f64 = 16.0;

/// The room on the left: of rows that are named above them, and of a field with a vertical axis.
pub(crate) const ROWS_LEFT: f64 = 12.0;
pub(crate) const FIELD_LEFT: f64 = 66.0;

/// The room of the numbers below a plot.
pub(crate) const BELOW: f64 = 22.0;

/// About so many lines with a number.
const TICKS: f64 = 5.0;

/// Where values stand.
pub(crate) struct Axis {
    left: f64,
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    /// From 0 to a value.
    pub(crate) fn linear(left: f64, to: f64) -> Self {
        Self { left, from: 0.0, to: if to > 0.0 { to } else { 1.0 }, is_logarithmic: false }
    }

    /// From a positive value to a greater one.
    pub(crate) fn logarithmic(left: f64, from: f64, to: f64) -> Self {
        let from = from.log10();
        Self { left, from, to: to.log10().max(from + 0.1), is_logarithmic: true }
    }

    /// The place of a value; what lies outside stands at the edge.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if self.is_logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        (WIDTH - self.left - RIGHT).mul_add(share, self.left)
    }

    /// Lines with numbers below a plot of this height.
    pub(crate) fn ticks(&self, out: &mut String, height: f64) {
        for value in self.values() {
            let (x, bottom) = (self.at(value), height - BELOW);
            let _ =
                write!(out, "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{bottom:.1}\"/>");
            text(out, "", x, height - 6.0, "middle", &label(value));
        }
    }

    fn values(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let powers = self.from.floor() as i32..=self.to.ceil() as i32;
            let all = powers.map(|power| 10f64.powi(power));
            return all.filter(|value| (self.from..=self.to).contains(&value.log10())).collect();
        }
        let rough = (self.to - self.from) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = ((self.to - self.from) / step).floor() as u32;
        (0..=count).map(|number| step * f64::from(number)).collect()
    }
}

/// A number as short as it is round: 0.5, 20, 10 k.
fn label(value: f64) -> String {
    let shown = short(value);
    let (digits, unit) = shown.split_once(' ').map_or((&*shown, ""), |(digits, unit)| (digits, unit));
    let digits =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    if unit.is_empty() { digits.to_owned() } else { format!("{digits} {unit}") }
}

/// Begins a plot of this height.
pub(crate) fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")
}

/// Ends it.
pub(crate) fn close(mut svg: String) -> String {
    svg.push_str("</svg>\n");
    svg
}

/// A word in a plot.
pub(crate) fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = write!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_proportion_and_never_outside() {
        let axis = Axis::linear(ROWS_LEFT, 10.0);
        assert_eq!(axis.values(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!((axis.at(0.0), axis.at(10.0), axis.at(99.0)), (ROWS_LEFT, WIDTH - RIGHT, WIDTH - RIGHT));
        let axis = Axis::logarithmic(FIELD_LEFT, 5.0, 2000.0);
        assert_eq!(axis.values(), [10.0, 100.0, 1000.0]);
        assert!(axis.at(10.0) < axis.at(100.0));
    }

    #[test]
    fn numbers_of_an_axis_are_short() {
        assert_eq!([0.0, 0.5, 20.0, 100.0, 20_000.0].map(label), ["0", "0.5", "20", "100", "20 k"]);
    }
}
