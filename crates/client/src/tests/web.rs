//! The gateway's end of a WebSocket connection, without the client's own code.

use super::*;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{DuplexStream, duplex, empty, join, sink, split};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// Frames in flight between a test and the socket, bytes.
const ROOM: usize = 1 << 20;

/// Reads the request of an upgrade.
pub(super) async fn request(io: &mut (impl Io + ?Sized)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(io.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The value of a header.
pub(super) fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The answer to a request.
pub(super) fn switching(request: &str) -> String {
    use base64::Engine as _;
    let key = header(request, "Sec-WebSocket-Key").expect("a key");
    let accept = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, accept.as_bytes());
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// Upgrades the connection of a client.
pub(super) async fn accept(mut io: impl Io + 'static) -> Pipe {
    let request = request(&mut io).await;
    soon(io.write_all(switching(&request).as_bytes())).await.unwrap();
    let (near, far) = duplex(ROOM);
    // It ends when it has written all that the test wrote before it dropped its end.
    tokio::spawn(translate(io, far));
    Pipe::new(near)
}

/// The halves know nothing of each other, so that no ping is answered and no close: the tests do so.
async fn translate(io: impl Io, frames: DuplexStream) {
    let (from, to) = split(io);
    let (mut far, mut near) = split(frames);
    let mut from = WebSocketStream::from_raw_socket(join(from, sink()), Role::Server, None).await;
    let mut to = WebSocketStream::from_raw_socket(join(empty(), to), Role::Server, None).await;
    let inwards = async {
        while let Some(Ok(message)) = from.next().await {
            let (opcode, payload) = match message {
                Message::Binary(payload) => (Opcode::Binary, payload),
                Message::Ping(payload) => (Opcode::Ping, payload),
                Message::Pong(payload) => (Opcode::Pong, payload),
                Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason })) => {
                    (Opcode::Close, [&[0, 0], reason.as_bytes()].concat().into())
                }
                Message::Close(Some(CloseFrame { code, reason })) => {
                    (Opcode::Close, [&u16::from(code).to_be_bytes(), reason.as_bytes()].concat().into())
                }
                other => panic!("{other}"),
            };
            let is_last = opcode == Opcode::Close;
            if near.write_all(&frame::encode(opcode, &payload)).await.is_err() || is_last {
                break;
            }
        }
        let _ = near.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outwards = async {
        let mut decoder = FrameDecoder::new(1 << 24);
        let mut chunk = BytesMut::new();
        while let Ok(1..) = far.read_buf(&mut chunk).await {
            decoder.push(chunk.split().freeze());
            while let Some(Frame { opcode, payload }) = decoder.next_frame().unwrap() {
                let message = match opcode {
                    Opcode::Binary => Message::Binary(payload),
                    Opcode::Ping => Message::Ping(payload),
                    Opcode::Pong => Message::Pong(payload),
                    Opcode::Close => Message::Close(Some(close_frame(&payload))),
                    other => panic!("{other:?}"),
                };
                if to.send(message).await.is_err() {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}

fn close_frame(payload: &Bytes) -> CloseFrame {
    let code = match u16::from_be_bytes(*payload.first_chunk().unwrap()) {
        0 => CloseCode::Normal,
        code => CloseCode::from(code),
    };
    CloseFrame { code, reason: payload.slice(2..).try_into().unwrap() }
}
