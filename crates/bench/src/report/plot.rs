//! The plots of a page, as SVG.

use std::fmt::Write as _;

use crate::report::axis::{Axis, HEIGHT, LEFT, RIGHT, WIDTH, close, open, text};
use crate::report::{Bound, Distribution, MemorySlope, TargetVerdict, WorkResult};
use crate::stats::{median, short, spread};

/// Between two rows of a plot with rows.
const ROW: f64 = 26.0;

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
    let axis = Axis::linear(0.0, spread(&all).1 * 1.08);
    let height = ROW.mul_add(rows.len() as f64, 26.0);
    let mut out = open(height);
    axis.ticks(&mut out, height);
    for (index, (who, values)) in rows.into_iter().enumerate() {
        let y = ROW.mul_add(index as f64, 16.0);
        text(&mut out, "who", 0.0, y + 4.0, "start", who);
        let class = index % COLOURS;
        for value in values {
            let _ = write!(
                out,
                "<circle class=\"dot s{class}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
                axis.at(*value)
            );
        }
        let x = axis.at(median(values));
        let (top, bottom) = (y - 9.0, y + 9.0);
        let _ = write!(
            out,
            "<line class=\"median s{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
        );
    }
    close(out)
}

/// What was measured against each target, round by round: 1 is the target.
pub(crate) fn ratios(targets: &[&TargetVerdict]) -> String {
    let of = |target: &TargetVerdict, value: f64| match target.bound {
        Bound::AtMost(bound) => value / bound,
        Bound::AtLeast(bound) => bound / value,
    };
    let all: Vec<f64> =
        targets.iter().flat_map(|target| target.rounds.iter().map(|value| of(target, *value))).collect();
    let axis = Axis::linear(0.0, (spread(&all).1 * 1.08).clamp(1.3, 12.0));
    let height = ROW.mul_add(targets.len() as f64, 26.0);
    let mut out = open(height);
    let _ = write!(
        out,
        "<rect class=\"zone\" x=\"{LEFT}\" y=\"0\" width=\"{:.1}\" height=\"{:.1}\"/>",
        axis.at(1.0) - LEFT,
        height - 22.0
    );
    axis.ticks(&mut out, height);
    let one = axis.at(1.0);
    let _ = write!(
        out,
        "<line class=\"mark\" x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"0\" y2=\"{:.1}\"/>",
        height - 22.0
    );
    for (index, target) in targets.iter().enumerate() {
        let y = ROW.mul_add(index as f64, 16.0);
        let short_name = target.what.trim_start_matches("CPU, ");
        text(&mut out, "who", 0.0, y + 4.0, "start", short_name);
        let class = index % COLOURS;
        for value in &target.rounds {
            let x = axis.at(of(target, *value));
            let _ = write!(out, "<circle class=\"dot s{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>");
        }
        if let Some(value) = target.value {
            let x = axis.at(of(target, value));
            let (top, bottom) = (y - 9.0, y + 9.0);
            let _ = write!(
                out,
                "<line class=\"median s{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
            );
        }
    }
    close(out)
}

/// Latencies by the share of messages that were faster: nines upwards, time on a logarithmic scale.
pub(crate) fn cdf(distributions: &[Distribution]) -> String {
    let all: Vec<f64> = distributions.iter().flat_map(|one| one.points.iter().map(|point| point.1)).collect();
    let (least, greatest) = spread(&all);
    let axis = Axis::logarithmic(least.max(1.0), greatest.max(10.0));
    let mut out = open(HEIGHT);
    axis.ticks(&mut out, HEIGHT);
    let bottom = HEIGHT - 22.0;
    let y = |share: f64| {
        // 0, 0.9, 0.99 and so on stand at equal distances, four of them.
        let nines = -(1.0 - share).max(1e-4).log10();
        bottom - nines / 4.0 * (bottom - 10.0)
    };
    for (share, label) in [(0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")] {
        let at = y(share);
        text(&mut out, "", LEFT - 8.0, at + 4.0, "end", label);
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
    }
    for (index, one) in distributions.iter().enumerate() {
        let points: Vec<String> = one
            .points
            .iter()
            .map(|(share, us)| format!("{:.1},{:.1}", axis.at(us.max(1.0)), y(*share)))
            .collect();
        curve(&mut out, index, &points, &one.who);
    }
    close(out)
}

/// Memory of a process by the number of its idle connections.
pub(crate) fn slopes(slopes: &[MemorySlope]) -> String {
    let most = slopes
        .iter()
        .flat_map(|one| &one.points)
        .fold((1.0f64, 1.0f64), |most, point| (most.0.max(point.0), most.1.max(point.1)));
    let axis = Axis::linear(0.0, most.0 * 1.05);
    let mut out = open(HEIGHT);
    axis.ticks(&mut out, HEIGHT);
    let bottom = HEIGHT - 22.0;
    let y = |mebibytes: f64| bottom - mebibytes / most.1 * (bottom - 14.0);
    for part in 1..=4 {
        let value = most.1 * f64::from(part) / 4.0;
        text(&mut out, "", LEFT - 8.0, y(value) + 4.0, "end", &format!("{} MiB", short(value)));
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - RIGHT
        );
    }
    for (index, one) in slopes.iter().enumerate() {
        let points: Vec<String> = one
            .points
            .iter()
            .map(|(count, size)| format!("{:.1},{:.1}", axis.at(*count), y(*size)))
            .collect();
        curve(&mut out, index, &points, &one.who);
    }
    close(out)
}

/// A curve and its line of the legend.
fn curve(out: &mut String, index: usize, points: &[String], who: &str) {
    let class = index % COLOURS;
    let _ = write!(out, "<polyline class=\"curve s{class}\" points=\"{}\"/>", points.join(" "));
    let y = 16.0f64.mul_add(index as f64, 8.0);
    let _ = write!(
        out,
        "<rect class=\"key s{class}\" x=\"0\" y=\"{:.1}\" width=\"10\" height=\"10\" rx=\"2\"/>",
        y - 8.0
    );
    text(out, "who", 15.0, y + 1.0, "start", who);
}
