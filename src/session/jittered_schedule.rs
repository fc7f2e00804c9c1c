//! When each close of a drain happens: evenly over the window, with jitter (row F1).
//!
//! The window is cut into one slot per close, and the close is at a random place of its slot. So no stretch of the
//! window sees more than one close above its share at either end, and no two gateways keep step.

use std::time::Duration;

/// The moments of so many closes, from the begin of the window and in order. `share` gives the place in each slot,
/// from 0 to below 1.
pub(crate) fn jittered_schedule(
    window: Duration,
    count: usize,
    mut share: impl FnMut() -> f64,
) -> impl Iterator<Item = Duration> {
    (0..count).map(move |slot| window.mul_f64((slot as f64 + share()) / count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_net::rng::Rng;

    const WINDOW: Duration = Duration::from_secs(20);

    /// Most closes in any stretch of this length.
    fn peak(moments: &[Duration], stretch: Duration) -> usize {
        moments
            .iter()
            .map(|from| moments.iter().filter(|at| *at >= from && **at < *from + stretch).count())
            .max()
            .unwrap()
    }

    #[test]
    fn f1_the_peak_is_at_most_twice_the_mean_whatever_the_jitter() {
        let mut rng = Rng::default();
        let mut extremes = [0.999_999, 0.0].into_iter().cycle();
        for (name, share) in [
            ("random", &mut (|| rng.share()) as &mut dyn FnMut() -> f64),
            ("as close as two can come", &mut move || extremes.next().unwrap()),
            ("none", &mut || 0.0),
        ] {
            let moments: Vec<_> = jittered_schedule(WINDOW, 2000, share).collect();
            assert_eq!(moments.len(), 2000);
            assert!(moments.is_sorted(), "{name}");
            assert!(moments[1999] < WINDOW && moments[1999] >= WINDOW.mul_f64(1999.0 / 2000.0), "{name}");
            // A tenth of a second has 10 on average, a second 100.
            for (stretch, mean) in [(Duration::from_millis(100), 10), (Duration::from_secs(1), 100)] {
                let peak = peak(&moments, stretch);
                assert!(peak <= 2 * mean && peak <= mean + 2, "{name}: {peak} within {stretch:?}");
            }
        }
    }

    #[test]
    fn f1_no_two_drains_have_the_same_moments() {
        let [one, other] = [Rng::default(), Rng::default()]
            .map(|mut rng| jittered_schedule(WINDOW, 10, || rng.share()).collect::<Vec<_>>());
        assert_ne!(one, other);
    }

    #[test]
    fn f1_without_a_window_all_is_at_once_and_of_nothing_there_is_nothing() {
        assert_eq!(jittered_schedule(Duration::ZERO, 3, || 0.5).collect::<Vec<_>>(), [Duration::ZERO; 3]);
        assert_eq!(jittered_schedule(WINDOW, 0, || 0.5).count(), 0);
    }
}
