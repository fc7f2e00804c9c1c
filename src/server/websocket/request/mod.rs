//! The head of an upgrade: bytes to a decision, without I/O (RFC 6455 section 4.2.1).
//!
//! It is read more strictly than RFC 9112 asks: what two programs could understand differently is refused.

mod forwarded;

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use self::forwarded::client_behind;
use crate::config::UpgradePolicy;
use crate::limits::UPGRADE_HEADERS;

/// What a server appends to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Length of a decoded key.
const KEY_LEN: usize = 16;

/// The only version of the protocol.
const VERSION: &[u8] = b"13";

/// How a balancer of version 1 begins; version 2 begins with what no head may contain.
const PROXY_HEADER: &[u8] = b"PROXY ";

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// The answer to a client for which there is no room, or no time: whole, and short enough for a fresh socket.
pub(crate) const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The same for a peer that did not come as it must, before its request is looked at.
pub(crate) const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Why there is no upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeRefusal {
    /// No HTTP/1.1 request, or one that may be understood in two ways.
    Malformed(&'static str),
    /// Something else than GET.
    Method,
    /// The page's origin is not allowed.
    Origin,
    /// The client's address is banned.
    Barred,
    /// The path is not served.
    Path,
    /// A request that asks for no upgrade.
    NoUpgrade,
    /// Another version of WebSocket.
    Version,
    /// The head, or its number of headers, is above the bound.
    TooLarge,
    /// The head did not end in time.
    Late,
    /// There is no room, or the gateway is going away.
    Unavailable,
}

impl UpgradeRefusal {
    /// Status line behind the version, headers of its own, and a sentence for a person.
    const fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Malformed(problem) => ("400 Bad Request", "", problem),
            Self::Method => ("405 Method Not Allowed", "Allow: GET\r\n", "only GET can become a WebSocket"),
            Self::Origin => ("403 Forbidden", "", "this gateway does not serve pages of that origin"),
            Self::Barred => ("403 Forbidden", "", "this address is banned"),
            Self::Path => ("404 Not Found", "", "this gateway serves WebSocket on other paths"),
            Self::NoUpgrade => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "this is the WebSocket port of a messaging gateway; connect with a WebSocket client",
            ),
            Self::Version => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "this gateway speaks version 13 of WebSocket only",
            ),
            Self::TooLarge => (
                "431 Request Header Fields Too Large",
                "",
                "the request's head is larger than websocket.max_head, or has too many headers",
            ),
            Self::Late => ("408 Request Timeout", "", "the request's head did not end in time"),
            Self::Unavailable => ("503 Service Unavailable", "", "try another gateway, or later"),
        }
    }

    /// The whole answer.
    pub(crate) fn answer(self) -> String {
        let (status, headers, sentence) = self.parts();
        let connection = if headers.starts_with("Upgrade") { "Upgrade, close" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\n{headers}Connection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{sentence}\n",
            sentence.len() + 1
        )
    }
}

/// Finds the end of a head that arrives in pieces, and what no head may contain.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// Looks at what came since the last call; where the head ends, once it does.
    pub(crate) fn scan(&mut self, head: &[u8]) -> Result<Option<usize>, UpgradeRefusal> {
        if head.starts_with(PROXY_HEADER) {
            return Err(UpgradeRefusal::Malformed(
                "a PROXY header came from a peer that is not expected to send one; see websocket.proxy_protocol",
            ));
        }
        for at in self.scanned..head.len() {
            let before = at.checked_sub(1).map(|before| head[before]);
            match head[at] {
                b'\n' if before != Some(b'\r') => {
                    return Err(UpgradeRefusal::Malformed("a line feed stands alone"));
                }
                byte if byte != b'\n' && before == Some(b'\r') => {
                    return Err(UpgradeRefusal::Malformed("a carriage return stands alone"));
                }
                b'\n' if head[..=at].ends_with(END) => {
                    self.scanned = at + 1;
                    return Ok(Some(at + 1));
                }
                b' ' | b'\t' if before == Some(b'\n') => {
                    return Err(UpgradeRefusal::Malformed("a header is folded"));
                }
                b'\r' | b'\n' | b'\t' => {}
                byte if byte.is_ascii_control() => {
                    return Err(UpgradeRefusal::Malformed(
                        "this port speaks HTTP/1.1, and the request is none",
                    ));
                }
                _ => {}
            }
        }
        self.scanned = head.len();
        Ok(None)
    }
}

/// A request that was judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UpgradeRequest {
    /// Whose it is, also of one that is refused: the peer's, or that of the client whom a trusted peer names.
    pub(crate) client: IpAddr,
    /// What completes the upgrade, or why there is none.
    pub(crate) answer: Result<String, UpgradeRefusal>,
}

/// What a whole head asks for, from this peer.
pub(crate) fn judge(head: &[u8], policy: &UpgradePolicy, peer: IpAddr) -> UpgradeRequest {
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let refusal = match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {
            let headers = Headers(request.headers);
            let client = client_behind(peer, headers.all("x-forwarded-for"), &policy.trusted);
            return UpgradeRequest { client, answer: check(&request, policy) };
        }
        Ok(httparse::Status::Partial) => UpgradeRefusal::Malformed("the request is empty"),
        Err(httparse::Error::TooManyHeaders) => UpgradeRefusal::TooLarge,
        Err(httparse::Error::Version) => UpgradeRefusal::Malformed("this port speaks HTTP/1.1"),
        Err(_) => UpgradeRefusal::Malformed("the request is no HTTP/1.1"),
    };
    UpgradeRequest { client: peer, answer: Err(refusal) }
}

/// The answer that completes the upgrade.
///
/// # Errors
/// [`UpgradeRefusal`].
fn check(request: &httparse::Request<'_, '_>, policy: &UpgradePolicy) -> Result<String, UpgradeRefusal> {
    let headers = Headers(request.headers);
    if request.version != Some(1) {
        return Err(UpgradeRefusal::Malformed("this port speaks HTTP/1.1"));
    }
    if request.method != Some("GET") {
        return Err(UpgradeRefusal::Method);
    }
    headers.check_body()?;
    if headers.one("host")?.is_none_or(<[u8]>::is_empty) {
        return Err(UpgradeRefusal::Malformed("there must be one Host"));
    }
    check_path(request.path.unwrap_or_default(), policy)?;
    let upgrade = headers.one("upgrade")?;
    if !upgrade.is_some_and(|value| has_token(value, b"websocket")) || !headers.connection_upgrades() {
        return Err(UpgradeRefusal::NoUpgrade);
    }
    if headers.one("sec-websocket-version")? != Some(VERSION) {
        return Err(UpgradeRefusal::Version);
    }
    let key = headers.one("sec-websocket-key")?.unwrap_or_default();
    if !BASE64.decode(key).is_ok_and(|decoded| decoded.len() == KEY_LEN) {
        return Err(UpgradeRefusal::Malformed("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    check_origin(headers.one("origin")?, policy)?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    ))
}

fn accept_key(key: &[u8]) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

fn check_path(target: &str, policy: &UpgradePolicy) -> Result<(), UpgradeRefusal> {
    if !target.starts_with('/') {
        return Err(UpgradeRefusal::Malformed("the request must name a path"));
    }
    let path = target.split('?').next().unwrap_or_default();
    let is_served = policy.paths.is_empty() || policy.paths.iter().any(|served| served == path);
    if is_served { Ok(()) } else { Err(UpgradeRefusal::Path) }
}

/// A web page cannot leave its origin out, and whoever else connects can say any.
fn check_origin(origin: Option<&[u8]>, policy: &UpgradePolicy) -> Result<(), UpgradeRefusal> {
    let Some(origin) = origin.filter(|_| !policy.allowed_origins.is_empty()) else { return Ok(()) };
    let is_allowed = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin);
    if policy.allowed_origins.iter().any(is_allowed) { Ok(()) } else { Err(UpgradeRefusal::Origin) }
}

/// Returns `true` if a list of words contains this one.
fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(token))
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of a header that may stand once; none if it is missing.
    fn one(&self, name: &str) -> Result<Option<&'a [u8]>, UpgradeRefusal> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(UpgradeRefusal::Malformed("a header that may stand once stands twice")),
        }
    }

    /// An upgrade has no body: one would be read as frames here and as something else before us.
    fn check_body(&self) -> Result<(), UpgradeRefusal> {
        let has_length = self.one("content-length")?.is_some_and(|length| length != b"0");
        if has_length || self.all("transfer-encoding").next().is_some() {
            return Err(UpgradeRefusal::Malformed("the request has a body"));
        }
        Ok(())
    }

    fn connection_upgrades(&self) -> bool {
        self.all("connection").any(|value| has_token(value, b"upgrade"))
    }
}

#[cfg(test)]
mod tests;
