//! The page that shows a gateway to an operator: three files that are part of the program, and the headers that let a browser
//! load nothing else with them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};

const PAGE: &str = include_str!("index.html");
const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");

/// Scripts, styles and data of the listener itself, nothing within the page, nothing from elsewhere, and no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What may be seen and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsoleMode {
    /// The API of the administrator is behind it, for whoever has the token.
    Admin,
    /// Numbers, to everybody.
    Monitor,
}

/// The file at this path, if it is one of the console's. None of them says anything about a gateway.
pub(crate) fn file(path: &str, mode: ConsoleMode) -> Option<Response<Full<Bytes>>> {
    let (kind, body) = match path {
        "/" if mode == ConsoleMode::Admin => {
            ("text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes()))
        }
        "/" => {
            let page = PAGE.replacen("data-mode=\"admin\"", "data-mode=\"monitor\"", 1);
            ("text/html; charset=utf-8", Bytes::from(page))
        }
        "/console.css" => ("text/css; charset=utf-8", Bytes::from_static(STYLE.as_bytes())),
        "/console.js" => ("text/javascript; charset=utf-8", Bytes::from_static(SCRIPT.as_bytes())),
        _ => return None,
    };
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE, HeaderValue::from_static("same-origin"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_has_nothing_within_it_that_its_policy_forbids_and_says_who_serves_it() {
        assert!(PAGE.len() + STYLE.len() + SCRIPT.len() < 60_000);
        assert_eq!(PAGE.matches("data-mode=\"admin\"").count(), 1);
        for forbidden in ["style=", "<style", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        for forbidden in ["innerHTML", "eval(", "document.write", "localStorage", "https://"] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn there_are_three_files_and_the_policy_allows_nothing_from_elsewhere() {
        for path in ["/", "/console.css", "/console.js"] {
            for mode in [ConsoleMode::Admin, ConsoleMode::Monitor] {
                let response = file(path, mode).unwrap();
                let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
                assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            }
        }
        assert!(
            file("/index.html", ConsoleMode::Admin).is_none()
                && file("/../x", ConsoleMode::Monitor).is_none()
        );
    }
}
