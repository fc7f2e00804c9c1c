//! The few statistics of a report.

/// The middle of some values, the mean of the two in the middle where their number is even; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The least and the greatest of some values.
pub fn spread(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// A number with three digits that count, thousands as k.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        big if big >= 999_500.0 => (value / 1e6, " M"),
        big if big >= 9_995.0 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        big if big >= 99.95 => 0,
        some if some >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_are_the_ends() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }

    #[test]
    fn numbers_are_shown_with_three_digits_that_count() {
        let shown = [0.123, 4.5678, 12.345, 123.4, 9_000.0, 121_400.0, 2_630_000.0].map(short);
        assert_eq!(shown, ["0.12", "4.57", "12.3", "123", "9000", "121 k", "2.63 M"]);
    }
}
