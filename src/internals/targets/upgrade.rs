//! The request that becomes a WebSocket: its head ends at the same byte however it arrives, and whatever it says there is one
//! answer, whole and of our own words.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{TrustedPeers, UpgradePolicy};
use crate::server::websocket::{HeadScanner, UpgradeRefusal, UpgradeRequest, judge};

/// Who sent it.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The first bytes of a connection.
pub fn target(data: &[u8]) {
    let found = HeadScanner::default().scan(data);
    assert_eq!(found, in_pieces(data), "byte by byte");
    match found {
        Ok(None) => {}
        Ok(Some(end)) => check(&data[..end]),
        Err(refusal) => check_refusal(refusal),
    }
}

/// The same as the bytes come one by one; what is behind a head or a refusal is not looked at.
fn in_pieces(data: &[u8]) -> Result<Option<usize>, UpgradeRefusal> {
    let mut scanner = HeadScanner::default();
    for end in 1..=data.len() {
        let found = scanner.scan(&data[..end]);
        if found != Ok(None) {
            return found;
        }
    }
    Ok(None)
}

fn check(head: &[u8]) {
    let UpgradeRequest { client, answer: open } = judge(head, &UpgradePolicy::default(), PEER);
    assert_eq!(client, PEER, "nobody is trusted");
    let narrow = UpgradePolicy {
        paths: vec!["/ws".to_owned()],
        allowed_origins: vec!["https://chat.example".to_owned()],
        trusted: TrustedPeers::parse(["127.0.0.1"]).expect("an address"),
        ..UpgradePolicy::default()
    };
    match (&open, judge(head, &narrow, PEER).answer) {
        (open, Ok(answer)) => assert_eq!(open.as_ref(), Ok(&answer), "who may less may no more"),
        (Ok(_), Err(UpgradeRefusal::Path | UpgradeRefusal::Origin)) => {}
        (Ok(_), Err(refusal)) => panic!("{refusal:?} is no matter of paths and origins"),
        (Err(_), Err(refusal)) => check_refusal(refusal),
    }
    match open {
        Ok(answer) => check_upgrade(head, &answer),
        Err(refusal) => check_refusal(refusal),
    }
}

/// Nothing of the request is in it but what its key became.
fn check_upgrade(head: &[u8], answer: &str) {
    let start = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    let key = answer.strip_prefix(start).and_then(|rest| rest.strip_suffix("\r\n\r\n"));
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    assert!(key.is_some_and(|key| key.len() == 28 && key.bytes().all(is_base64)), "{answer}");
    assert!(head.starts_with(b"GET /") && head.ends_with(b"\r\n\r\n"));
    assert!(!head.contains(&0));
}

fn check_refusal(refusal: UpgradeRefusal) {
    let answer = refusal.answer();
    let (head, sentence) = answer.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", sentence.len())), "{answer}");
}
