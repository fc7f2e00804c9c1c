//! WebSocket: the upgrade and what is particular to it. All the rest is the same as everywhere.

use std::sync::Arc;
use std::time::Duration;

use gateway::config::{Config, UpgradePolicy};
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::harness::TestGateway;
use crate::support::identity::{self, ALPN, HTTP_ALPN};
use crate::support::raw::Kind::{self, Ws, Wss};
use crate::support::websocket::{masked_frame, read_head, upgrade_request};
use crate::support::{PATIENCE, soon};

fn with_policy(change: impl FnOnce(&mut UpgradePolicy)) -> impl FnOnce(&mut Config) {
    move |config| {
        let mut policy = UpgradePolicy::default();
        change(&mut policy);
        config.websocket.as_mut().expect("it is on").upgrade = Arc::new(policy);
    }
}

/// What the gateway says to these bytes, until it has ended the connection, however it does.
async fn told(harness: &TestGateway, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(harness.target.ws).await.unwrap();
    // It may have answered and ended before all is written.
    let _or_not = socket.write_all(bytes).await;
    let mut told = Vec::new();
    let _reset_or_not = soon("the end", socket.read_to_end(&mut told)).await;
    String::from_utf8(told).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[rstest]
#[tokio::test]
async fn a_client_signs_in_talks_and_leaves(#[values(Ws, Wss)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let sequence = alice.talk("bob", "hello").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    for frame_ping in [true, false] {
        alice.heartbeat(frame_ping).await;
    }
    alice.bye().await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "bye");
    assert_eq!(alice.farewell().await.code, None, "a goodbye is answered by the bare code 1000");
}

#[tokio::test]
async fn a_browser_that_opens_the_page_is_told_in_a_sentence_what_this_is() {
    let harness = TestGateway::start().await;
    let request = "GET / HTTP/1.1\r\nHost: gateway\r\nUser-Agent: browser\r\nAccept: text/html\r\n\r\n";
    let answer = told(&harness, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(status(head), "426", "{head}");
    assert!(head.contains("\r\nUpgrade: websocket\r\n") && head.contains("\r\nContent-Length: "), "{head}");
    assert!(body.contains("WebSocket port of a messaging gateway") && body.ends_with('\n'), "{body}");
    harness.metric_is("gateway_reject_total", &["upgrade_refused"], 1.0).await;
    harness.metric_is("gateway_connections", &["\"ws\""], 0.0).await;
}

const GET: &str = "GET / HTTP/1.1\r\n";

#[rstest]
#[case::bad_key("400", upgrade_request("/", "").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"))]
#[case::other_version("426", upgrade_request("/", "").replace("Version: 13", "Version: 8"))]
#[case::http_2("400", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned())]
#[case::http_1_0("400", upgrade_request("/", "").replace("HTTP/1.1", "HTTP/1.0"))]
#[case::post("405", upgrade_request("/", "").replace("GET", "POST"))]
#[case::absolute("400", upgrade_request("http://gateway/", ""))]
#[case::length_with_body("400", upgrade_request("/", "Content-Length: 5\r\n") + "hello")]
#[case::chunked_with_body("400", upgrade_request("/", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n")]
#[case::length_and_chunked(
    "400",
    upgrade_request("/", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n")
)]
#[case::a_second_request("400", upgrade_request("/", "") + &upgrade_request("/", ""))]
#[case::two_hosts("400", upgrade_request("/", "Host: other\r\n"))]
#[case::no_host("400", upgrade_request("/", "").replace("Host", "Hots"))]
#[case::two_upgrades("400", upgrade_request("/", "Upgrade: websocket\r\n"))]
#[case::two_keys("400", upgrade_request("/", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))]
#[case::folded("400", upgrade_request("/", "X: a\r\n b\r\n"))]
#[case::bare_line_feed("400", upgrade_request("/", "X: a\nY: b\r\n"))]
#[case::bare_carriage_return("400", upgrade_request("/", "X: a\rY: b\r\n"))]
#[case::nul("400", upgrade_request("/", "X: a\0b\r\n"))]
#[case::space_before_colon("400", upgrade_request("/", "X : a\r\n"))]
#[case::only_line_feeds("400", upgrade_request("/", "").replace("\r\n", "\n"))]
#[case::a_frame_of_tcp("400", "\u{2}\0\0\0\u{5}hello".to_owned())]
#[case::a_head_of_64_kib("431", format!("{GET}X: {}", "x".repeat(64 << 10)))]
#[case::a_path_of_64_kib("431", format!("GET /{}", "x".repeat(64 << 10)))]
#[case::a_thousand_headers("431", upgrade_request("/", &"X: y\r\n".repeat(1000)))]
#[tokio::test]
async fn d13_hostile_upgrades_are_told_so_and_closed(#[case] expected: &str, #[case] request: String) {
    let harness = TestGateway::start().await;
    let answer = told(&harness, request.as_bytes()).await;
    assert_eq!(status(&answer), expected, "{answer}");
    harness.metric_is("gateway_reject_total", &["upgrade_refused"], 1.0).await;
    harness.metric_is("gateway_connections", &["\"ws\""], 0.0).await;
    harness.metric_is("gateway_before_login_bytes", &[], 0.0).await;
    // And a good one beside them is served.
    let _alice = harness.client(Ws, "alice").await;
}

#[rstest]
#[case::nothing("")]
#[case::a_part("GET / HTTP/1.1\r\nHost: g")]
#[tokio::test]
async fn d13_a_head_that_does_not_come_is_ended_at_its_deadline(
    #[case] sent: &str,
    #[values(Ws, Wss)] kind: Kind,
) {
    let head_deadline = Duration::from_millis(300);
    let harness = TestGateway::with(with_policy(|policy| policy.head_deadline = head_deadline)).await;
    let since = Instant::now();
    let mut answer = String::new();
    if kind == Ws {
        answer = told(&harness, sent.as_bytes()).await;
    } else {
        let socket = TcpStream::connect(harness.target.wss).await.unwrap();
        let mut stream = identity::tls_connect(socket, &[HTTP_ALPN]).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        soon("the end", stream.read_to_string(&mut answer)).await.unwrap();
    }
    assert!(since.elapsed() >= head_deadline);
    assert_eq!(status(&answer), "408", "{answer}");
    harness.metric_is("gateway_reject_total", &["handshake_failed"], 1.0).await;
    harness.metric_is("gateway_before_login_bytes", &[], 0.0).await;
}

#[tokio::test]
async fn d13_a_head_that_drips_is_ended_by_the_login_deadline_from_accept() {
    let harness = TestGateway::with(|config| {
        with_policy(|policy| policy.head_deadline = Duration::from_secs(60))(config);
        config.limits.login_deadline = Duration::from_millis(500);
    })
    .await;
    let mut socket = TcpStream::connect(harness.target.ws).await.unwrap();
    let request = upgrade_request("/", "");
    let dripping = async {
        for byte in request.bytes().cycle() {
            // An end that the gateway made.
            if socket.write_all(&[byte]).await.is_err() {
                break;
            }
            // The drip itself: one byte now and then.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("it was ended");
    harness.metric_is("gateway_connections", &["\"ws\""], 0.0).await;
}

#[tokio::test]
async fn d13_d14_other_paths_and_origins_are_refused_before_the_upgrade() {
    let harness = TestGateway::with(with_policy(|policy| {
        policy.paths = vec!["/ws".into()];
        policy.allowed_origins = vec!["https://chat.example".into()];
    }))
    .await;
    for (path, origin, expected) in [
        ("/ws", "", "101"),
        ("/ws?v=1", "Origin: https://chat.example\r\n", "101"),
        ("/ws", "Origin: https://evil.example\r\n", "403"),
        ("/other", "", "404"),
    ] {
        let mut socket = TcpStream::connect(harness.target.ws).await.unwrap();
        socket.write_all(upgrade_request(path, origin).as_bytes()).await.unwrap();
        let head = soon("the answer", read_head(&mut socket)).await;
        assert_eq!(status(&head), expected, "{path} {origin}: {head}");
    }
    harness.metric_is("gateway_reject_total", &["origin_refused"], 1.0).await;
    harness.metric_is("gateway_reject_total", &["upgrade_refused"], 1.0).await;
}

#[tokio::test]
async fn on_wss_the_protocol_is_that_of_http_and_on_tls_it_is_ours_as_before() {
    let harness = TestGateway::start().await;
    for (address, alpn, good) in [
        (harness.target.wss, HTTP_ALPN, true),
        (harness.target.wss, ALPN, false),
        (harness.target.wss, b"h2", false),
        (harness.target.tls, ALPN, true),
        (harness.target.tls, HTTP_ALPN, false),
    ] {
        let socket = TcpStream::connect(address).await.unwrap();
        assert_eq!(identity::tls_connect(socket, &[alpn]).await.is_ok(), good, "{alpn:?} at {address}");
    }
    let socket = TcpStream::connect(harness.target.wss).await.unwrap();
    assert!(identity::tls_connect(socket, &[]).await.is_ok(), "none need be offered");
}

#[rstest]
#[tokio::test]
async fn who_finds_no_room_is_told_before_any_upgrade(#[values(true, false)] is_full: bool) {
    let harness = TestGateway::with_limits(|limits| {
        if is_full {
            limits.max_connections = 1;
        } else {
            limits.max_handshakes = 1;
        }
    })
    .await;
    let _first = TcpStream::connect(harness.target.ws).await.unwrap();
    harness.metric_is("gateway_connections", &["\"ws\""], 1.0).await;
    assert_eq!(status(&told(&harness, b"").await), "503");
}

#[rstest]
#[tokio::test]
async fn a19_pings_between_fragments_do_not_move_the_deadline_of_the_message(#[values(Ws, Wss)] kind: Kind) {
    let deadline = Duration::from_millis(400);
    let harness = TestGateway::with_limits(|limits| limits.frame_deadline = deadline).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    alice.write_as_is(0, &masked_frame(0x02, b"the beginning")).await;
    let since = Instant::now();
    while since.elapsed() < deadline * 3 {
        alice.write_as_is(0, &masked_frame(0x89, b"")).await;
        // The drip itself.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let signouts = harness.login.packets("login.signout");
    assert_eq!(signouts.len(), 1, "while the pings went on");
    assert_eq!((&signouts[0].header.channel_id, signouts[0].meta("reason")), (&channel, "read_timeout"));
}
