//! A QUIC connection as a transport (protocol §7).

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::timeout_at;

use crate::congestion;
use crate::limits::{READ_CHUNK, SLICES_PER_WRITE, STREAM_SHARE};
use crate::monitor::metrics;
use crate::server::path::Path;
use crate::server::transport::{CloseDetails, Read, Transport, Wrote};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::packet::Encoded;

thread_local! {
    /// The slices of one write; one buffer for all connections of a worker.
    static PARTS: RefCell<Vec<Bytes>> = RefCell::new(Vec::with_capacity(SLICES_PER_WRITE));
}

type Streams = Result<(SendStream, RecvStream), ConnectionError>;

struct Stream {
    id: StreamId,
    send: SendStream,
    /// None for the gateway's own stream of pushes.
    recv: Option<RecvStream>,
}

/// A QUIC connection whose handshake is complete.
pub(crate) struct QuicTransport {
    connection: Connection,
    path: Arc<Path>,
    streams: Vec<Stream>,
    /// Kept between turns: a future that is dropped is not woken.
    accepting: Pin<Box<dyn Future<Output = Streams>>>,
    /// What ended the connection, once something did.
    ended: Option<CloseReason>,
}

impl fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicTransport").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

impl QuicTransport {
    pub(crate) fn new(connection: Connection, path: Arc<Path>) -> Self {
        let accepting = accept(&connection);
        Self { connection, path, streams: Vec::new(), accepting, ended: None }
    }

    fn stream(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// Finishes what was written to and waits, bounded, until the client has it all: closing drops what is not sent.
    async fn flush(&mut self, by: Instant) {
        let acknowledged = async {
            for stream in &mut self.streams {
                // A stream that was reset has nothing left to flush.
                let _finished_before = stream.send.finish();
            }
            for stream in &self.streams {
                let _stopped_or_acknowledged = stream.send.stopped().await;
            }
        };
        let _bounded = timeout_at(by.into(), acknowledged).await;
    }
}

fn accept(connection: &Connection) -> Pin<Box<dyn Future<Output = Streams>>> {
    let connection = connection.clone();
    Box::pin(async move { connection.accept_bi().await })
}

/// The end of a connection, in the words of protocol §8.
fn end_of(error: &ConnectionError) -> CloseReason {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(0) => {
            CloseReason::Bye
        }
        ConnectionError::ApplicationClosed(_) => CloseReason::PeerClosed,
        _ => CloseReason::PeerLost,
    }
}

impl Transport for QuicTransport {
    fn kind(&self) -> metrics::Transport {
        metrics::Transport::Quic
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.connection.rtt())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamId, CloseReason>> {
        if let Some(reason) = self.ended {
            return Poll::Ready(Err(reason));
        }
        if let Poll::Ready(verdict) = self.path.poll_verdict(cx) {
            return Poll::Ready(Err(verdict));
        }
        match self.accepting.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((send, recv))) => {
                self.accepting = accept(&self.connection);
                // Streams are handed out in the order of their ids, so the first one is stream 0.
                let id = StreamId(u32::try_from(recv.id().index()).unwrap_or(u32::MAX - 1));
                self.streams.push(Stream { id, send, recv: Some(recv) });
                Poll::Ready(Ok(id))
            }
            Poll::Ready(Err(error)) => {
                let reason = end_of(&error);
                self.ended = Some(reason);
                Poll::Ready(Err(reason))
            }
        }
    }

    fn poll_read(&mut self, id: StreamId, cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>> {
        let Some(recv) = self.stream(id).and_then(|stream| stream.recv.as_mut()) else {
            return Poll::Ready(Ok(Read::Finished));
        };
        pin!(recv.read_chunk(READ_CHUNK, true)).poll(cx).map(|read| match read {
            Ok(Some(chunk)) => Ok(Read::Data(chunk.bytes)),
            Ok(None) => Ok(Read::Finished),
            Err(ReadError::ConnectionLost(error)) => Err(end_of(&error)),
            Err(_) => Ok(Read::Reset),
        })
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<CloseReason> {
        // poll_accept() sees the end of the connection, and is asked in every turn.
        self.ended.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_write(
        &mut self,
        id: StreamId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>> {
        let Some(stream) = self.stream(id) else { return Poll::Ready(Ok(Wrote::Stopped)) };
        PARTS.with_borrow_mut(|parts| {
            let pieces = frames.flat_map(|frame| [&frame.head, &frame.body]).filter(|part| !part.is_empty());
            parts.clear();
            let mut room = STREAM_SHARE;
            for piece in pieces.take(SLICES_PER_WRITE) {
                parts.push(piece.slice(..piece.len().min(room)));
                room = room.saturating_sub(piece.len());
                if room == 0 {
                    break;
                }
            }
            let polled = pin!(stream.send.write_chunks(parts)).poll(cx);
            parts.clear();
            polled.map(|wrote| match wrote {
                Ok(wrote) => Ok(Wrote::Bytes(wrote.bytes)),
                Err(WriteError::ConnectionLost(error)) => Err(end_of(&error)),
                Err(_) => Ok(Wrote::Stopped),
            })
        })
    }

    fn open_push_stream(&mut self, cx: &mut Context<'_>) -> StreamId {
        match pin!(self.connection.open_uni()).poll(cx) {
            Poll::Ready(Ok(send)) => {
                self.streams.push(Stream { id: StreamId::PUSH, send, recv: None });
                StreamId::PUSH
            }
            _ => StreamId::LOGIN,
        }
    }

    fn finish(&mut self, id: StreamId) {
        if let Some(position) = self.streams.iter().position(|stream| stream.id == id) {
            // Dropping the stream lets quinn forget it once the client has everything.
            let _reset_before = self.streams.swap_remove(position).send.finish();
        }
    }

    fn reset(&mut self, id: StreamId, reason: CloseReason) {
        if let Some(position) = self.streams.iter().position(|stream| stream.id == id) {
            let mut stream = self.streams.swap_remove(position);
            let code = VarInt::from_u32(reason.code().unwrap_or_default().into());
            // Both fail only where the client has ended that direction itself.
            let _ended_before = stream.send.reset(code);
            let _ended_before = stream.recv.as_mut().map(|recv| recv.stop(code));
        }
    }

    async fn close(mut self, details: CloseDetails) {
        let reason = details.reason;
        if details.flushed && self.ended.is_none() {
            self.flush(details.flush_by).await;
        }
        let code = VarInt::from_u32(reason.code().unwrap_or_default().into());
        let token = if reason.code().is_some() { reason.token() } else { CloseReason::Bye.token() };
        congestion::close(&self.connection, code, token.as_bytes());
    }
}
