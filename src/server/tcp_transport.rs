//! A TCP connection as a transport with one stream.

use std::cell::RefCell;
use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{LINGER, LINGER_BYTES, READ_CHUNK, SLICES_PER_WRITE};
use crate::monitor::metrics;
use crate::server::transport::{Farewell, Read, Transport, Wrote};
use crate::session::outgoing::LaneId;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};
use crate::wire::packet::Encoded;

thread_local! {
    /// Where sockets are read into: one buffer for all connections of a worker, so that an idle one has none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_CHUNK].into_boxed_slice());
}

/// Bytes read at once from a connection that is closing.
const SINK: usize = 4096;

/// A plain TCP connection.
#[derive(Debug)]
pub(crate) struct TcpTransport {
    stream: TcpStream,
    announced: bool,
}

impl TcpTransport {
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self { stream, announced: false }
    }

    /// Row D9: without reading what is still coming, closing would send a reset that destroys what was written.
    async fn linger(&mut self) {
        let mut sink = vec![0; SINK];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match self.stream.read(&mut sink).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

/// A broken connection, in the words of protocol §8.
fn end_of(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::PeerClosed,
        _ => CloseReason::PeerLost,
    }
}

impl Transport for TcpTransport {
    fn kind(&self) -> metrics::Transport {
        metrics::Transport::Tcp
    }

    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<Result<LaneId, CloseReason>> {
        if std::mem::replace(&mut self.announced, true) {
            Poll::Pending
        } else {
            Poll::Ready(Ok(LaneId::LOGIN))
        }
    }

    fn poll_read(&mut self, _lane: LaneId, cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(end_of(&error))),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(Read::Finished)),
                Poll::Ready(Ok(())) => Poll::Ready(Ok(Read::Data(Bytes::copy_from_slice(buffer.filled())))),
            }
        })
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        match pin!(self.stream.ready(Interest::READABLE)).poll(cx) {
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => Poll::Ready(CloseReason::PeerClosed),
            Poll::Ready(Err(error)) => Poll::Ready(end_of(&error)),
            _ => Poll::Pending,
        }
    }

    fn poll_write(
        &mut self,
        _lane: LaneId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>> {
        let mut slices = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let parts = frames.flat_map(|frame| [&frame.head, &frame.body]).filter(|part| !part.is_empty());
        let mut used = 0;
        for (slot, part) in slices.iter_mut().zip(parts) {
            *slot = IoSlice::new(part);
            used += 1;
        }
        match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..used]) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Err(CloseReason::PeerClosed)),
            Poll::Ready(Ok(written)) => Poll::Ready(Ok(Wrote::Bytes(written))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(end_of(&error))),
        }
    }

    fn open_push_lane(&mut self, _cx: &mut Context<'_>) -> LaneId {
        LaneId::LOGIN
    }

    fn finish(&mut self, _lane: LaneId) {}

    fn reset(&mut self, _lane: LaneId, _reason: CloseReason) {}

    async fn close(mut self, farewell: Farewell) {
        let reason = farewell.reason;
        if reason == CloseReason::SlowConsumer {
            // A peer that takes nothing would hold the socket until the kernel gives up (row D4).
            let _best_effort = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            return;
        }
        let last_words = async {
            if farewell.say_why && !reason.payload().is_empty() {
                self.stream.write_all(&frame::encode(Opcode::Close, &reason.payload())).await?;
            }
            self.stream.shutdown().await?;
            self.linger().await;
            io::Result::Ok(())
        };
        // Whatever fails here, the peer is gone or does not listen.
        let _best_effort = timeout(LINGER, last_words).await;
    }
}
