//! When a token runs out, as it says itself: the gateway judges it, a client only wants to be in time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Longest token that is read, bytes: no gateway takes a longer one.
const MAX_TOKEN: usize = 64 * 1024;

/// Largest `exp` that is read, seconds since 1970: the gateway takes no larger one either.
const MAX_EXP: f64 = 9_007_199_254_740_992.0;

/// What is left of a token's life; none where it has no `exp` that can be read. Its signature is not checked.
pub(super) fn time_left(token: &str, now: SystemTime) -> Option<Duration> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let exp = claims.get("exp")?.as_f64().filter(|exp| (0.0..=MAX_EXP).contains(exp))?;
    let end = UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(exp).ok()?)?;
    Some(end.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn left(claims: &[u8]) -> Option<Duration> {
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        time_left(&token, UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[rstest]
    #[case(r#"{"exp":1700000060}"#, 60_000)]
    #[case(r#"{"exp":1700000000.5,"acc":"alice"}"#, 500)]
    #[case(r#"{"exp":1699999999}"#, 0)]
    #[case(r#"{"exp":0}"#, 0)]
    fn exp_is_read(#[case] claims: &str, #[case] millis: u64) {
        assert_eq!(left(claims.as_bytes()).map(|left| left.as_millis()), Some(u128::from(millis)));
    }

    #[rstest]
    #[case(b"{}")]
    #[case(b"")]
    #[case(b"[1700000060]")]
    #[case(br#"{"exp":"1700000060"}"#)]
    #[case(br#"{"exp":null}"#)]
    #[case(br#"{"exp":-1}"#)]
    #[case(br#"{"exp":1e308}"#)]
    #[case(b"{\"exp\":1700000060\xFF}")]
    fn what_has_no_exp_that_can_be_read(#[case] claims: &[u8]) {
        assert_eq!(left(claims), None);
    }

    #[test]
    fn what_is_no_token_at_all() {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        for token in
            ["", "token", "a.b", "a.!!!.c", &"x".repeat(1 << 20), &format!("e30.{}.x", "A".repeat(1 << 20))]
        {
            assert_eq!(time_left(token, now), None);
        }
    }
}
