//! The plots of a page, as SVG.

use std::fmt::Write as _;

use crate::report::axis::{Axis, BELOW, FIELD_LEFT, RIGHT, ROWS_LEFT, WIDTH, close, open, text};
use crate::report::{Bound, Distribution, MemorySlope, TargetVerdict, WorkResult};
use crate::stats::{median, short, spread};

/// Between two rows of a plot with rows: a name, and the values below it.
const ROW: f64 = 40.0;

/// The height of a field, and of a line of the legend above it.
const FIELD: f64 = 190.0;
const LEGEND: f64 = 17.0;

/// Colours there are; further series begin again.
const COLOURS: usize = 6;

/// One metric: a row for each contender, a dot for each round, a bar for the median.
pub(crate) fn strip(work: &WorkResult, metric: &str) -> String {
    let rows: Vec<_> = work
        .contenders
        .iter()
        .map(|one| (&one.who, one.values(metric)))
        .filter(|row| !row.1.is_empty())
        .collect();
    let all: Vec<f64> = rows.iter().flat_map(|row| row.1).copied().collect();
    let axis = Axis::linear(ROWS_LEFT, spread(&all).1 * 1.08);
    let height = ROW.mul_add(rows.len() as f64, BELOW + 4.0);
    let mut out = open(height);
    axis.ticks(&mut out, height);
    for (index, (who, values)) in rows.into_iter().enumerate() {
        row(&mut out, &axis, index, who, values, Some(median(values)));
    }
    close(out)
}

/// What was measured against each target, round by round: 1 is the target.
pub(crate) fn ratios(targets: &[&TargetVerdict]) -> String {
    let of = |target: &TargetVerdict, value: f64| match target.bound {
        // A target of nothing at all is met by that alone.
        Bound::AtMost(bound) => value / bound.max(f64::MIN_POSITIVE),
        Bound::AtLeast(bound) => bound / value,
    };
    let all: Vec<f64> =
        targets.iter().flat_map(|target| target.rounds.iter().map(|value| of(target, *value))).collect();
    let axis = Axis::linear(ROWS_LEFT, (spread(&all).1 * 1.08).clamp(1.3, 12.0));
    let height = ROW.mul_add(targets.len() as f64, BELOW + 4.0);
    let mut out = open(height);
    let (one, bottom) = (axis.at(1.0), height - BELOW);
    let width = one - ROWS_LEFT;
    let _ = write!(
        out,
        "<rect class=\"zone\" x=\"{ROWS_LEFT}\" y=\"0\" width=\"{width:.1}\" height=\"{bottom:.1}\"/>"
    );
    axis.ticks(&mut out, height);
    let _ = write!(out, "<line class=\"mark\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"0\" y2=\"{bottom:.1}\"/>");
    for (index, target) in targets.iter().enumerate() {
        let values: Vec<f64> = target.rounds.iter().map(|value| of(target, *value)).collect();
        row(&mut out, &axis, index, &target.what, &values, target.value.map(|value| of(target, value)));
    }
    close(out)
}

/// A name, and below it a dot for each value and a bar for what decides.
fn row(out: &mut String, axis: &Axis, index: usize, name: &str, values: &[f64], decides: Option<f64>) {
    let top = ROW.mul_add(index as f64, 14.0);
    text(out, "who", ROWS_LEFT, top, "start", name);
    let (y, class) = (top + 13.0, index % COLOURS);
    for value in values {
        let x = axis.at(*value);
        let _ = write!(out, "<circle class=\"dot s{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
    }
    if let Some(value) = decides {
        let (x, above, below) = (axis.at(value), y - 7.0, y + 7.0);
        let _ = write!(
            out,
            "<line class=\"median s{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{above:.1}\" y2=\"{below:.1}\"/>"
        );
    }
}

/// Latencies by the share of messages that were faster: nines upwards, time on a logarithmic scale.
pub(crate) fn cdf(distributions: &[Distribution]) -> String {
    let all: Vec<f64> = distributions.iter().flat_map(|one| one.points.iter().map(|point| point.1)).collect();
    let (least, greatest) = spread(&all);
    let axis = Axis::logarithmic(FIELD_LEFT, least.max(1.0), greatest.max(10.0));
    let mut field = PlotField::open(distributions.len(), &axis);
    // 0, 0.9, 0.99 and so on stand at equal distances, four of them.
    let nines = |share: f64| -(1.0 - share).max(1e-4).log10() / 4.0;
    for (share, label) in [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        field.line(nines(share), label);
    }
    for one in distributions {
        let points = one.points.iter().map(|(share, us)| (axis.at(us.max(1.0)), nines(*share)));
        field.curve(&one.who, points);
    }
    field.close("µs")
}

/// Memory of a process by the number of its idle connections.
pub(crate) fn slopes(slopes: &[MemorySlope]) -> String {
    let points = || slopes.iter().flat_map(|one| &one.points);
    let most = points().fold(1.0f64, |most, point| most.max(point.0));
    let size = points().fold(1.0f64, |most, point| most.max(point.1)) * 1.05;
    let axis = Axis::linear(FIELD_LEFT, most * 1.05);
    let mut field = PlotField::open(slopes.len(), &axis);
    for part in 1..=4 {
        let share = f64::from(part) / 4.0;
        field.line(share, &format!("{} MiB", short(size * share)));
    }
    for one in slopes {
        field
            .curve(&one.who, one.points.iter().map(|(count, mebibytes)| (axis.at(*count), mebibytes / size)));
    }
    field.close("connections")
}

/// A field with curves, below their legend.
struct PlotField {
    out: String,
    top: f64,
    height: f64,
    curves: usize,
}

impl PlotField {
    fn open(curves: usize, axis: &Axis) -> Self {
        let top = LEGEND.mul_add(curves as f64, 10.0);
        let height = top + FIELD + BELOW;
        let mut out = open(height);
        out.push_str("<g class=\"grid\">");
        axis.ticks(&mut out, height);
        // The lines of the axis end below the legend.
        let _ = write!(
            out,
            "</g><rect class=\"cover\" x=\"0\" y=\"0\" width=\"{WIDTH}\" height=\"{:.1}\"/>",
            top - 4.0
        );
        Self { out, top, height, curves: 0 }
    }

    /// The place of a share of the field's height.
    fn y(&self, share: f64) -> f64 {
        (1.0 - share.clamp(0.0, 1.0)).mul_add(FIELD, self.top)
    }

    fn line(&mut self, share: f64, label: &str) {
        let (y, end) = (self.y(share), WIDTH - RIGHT);
        text(&mut self.out, "", FIELD_LEFT - 6.0, y + 4.0, "end", label);
        let _ = write!(
            self.out,
            "<line class=\"axis\" x1=\"{FIELD_LEFT}\" x2=\"{end:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        );
    }

    fn curve(&mut self, who: &str, points: impl Iterator<Item = (f64, f64)>) {
        let class = self.curves % COLOURS;
        let points: Vec<String> = points.map(|(x, share)| format!("{x:.1},{:.1}", self.y(share))).collect();
        let _ = write!(self.out, "<polyline class=\"curve s{class}\" points=\"{}\"/>", points.join(" "));
        let y = LEGEND.mul_add(self.curves as f64, 12.0);
        let box_top = y - 9.0;
        let _ = write!(
            self.out,
            "<rect class=\"key s{class}\" x=\"{ROWS_LEFT}\" y=\"{box_top:.1}\" width=\"10\" height=\"10\" rx=\"2\"/>"
        );
        text(&mut self.out, "who", ROWS_LEFT + 16.0, y, "start", who);
        self.curves += 1;
    }

    fn close(mut self, unit: &str) -> String {
        text(&mut self.out, "", ROWS_LEFT, self.height - 6.0, "start", unit);
        close(self.out)
    }
}
