//! What a client of the load says to each kind of server, and how the answers are cut.

use bytes::Bytes;
use gateway_wire::frame::{self, HEAD_LEN, Opcode};

use crate::error::BenchError;
use crate::frames::{self, frame_len};
use crate::role::work::{LoadWork, Speaks, TcpLoad};
use crate::token::TokenSigner;

/// Where an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// By the head of a frame.
    Frame,
    /// By the head of a WebSocket frame of a server.
    WebSocket,
    /// By lines, with payloads behind those of messages.
    Nats,
    /// Each message has so many bytes.
    Fixed(usize),
    /// Nobody looks at them.
    Never,
}

impl Cut {
    /// Bytes of the first answer, once they are known.
    pub(crate) fn len(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Frame => frame_len(bytes),
            Self::WebSocket => websocket_head(bytes).map(|(head, len)| head + len),
            Self::Nats => nats_len(bytes),
            Self::Fixed(len) => Some(len),
            Self::Never => Some(bytes.len()).filter(|len| *len > 0),
        }
    }

    /// What a whole answer carries: a packet, where it is a gateway's.
    pub(crate) fn payload(self, answer: &[u8]) -> &[u8] {
        let head = match self {
            Self::WebSocket => websocket_head(answer).map_or(0, |(head, _)| head),
            _ => HEAD_LEN,
        };
        answer.get(head..).unwrap_or_default()
    }
}

/// Bytes of the head of a server's WebSocket frame, and of its payload; none while the head is not whole (RFC 6455).
fn websocket_head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => {
            let len = bytes.get(2..)?.first_chunk::<2>()?;
            Some((4, usize::from(u16::from_be_bytes(*len))))
        }
        127 => {
            let len = bytes.get(2..)?.first_chunk::<8>()?;
            Some((10, usize::try_from(u64::from_be_bytes(*len)).ok()?))
        }
        len => Some((2, usize::from(len))),
    }
}

/// A frame of this wire as a WebSocket frame of a client (RFC 6455). Masked with zeros, so that it stays what it is.
fn masked(frame: &[u8]) -> Bytes {
    let payload = frame.get(HEAD_LEN..).unwrap_or_default();
    let mut out = vec![0x80 | frame[0]];
    match payload.len() {
        short @ ..126 => out.push(0x80 | short as u8),
        long => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out.into()
}

/// The request for a WebSocket; its key is that of the RFC's example (RFC 6455).
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// What one client says, and hears.
#[derive(Debug, Clone)]
pub(crate) struct Speech {
    /// Before anything else; empty where nothing is upgraded.
    pub(crate) upgrade: Bytes,
    /// First of all.
    pub(crate) hello: Bytes,
    /// What the answer to it holds, once it is whole; empty where there is none.
    pub(crate) welcome: &'static [u8],
    /// What it sends to have something done.
    pub(crate) message: Bytes,
    pub(crate) cut: Cut,
}

/// What everybody listens to who is published to.
const TOPIC: &str = "fan";

/// The sequence of every request: none has two in flight with the same command on one stream that could be confused.
const SEQUENCE: u32 = 7;

impl Speech {
    /// That of one client. `publishes`: a connection of its own for what Redis does not take from subscribers.
    pub(crate) fn new(config: &TcpLoad, number: usize, publishes: bool) -> Result<Self, BenchError> {
        let body = vec![b'x'; config.body];
        let dialect = config.dialect()?;
        let asked = match config.work {
            LoadWork::Echo => frames::request(dialect, frames::ECHO, SEQUENCE, &body),
            LoadWork::Beat => frame::encode(Opcode::Ping, &[]),
            LoadWork::Push { count } => {
                frames::request(dialect, frames::BURST, SEQUENCE, &count.to_be_bytes())
            }
        };
        Ok(match (config.speaks, config.work) {
            (Speaks::Bytes, _) => Self {
                upgrade: Bytes::new(),
                hello: Bytes::new(),
                welcome: b"",
                message: asked,
                cut: Cut::Frame,
            },
            (Speaks::Gateway, _) => {
                let account = format!("{}{number}", config.accounts);
                let token = TokenSigner::new(config.secret.as_bytes()).token(&account);
                of_gateway(config.websocket, frames::login(dialect, &token), asked)
            }
            (Speaks::Nats, LoadWork::Echo | LoadWork::Beat) => nats_asks(number, &body),
            (Speaks::Nats, LoadWork::Push { count }) => nats_publishes(&body, count),
            (Speaks::Redis, _) => redis(&body, config.work.count(), publishes),
            (Speaks::Mqtt, _) => mqtt(&body, config.work.count(), number),
        })
    }
}

fn of_gateway(websocket: bool, hello: Bytes, message: Bytes) -> Speech {
    if websocket {
        let (hello, message) = (masked(&hello), masked(&message));
        return Speech { upgrade: UPGRADE.into(), hello, welcome: b"", message, cut: Cut::WebSocket };
    }
    Speech { upgrade: Bytes::new(), hello, welcome: b"", message, cut: Cut::Frame }
}

fn nats_asks(number: usize, body: &[u8]) -> Speech {
    let head = format!("PUB echo inbox.{number} {}\r\n", body.len());
    Speech {
        upgrade: Bytes::new(),
        hello: nats_hello(&format!("inbox.{number}")),
        welcome: b"PONG\r\n",
        message: [head.as_bytes(), body, b"\r\n"].concat().into(),
        cut: Cut::Nats,
    }
}

fn nats_publishes(body: &[u8], count: u32) -> Speech {
    let publish = [format!("PUB {TOPIC} {}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
    let delivered = format!("MSG {TOPIC} 1 {}\r\n", body.len()).len() + body.len() + 2;
    Speech {
        upgrade: Bytes::new(),
        hello: nats_hello(TOPIC),
        welcome: b"PONG\r\n",
        message: publish.repeat(count as usize).into(),
        cut: Cut::Fixed(delivered),
    }
}

fn nats_hello(subject: &str) -> Bytes {
    format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {subject} 1\r\nPING\r\n").into()
}

fn redis(body: &[u8], count: u32, publishes: bool) -> Speech {
    let bulk = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
    let command = |words: &[&[u8]]| {
        let mut all = format!("*{}\r\n", words.len()).into_bytes();
        words.iter().for_each(|word| all.extend(bulk(word)));
        all
    };
    let publish = command(&[b"PUBLISH", TOPIC.as_bytes(), body]);
    let message = publish.repeat(count as usize).into();
    if publishes {
        return Speech {
            upgrade: Bytes::new(),
            hello: command(&[b"PING"]).into(),
            welcome: b"+PONG\r\n",
            message,
            cut: Cut::Never,
        };
    }
    Speech {
        upgrade: Bytes::new(),
        hello: command(&[b"SUBSCRIBE", TOPIC.as_bytes()]).into(),
        welcome: b":1\r\n",
        message,
        cut: Cut::Fixed(command(&[b"message", TOPIC.as_bytes(), body]).len()),
    }
}

/// MQTT 3.1.1 with QoS 0. The lengths fit into two bytes of MQTT's varint.
fn mqtt(body: &[u8], count: u32, number: usize) -> Speech {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let packet = |kind: u8, content: &[u8]| {
        let (low, high) = (content.len() % 128, content.len() / 128);
        let length = if high == 0 { vec![low as u8] } else { vec![low as u8 | 0x80, high as u8] };
        [&[kind][..], &length, content].concat()
    };
    // Protocol name and level, clean session, no keep-alive, the client's name.
    let connect = [&text("MQTT")[..], &[4, 2, 0, 0], &text(&format!("bench-{number}"))].concat();
    let subscribe = [&[0, 1][..], &text(TOPIC), &[0]].concat();
    let publish = packet(0x30, &[&text(TOPIC)[..], body].concat());
    Speech {
        upgrade: Bytes::new(),
        hello: [packet(0x10, &connect), packet(0x82, &subscribe)].concat().into(),
        // SUBACK of packet 1, granted QoS 0.
        welcome: &[0x90, 3, 0, 1, 0],
        message: publish.repeat(count as usize).into(),
        cut: Cut::Fixed(publish.len()),
    }
}

/// Bytes of a line of NATS, with the payload behind it where it has one.
fn nats_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    if !bytes.starts_with(b"MSG ") {
        return Some(line);
    }
    let size = std::str::from_utf8(&bytes[..line - 2]).ok()?.rsplit(' ').next()?;
    Some(line + size.parse::<usize>().ok()? + 2)
}

/// What an answer of a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// To a request, with status 0.
    Success,
    Push,
    /// To a heartbeat.
    Pong,
    /// Anything else.
    Other,
}

/// Reads the header of what a frame carries.
pub(crate) fn kind_of(payload: &[u8]) -> AnswerKind {
    kind_of_payload(&Bytes::copy_from_slice(payload))
}

/// Reads the header of the payload of a frame.
pub(crate) fn kind_of_payload(payload: &Bytes) -> AnswerKind {
    let Some(packet) = frames::logic_packet(payload) else { return AnswerKind::Other };
    match frames::header(&packet) {
        Some(header) if header.flag == gateway_wire::pb::Flag::Push as i32 => AnswerKind::Push,
        Some(header) if header.status == 0 => AnswerKind::Success,
        _ => AnswerKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nats_are_cut_with_their_payload() {
        assert_eq!(nats_len(b"MSG inbox.1 1 4\r\nabcd\r\nPING"), Some(23));
        assert_eq!((nats_len(b"PING\r\nMSG"), nats_len(b"MSG inbox.1 1")), (Some(6), None));
    }

    #[test]
    fn messages_of_peers_are_cut_where_they_end() {
        let redis = redis(b"abc", 2, false);
        assert_eq!(redis.cut, Cut::Fixed(b"*3\r\n$7\r\nmessage\r\n$3\r\nfan\r\n$3\r\nabc\r\n".len()));
        assert_eq!(redis.message.len() % 2, 0);
        let mqtt = mqtt(&[b'x'; 128], 1, 7);
        assert_eq!(mqtt.message[..8], [0x30, 0x85, 1, 0, 3, b'f', b'a', b'n']);
        assert_eq!(mqtt.cut, Cut::Fixed(3 + 5 + 128));
    }
}
