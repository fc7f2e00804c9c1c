//! The wall clock, and whether it can be believed (row H19).
//!
//! A machine whose clock was never set says 1970 or so. Then every token that ever ran out would be good, and every
//! certificate not yet. So whatever begins with the time begins with [`check`].

use std::time::{SystemTime, UNIX_EPOCH};

/// 2020-01-01T00:00:00Z, seconds since 1970. No gateway is older, so no clock is right that says less. Channel ids count
/// from here.
pub const EPOCH_2020: u64 = 1_577_836_800;

/// Milliseconds since 2020 from which on a clock is not believed either: the year 2298. Numbers of channels stay within
/// 63 bits.
const LATEST: u128 = 1 << 43;

/// The clock of this machine is wrong. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of this machine says {0}; set it (NTP) and start again: what has run out would pass for valid"
)]
pub struct ClockError(String);

/// Refuses a clock that was never set.
///
/// # Errors
/// [`ClockError`].
pub fn check() -> Result<(), ClockError> {
    millis_since_2020().map(drop)
}

/// Milliseconds since 2020, below 2^43.
///
/// # Errors
/// [`ClockError`].
pub fn millis_since_2020() -> Result<u64, ClockError> {
    judge(SystemTime::now())
}

fn judge(now: SystemTime) -> Result<u64, ClockError> {
    let Ok(since_1970) = now.duration_since(UNIX_EPOCH) else {
        return Err(ClockError("a time before 1970".to_owned()));
    };
    let millis = since_1970.as_millis().checked_sub(u128::from(EPOCH_2020) * 1000);
    match millis.filter(|millis| *millis < LATEST) {
        Some(millis) => Ok(u64::try_from(millis).unwrap_or(u64::MAX)),
        None => Err(ClockError(shown(since_1970.as_secs(), now))),
    }
}

/// Only years of four digits have a written form.
fn shown(second: u64, now: SystemTime) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    if second < YEAR_10000 {
        humantime::format_rfc3339_seconds(now).to_string()
    } else {
        "a year beyond 9999".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn h19_a_clock_that_was_never_set_is_refused() {
        assert_eq!(judge(at(EPOCH_2020)), Ok(0));
        assert_eq!(judge(at(EPOCH_2020) + Duration::from_millis(1500)), Ok(1500));
        assert!(judge(at(EPOCH_2020 + (1 << 43) / 1000)).is_ok());
        for (wrong, shown) in [
            (UNIX_EPOCH - Duration::from_secs(1), "says a time before 1970;"),
            (at(0), "says 1970-01-01T00:00:00Z; set it (NTP)"),
            (at(EPOCH_2020 - 1), "says 2019-12-31T23:59:59Z;"),
            (at(EPOCH_2020 + (1 << 43) / 1000 + 1), "says 2298-"),
            (at(1 << 40), "says a year beyond 9999;"),
        ] {
            let message = judge(wrong).unwrap_err().to_string();
            assert!(message.contains(shown), "{message}");
        }
        assert!(check().is_ok());
    }
}
