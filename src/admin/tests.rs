use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

/// A directory of its own for one test, removed at its end.
struct SocketPlace(PathBuf);

impl SocketPlace {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-admin-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

fn echo() -> Answerer {
    Arc::new(|request: AdminRequest| {
        AdminAnswer::ok(
            json!({ "method": request.method.as_str(), "path": request.path, "body": request.body }),
        )
    })
}

fn ask(path: &Path, request: &str) -> String {
    let mut stream = StdStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn f17_a_request_gets_its_answer_and_only_the_owner_may_ask() {
    let place = SocketPlace::new("answer");
    let path = place.socket();
    let server = AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let answer = ask(
        &path,
        "POST /api/v1/reload?x=1 HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: 7\r\n\r\n{\"a\":1}",
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body, json!({ "method": "POST", "path": "/api/v1/reload", "body": { "a": 1 } }));
    drop(server);
    assert!(!path.exists(), "the file goes with its server");
}

#[test]
fn f17_what_is_no_json_is_refused_and_the_next_one_is_served() {
    let place = SocketPlace::new("json");
    let path = place.socket();
    let _server = AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap();
    let head = "POST / HTTP/1.1\r\nhost: g\r\nconnection: close\r\n";
    for (request, status) in [
        (format!("{head}content-length: 3\r\n\r\nabc"), "400"),
        (format!("{head}content-length: 9999999\r\n\r\nabc"), "400"),
        ("\x16\x03\x01 what is this\r\n\r\n".to_owned(), "400"),
        (format!("{head}content-length: 4\r\n\r\nnull"), "200"),
    ] {
        let answer = ask(&path, &request);
        assert_eq!(answer.split_whitespace().nth(1), Some(status), "{request:?}: {answer}");
    }
}

#[test]
fn f17_a_dead_socket_is_replaced_a_living_one_is_not_nor_is_a_file() {
    let place = SocketPlace::new("stale");
    let path = place.socket();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap();
    let second =
        AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap_err().to_string();
    assert!(second.contains("another process listens"), "{second}");
    assert!(path.exists(), "the first one is still there");
    drop(server);
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 0, "nothing is left of where it was made");
    std::fs::write(&path, "precious").unwrap();
    let refused =
        AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap_err().to_string();
    assert!(refused.contains("is no socket"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

/// It may be another user's, or of another kind: nobody can say that its owner is dead.
#[test]
fn f17_a_socket_that_does_not_refuse_is_left_alone() {
    let place = SocketPlace::new("datagram");
    let path = place.socket();
    let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let before = inode();
    let refused =
        AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap_err().to_string();
    assert!(refused.contains("cannot listen on"), "{refused}");
    assert_eq!(inode(), before);
}

#[test]
fn f17_what_stands_where_the_socket_is_made_is_left_alone() {
    let place = SocketPlace::new("in-the-way");
    let path = place.socket();
    let new = place.0.join("admin.sock.new");
    std::fs::write(&new, "precious").unwrap();
    let refused =
        AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).unwrap_err().to_string();
    assert!(refused.contains("admin.sock.new is in the way"), "{refused}");
    assert_eq!(std::fs::read(&new).unwrap(), b"precious");
    std::fs::remove_file(&new).unwrap();
    std::fs::create_dir(&new).unwrap();
    assert!(AdminServer::start(Doors { socket: Some(&path), network: None }, echo()).is_err());
    assert!(new.is_dir() && !path.exists());
}
