//! Frames off one socket, with the bytes that are not yet a frame.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::OwnedReadHalf;

use gateway_net::limits::{LINGER_BYTES, READ_CHUNK};
use gateway_wire::frame::{Frame, FrameDecoder, FrameError};

/// Reading ended. Both are the gateway's doing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The connection broke.
    #[error("the connection to the gateway broke: {0}")]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error("the gateway sent what is no frame: {0}")]
    Frame(#[from] FrameError),
}

/// The reading half of a link.
#[derive(Debug)]
pub(super) struct FrameReader {
    half: OwnedReadHalf,
    decoder: FrameDecoder,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(half: OwnedReadHalf, max_payload: usize) -> Self {
        Self { half, decoder: FrameDecoder::new(max_payload), buffer: BytesMut::new() }
    }

    /// Changes the limit for frames not yet begun; it rises after the handshake.
    pub(super) fn set_max_payload(&mut self, max_payload: usize) {
        self.decoder.set_max_payload(max_payload);
    }

    /// The next frame; none after the peer's FIN, also in the middle of a frame.
    ///
    /// Cancel safe: whatever has been read stays in the reader.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_CHUNK);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
            self.decoder.push(self.buffer.split().freeze());
        }
    }

    /// Reads and forgets until the peer closes. A socket closed over unread bytes is reset, and a reset would
    /// destroy the close frame on its way. The caller bounds the time; the bytes are bounded here.
    pub(super) async fn drain(&mut self) {
        let mut left = LINGER_BYTES;
        while left > 0 {
            self.buffer.clear();
            self.buffer.reserve(READ_CHUNK);
            match self.half.read_buf(&mut self.buffer).await {
                Ok(read) if read > 0 => left = left.saturating_sub(read),
                _ => return,
            }
        }
    }
}
