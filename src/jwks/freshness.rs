//! How long a set of keys may be used before it is fetched again, as the headers of its answer say (RFC 9111).

use std::time::{Duration, SystemTime};

use hyper::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName};

use crate::limits::{JWKS_FRESH, JWKS_FRESH_DEFAULT};

/// For how long the answer is fresh, within [`JWKS_FRESH`].
pub(super) fn fresh_for(headers: &HeaderMap, now: SystemTime) -> Duration {
    let (shortest, longest) = JWKS_FRESH;
    stated(headers, now).unwrap_or(JWKS_FRESH_DEFAULT).clamp(shortest, longest)
}

/// What the headers say; `None` where they say nothing that can be read.
fn stated(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut max_age = None;
    for directive in headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()) {
        for directive in directive.split(',').map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => max_age = max_age.or_else(|| seconds(value.trim_matches('"'))),
                _ => {}
            }
        }
    }
    if let Some(max_age) = max_age {
        let age = headers.get(AGE).and_then(|age| age.to_str().ok()).and_then(seconds).unwrap_or_default();
        return Some(max_age.saturating_sub(age));
    }
    let expires = date(headers, &EXPIRES)?;
    Some(expires.duration_since(date(headers, &DATE).unwrap_or(now)).unwrap_or_default())
}

/// Digits only; more than a number can hold is long.
fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hyper::header::HeaderValue;
    use rstest::rstest;

    use super::*;

    const HOUR: u64 = 3600;
    const DEFAULT: u64 = JWKS_FRESH_DEFAULT.as_secs();

    #[rstest]
    #[case(&[], DEFAULT)]
    #[case(&[("cache-control", "max-age=3600")], HOUR)]
    #[case(&[("cache-control", "public, max-age=3600, must-revalidate")], HOUR)]
    #[case(&[("cache-control", "public"), ("cache-control", "Max-Age=\"3600\"")], HOUR)]
    #[case(&[("cache-control", "max-age=3600"), ("age", "600")], HOUR - 600)]
    #[case(&[("cache-control", "max-age=3600"), ("age", "7200")], 60)]
    #[case(&[("cache-control", "max-age=0")], 60)]
    #[case(&[("cache-control", "no-cache, max-age=3600")], 60)]
    #[case(&[("cache-control", "no-store")], 60)]
    #[case(&[("cache-control", "max-age=31536000")], 86_400)]
    #[case(&[("cache-control", "max-age=99999999999999999999999999")], 86_400)]
    #[case(&[("cache-control", "max-age=-1")], DEFAULT)]
    #[case(&[("cache-control", "max-age=1e9")], DEFAULT)]
    #[case(&[("cache-control", "max-age")], DEFAULT)]
    #[case(&[("cache-control", "max-age=3600, max-age=60")], HOUR)]
    #[case(&[("cache-control", "s-maxage=9, private")], DEFAULT)]
    #[case(&[("expires", "Tue, 14 Nov 2023 23:13:20 GMT")], HOUR)]
    #[case(&[("expires", "Tue, 14 Nov 2023 23:13:20 GMT"), ("date", "Tue, 14 Nov 2023 22:43:20 GMT")], HOUR / 2)]
    #[case(&[("expires", "0")], DEFAULT)]
    #[case(&[("expires", "Tue, 14 Nov 2000 23:13:20 GMT")], 60)]
    #[case(&[("cache-control", "max-age=600"), ("expires", "Tue, 14 Nov 2023 23:13:20 GMT")], 600)]
    fn the_headers_of_an_answer_say_how_long_it_is_fresh(
        #[case] lines: &[(&'static str, &'static str)],
        #[case] expected: u64,
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(fresh_for(&headers, now).as_secs(), expected);
    }
}
