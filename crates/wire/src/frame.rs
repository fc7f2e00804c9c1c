//! Frames: `opcode u8 | length u32 | payload` on TCP and on every QUIC stream (protocol §1).
//!
//! [`FrameDecoder`] owns whatever has arrived and not yet become a frame, so the code that reads bytes may be
//! cancelled between any two of them. A length that is claimed reserves nothing (row A1).

use bytes::{Buf, Bytes};

/// Bytes before the payload.
pub const HEAD_LEN: usize = 5;

/// Largest payload of a client's frame that a gateway can be configured to take, bytes.
pub const MAX_FRAME_HARD: usize = 1024 * 1024;

/// Smallest step by which the buffer of an incomplete frame grows, bytes.
const GROWTH_STEP: usize = 4096;

/// WebSocket's opcodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// 0x0, never used by this protocol.
    Continuation = 0x0,
    /// 0x1, never used by this protocol.
    Text = 0x1,
    /// 0x2, carries a packet.
    Binary = 0x2,
    /// 0x8, carries a close code.
    Close = 0x8,
    /// 0x9, answered with [`Opcode::Pong`].
    Ping = 0x9,
    /// 0xA.
    Pong = 0xA,
    /// Any other: only a decoder that ignores unknown opcodes gives it, and nothing writes it.
    Unknown = 0xF,
}

impl Opcode {
    /// Returns `true` if it may stand between the fragments of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    /// The opcode of a byte; reserved bits and unknown values have none (row A6).
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }
}

/// One whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub opcode: Opcode,
    /// A slice of the bytes that arrived; not copied where the frame came in one piece.
    pub payload: Bytes,
}

/// The peer sent what cannot be a frame. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The opcode is unknown (row A6).
    #[error("unknown opcode {0:#04x}")]
    BadOpcode(u8),
    /// The length is above the limit (rows A1, A2).
    #[error("frame of {len} bytes, {max} are allowed")]
    TooBig {
        /// Claimed payload length, bytes.
        len: u32,
        /// The limit in force, bytes.
        max: usize,
    },
    /// It is no frame of WebSocket that a client may send (RFC 6455).
    #[error("malformed WebSocket frame: {0}")]
    Malformed(&'static str),
}

/// The first five bytes of a frame with a payload of `len` bytes.
///
/// Payloads are bounded by `limits`, far below 4 GiB; a longer one would be a fault of the caller.
pub fn head(opcode: Opcode, len: usize) -> [u8; HEAD_LEN] {
    let len = u32::try_from(len).expect("frame payloads are bounded far below 4 GiB").to_be_bytes();
    [opcode as u8, len[0], len[1], len[2], len[3]]
}

/// A whole frame in one buffer, for the small ones: ping, pong, close, handshake.
pub fn encode(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(HEAD_LEN + payload.len());
    frame.extend_from_slice(&head(opcode, payload.len()));
    frame.extend_from_slice(payload);
    frame.into()
}

/// Cuts a byte stream into frames.
///
/// Feed it with [`push`](Self::push), then call [`next_frame`](Self::next_frame) until it returns `None`.
/// It holds at most the bytes that were pushed plus 8 KiB (an eighth of an incomplete frame above 64 KiB).
#[derive(Debug)]
pub struct FrameDecoder {
    max_payload: usize,
    refuses_unknown: bool,
    /// What arrived last and was not cut yet.
    chunk: Bytes,
    /// The beginning of a frame whose end is not in `chunk`; empty when `chunk` begins a frame.
    partial: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder that refuses payloads above `max_payload` bytes.
    pub const fn new(max_payload: usize) -> Self {
        Self { max_payload, refuses_unknown: true, chunk: Bytes::new(), partial: Vec::new() }
    }

    /// Frames with an unknown opcode are given out and not refused: logic services may send what this gateway does not
    /// know (protocol §5).
    #[must_use]
    pub const fn ignoring_unknown_opcodes(mut self) -> Self {
        self.refuses_unknown = false;
        self
    }

    /// Changes the limit for frames not yet begun (it rises at login).
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Appends bytes that arrived. All frames before them must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            // Callers drain before they read again; a caller that does not still loses nothing.
            let mut joined = Vec::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.into();
        }
    }

    /// Returns `true` if a frame has begun that is not complete.
    pub fn is_mid_frame(&self) -> bool {
        !self.partial.is_empty() || !self.chunk.is_empty()
    }

    /// Bytes held, for accounting and tests.
    pub fn buffered(&self) -> usize {
        self.partial.capacity() + self.chunk.len()
    }

    /// The next whole frame, or `None` while its end is missing.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the head shows that the peer does not speak this protocol; the decoder must not
    /// be used afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty() {
            return self.cut_from_chunk();
        }
        self.take_up_to(HEAD_LEN);
        let Some((opcode, len)) = self.check_head(&self.partial)? else { return Ok(None) };
        let total = HEAD_LEN + len;
        self.take_up_to(total);
        if self.partial.len() < total {
            return Ok(None);
        }
        let mut payload = Bytes::from(std::mem::take(&mut self.partial));
        payload.advance(HEAD_LEN);
        Ok(Some(Frame { opcode, payload }))
    }

    /// The common case: the whole frame lies in the chunk and is sliced out of it.
    fn cut_from_chunk(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.chunk.is_empty() {
            return Ok(None);
        }
        if let Some((opcode, len)) = self.check_head(&self.chunk)?
            && self.chunk.len() >= HEAD_LEN + len
        {
            let mut whole = self.chunk.split_to(HEAD_LEN + len);
            whole.advance(HEAD_LEN);
            return Ok(Some(Frame { opcode, payload: whole }));
        }
        // Copied so that the rest of a large read is not kept alive by a few bytes of it.
        self.partial = Vec::with_capacity(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        Ok(None)
    }

    /// Reads opcode and length from as much of a head as is there; an unknown opcode is refused at its first byte.
    fn check_head(&self, bytes: &[u8]) -> Result<Option<(Opcode, usize)>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = match Opcode::from_byte(first) {
            Some(opcode) => opcode,
            None if self.refuses_unknown => return Err(FrameError::BadOpcode(first)),
            None => Opcode::Unknown,
        };
        let Some(len) = bytes.get(1..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
        let len = u32::from_be_bytes(*len);
        match usize::try_from(len) {
            Ok(payload) if payload <= self.max_payload => Ok(Some((opcode, payload))),
            _ => Err(FrameError::TooBig { len, max: self.max_payload }),
        }
    }

    /// Moves bytes from the chunk until the partial frame has `target` of them, or the chunk is empty.
    fn take_up_to(&mut self, target: usize) {
        let wanted = target.saturating_sub(self.partial.len()).min(self.chunk.len());
        if wanted == 0 {
            return;
        }
        let most = target - self.partial.len();
        make_room(&mut self.partial, wanted, most);
        self.partial.extend_from_slice(&self.chunk[..wanted]);
        self.chunk.advance(wanted);
        if self.chunk.is_empty() {
            // An empty slice would keep the whole read alive until the next one.
            self.chunk = Bytes::new();
        }
    }
}

/// Room for so many bytes more in the beginning of a frame of which at most `most` are still to come. It grows in steps: what
/// a head claims reserves nothing.
pub(crate) fn make_room(partial: &mut Vec<u8>, wanted: usize, most: usize) {
    if partial.capacity() - partial.len() < wanted {
        let step = wanted.max(GROWTH_STEP).max(partial.len() / 8);
        partial.reserve_exact(step.min(most));
    }
}
