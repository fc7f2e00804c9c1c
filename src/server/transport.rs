//! What the driver asks of a transport: streams of bytes, polled from one task.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::monitor::metrics;
use crate::server::stream::Framing;
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::packet::Encoded;

/// What reading a stream gave.
#[derive(Debug)]
pub(crate) enum Read {
    /// Bytes, never empty.
    Data(Bytes),
    /// The client finished the stream.
    Finished,
    /// The client reset the stream.
    Reset,
}

/// What writing to a stream gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// The client wants no more of this stream.
    Stopped,
}

/// Where what a transport took from its streams is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// With the network, or in the hands of something that looks after it.
    All,
    /// Some is held back; since the last look the network took a part of it.
    Part,
    /// Some is held back, and the network took nothing since the last look.
    Nothing,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CloseDetails {
    pub(crate) reason: CloseReason,
    /// Everything queued was handed to the transport: it must reach the client before the end does.
    pub(crate) flushed: bool,
    /// Until when it is waited for: what has not reached the client then is given up, so that the reason does.
    pub(crate) flush_by: Instant,
    /// The client is told why, where the transport has to write that: it did not say goodbye itself (protocol §8).
    pub(crate) say_why: bool,
    /// The client's own end is waited for, where the transport can lose its last words otherwise.
    pub(crate) lingers: bool,
}

/// One client connection: TCP, plain or under TLS, or WebSocket on it, with its single stream, or QUIC with many. An error is the end of the connection
/// and says why.
pub(crate) trait Transport {
    /// Its label.
    fn kind(&self) -> metrics::Transport;

    /// How frames lie in the bytes it reads. Those it is given to write lie one behind the other, whatever this says.
    fn framing(&self) -> Framing {
        Framing::Frames
    }

    /// How long a round trip takes now; none where it is not measured.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// The next stream the client opened. TCP's only one is there from the beginning.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamId, CloseReason>>;

    /// The next bytes of a stream.
    fn poll_read(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>>;

    /// Ready once the client has gone, although nothing is being read from it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason>;

    /// Takes as much of these frames as fits, in one vectored write. Where streams share what the network takes, a write
    /// takes no more than one's share ([`STREAM_SHARE`](crate::limits::STREAM_SHARE)).
    fn poll_write(
        &mut self,
        stream: StreamId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>>;

    /// Hands to the network what the transport itself holds back: TLS encrypts more than the socket may take. Only
    /// transports with the one stream do that.
    fn flush(&mut self, _cx: &mut Context<'_>) -> Result<Flushed, CloseReason> {
        Ok(Flushed::All)
    }

    /// Opens the stream for pushes; the login stream itself where there is none, or where it is not granted at once.
    fn open_push_stream(&mut self, cx: &mut Context<'_>) -> StreamId;

    /// Nothing more will be written to this stream.
    fn finish(&mut self, stream: StreamId);

    /// Ends both directions of this stream.
    fn reset(&mut self, stream: StreamId, reason: CloseReason);

    /// Ends the connection.
    async fn close(self, details: CloseDetails);
}
