//! The administrator's API over TCP: who has the token, and who has not.

use std::net::TcpStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::restart::{Serve, home};
use super::*;
use crate::support::{identity, soon};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The address that its log tells of.
pub(super) async fn admin_address(serve: &mut Serve) -> SocketAddr {
    let early = serve.early.lines().find(|line| line.contains("what=\"admin\""));
    let line = match early {
        Some(line) => line.to_owned(),
        None => serve.line("what=\"admin\"").await,
    };
    line.trim_end().rsplit("address=").next().unwrap().parse().unwrap()
}

fn request(head: &str, bearer: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{head} HTTP/1.1\r\n{bearer}host: g\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_over_tcp_the_token_opens_and_the_log_says_who_came() {
    let (place, _login, _chat, config) = home();
    fs::write(place.0.join("admin.token"), TOKEN).unwrap();
    let overrides =
        [("GATEWAY__ADMIN__LISTEN", "127.0.0.1:0"), ("GATEWAY__ADMIN__TOKEN_FILE", "admin.token")];
    let mut serve = Serve::start(&place, &config, 1, &overrides).await;
    let address = admin_address(&mut serve).await;
    let ask = |request: String| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = ask(request("GET /api/v1/status", "", ""));
    assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("gate01"), "{answer}");
    let answer = ask(request("GET /api/v1/status", &bearer, ""));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"gateway\":\"gate01\""), "{answer}");
    let order = r#"{"whom":{"app":"spam"},"reason":"over TCP"}"#;
    let answer = ask(request("POST /api/v1/ban", &bearer, order));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let line = serve.line("event=\"admin\"").await;
    assert!(line.contains("who=\"token, 127.0.0.1\"") && line.contains("over TCP"), "{line}");
    assert!(!line.contains(TOKEN), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f18_beyond_loopback_it_is_encrypted_with_the_certificate_of_the_listeners() {
    let (place, _login, _chat, config) = home();
    fs::write(place.0.join("admin.token"), TOKEN).unwrap();
    let overrides = [("GATEWAY__ADMIN__LISTEN", "0.0.0.0:0"), ("GATEWAY__ADMIN__TOKEN_FILE", "admin.token")];
    let mut serve = Serve::start(&place, &config, 1, &overrides).await;
    let port = admin_address(&mut serve).await.port();
    let connect = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let request = request("GET /api/v1/status", &bearer, "");

    let mut stream = identity::tls_connect(connect().await, &[b"http/1.1"]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _end = soon("the answer", stream.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let mut stream = connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _reset = soon("the end", stream.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"), "in clear");
}
