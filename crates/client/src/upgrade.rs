//! The upgrade from HTTP/1.1 to WebSocket, and what its failure means (RFC 6455 §4.1).
//!
//! It is small and done here because an answer comes from anybody on the way: its head is bounded, no answer makes it
//! panic, and the sentence of a refusal is passed on.

use std::io;

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::connect_error::ConnectError;
use crate::options::ConnectOptions;
use gateway_net::limits::KIB;

/// Longest head of an answer, bytes.
const MAX_HEAD: usize = 16 * KIB;

/// Headers of an answer; proxies add a dozen.
const MAX_HEADERS: usize = 64;

/// Longest sentence of a refusal that is passed on, bytes.
const MAX_SENTENCE: usize = 200;

/// What a server adds to the key to show that it speaks WebSocket (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Asks for the upgrade. Returns what came behind the answer.
pub(super) async fn upgrade(
    options: &ConnectOptions,
    carrier: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<Bytes, ConnectError> {
    let broken = |error| broken(options, error);
    let key = key()?;
    carrier.write_all(request(options, &key)?.as_bytes()).await.map_err(broken)?;
    carrier.flush().await.map_err(broken)?;
    let mut arrived = BytesMut::new();
    loop {
        arrived.reserve(KIB);
        if carrier.read_buf(&mut arrived).await.map_err(broken)? == 0 {
            return Err(not_http(options));
        }
        if let Some(head_len) = check(options, &arrived, &accept(&key))? {
            arrived.advance(head_len);
            return Ok(arrived.freeze());
        }
        if arrived.len() > MAX_HEAD {
            return Err(not_http(options));
        }
    }
}

/// A random `Sec-WebSocket-Key`.
fn key() -> Result<String, ConnectError> {
    let mut key = [0; 16];
    rand::fill(&mut key).map_err(|_| ConnectError::Local("the system gives no random bytes".to_owned()))?;
    Ok(STANDARD.encode(key))
}

/// The `Sec-WebSocket-Accept` for a key.
fn accept(key: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID);
    STANDARD.encode(context.finish())
}

fn request(options: &ConnectOptions, key: &str) -> Result<String, ConnectError> {
    let ConnectOptions { server, path, origin, .. } = options;
    if !path.starts_with('/') {
        return Err(ConnectError::Local(format!("{path:?} is no path: it begins with / (--path)")));
    }
    // A blank or a line break would make another request of it.
    for text in [Some(server), Some(path), origin.as_ref()].into_iter().flatten() {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConnectError::Local(format!("{text:?} cannot stand in an HTTP request")));
        }
    }
    let origin = origin.as_ref().map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    Ok(format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{origin}\r\n"
    ))
}

/// The length of the head when the upgrade is done, or `None` while its end is missing.
fn check(options: &ConnectOptions, arrived: &[u8], accept: &str) -> Result<Option<usize>, ConnectError> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut answer = Response::new(&mut headers);
    let head_len = match answer.parse(arrived) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err(not_http(options)),
    };
    let server = options.server.clone();
    match answer.code.unwrap_or_default() {
        101 => {}
        // What a gateway says that is full, or that drains.
        503 => return Err(ConnectError::Refused { server }),
        status => {
            let said = sentence(&arrived[head_len..]);
            return Err(ConnectError::UpgradeRefused { server, status, said });
        }
    }
    let fault = match () {
        () if !has(answer.headers, "Upgrade", "websocket") => "it does not upgrade to WebSocket",
        () if !has(answer.headers, "Connection", "upgrade") => "it does not upgrade the connection",
        () if value(answer.headers, "Sec-WebSocket-Accept") != Some(accept.as_bytes()) => {
            "it answers another request than ours (Sec-WebSocket-Accept)"
        }
        () if value(answer.headers, "Sec-WebSocket-Extensions").is_some() => {
            "it uses an extension nobody asked for"
        }
        () if value(answer.headers, "Sec-WebSocket-Protocol").is_some() => {
            "it chose a protocol nobody asked for"
        }
        () => return Ok(Some(head_len)),
    };
    Err(ConnectError::NotWebSocket { server, reason: fault })
}

fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Returns `true` if a header has this token in its list.
fn has(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    let is_it = |item: &[u8]| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes());
    value(headers, name).is_some_and(|value| value.split(|&byte| byte == b',').any(is_it))
}

/// The first line of a body, if it is plain text.
fn sentence(body: &[u8]) -> Option<String> {
    let line = body.split(|&byte| byte == b'\n').next()?.trim_ascii();
    let is_plain = (1..=MAX_SENTENCE).contains(&line.len())
        && line[0] != b'<'
        && line.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic());
    is_plain.then(|| String::from_utf8_lossy(line).into_owned())
}

fn broken(options: &ConnectOptions, error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            not_http(options)
        }
        _ => ConnectError::Tcp { server: options.server.clone(), error },
    }
}

fn not_http(options: &ConnectOptions) -> ConnectError {
    ConnectError::NotHttp { server: options.server.clone(), transport: options.transport }
}
