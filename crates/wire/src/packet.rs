//! Packets: what a binary frame carries, a LogicPkt or a BasicPkt in one of two dialects (protocol §2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::dialect::Dialect;
use crate::frame::{self, Opcode};

/// Bytes of a magic.
pub const MAGIC_LEN: usize = 4;

/// BasicPkt code of a heartbeat.
pub const BASIC_PING: u16 = 1;
/// BasicPkt code of its answer.
pub const BASIC_PONG: u16 = 2;
/// BasicPkt code of [`GoAway`]. Ours: the Go clients fail on it, so it goes only to those who asked for it.
pub const BASIC_GO_AWAY: u16 = 3;

/// The longest `host:port` behind a [`GoAway`], bytes: a DNS name of 253, a colon, a port.
pub const MAX_GO_TO: usize = 253 + 1 + 5;

/// The tag of a LoginReq by which a client that is not on QUIC says that it understands [`GoAway`].
pub const GO_AWAY_TAG: &str = "goaway";

/// The tag of a LoginReq by which a client says that it took whatever transport got through, and would have had QUIC.
pub const AUTO_TAG: &str = "auto";

/// A packet whose lengths were checked; the header is not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Heartbeats and other short control packets.
    Basic {
        /// By its magic.
        dialect: Dialect,
        /// 1 ping, 2 pong, 3 go away; others are ignored and counted (row A10).
        code: u16,
        /// Normally empty.
        body: Bytes,
    },
    /// A command with a header and a body.
    Logic(LogicPacket),
}

/// A LogicPkt: slices of the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicPacket {
    /// By its magic.
    pub dialect: Dialect,
    /// Protobuf `Header`, unparsed; see [`HeaderView`](crate::header::HeaderView).
    pub header: Bytes,
    /// Untouched from end to end.
    pub body: Bytes,
}

impl LogicPacket {
    /// Bytes of the frame it came in.
    pub fn frame_len(&self) -> usize {
        LOGIC_PREFIX + self.header.len() + 4 + self.body.len()
    }
}

/// A binary frame that holds no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The first four bytes are no dialect's (row A7).
    #[error("unknown magic")]
    BadMagic,
    /// A length inside does not fit the frame exactly (row A8).
    #[error("inner lengths do not fit the frame")]
    BadLength,
}

impl Packet {
    /// Splits the payload of a binary frame, without copying.
    ///
    /// # Errors
    /// [`PacketError`] when the magic is unknown or an inner length does not fit the payload exactly.
    pub fn decode(payload: &Bytes) -> Result<Self, PacketError> {
        let magic = payload.first_chunk::<MAGIC_LEN>().ok_or(PacketError::BadMagic)?;
        for dialect in Dialect::ALL {
            if *magic == dialect.logic_magic() {
                return Self::decode_logic(dialect, payload).ok_or(PacketError::BadLength);
            }
            if *magic == dialect.basic_magic() {
                return Self::decode_basic(dialect, payload).ok_or(PacketError::BadLength);
            }
        }
        Err(PacketError::BadMagic)
    }

    fn decode_logic(dialect: Dialect, payload: &Bytes) -> Option<Self> {
        let (header, body_at) = counted(payload, MAGIC_LEN)?;
        let (body, end) = counted(payload, body_at)?;
        (end == payload.len()).then_some(Self::Logic(LogicPacket { dialect, header, body }))
    }

    fn decode_basic(dialect: Dialect, payload: &Bytes) -> Option<Self> {
        let fixed = payload.get(MAGIC_LEN..)?.first_chunk::<4>()?;
        let code = u16::from_be_bytes([fixed[0], fixed[1]]);
        let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        let body = payload.slice(MAGIC_LEN + 4..);
        (body.len() == len).then_some(Self::Basic { dialect, code, body })
    }
}

/// The bytes behind a u32 length at `at`, and where they end.
fn counted(payload: &Bytes, at: usize) -> Option<(Bytes, usize)> {
    let len = u32::from_be_bytes(*payload.get(at..)?.first_chunk::<4>()?);
    let start = at + 4;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= payload.len()).then(|| (payload.slice(start..end), end))
}

/// A frame with an empty-bodied BasicPkt.
pub fn encode_basic(dialect: Dialect, code: u16) -> Bytes {
    let mut payload = [0; MAGIC_LEN + 4];
    payload[..MAGIC_LEN].copy_from_slice(&dialect.basic_magic());
    payload[MAGIC_LEN..MAGIC_LEN + 2].copy_from_slice(&code.to_be_bytes());
    frame::encode(Opcode::Binary, &payload)
}

/// The gateway is going to close this connection (protocol §2): a client that knows it in time moves at leisure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAway {
    /// Seconds until the close, rounded down; until then everything is served as before.
    pub seconds: u16,
    /// The code the close will have (protocol §8).
    pub code: u16,
}

impl GoAway {
    const LEN: u16 = 4;

    /// Its frame.
    pub fn encode(self, dialect: Dialect) -> Bytes {
        self.encode_to(dialect, None)
    }

    /// Its frame, with the `host:port` of the gateway to go to behind it; one above [`MAX_GO_TO`] is left out.
    pub fn encode_to(self, dialect: Dialect, to: Option<&str>) -> Bytes {
        let to = to.filter(|to| to.len() <= MAX_GO_TO).unwrap_or_default();
        let len = Self::LEN + to.len() as u16;
        let mut payload = BytesMut::with_capacity(MAGIC_LEN + 4 + usize::from(len));
        payload.put_slice(&dialect.basic_magic());
        payload.put_u16(BASIC_GO_AWAY);
        payload.put_u16(len);
        payload.put_u16(self.seconds);
        payload.put_u16(self.code);
        payload.put_slice(to.as_bytes());
        frame::encode(Opcode::Binary, &payload)
    }

    /// What stands behind it in the same body: the `host:port` of the gateway to go to. Not looked at closer than that it is
    /// text and not too long; none where there is nothing.
    pub fn go_to(body: &[u8]) -> Option<&str> {
        let to = body.get(usize::from(Self::LEN)..)?;
        let to = std::str::from_utf8(to).ok()?;
        (!to.is_empty() && to.len() <= MAX_GO_TO).then_some(to)
    }

    /// Reads the body of a BasicPkt with [`BASIC_GO_AWAY`]; none when it is too short. What stands behind is not looked
    /// at, see [`GoAway::go_to`].
    pub fn decode(body: &[u8]) -> Option<Self> {
        let [seconds, more, code, last] = *body.first_chunk::<{ Self::LEN as usize }>()?;
        Some(Self { seconds: u16::from_be_bytes([seconds, more]), code: u16::from_be_bytes([code, last]) })
    }
}

/// Bodies below this are copied behind their header, bytes. Such a frame is one allocation and one piece of a write, and
/// keeps nothing alive of the read that its body came with, which is twice as long at least (row C8).
pub const COPIED_BELOW: usize = 8 * 1024;

/// A frame ready to be written, in two pieces so that a large body is shared and never copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Frame head, magic, header, body length and a body below [`COPIED_BELOW`]; or a whole small frame.
    pub head: Bytes,
    /// A larger body, often a slice of the frame it came in.
    pub body: Bytes,
}

impl Encoded {
    /// A frame in one piece.
    pub const fn whole(frame: Bytes) -> Self {
        Self { head: frame, body: Bytes::new() }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Returns `true` if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be written, in order; either may be empty.
    pub fn pieces(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    /// Drops up to `count` bytes that were written from its beginning; returns how many.
    pub fn advance(&mut self, count: usize) -> usize {
        let of_head = count.min(self.head.len());
        self.head.advance(of_head);
        let of_body = (count - of_head).min(self.body.len());
        self.body.advance(of_body);
        of_head + of_body
    }

    /// The header inside a frame made by [`encode_logic`] of which nothing was written yet.
    pub fn header(&self) -> &[u8] {
        self.head.get(LOGIC_PREFIX..self.header_end()).unwrap_or_default()
    }

    /// The body of such a frame.
    pub fn body(&self) -> Bytes {
        let start = self.header_end() + 4;
        if self.body.is_empty() && start < self.head.len() {
            self.head.slice(start..)
        } else {
            self.body.clone()
        }
    }

    fn header_end(&self) -> usize {
        let len = self.head.get(LOGIC_PREFIX - 4..).and_then(|rest| rest.first_chunk::<4>());
        LOGIC_PREFIX + len.map_or(0, |len| u32::from_be_bytes(*len) as usize)
    }

    /// Both pieces in one buffer, for tests and small writers.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.len());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.freeze()
    }
}

impl From<Bytes> for Encoded {
    fn from(frame: Bytes) -> Self {
        Self::whole(frame)
    }
}

/// Bytes of a LogicPkt's frame before its header.
const LOGIC_PREFIX: usize = frame::HEAD_LEN + MAGIC_LEN + 4;

/// Writes the frame of a LogicPkt around a header of about `header_len` bytes, which `write_header` appends to the buffer it
/// is given.
pub fn encode_logic(
    dialect: Dialect,
    header_len: usize,
    body: Bytes,
    write_header: impl FnOnce(&mut Vec<u8>),
) -> Encoded {
    let is_copied = body.len() < COPIED_BELOW;
    let copied_len = if is_copied { body.len() } else { 0 };
    let mut head = Vec::with_capacity(LOGIC_PREFIX + header_len + 4 + copied_len);
    head.resize(LOGIC_PREFIX, 0);
    write_header(&mut head);
    let header_len = head.len() - LOGIC_PREFIX;
    let payload_len = MAGIC_LEN + 4 + header_len + 4 + body.len();
    head[..frame::HEAD_LEN].copy_from_slice(&frame::head(Opcode::Binary, payload_len));
    head[frame::HEAD_LEN..frame::HEAD_LEN + MAGIC_LEN].copy_from_slice(&dialect.logic_magic());
    head[LOGIC_PREFIX - 4..LOGIC_PREFIX].copy_from_slice(&length(header_len).to_be_bytes());
    head.extend_from_slice(&length(body.len()).to_be_bytes());
    if is_copied {
        head.extend_from_slice(&body);
        return Encoded::whole(shrunk(head));
    }
    Encoded { head: shrunk(head), body }
}

/// Without spare room [`Bytes`] takes the buffer over as it is; with some it allocates a second block to remember it.
fn shrunk(buffer: Vec<u8>) -> Bytes {
    buffer.into_boxed_slice().into()
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("packets are bounded far below 4 GiB")
}

/// The frame of a LogicPkt with a header built as a message; for clients, logic services and tests.
pub fn encode_message(dialect: Dialect, header: &crate::pb::Header, body: impl Into<Bytes>) -> Encoded {
    use prost::Message as _;
    encode_logic(dialect, header.encoded_len(), body.into(), |out| {
        header.encode(out).expect("a Vec grows as needed");
    })
}
