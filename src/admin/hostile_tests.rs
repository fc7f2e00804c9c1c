//! The door over TCP, and two hundred who should not come in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::guard::DoorGuard;
use super::*;
use crate::limits::{ADMIN_BODY, ADMIN_FAILURES};

const TOKEN: &str = "a token of the tests, 32 bytes !";

/// What no answer to a stranger may hold.
const SECRETS: &[&str] = &["worker", "channel", "reached", "connections", "version", TOKEN];

/// Who answers whatever he is asked, and says so.
fn door() -> (AdminServer, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let network = Some(NetworkDoor { listener, guard: DoorGuard::new(TOKEN.as_bytes()), tls: None });
    let answer: Answerer = Arc::new(|request: AdminRequest| {
        let known = request.path == "/api/v1/status";
        let status = if known { hyper::StatusCode::OK } else { hyper::StatusCode::NOT_FOUND };
        let body = serde_json::json!({ "reached": request.path, "who": &*request.who });
        AdminAnswer { status, body, lines: None }
    });
    (AdminServer::start(Doors { socket: None, network }, answer).unwrap(), address)
}

fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Whoever is refused may be hung up on while it still writes.
    let _refused = stream.write_all(request);
    let _refused = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn bearer() -> String {
    format!("authorization: Bearer {TOKEN}\r\n")
}

const CLOSE: &str = "host: g\r\nconnection: close\r\n";

/// Requests that must not be carried out.
fn hostile() -> Vec<String> {
    [without_token(), with_wrong_token(), tricks_with_paths(), of_other_pages(), malformed()].concat()
}

fn without_token() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for path in [
        "status",
        "connections",
        "connection?id=x",
        "links",
        "kick",
        "ban",
        "bans",
        "reload",
        "openapi.json",
        "",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            all.push(format!("{method} /api/v1/{path} HTTP/1.1\r\n{CLOSE}\r\n"));
        }
    }
    // Headers that mean something to others.
    for header in [
        "x-forwarded-for: 127.0.0.1",
        "x-original-url: /api/v1/kick",
        "x-http-method-override: POST",
        "proxy-authorization: Bearer x",
        "upgrade: websocket\r\nconnection: upgrade",
        "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        "expect: 100-continue",
        "te: trailers",
        "accept: text/event-stream",
    ] {
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}{header}\r\n\r\n"));
    }
    all
}

fn with_wrong_token() -> Vec<String> {
    let mut all = Vec::new();
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "bearer",
        "Basic YTpi",
        "Digest x",
        TOKEN,
        "Token x",
        "Bearer null",
        "Bearer undefined",
    ] {
        for path in ["status", "kick", "bans"] {
            all.push(format!("GET /api/v1/{path} HTTP/1.1\r\n{CLOSE}authorization: {wrong}\r\n\r\n"));
        }
    }
    for wrong in [
        &TOKEN[1..],
        &TOKEN[..TOKEN.len() - 1],
        &TOKEN.to_uppercase(),
        &format!("{TOKEN}{TOKEN}"),
        &format!("{TOKEN},{TOKEN}"),
    ] {
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}authorization: Bearer {wrong}\r\n\r\n"));
        all.push(format!("GET /api/v1/status?token={wrong} HTTP/1.1\r\n{CLOSE}\r\n"));
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}cookie: token={wrong}\r\n\r\n"));
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}x-authorization: Bearer {TOKEN}\r\n\r\n"));
    }
    let good = bearer();
    all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}{good}{good}\r\n"));
    all
}

/// By somebody who even has the token.
fn tricks_with_paths() -> Vec<String> {
    let (good, mut all) = (bearer(), Vec::new());
    for path in [
        "/api/v1/../v1/status",
        "//api/v1/status",
        "/api//v1/status",
        "/api/v1/status/",
        "/api/v1/status%00",
        "/api/v1/%73tatus",
        "/API/V1/STATUS",
        "/api/v1/./status",
        "/api/v1/status;x",
        "/%2e%2e/etc/passwd",
        "/../../etc/passwd",
        "/api/v2/status",
        "/metrics",
        "/health",
        "/.git/config",
        "/api/v1/status%2f",
        "*",
    ] {
        all.push(format!("GET {path} HTTP/1.1\r\n{CLOSE}{good}\r\n"));
        all.push(format!("POST {path} HTTP/1.1\r\n{CLOSE}{good}content-length: 2\r\n\r\n{{}}"));
    }
    all
}

/// In the browser of somebody who has the token.
fn of_other_pages() -> Vec<String> {
    let (good, mut all) = (bearer(), Vec::new());
    for origin in ["https://evil.example", "null", "http://g.evil", "https://g:1", "http://G", "file://", "g"]
    {
        for method in ["GET", "POST"] {
            all.push(format!("{method} /api/v1/status HTTP/1.1\r\n{CLOSE}{good}origin: {origin}\r\n\r\n"));
        }
    }
    for site in ["cross-site", "same-site", "none, cross-site"] {
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}{good}sec-fetch-site: {site}\r\n\r\n"));
    }
    all
}

fn malformed() -> Vec<String> {
    let (good, mut all) = (bearer(), Vec::new());
    // What is too large, or none at all.
    let large = "x".repeat(ADMIN_BODY + 1);
    all.push(format!(
        "POST /api/v1/status HTTP/1.1\r\n{CLOSE}{good}content-length: {}\r\n\r\n{large}",
        large.len()
    ));
    all.push(format!("POST /api/v1/status HTTP/1.1\r\n{CLOSE}{good}transfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len()));
    all.push(format!("POST /api/v1/status HTTP/1.1\r\n{CLOSE}{good}content-length: 99999999999\r\n\r\n"));
    all.push(format!(
        "POST /api/v1/status HTTP/1.1\r\n{CLOSE}{good}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"
    ));
    all.push(format!("POST /api/v1/status HTTP/1.1\r\n{CLOSE}{good}content-length: 3\r\n\r\nabc"));
    all.push(format!("GET /{large} HTTP/1.1\r\n{CLOSE}{good}\r\n"));
    all.push(format!("GET /api/v1/status HTTP/1.1\r\n{CLOSE}{good}x: {large}\r\n\r\n"));
    all.push(format!("GET /api/v1/status HTTP/9.9\r\n{CLOSE}{good}\r\n"));
    all.push(format!("GET http://evil/api/v1/kick HTTP/1.1\r\n{CLOSE}\r\n"));
    all.push(format!("CONNECT g:443 HTTP/1.1\r\n{CLOSE}\r\n"));
    all.push("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned());
    all.push("\x16\x03\x01\x02\x00\x01\x00".to_owned());
    // Heads that break off.
    for n in 0..20 {
        all.push(format!("GET /api/v1/status HTTP/1.1\r\n{}", "a".repeat(n)));
    }
    all
}

#[test]
fn f18_two_hundred_hostile_requests_and_none_is_accepted() {
    let (_server, good) = door();
    let answer = ask(
        good,
        format!("GET /api/v1/status HTTP/1.1\r\nhost: g\r\nconnection: close\r\n{}\r\n", bearer()).as_bytes(),
    );
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("token, 127.0.0.1"), "{answer}");
    let hostile = hostile();
    assert!(hostile.len() >= 200, "{}", hostile.len());
    // All come from one address, which would soon get 429 for whatever has no token: another door for every few.
    for few in hostile.chunks(ADMIN_FAILURES as usize / 2) {
        let (_server, address) = door();
        for request in few {
            let answer = ask(address, request.as_bytes());
            let shown: String = request.chars().take(200).collect();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
            let has_token = shown.contains(&bearer());
            for secret in SECRETS.iter().filter(|_| !has_token) {
                assert!(!answer.contains(secret), "{shown}: {answer}");
            }
        }
    }
}

#[test]
fn f18_a_stranger_is_told_the_same_whatever_there_is() {
    let (_server, address) = door();
    let mut answers = std::collections::BTreeSet::new();
    for path in ["/api/v1/status", "/api/v1/kick", "/api/v1/absent", "/api/v2/status", "/x?y=z", "/api/v1/"] {
        for method in ["GET", "POST", "DELETE"] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: g\r\n\r\n");
            let answer = ask(address, request.as_bytes());
            answers.insert(answer.lines().filter(|line| !line.starts_with("date:")).collect::<String>());
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// The page is for anybody, so it must not keep a place.
#[test]
fn whoever_loads_the_console_is_hung_up_on() {
    let (_server, address) = door();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: g\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the end, before the time for another head is over");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn f18_slow_heads_end_and_keep_nobody_out() {
    let (_server, address) = door();
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost").unwrap();
            stream
        })
        .collect();
    let since = Instant::now();
    let request = format!("GET /api/v1/status HTTP/1.1\r\nhost: g\r\nconnection: close\r\n{}\r\n", bearer());
    assert!(ask(address, request.as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
    }
}
