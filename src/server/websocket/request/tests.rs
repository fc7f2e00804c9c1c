use std::time::Duration;

use super::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The example of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn policy() -> UpgradePolicy {
    UpgradePolicy { max_head: 8192, head_deadline: Duration::from_secs(5), ..UpgradePolicy::default() }
}

fn request(line: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("{line}\r\n{headers}\r\n")
}

const GOOD: [&str; 5] = [
    "Host: gateway",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

fn judged(line: &str, headers: &[&str]) -> Result<String, UpgradeRefusal> {
    let head = request(line, headers);
    HeadScanner::default().scan(head.as_bytes())?;
    judge(head.as_bytes(), &policy(), PEER).answer
}

/// A good request in which the header of this position is another.
fn instead(position: usize, header: &str) -> Result<String, UpgradeRefusal> {
    let mut headers = GOOD;
    headers[position] = header;
    judged("GET / HTTP/1.1", &headers)
}

fn beside(header: &str) -> Result<String, UpgradeRefusal> {
    judged("GET / HTTP/1.1", &[&GOOD[..], &[header]].concat())
}

#[test]
fn the_example_of_the_rfc_is_accepted_whatever_the_path_and_case() {
    assert_eq!(accept_key(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for line in ["GET / HTTP/1.1", "GET /chat?token=x HTTP/1.1", "GET /any/path HTTP/1.1"] {
        let answer = judged(line, &GOOD).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(!answer.contains("Extensions") && !answer.contains("Protocol:"), "nothing is offered");
    }
    assert!(instead(2, "upgrade: WebSocket").is_ok());
    assert!(instead(1, "connection:upgrade").is_ok());
    assert!(beside("Content-Length: 0").is_ok());
    assert!(beside("Sec-WebSocket-Extensions: permessage-deflate").is_ok());
}

#[test]
fn what_asks_for_no_upgrade_is_told_to() {
    let plain = judged("GET / HTTP/1.1", &["Host: gateway"]);
    assert_eq!(plain, Err(UpgradeRefusal::NoUpgrade));
    assert_eq!(instead(1, "Connection: keep-alive"), Err(UpgradeRefusal::NoUpgrade));
    assert_eq!(instead(2, "Upgrade: h2c"), Err(UpgradeRefusal::NoUpgrade));
    for version in ["12", "0", "13, 14", "", "013"] {
        assert_eq!(instead(3, &format!("Sec-WebSocket-Version: {version}")), Err(UpgradeRefusal::Version));
    }
    assert_eq!(instead(3, "X: 1"), Err(UpgradeRefusal::Version));
    for refusal in [UpgradeRefusal::NoUpgrade, UpgradeRefusal::Version] {
        let answer = refusal.answer();
        assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }
}

#[test]
fn keys_are_sixteen_bytes_in_base64() {
    for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZXM=", "!!!!IHNhbXBsZSBub25jZQ=="] {
        let refused = instead(4, &format!("Sec-WebSocket-Key: {key}"));
        assert!(matches!(refused, Err(UpgradeRefusal::Malformed(_))), "{key:?}: {refused:?}");
    }
}

#[test]
fn what_could_be_understood_in_two_ways_is_refused() {
    for header in [
        "Host: other",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Content-Length: 5",
        "Content-Length: 0\r\nContent-Length: 0",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        " folded: yes",
        "\tfolded: yes",
        "Name : space",
        "Na\x00me: x",
        "X: a\x00b",
        "X: a\rb",
        "X: a\nHost: b",
        "NoColon",
        ": no name",
    ] {
        let refused = beside(header);
        assert!(matches!(refused, Err(UpgradeRefusal::Malformed(_))), "{header:?}: {refused:?}");
    }
    for host in ["Host:", "X: 1"] {
        assert!(matches!(instead(0, host), Err(UpgradeRefusal::Malformed(_))));
    }
    for line in [
        "GET http://gateway/ HTTP/1.1",
        "GET * HTTP/1.1",
        "GET / HTTP/1.0",
        "GET / HTTP/2.0",
        "GET /",
        "GET  / HTTP/1.1",
        "PRI * HTTP/2.0",
        "",
    ] {
        let refused = judged(line, &GOOD);
        assert!(matches!(refused, Err(UpgradeRefusal::Malformed(_))), "{line:?}: {refused:?}");
    }
    assert_eq!(judged("POST / HTTP/1.1", &GOOD), Err(UpgradeRefusal::Method));
    let many: Vec<String> = (0..1000).map(|number| format!("x-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(judged("GET / HTTP/1.1", &[&GOOD[..], &many].concat()), Err(UpgradeRefusal::TooLarge));
}

#[test]
fn a_list_of_paths_or_origins_shuts_out_the_others() {
    let policy = UpgradePolicy {
        paths: vec!["/ws".into()],
        allowed_origins: vec!["https://chat.example".into()],
        ..policy()
    };
    let with = |path: &str, origin: &[&str]| {
        let head = request(&format!("GET {path} HTTP/1.1"), &[&GOOD[..], origin].concat());
        judge(head.as_bytes(), &policy, PEER).answer.map(|_| ())
    };
    assert_eq!(with("/ws?x=1", &["Origin: https://CHAT.example"]), Ok(()));
    assert_eq!(with("/ws", &[]), Ok(()), "no web page leaves it out");
    for path in ["/", "/ws/", "/WS", "/other"] {
        assert_eq!(with(path, &[]), Err(UpgradeRefusal::Path));
    }
    for origin in ["https://evil.example", "https://chat.example:444", "http://chat.example", "null", ""] {
        assert_eq!(with("/ws", &[&format!("Origin: {origin}")]), Err(UpgradeRefusal::Origin), "{origin:?}");
    }
    let twice = with("/ws", &["Origin: https://chat.example", "Origin: https://evil.example"]);
    assert!(matches!(twice, Err(UpgradeRefusal::Malformed(_))));
}

#[test]
fn the_end_is_found_wherever_the_pieces_part() {
    let head = request("GET / HTTP/1.1", &GOOD);
    for first in 0..head.len() {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(&head.as_bytes()[..first]), Ok(None));
        assert_eq!(scanner.scan(head.as_bytes()), Ok(Some(head.len())));
    }
    let behind = format!("{head}more");
    assert_eq!(HeadScanner::default().scan(behind.as_bytes()), Ok(Some(head.len())));
}

#[test]
fn other_protocols_are_refused_at_their_first_bytes() {
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let frame = [2, 0, 0, 0, 5];
    for bytes in [&hello[..], &frame, b"\n", b"GET / HTTP/1.1\n"] {
        let scanned = HeadScanner::default().scan(bytes);
        assert!(matches!(scanned, Err(UpgradeRefusal::Malformed(_))), "{bytes:?}: {scanned:?}");
    }
}
