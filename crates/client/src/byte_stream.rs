//! Frames on a stream of bytes: TCP, TLS and every QUIC stream.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::state::ConnectionState;
use crate::stream::{FrameSink, FrameSource, MAX_FRAME, StreamEnd};
use gateway_net::limits::{KIB, READ_CHUNK};
use gateway_wire::frame::{Frame, FrameDecoder};
use gateway_wire::packet::Encoded;

/// Bytes gathered for one write; a larger body is written by itself.
const WRITE_GATHER: usize = 16 * KIB;

/// Cuts frames out of bytes.
pub(super) struct ByteSource<R> {
    from: R,
    decoder: FrameDecoder,
    chunk: BytesMut,
}

impl<R> ByteSource<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, decoder: FrameDecoder::new(MAX_FRAME), chunk: BytesMut::new() }
    }
}

impl<R: AsyncRead + Unpin + Send> FrameSource for ByteSource<R> {
    async fn next_frame(&mut self, state: &ConnectionState) -> Result<Frame, StreamEnd> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(_) => return Err(StreamEnd::Violated),
            }
            self.chunk.reserve(READ_CHUNK);
            match self.from.read_buf(&mut self.chunk).await {
                Ok(0) => return Err(StreamEnd::Finished),
                Ok(_) => state.note_read(),
                Err(error) => return Err(StreamEnd::Failed(error)),
            }
            self.decoder.push(self.chunk.split().freeze());
        }
    }
}

/// Gathers small frames into larger writes.
pub(super) struct ByteSink<W> {
    to: W,
    gathered: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> ByteSink<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, gathered: Vec::with_capacity(WRITE_GATHER) }
    }

    async fn write_gathered(&mut self) -> io::Result<()> {
        self.to.write_all(&self.gathered).await?;
        self.gathered.clear();
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin + Send> FrameSink for ByteSink<W> {
    async fn put(&mut self, frame: Encoded) -> io::Result<()> {
        for piece in [frame.head, frame.body] {
            if self.gathered.len() + piece.len() > WRITE_GATHER {
                self.write_gathered().await?;
            }
            if piece.len() > WRITE_GATHER {
                self.to.write_all(&piece).await?;
            } else {
                self.gathered.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write_gathered().await?;
        self.to.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.to.shutdown().await
    }
}
