//! The reading half of a turn: streams, frames, packets.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Again, Connection, ConnectionPhase};
use crate::handler::{Acceptance, Arrival};
use crate::limits::FRAMES_PER_TURN;
use crate::monitor::metrics::{self as monitor, Heartbeat, Reject};
use crate::packet_trace::TracedPacket;
use crate::server::stream::InboundStream;
use crate::server::transport::{Read, Transport};
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Frame, FrameError, Opcode};
use crate::wire::packet::{self, Packet, PacketError};

/// Period of the bound on opened streams.
const MINUTE: Duration = Duration::from_secs(60);

impl<T: Transport> Connection<T> {
    pub(super) fn accept_streams(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        while let Poll::Ready(stream) = self.transport.poll_accept(cx) {
            let id = stream?;
            let allowed = self.limits.quic_streams_per_minute as usize;
            if allowed > 0 && self.streams_opened.add(self.now, MINUTE) > allowed {
                self.shared.metrics.reject(Reject::StreamAbuse);
                return Err(CloseReason::Abuse);
            }
            self.outgoing.add_stream(id);
            let limits = &self.limits;
            let is_open = matches!(self.phase, ConnectionPhase::Open | ConnectionPhase::Draining);
            let max = if is_open { limits.max_frame } else { limits.max_frame_before_login };
            if self.streams.is_empty() {
                // Most connections have one for all of their life.
                self.streams.reserve_exact(1);
            }
            self.streams.push(InboundStream::new(id, self.transport.framing(), max));
        }
        Ok(())
    }

    /// Opening channels are not read. What a draining one reads is answered 300: its client need not guess.
    pub(super) fn may_read(&self) -> bool {
        !matches!(self.phase, ConnectionPhase::AwaitingKey | ConnectionPhase::Opening)
    }

    /// A stream whose answers are not taken is not read; the others are.
    fn may_read_stream(&self, id: StreamId) -> bool {
        self.may_read() && self.outgoing.has_room(id)
    }

    pub(super) fn streams_without_room(&self) -> usize {
        self.streams.iter().filter(|stream| !self.outgoing.has_room(stream.id)).count()
    }

    /// A frame of which a large part has come waits for its end until the process has room again (row A15). Its clock
    /// runs on, or those who keep the room could keep it for ever. The small ones of everybody else are read.
    fn waits_for_room(&self, position: usize) -> bool {
        let kept = self.limits.max_frame_before_login;
        self.streams[position].decoder.buffered() > kept && self.shared.handler.frames_wait()
    }

    pub(super) fn a_frame_waits_for_room(&self) -> bool {
        (0..self.streams.len()).any(|position| self.waits_for_room(position))
    }

    pub(super) fn drive_read(&mut self, cx: &mut Context<'_>) -> Result<Again, CloseReason> {
        if !self.may_read() || self.rate.resume_at(self.now).is_some() {
            // The clocks of the client's silence do not run while it is the gateway that does not listen.
            self.last_read = self.now;
            for stream in &mut self.streams {
                stream.mid_frame_since = stream.mid_frame_since.map(|_| self.now);
            }
            return self.listen_for_the_end(cx).map(|()| false);
        }
        self.hold_clocks_without_room();
        let mut budget = FRAMES_PER_TURN;
        let mut position = 0;
        while position < self.streams.len() {
            let id = self.streams[position].id;
            if matches!(self.phase, ConnectionPhase::Open | ConnectionPhase::Draining)
                || id == StreamId::LOGIN
            {
                if self.read_stream(position, &mut budget, cx)? {
                    // The streams behind it go first next time.
                    self.streams.rotate_left(position + 1);
                    return Ok(true);
                }
                // Reading may have removed it, and another one has moved to its position.
                if self.streams.get(position).is_none_or(|stream| stream.id != id) {
                    continue;
                }
            }
            position += 1;
        }
        if !self.may_read() || !self.outgoing.has_room(StreamId::LOGIN) {
            // It may have become so within this turn: nothing else would wake the task at the client's end.
            self.listen_for_the_end(cx)?;
        } else if self.a_frame_waits_for_room()
            && let Poll::Ready(reason) = self.transport.poll_gone(cx)
        {
            return Err(reason);
        }
        Ok(false)
    }

    /// The clocks of a client's silence do not run for a stream that is not read.
    fn hold_clocks_without_room(&mut self) {
        for stream in &mut self.streams {
            if !self.outgoing.has_room(stream.id) {
                self.last_read = self.now;
                stream.mid_frame_since = stream.mid_frame_since.map(|_| self.now);
            }
        }
    }

    /// While nothing is read from the client, its end must be seen all the same. A bounded amount is taken in and kept,
    /// because the end of a stream shows only behind its last byte.
    fn listen_for_the_end(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        if let Poll::Ready(reason) = self.transport.poll_gone(cx) {
            return Err(reason);
        }
        let kept = self.limits.max_frame_before_login;
        while let Some(login) = self.streams.iter_mut().find(|stream| stream.id == StreamId::LOGIN)
            && login.decoder.buffered() < kept
            && let Poll::Ready(read) = self.transport.poll_read(StreamId::LOGIN, cx)
        {
            match read? {
                Read::Data(bytes) => login.decoder.push(bytes),
                Read::Finished | Read::Reset => return Err(CloseReason::PeerClosed),
            }
        }
        Ok(())
    }

    /// Reads one stream until it is empty; true when the turn is over first.
    fn read_stream(
        &mut self,
        position: usize,
        budget: &mut usize,
        cx: &mut Context<'_>,
    ) -> Result<Again, CloseReason> {
        loop {
            let id = self.streams[position].id;
            if !self.may_read_stream(id) {
                return Ok(false);
            }
            if *budget == 0 {
                return Ok(true);
            }
            let stream = &mut self.streams[position];
            match stream.decoder.next_frame() {
                Ok(Some(frame)) => {
                    *budget -= 1;
                    // Reset per frame and not per read: bytes that drip must not move a frame's deadline (row D11). Nor
                    // must what comes between the fragments of a message.
                    if !stream.decoder.is_mid_message() {
                        stream.mid_frame_since = None;
                    }
                    self.take_frame(position, frame)?;
                    continue;
                }
                // What is incomplete stays so, and no clock runs for it.
                Ok(None) if stream.finished => return Ok(false),
                Ok(None) => stream.note_progress(self.now),
                Err(error) => return Err(self.refuse_frame(error)),
            }
            if self.waits_for_room(position) {
                return Ok(false);
            }
            match self.transport.poll_read(id, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(reason)) => {
                    self.note_truncated(position);
                    return Err(reason);
                }
                Poll::Ready(Ok(read)) => match read {
                    Read::Data(bytes) => self.streams[position].decoder.push(bytes),
                    Read::Finished => self.stream_finished(position)?,
                    Read::Reset => return self.stream_reset(position).map(|()| false),
                },
            }
        }
    }

    /// Finishing stream 0, or a TCP FIN, ends the session; any other stream only itself (protocol §7).
    fn stream_finished(&mut self, position: usize) -> Result<(), CloseReason> {
        self.note_truncated(position);
        let stream = &mut self.streams[position];
        stream.finished = true;
        stream.mid_frame_since = None;
        if stream.id == StreamId::LOGIN { Err(CloseReason::PeerClosed) } else { Ok(()) }
    }

    /// A stream that ends in the middle of a frame (row A5).
    fn note_truncated(&self, position: usize) {
        if self.streams[position].decoder.is_mid_frame() {
            self.shared.metrics.reject(Reject::Truncated);
        }
    }

    fn stream_reset(&mut self, position: usize) -> Result<(), CloseReason> {
        self.note_truncated(position);
        let stream = self.streams.remove(position);
        if stream.id == StreamId::LOGIN {
            return Err(CloseReason::PeerClosed);
        }
        // The client wants no answers there either: what is pending for it is dropped when it comes.
        self.transport.reset(stream.id, CloseReason::Bye);
        self.forget_stream(stream.id);
        Ok(())
    }

    /// What was queued for a stream is lost with it, and counted.
    pub(super) fn forget_stream(&mut self, id: StreamId) {
        for _ in 0..self.outgoing.remove_stream(id) {
            self.shared.metrics.reject(Reject::StreamReset);
        }
        self.stalled.retain(|(stream, _)| *stream != id);
    }

    fn refuse_frame(&self, error: FrameError) -> CloseReason {
        let (reject, reason) = match error {
            FrameError::BadOpcode(_) => (Reject::BadOpcode, CloseReason::ProtocolError),
            FrameError::TooBig { .. } => (Reject::FrameTooBig, CloseReason::FrameTooBig),
            FrameError::Malformed(_) => (Reject::BadWebSocketFrame, CloseReason::ProtocolError),
        };
        self.shared.metrics.reject(reject);
        reason
    }

    fn take_frame(&mut self, position: usize, frame: Frame) -> Result<(), CloseReason> {
        let InboundStream { id: stream, decoder, .. } = &self.streams[position];
        let stream = *stream;
        self.last_read = self.now;
        self.rate.charge(decoder.overhead() + frame.payload.len(), self.now);
        let metrics = &self.shared.metrics;
        match frame.opcode {
            Opcode::Binary if frame.payload.is_empty() => metrics.reject(Reject::EmptyFrame),
            Opcode::Binary => return self.take_packet(stream, &frame),
            Opcode::Ping => {
                metrics.heartbeat(Heartbeat::Frame);
                self.trace_heartbeat();
                let _closing =
                    self.outgoing.reply(stream, frame::encode(Opcode::Pong, &frame.payload).into());
            }
            Opcode::Pong => {}
            Opcode::Close => {
                // A close frame in return would say nothing new (protocol §8).
                self.said_goodbye = true;
                return Err(decoder.reason_of_close(&frame.payload));
            }
            Opcode::Text | Opcode::Continuation | Opcode::Unknown => {
                metrics.reject(Reject::BadOpcode);
                return Err(CloseReason::ProtocolError);
            }
        }
        Ok(())
    }

    fn trace_heartbeat(&self) {
        if let Some(guard) = &self.guard {
            self.shared.channels.trace(&guard.channel, TracedPacket::heartbeat);
        }
    }

    fn take_packet(&mut self, stream: StreamId, frame: &Frame) -> Result<(), CloseReason> {
        let metrics = &self.shared.metrics;
        let packet = Packet::decode(&frame.payload).map_err(|error| {
            metrics.reject(match error {
                PacketError::BadMagic => Reject::BadMagic,
                PacketError::BadLength => Reject::BadLength,
            });
            CloseReason::ProtocolError
        })?;
        let dialect = match &packet {
            Packet::Basic { dialect, .. } => *dialect,
            Packet::Logic(packet) => packet.dialect,
        };
        // The first packet decides. A peer that changes is none of ours, or its framing is lost (row A7).
        if *self.dialect.get_or_insert(dialect) != dialect {
            metrics.reject(Reject::BadMagic);
            return Err(CloseReason::ProtocolError);
        }
        match (packet, &self.guard) {
            (Packet::Logic(packet), Some(guard)) => {
                let (handler, channel) = (&self.shared.handler, &guard.channel);
                let now_unix = || self.shared.now_unix();
                handler.receive(channel, stream, &packet, self.now, now_unix, &mut self.strikes)
            }
            (Packet::Logic(packet), None) => self.sign_in(packet, None),
            (Packet::Basic { .. }, None) => {
                metrics.reject(Reject::NotLoggedIn);
                Err(CloseReason::NotLoggedIn)
            }
            (Packet::Basic { code: packet::BASIC_PING, .. }, Some(_)) => {
                metrics.heartbeat(Heartbeat::Basic);
                self.trace_heartbeat();
                let pong = packet::encode_basic(dialect, packet::BASIC_PONG);
                let _closing = self.outgoing.reply(stream, pong.into());
                Ok(())
            }
            (Packet::Basic { .. }, Some(_)) => {
                metrics.reject(Reject::BasicIgnored);
                Ok(())
            }
        }
    }

    /// Goes on with a login that waits for its key, once the fetch has ended or there is no more time to wait.
    pub(super) fn look_at_key(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let is_late = self.now >= self.key_by();
        let Some(awaited) = &mut self.awaited_key else { return Ok(()) };
        let fetched = match awaited.end.as_mut().poll(cx) {
            Poll::Ready(end) => end.is_good,
            Poll::Pending if is_late => false,
            Poll::Pending => return Ok(()),
        };
        let Some(awaited) = self.awaited_key.take() else { return Ok(()) };
        self.sign_in(awaited.packet, Some(fetched))
    }

    fn sign_in(&mut self, packet: packet::LogicPacket, fetched: Option<bool>) -> Result<(), CloseReason> {
        let now_unix = self.shared.now_unix();
        let (outgoing, peer, now) = (&self.outgoing, self.peer, self.now);
        let transport = self.transport.kind();
        let arrival = Arrival { packet, peer, transport, outgoing, now, now_unix, fetched };
        let guard = match self.shared.handler.accept(arrival)? {
            Acceptance::Channel(guard) => guard,
            Acceptance::AwaitsKey(awaited) => {
                self.awaited_key = Some(awaited);
                self.phase = ConnectionPhase::AwaitingKey;
                return Ok(());
            }
        };
        #[cfg(feature = "faults")]
        crate::faults::on_login(&guard.channel.identity.account);
        // All clients over QUIC are ours; those on TCP may be older ones that end on an unknown packet.
        if transport == monitor::Transport::Quic {
            guard.channel.set_knows_go_away();
        }
        self.connected.signs_in(&guard.channel);
        self.guard = Some(guard);
        self.phase = ConnectionPhase::Opening;
        // Its memory is a session's from here on, and strangers cannot push it out (row H11).
        self.newcomer = None;
        Ok(())
    }
}
