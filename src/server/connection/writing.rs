//! The writing half of a turn: whatever streams have room get what is queued for them, and none is awaited.

use std::task::{Context, Poll};

use super::{Connection, ConnectionPhase};
use crate::server::transport::{Flushed, Transport, Wrote};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;

impl<T: Transport> Connection<T> {
    /// Writes until every stream is empty or takes no more.
    pub(super) fn drive_write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.write_ready(cx)?;
        // The login response is with the transport: pushes may follow, on their own stream if it is granted now.
        // Not earlier: a push on another stream could reach the client before its answer was even sent (row B22).
        let is_open = matches!(self.phase, ConnectionPhase::Open | ConnectionPhase::Draining);
        if is_open && !self.has_push_stream && self.outgoing.is_login_written() {
            self.has_push_stream = true;
            let stream = self.transport.open_push_stream(cx);
            if stream == StreamId::PUSH {
                self.outgoing.add_stream(stream);
            }
            self.outgoing.set_push_stream(stream);
            self.write_ready(cx)?;
        }
        self.flush(cx)?;
        self.finish_streams();
        Ok(())
    }

    /// What the transport holds back is no longer queued, but a client that takes nothing of it stalls all the same.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let stalled = self.stalled.iter_mut().find(|(stream, _)| *stream == StreamId::LOGIN);
        match (self.transport.flush(cx)?, stalled) {
            (Flushed::All, Some(_)) if self.outgoing.is_stream_empty(StreamId::LOGIN) => {
                self.stalled.retain(|(stream, _)| *stream != StreamId::LOGIN);
            }
            (Flushed::Part, Some((_, since))) => *since = self.now,
            (Flushed::Part | Flushed::Nothing, None) => self.stalled.push((StreamId::LOGIN, self.now)),
            (Flushed::All, _) | (Flushed::Nothing, Some(_)) => {}
        }
        Ok(())
    }

    /// Each stream in turn gets one write, until all are empty or take no more. Streams of a QUIC connection share what
    /// the network takes: one that always came first would leave the others nothing.
    fn write_ready(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let outgoing = std::rc::Rc::clone(&self.outgoing);
        let mut wrote = true;
        while wrote {
            wrote = false;
            let count = outgoing.stream_count();
            for step in 0..count {
                let Some(stream) = outgoing.stream_at((self.first_to_write + step) % count) else { break };
                if outgoing.is_stream_empty(stream) {
                    continue;
                }
                match self.write_stream(stream, cx)? {
                    Some(Wrote::Bytes(written)) => {
                        outgoing.advance(stream, written);
                        // Any byte taken is progress. How much is judged by the bounds of what waits, not by this clock.
                        self.stalled.retain(|(stalled, _)| *stalled != stream);
                        wrote = true;
                    }
                    Some(Wrote::Stopped) => {
                        self.stream_stopped(stream)?;
                        // The others have moved.
                        wrote = true;
                        break;
                    }
                    // The clock runs from the first refusal: asking again must not set it back.
                    None if self.stalled.iter().any(|(stalled, _)| *stalled == stream) => {}
                    None => self.stalled.push((stream, self.now)),
                }
            }
            self.first_to_write = (self.first_to_write + 1) % count.max(1);
        }
        Ok(())
    }

    fn write_stream(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Result<Option<Wrote>, CloseReason> {
        let transport = &mut self.transport;
        match self.outgoing.write_with(stream, |frames| transport.poll_write(stream, frames, cx)) {
            Poll::Ready(wrote) => wrote.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The client wants nothing more on this stream. Without its push stream, or stream 0, a channel cannot go on
    /// (G2); of any other stream only the answers are lost.
    fn stream_stopped(&mut self, stream: StreamId) -> Result<(), CloseReason> {
        match stream {
            StreamId::PUSH => Err(CloseReason::SlowConsumer),
            StreamId::LOGIN => Err(CloseReason::PeerClosed),
            other => {
                self.streams.retain(|stream| stream.id != other);
                self.transport.reset(other, CloseReason::Bye);
                self.forget_stream(other);
                Ok(())
            }
        }
    }

    /// A stream the client finished is finished in turn once it owes nothing (protocol §7).
    fn finish_streams(&mut self) {
        if !self.streams.iter().any(|stream| stream.finished) {
            return;
        }
        let Some(guard) = &self.guard else { return };
        let (outgoing, transport) = (&self.outgoing, &mut self.transport);
        // `retain` runs nothing of others, so the borrow cannot meet another one.
        let pending = guard.channel.pending.borrow();
        self.streams.retain(|stream| {
            let owes =
                !stream.finished || pending.on_stream(stream.id) > 0 || !outgoing.is_stream_empty(stream.id);
            if !owes {
                transport.finish(stream.id);
                outgoing.remove_stream(stream.id);
            }
            owes
        });
    }
}
