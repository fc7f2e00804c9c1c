//! A WebSocket as a transport with one stream: reading is TCP's, and what is queued as frames is written as messages.

use std::io::IoSlice;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::limits::SLICES_PER_WRITE;
use crate::monitor::metrics;
use crate::server::stream::Framing;
use crate::server::tcp_stream::TcpBased;
use crate::server::tcp_transport::TcpTransport;
use crate::server::transport::{CloseDetails, Flushed, Read, Transport, Wrote};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::frame::HEAD_LEN;
use crate::wire::packet::Encoded;
use crate::wire::websocket::{OwnHead, encode_close};
use gateway_net::gather::gather;

/// Frames in one write: each has a head and two pieces.
const FRAMES_PER_WRITE: usize = SLICES_PER_WRITE / 3;

/// A WebSocket; `S` is the socket or TLS over it.
///
/// A frame waits as it would go out on TCP, and only its head is replaced on the way. Where the socket takes a part of the
/// new head, all of the old one counts as written, and the rest of the new one is held back here.
#[derive(Debug)]
pub(crate) struct WebSocketTransport<S> {
    tcp: TcpTransport<S>,
    /// Bytes that are left of the frame that was begun.
    left: usize,
    held: OwnHead,
}

impl<S: TcpBased> WebSocketTransport<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { tcp: TcpTransport::new(stream), left: 0, held: OwnHead::NONE }
    }

    /// Writes what is held back; true if nothing is any more.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        while !self.held.as_ref().is_empty() {
            match self.tcp.poll_write_slices(&[IoSlice::new(self.held.as_ref())], cx)? {
                Poll::Ready(written) => self.held.advance(written),
                Poll::Pending => return Ok(false),
            }
        }
        Ok(true)
    }

    /// From bytes that were written to bytes of the frames they stand for.
    fn account_for(&mut self, messages: &[MessageUnderWay<'_>], mut written: usize) -> usize {
        let mut frames = 0;
        for message in messages {
            let head = message.head.as_ref().len();
            if written == 0 {
                break;
            }
            let of_head = written.min(head);
            let of_rest = (written - of_head).min(message.rest);
            written -= of_head + of_rest;
            frames += message.replaced + of_rest;
            self.left = message.rest - of_rest;
            self.held = message.head;
            self.held.advance(of_head);
        }
        frames
    }
}

/// A frame as it is about to be written.
#[derive(Clone, Copy)]
struct MessageUnderWay<'a> {
    frame: &'a Encoded,
    /// Empty if the frame was begun before.
    head: OwnHead,
    /// Bytes of the frame for which the head stands.
    replaced: usize,
    /// Bytes of the frame behind them.
    rest: usize,
}

impl<'a> MessageUnderWay<'a> {
    /// `begun`: a part of it was written before.
    fn new(frame: &'a Encoded, begun: bool) -> Self {
        let head = if begun { None } else { OwnHead::of_frame(&frame.head) };
        let replaced = if head.is_some() { HEAD_LEN } else { 0 };
        Self { frame, head: head.unwrap_or(OwnHead::NONE), replaced, rest: frame.len() - replaced }
    }

    fn pieces(&self) -> [&[u8]; 3] {
        let [head, body] = self.frame.pieces();
        [self.head.as_ref(), &head[self.replaced..], body]
    }
}

impl<S: TcpBased> Transport for WebSocketTransport<S> {
    fn kind(&self) -> metrics::Transport {
        match S::KIND {
            metrics::Transport::Tls => metrics::Transport::Wss,
            _ => metrics::Transport::Ws,
        }
    }

    fn framing(&self) -> Framing {
        Framing::WebSocket
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamId, CloseReason>> {
        self.tcp.poll_accept(cx)
    }

    fn poll_read(&mut self, stream: StreamId, cx: &mut Context<'_>) -> Poll<Result<Read, CloseReason>> {
        self.tcp.poll_read(stream, cx)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.tcp.poll_gone(cx)
    }

    fn poll_write(
        &mut self,
        _stream: StreamId,
        frames: &mut dyn Iterator<Item = &Encoded>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Wrote, CloseReason>> {
        if !self.poll_held(cx)? {
            return Poll::Pending;
        }
        // On the stack: a write allocates nothing.
        let Some(first) = frames.next() else { return Poll::Pending };
        let mut messages = [MessageUnderWay::new(first, self.left > 0); FRAMES_PER_WRITE];
        let mut count = 1;
        for (place, frame) in messages[1..].iter_mut().zip(frames) {
            *place = MessageUnderWay::new(frame, false);
            count += 1;
        }
        let messages = &messages[..count];
        let mut slots = [IoSlice::new(&[]); SLICES_PER_WRITE];
        let slices = gather(&mut slots, messages.iter().flat_map(MessageUnderWay::pieces));
        let written = std::task::ready!(self.tcp.poll_write_slices(slices, cx))?;
        Poll::Ready(Ok(Wrote::Bytes(self.account_for(messages, written))))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<Flushed, CloseReason> {
        // What TLS holds back is ahead of the head, and shows what the client takes.
        let below = self.tcp.flush(cx)?;
        if below != Flushed::All || self.held.as_ref().is_empty() {
            return Ok(below);
        }
        let before = self.held;
        if self.poll_held(cx)? {
            return self.tcp.flush(cx);
        }
        Ok(if self.held == before { Flushed::Nothing } else { Flushed::Part })
    }

    fn open_push_stream(&mut self, cx: &mut Context<'_>) -> StreamId {
        self.tcp.open_push_stream(cx)
    }

    fn finish(&mut self, _stream: StreamId) {}

    fn reset(&mut self, _stream: StreamId, _reason: CloseReason) {}

    async fn close(self, details: CloseDetails) {
        // Whoever said goodbye is answered (RFC 6455 section 5.5.1); who is gone without a word is told nothing.
        let has_code = details.reason.code().is_some();
        let answers = details.flushed && !details.say_why;
        let words = if answers {
            encode_close(CloseReason::Bye)
        } else if details.say_why && has_code {
            encode_close(details.reason)
        } else {
            Bytes::new()
        };
        self.tcp.close_with(words, details).await;
    }
}
