//! What a request over TCP must show before anything of it is looked at: the token, and that it does not come from a page of
//! somebody else. Addresses that often come without the token are told less.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use hyper::{HeaderMap, StatusCode};
use tracing::warn;

use crate::limits::{ADMIN_FAILURES, ADMIN_FAILURES_KEPT, ADMIN_FAILURES_WITHIN};

/// Where browsers say who asks.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is said to whoever is refused: nothing that helps him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unwelcome {
    pub(super) status: StatusCode,
    pub(super) text: &'static str,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DoorGuard {
    /// Of the token: two digests are of one length, so a comparison says nothing of it.
    digest: Vec<u8>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Instant,
    count: u32,
}

impl DoorGuard {
    pub(crate) fn new(token: &[u8]) -> Self {
        Self { digest: digest(&SHA256, token).as_ref().to_vec(), failures: Mutex::default() }
    }

    /// Judges the head of a request.
    pub(super) fn judge(&self, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<(), Unwelcome> {
        if !is_of_this_site(headers) {
            // Not a failure of the address: a page could shut out the administrator in whose browser it is.
            return Err(Unwelcome { status: StatusCode::FORBIDDEN, text: "not from another site" });
        }
        // Before the limit: whoever shares the administrator's address, behind a proxy or NAT, does not lock him out.
        if self.has_token(headers) {
            return Ok(());
        }
        if self.has_failed_too_often(peer, now) {
            let text = "too many attempts from this address; try again later";
            return Err(Unwelcome { status: StatusCode::TOO_MANY_REQUESTS, text });
        }
        self.note_failure(peer, now);
        let text = "the header Authorization must be Bearer with the token of admin.token_file";
        Err(Unwelcome { status: StatusCode::UNAUTHORIZED, text })
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let token = value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        verify_slices_are_equal(digest(&SHA256, token).as_ref(), &self.digest).is_ok()
    }

    fn has_failed_too_often(&self, peer: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&payer(peer))
            .is_some_and(|failures| failures.count >= ADMIN_FAILURES && is_recent(failures, now))
    }

    /// One line of the log for each address and while.
    fn note_failure(&self, peer: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADMIN_FAILURES_KEPT {
            failures.retain(|_, failures| is_recent(failures, now));
        }
        if failures.len() >= ADMIN_FAILURES_KEPT {
            // So many fail at once that none can be told from the others. Their guesses are hopeless all the same.
            failures.clear();
        }
        let entry = failures.entry(payer(peer)).or_insert(Failures { since: now, count: 0 });
        if !is_recent(entry, now) {
            *entry = Failures { since: now, count: 0 };
        }
        entry.count += 1;
        if entry.count == ADMIN_FAILURES {
            let address = peer.to_canonical();
            warn!(event = "admin", %address, "too many attempts without the token of admin.token_file");
        }
    }
}

fn is_recent(failures: &Failures, now: Instant) -> bool {
    now.saturating_duration_since(failures.since) < ADMIN_FAILURES_WITHIN
}

/// An address of IPv4, or a /64: whoever has one address of that has all.
pub(super) fn payer(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes()),
        address => address,
    }
}

/// Browsers name the page a request comes from; programs name none. (RFC 6454)
fn is_of_this_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_of_host = |origin: &str| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        host.is_some() && host == text(HOST)
    };
    text(ORIGIN).is_none_or(is_of_host)
        && text(SEC_FETCH_SITE).is_none_or(|site| matches!(site, "same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const TOKEN: &str = "a token of the tests, 32 bytes !";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn verdict(pairs: &[(&str, &str)]) -> Option<u16> {
        let guard = DoorGuard::new(TOKEN.as_bytes());
        let peer = IpAddr::from([192, 0, 2, 1]);
        guard.judge(&headers(pairs), peer, Instant::now()).err().map(|unwelcome| unwelcome.status.as_u16())
    }

    #[test]
    fn f18_only_the_token_itself_opens_and_only_to_this_site() {
        let bearer = format!("Bearer {TOKEN}");
        let with = |more: &[(&str, &str)]| {
            verdict(&[&[("authorization", &*bearer), ("host", "g:1")], more].concat())
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("origin", "https://g:1"), ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(with(&[("authorization", &bearer)]), Some(401), "twice");
        for origin in ["https://evil", "null", "https://g:1.evil", "g:1", "https://g:2", "file://g:1"] {
            assert_eq!(with(&[("origin", origin)]), Some(403), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "SAME-ORIGIN"] {
            assert_eq!(with(&[("sec-fetch-site", site)]), Some(403), "{site}");
        }
        assert_eq!(verdict(&[]), Some(401));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "bearer x",
            "Basic YTpi",
            TOKEN,
            &bearer[..bearer.len() - 1],
            &format!("{bearer}x"),
            &format!("Bearer  {TOKEN}"),
            &format!("bearer {TOKEN}"),
            &format!("Bearer {}", TOKEN.to_uppercase()),
        ] {
            assert_eq!(verdict(&[("authorization", wrong)]), Some(401), "{wrong}");
        }
    }

    #[test]
    fn f18_an_address_that_guesses_is_limited_for_a_while_and_the_token_opens_all_the_same() {
        let (guard, now) = (DoorGuard::new(TOKEN.as_bytes()), Instant::now());
        let good = headers(&[("authorization", &format!("Bearer {TOKEN}"))]);
        let none = HeaderMap::new();
        let status = |headers, peer, now| guard.judge(headers, peer, now).unwrap_err().status.as_u16();
        let foreign = headers(&[("origin", "https://evil")]);
        let (guesser, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..ADMIN_FAILURES {
            assert_eq!(status(&foreign, guesser, now), 403);
        }
        // A page of somebody else shuts out nobody.
        for _ in 0..ADMIN_FAILURES {
            assert_eq!(status(&none, guesser, now), 401);
        }
        assert_eq!(status(&none, guesser, now), 429);
        assert!(guard.judge(&good, guesser, now).is_ok(), "he shares the address");
        assert_eq!(status(&none, other, now), 401);
        assert_eq!(status(&none, guesser, now + ADMIN_FAILURES_WITHIN), 401);
        let same_network = "2001:db8::1".parse().unwrap();
        for n in 0..u64::from(ADMIN_FAILURES) {
            let address = IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes());
            assert_eq!(status(&none, address, now), 401);
        }
        assert_eq!(status(&none, same_network, now), 429);
    }
}
