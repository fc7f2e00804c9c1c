//! The reading side of one stream: its decoder, and since when a frame of it is incomplete.

use std::time::Instant;

use bytes::Bytes;

use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Frame, FrameDecoder, FrameError};
use crate::wire::websocket::{self, MessageDecoder};

/// How frames lie in the bytes of a stream (protocol §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One behind the other.
    Frames,
    /// Each as a message of WebSocket.
    WebSocket,
}

/// Cuts the bytes of a stream into frames.
#[derive(Debug)]
pub(crate) enum Decoder {
    Frames(FrameDecoder),
    /// Boxed: it is twice as large, and most connections have the other.
    WebSocket(Box<MessageDecoder>),
}

impl Decoder {
    fn new(framing: Framing, max_payload: usize) -> Self {
        match framing {
            Framing::Frames => Self::Frames(FrameDecoder::new(max_payload)),
            Framing::WebSocket => Self::WebSocket(Box::new(MessageDecoder::new(max_payload))),
        }
    }

    pub(crate) fn set_max_payload(&mut self, max_payload: usize) {
        match self {
            Self::Frames(frames) => frames.set_max_payload(max_payload),
            Self::WebSocket(messages) => messages.set_max_payload(max_payload),
        }
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        match self {
            Self::Frames(frames) => frames.push(chunk),
            Self::WebSocket(messages) => messages.push(chunk),
        }
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        match self {
            Self::Frames(frames) => frames.next_frame(),
            Self::WebSocket(messages) => messages.next_frame(),
        }
    }

    pub(crate) fn is_mid_frame(&self) -> bool {
        match self {
            Self::Frames(frames) => frames.is_mid_frame(),
            Self::WebSocket(messages) => messages.is_mid_frame(),
        }
    }

    pub(crate) fn buffered(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.buffered(),
            Self::WebSocket(messages) => messages.buffered(),
        }
    }

    /// Bytes of the frame that was taken last, beside its payload.
    pub(crate) const fn overhead(&self) -> usize {
        match self {
            Self::Frames(_) => frame::HEAD_LEN,
            Self::WebSocket(messages) => messages.overhead(),
        }
    }

    /// Returns `true` if the frame that was taken last came between the fragments of a message, which still wait for their
    /// end.
    pub(crate) const fn is_mid_message(&self) -> bool {
        match self {
            Self::Frames(_) => false,
            Self::WebSocket(messages) => messages.is_mid_message(),
        }
    }

    /// Why a session ends whose client sent this close frame (protocol §8).
    pub(crate) fn reason_of_close(&self, payload: &[u8]) -> CloseReason {
        match self {
            Self::Frames(_) => CloseReason::Bye,
            Self::WebSocket(_) => websocket::reason_of_close(payload),
        }
    }
}

/// One stream as the driver reads it.
#[derive(Debug)]
pub(crate) struct InboundStream {
    pub(crate) id: StreamId,
    pub(crate) decoder: Decoder,
    /// Since when the end of a frame is missing (row A4).
    pub(crate) mid_frame_since: Option<Instant>,
    /// The client finished it; it stays for the answers it owes (protocol §7).
    pub(crate) finished: bool,
}

impl InboundStream {
    pub(crate) fn new(id: StreamId, framing: Framing, max_payload: usize) -> Self {
        Self { id, decoder: Decoder::new(framing, max_payload), mid_frame_since: None, finished: false }
    }

    /// Everything that arrived was cut into frames. Starts the clock of an incomplete one, or stops it.
    pub(crate) fn note_progress(&mut self, now: Instant) {
        if self.decoder.is_mid_frame() {
            self.mid_frame_since.get_or_insert(now);
        } else {
            self.mid_frame_since = None;
        }
    }
}
