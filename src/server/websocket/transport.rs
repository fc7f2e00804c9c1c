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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::pin::Pin;
    use std::task::Waker;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::TcpStream;

    use super::*;
    use crate::wire::frame::{Opcode, head};

    /// A socket that takes as many bytes in each write as it is told; in one of 0, and behind the last, it takes none.
    #[derive(Debug, Default)]
    struct Narrow {
        takes: VecDeque<usize>,
        written: Vec<u8>,
        /// Under TLS: bytes of a record that went out, of which more is held back.
        of_record: Option<u64>,
    }

    impl AsyncRead for Narrow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let taken = self.takes.pop_front().unwrap_or(0).min(offered.len());
            self.written.extend(&offered[..taken]);
            if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.of_record.is_some() { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl TcpBased for Narrow {
        const KIND: metrics::Transport = metrics::Transport::Tcp;

        fn socket(&mut self) -> &mut TcpStream {
            unreachable!("nothing here concerns the connection")
        }

        fn taken(&self) -> Option<u64> {
            self.of_record
        }
    }

    /// A frame as it waits in a queue, its payload in two pieces, and as a client must see it.
    fn frame_of(opcode: Opcode, payload: &[u8], of_head: usize) -> (Encoded, Vec<u8>) {
        let of_head = of_head.min(payload.len());
        let whole = [&head(opcode, payload.len()), &payload[..of_head]].concat();
        let encoded = Encoded { head: whole.into(), body: Bytes::copy_from_slice(&payload[of_head..]) };
        let seen = [OwnHead::new(opcode, payload.len()).as_ref(), payload].concat();
        (encoded, seen)
    }

    /// Writes a queue as the driver does, until all is accounted for or the socket takes nothing more.
    fn write_all(ours: &mut WebSocketTransport<Narrow>, queue: &mut VecDeque<Encoded>) {
        let mut cx = Context::from_waker(Waker::noop());
        while !queue.is_empty() {
            let Poll::Ready(wrote) = ours.poll_write(StreamId::LOGIN, &mut queue.iter(), &mut cx) else {
                return;
            };
            let Wrote::Bytes(mut bytes) = wrote.unwrap() else { panic!("there are no streams to stop") };
            while bytes > 0 {
                bytes -= queue[0].advance(bytes);
                if queue[0].is_empty() {
                    queue.pop_front();
                }
            }
        }
    }

    fn flush(ours: &mut WebSocketTransport<Narrow>) -> Flushed {
        ours.flush(&mut Context::from_waker(Waker::noop())).unwrap()
    }

    /// What a client sees of these frames through a socket like this.
    fn seen(frames: &[Encoded], takes: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let socket = Narrow { takes: takes.into_iter().collect(), ..Narrow::default() };
        let mut ours = WebSocketTransport::new(socket);
        let mut queue: VecDeque<Encoded> = frames.iter().cloned().collect();
        while !queue.is_empty() || flush(&mut ours) != Flushed::All {
            let socket = ours.tcp.stream_mut();
            if socket.takes.is_empty() {
                socket.takes.push_back(usize::MAX);
            }
            write_all(&mut ours, &mut queue);
        }
        std::mem::take(&mut ours.tcp.stream_mut().written)
    }

    fn any_frame() -> impl Strategy<Value = (Encoded, Vec<u8>)> {
        let opcode = prop::sample::select(vec![Opcode::Binary, Opcode::Ping, Opcode::Pong]);
        let len = prop_oneof![8 => 0..300usize, 1 => 65_530..65_540usize];
        (opcode, len, 0..64usize, any::<u8>())
            .prop_map(|(opcode, len, of_head, fill)| frame_of(opcode, &vec![fill; len], of_head))
    }

    proptest! {
        #[test]
        fn frames_become_messages_whatever_a_socket_takes(
            frames in vec(any_frame(), 0..30),
            takes in vec(prop_oneof![4 => 0..12usize, 1 => 0..70_000usize], 0..60),
        ) {
            let (frames, expected): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
            prop_assert_eq!(seen(&frames, takes), expected.concat());
        }
    }

    /// In heads of each length, at their ends, and in both pieces of a frame.
    #[test]
    fn writes_may_end_at_any_byte() {
        let frames = [(Opcode::Pong, 0), (Opcode::Binary, 125), (Opcode::Binary, 126), (Opcode::Ping, 0)];
        let frames = frames.map(|(opcode, len)| frame_of(opcode, &vec![b'x'; len], 20));
        let (frames, expected): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
        let expected = expected.concat();
        for first in 1..expected.len() {
            assert_eq!(seen(&frames, [first, 0]), expected, "{first}");
            assert_eq!(seen(&frames, [first, 1, 0, 1]), expected, "{first}");
        }
        assert_eq!(seen(&frames, vec![1; expected.len()]), expected);
    }

    /// The last frame has left its queue when a part of its head is written: the rest must not wait for another one.
    #[test]
    fn d4_a_head_that_is_held_back_is_flushed_and_shows_whether_anything_is_taken() {
        let (pong, expected) = frame_of(Opcode::Pong, b"", 0);
        let mut ours = WebSocketTransport::new(Narrow { takes: [1].into(), ..Narrow::default() });
        let mut queue = VecDeque::from([pong]);
        write_all(&mut ours, &mut queue);
        assert!(queue.is_empty());
        assert_eq!(flush(&mut ours), Flushed::Nothing);
        ours.tcp.stream_mut().takes.push_back(1);
        assert_eq!(flush(&mut ours), Flushed::All);
        assert_eq!(ours.tcp.stream_mut().written, expected);

        let (large, _) = frame_of(Opcode::Binary, &[b'x'; 200], 0);
        let mut ours = WebSocketTransport::new(Narrow { takes: [1, 0, 1].into(), ..Narrow::default() });
        write_all(&mut ours, &mut VecDeque::from([large]));
        assert_eq!(flush(&mut ours), Flushed::Part, "a byte of the head");
        assert_eq!(flush(&mut ours), Flushed::Nothing);
    }

    #[test]
    fn d4_a_head_that_waits_behind_a_record_is_no_stall_while_the_record_is_taken() {
        let (pong, expected) = frame_of(Opcode::Pong, b"", 0);
        let mut ours = WebSocketTransport::new(Narrow { takes: [1].into(), ..Narrow::default() });
        write_all(&mut ours, &mut VecDeque::from([pong]));
        for (of_record, flushed) in [(1, Flushed::Part), (1, Flushed::Nothing), (2, Flushed::Part)] {
            ours.tcp.stream_mut().of_record = Some(of_record);
            assert_eq!(flush(&mut ours), flushed, "{of_record}");
        }
        *ours.tcp.stream_mut() = Narrow { takes: [1].into(), written: vec![0x8a], of_record: None };
        assert_eq!(flush(&mut ours), Flushed::All);
        assert_eq!(ours.tcp.stream_mut().written, expected);
    }
}
