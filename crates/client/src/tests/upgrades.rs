//! How upgrades to WebSocket succeed and fail.

use super::*;
use rstest::rstest;

/// What becomes of a connection whose upgrade is answered like this.
async fn answered(answer: impl AsRef<[u8]>, change: impl FnOnce(&mut ConnectOptions)) -> ConnectError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
    change(&mut options);
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        web::request(&mut socket).await;
        socket.write_all(answer.as_ref()).await.unwrap();
    };
    let (connected, ()) = soon(async { tokio::join!(Client::connect(options), server) }).await;
    connected.expect_err("there is no gateway")
}

#[tokio::test]
async fn the_request_has_path_and_origin_and_a_key_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let mut keys = Vec::new();
    for (path, origin) in [("/", None), ("/im/v1?a=b", Some("https://chat.example.org"))] {
        let mut options = ConnectOptions::ws(server.clone());
        options.path = path.to_owned();
        options.origin = origin.map(str::to_owned);
        let accepted = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let request = web::request(&mut socket).await;
            socket.write_all(web::switching(&request).as_bytes()).await.unwrap();
            request
        };
        let (connected, request) = soon(async { tokio::join!(Client::connect(options), accepted) }).await;
        assert_eq!(connected.unwrap().0.transport(), Transport::Ws);
        assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{request}");
        assert_eq!(web::header(&request, "Host"), Some(server.as_str()));
        assert_eq!(web::header(&request, "Origin"), origin);
        assert_eq!(web::header(&request, "Sec-WebSocket-Version"), Some("13"));
        assert_eq!(web::header(&request, "Sec-WebSocket-Extensions"), None, "nothing is compressed");
        keys.push(web::header(&request, "Sec-WebSocket-Key").unwrap().to_owned());
    }
    assert!(keys[0] != keys[1] && keys[0].len() == 24, "{keys:?}");
}

/// What stands behind the answer in the same packet belongs to the connection.
#[tokio::test]
async fn a_close_right_behind_the_answer_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let request = web::request(&mut socket).await;
        let close = [&[0x88, 2][..], &3000u16.to_be_bytes()].concat();
        socket.write_all(&[web::switching(&request).as_bytes(), &close].concat()).await.unwrap();
        let mut answer = [0; 14];
        soon(socket.read_exact(&mut answer)).await.unwrap();
        answer
    };
    let (connected, answer) = soon(async { tokio::join!(Client::connect(options), server) }).await;
    assert_eq!(soon(connected.unwrap().0.closed()).await, CloseReason::Draining);
    // Masked, with the code and the token: the answer RFC 6455 section 5.5.1 asks for.
    let (head, mask, text) = (&answer[..2], &answer[2..6], &answer[6..]);
    let code: Vec<u8> = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    assert_eq!((head, &code[..2]), (&[0x88, 0x80 | 10][..], &3000u16.to_be_bytes()[..]));
}

#[rstest]
#[case::upgrade_removed(426, "let it pass the headers Upgrade")]
#[case::origin(403, "websocket.allowed_origins (--origin)")]
#[case::path(404, "websocket.paths (--path)")]
#[case::tls_port(400, "--transport wss")]
#[case::web_server(200, "a web server is there")]
#[case::elsewhere(301, "a web server is there")]
#[case::proxy(407, "a proxy on the way")]
#[case::no_backend(502, "reaches no gateway")]
#[tokio::test]
async fn a_refused_upgrade_says_what_to_do(#[case] status: u16, #[case] advice: &str) {
    let body = "use WebSocket here\nand not that";
    let head = format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let error = answered(head, |_| {}).await;
    assert!(
        matches!(&error, ConnectError::UpgradeRefused { status: found, .. } if *found == status),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(text.contains(advice) && text.contains("(\"use WebSocket here\")"), "{text}");
}

#[tokio::test]
async fn a_full_gateway_refuses_and_may_be_asked_again() {
    let error = answered("HTTP/1.1 503 Service Unavailable\r\n\r\n", |_| {}).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
}

/// What is said is passed on only if a terminal can show it.
#[tokio::test]
async fn a_page_or_a_strange_sentence_is_not_passed_on() {
    for body in ["<html>", "\u{1b}[31m", "", &"x".repeat(4000)] {
        let error = answered(format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}"), |_| {}).await;
        assert!(matches!(error, ConnectError::UpgradeRefused { said: None, .. }), "{error:?}");
    }
}

#[rstest]
#[case::frames(&frame::encode(Opcode::Close, &CloseReason::ProtocolError.payload()))]
#[case::tls_alert(&[0x15, 3, 3, 0, 2, 2, 10])]
#[case::nothing(b"")]
#[case::endless_head(&[b"HTTP/1.1 101 Switching\r\nA: ".as_slice(), &[b'x'; 20_000]].concat())]
#[case::many_headers(&[b"HTTP/1.1 101 Switching\r\n".as_slice(), &b"A: b\r\n".repeat(100)].concat())]
#[case::half_a_head(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs")]
#[tokio::test]
async fn what_is_no_http_is_named(#[case] answer: &[u8]) {
    let error = answered(answer, |_| {}).await;
    assert!(matches!(error, ConnectError::NotHttp { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("websocket.listen") && text.contains("--transport wss"), "{text}");
}

#[rstest]
#[case::no_upgrade("Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n", "does not upgrade to")]
#[case::other("Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n", "does not upgrade to")]
#[case::kept("Upgrade: websocket\r\nConnection: keep-alive\r\n", "does not upgrade the")]
#[case::no_accept("Upgrade: websocket\r\nConnection: Upgrade\r\n", "another request")]
#[case::long_accept(
    "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\nSec-WebSocket-Accept: \
     AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    "another request"
)]
#[tokio::test]
async fn an_upgrade_to_something_else_is_named(#[case] headers: &str, #[case] reason: &str) {
    let error = answered(format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n"), |_| {}).await;
    assert!(matches!(error, ConnectError::NotWebSocket { .. }), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
}

#[tokio::test]
async fn an_extension_or_a_protocol_nobody_asked_for_is_refused() {
    for header in ["Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: im"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let answer = web::switching(&web::request(&mut socket).await);
            socket.write_all(answer.replace("Upgrade: ", &format!("{header}\r\nUpgrade: ")).as_bytes()).await
        };
        let (connected, written) = soon(async { tokio::join!(Client::connect(options), server) }).await;
        written.unwrap();
        assert!(matches!(connected, Err(ConnectError::NotWebSocket { .. })), "{connected:?}");
    }
}

#[rstest]
#[case::no_path("im", None)]
#[case::two_lines("/ HTTP/1.1\r\nHost: other\r\n\r\n", None)]
#[case::origin("/", Some("a\r\nCookie: b"))]
#[tokio::test]
async fn what_would_be_another_request_is_not_sent(#[case] path: &str, #[case] origin: Option<&str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
    (options.path, options.origin) = (path.to_owned(), origin.map(str::to_owned));
    let error = Client::connect(options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Local(_)), "{error:?}");
    let (mut socket, _) = listener.accept().await.unwrap();
    assert_eq!(soon(socket.read(&mut [0; 1])).await.unwrap(), 0, "nothing was written");
}

/// TLS where there is none, and the gateway's other port for TLS.
#[tokio::test]
async fn what_keeps_wss_from_coming_about_is_named() {
    let gate = TlsGate::new(b"x-im/1").await;
    let wss = |options| ConnectOptions { transport: Transport::Wss, ..options };
    let (error, _) = soon(async { tokio::join!(Client::connect(wss(gate.options())), gate.accept()) }).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::NotAGateway { .. }), "{error:?}");
    assert!(error.to_string().contains("websocket.tls_listen"), "{error}");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions { server: plain.local_addr().unwrap().to_string(), ..gate.options() };
    let (error, ()) = soon(async {
        tokio::join!(Client::connect(wss(options)), async {
            let (mut socket, _) = plain.accept().await.unwrap();
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        })
    })
    .await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("--transport ws"), "{error}");
}

#[tokio::test]
async fn text_is_not_this_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let answer = web::switching(&web::request(&mut socket).await);
        socket.write_all(&[answer.as_bytes(), &[0x81, 2, b'h', b'i']].concat()).await.unwrap();
        socket
    };
    let (connected, _socket) = soon(async { tokio::join!(Client::connect(options), server) }).await;
    assert_eq!(soon(connected.unwrap().0.closed()).await, CloseReason::ProtocolError);
}
