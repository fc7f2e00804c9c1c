//! The client's side of WebSocket, byte for byte: the upgrade, and frames of the protocol as messages and back.
//!
//! It shares nothing with the gateway's side: heads are written out by hand.

use bytes::{Buf as _, Bytes, BytesMut};
use gateway::wire::close::CloseReason;
use gateway::wire::frame::{Frame, HEAD_LEN, Opcode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::soon;

/// The mask of every frame; a real client draws one for each.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A request to upgrade, as simple clients send it, with these headers beside.
pub(crate) fn upgrade_request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// Upgrades with these headers beside; the answer must be the one that RFC 6455 gives for this key.
pub(crate) async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), more: &str) {
    stream.write_all(upgrade_request("/", more).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = soon("the answer to the upgrade", read_head(stream)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // A proxy may write names in its own way.
    let is_accepted = answer.lines().filter_map(|line| line.split_once(": ")).any(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-accept") && value == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    });
    assert!(is_accepted, "{answer}");
}

/// Reads an HTTP head and nothing behind it.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).unwrap()
}

fn masked_head(first: u8, len: usize) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        0..126 => head.push(0x80 | len as u8),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend((len as u64).to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// A frame, masked; its first byte as it is.
pub(crate) fn masked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked_head(first, payload.len());
    frame.extend(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// Turns the bytes of frames into those of messages, as far as they have come: a part of a frame stays a part.
#[derive(Debug, Default)]
pub(crate) struct ToMessages {
    head: Vec<u8>,
    /// The first byte of the head was given out, because no more of the frame's had come.
    begun: bool,
    /// Bytes of the payload that are still to come, and of those that came.
    left: usize,
    at: usize,
    /// A close frame was begun.
    pub(crate) said_goodbye: bool,
}

impl ToMessages {
    pub(crate) fn translate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in bytes {
            if self.left > 0 {
                // No frame of the protocol says 0 to a WebSocket: an orderly end is 1000 there.
                let byte = match (self.head.first(), self.at, byte) {
                    (Some(8), 0, 0) => 1000u16.to_be_bytes()[0],
                    (Some(8), 1, 0) => 1000u16.to_be_bytes()[1],
                    _ => *byte,
                };
                out.push(byte ^ MASK[self.at % 4]);
                self.at += 1;
                self.left -= 1;
            } else {
                if self.head.len() == HEAD_LEN {
                    self.head.clear();
                }
                self.head.push(*byte);
                if self.head.len() == HEAD_LEN {
                    self.left = u32::from_be_bytes(self.head[1..].try_into().unwrap()) as usize;
                    self.at = 0;
                    self.said_goodbye |= self.head[0] == Opcode::Close as u8;
                    // What is no opcode there becomes a reserved bit here.
                    let head = masked_head(0x80 | self.head[0], self.left);
                    out.extend(&head[usize::from(std::mem::take(&mut self.begun))..]);
                }
            }
        }
        if (1..HEAD_LEN).contains(&self.head.len()) && !self.begun {
            out.push(0x80 | self.head[0]);
            self.begun = true;
        }
        out
    }
}

/// Cuts what the gateway sends into frames.
#[derive(Debug, Default)]
pub(crate) struct ServerMessages(BytesMut);

impl ServerMessages {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }

    pub(crate) fn is_mid_frame(&self) -> bool {
        !self.0.is_empty()
    }

    /// The next whole frame. A server does not mask and has no need to fragment.
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        let [first, second, ..] = *self.0 else { return None };
        assert_eq!(first & 0xf0, 0x80, "final, and no extension was offered: {first:#x}");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let extended = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let head = 2 + extended;
        let mut len = usize::from(second);
        if extended > 0 {
            let bytes = self.0.get(2..head)?;
            len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            assert!(len >= if extended == 2 { 126 } else { 0x1_0000 }, "the shortest form");
        }
        if self.0.len() < head + len {
            return None;
        }
        self.0.advance(head);
        let payload = self.0.split_to(len).freeze();
        Some(Frame { opcode: Opcode::from_byte(first & 0xf).expect("an opcode"), payload })
    }
}

/// The payload of a close frame as TCP would have it; none for the bare answer to a client's own.
pub(crate) fn close_payload(payload: &[u8], said_goodbye: bool) -> Option<Bytes> {
    if payload != 1000u16.to_be_bytes() {
        return Some(Bytes::copy_from_slice(payload));
    }
    (!said_goodbye).then(|| CloseReason::Bye.payload())
}
