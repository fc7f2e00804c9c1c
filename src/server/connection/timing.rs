//! The deadlines of a connection. Which one is next is computed anew each turn from what it bounds.

use std::time::Instant;

use super::{Connection, ConnectionPhase};
use crate::limits::{KEY_WAIT_MARGIN, PAUSED_LOOK};
use crate::monitor::metrics::{LoginResult, Reject};
use crate::server::transport::Transport;
use crate::session::outgoing::StreamId;
use crate::wire::close::CloseReason;

impl<T: Transport> Connection<T> {
    /// Acts on every deadline that has passed.
    pub(super) fn check_deadlines(&mut self) -> Result<(), CloseReason> {
        let limits = &self.limits;
        let now = self.now;
        if self.phase == ConnectionPhase::Login && now >= self.login_by {
            self.shared.metrics.reject(Reject::LoginTimeout);
            self.shared.metrics.login(LoginResult::Timeout);
            return Err(CloseReason::LoginTimeout);
        }
        if self.answers_due().is_some_and(|due| now >= due)
            && let Some(guard) = &self.guard
        {
            self.shared.handler.expire(&guard.channel, now);
        }
        if self.phase == ConnectionPhase::Open && now >= self.last_read + limits.read_idle {
            return Err(CloseReason::HeartbeatTimeout);
        }
        if self.token_expiry().is_some_and(|expiry| now >= expiry) {
            return Err(CloseReason::TokenExpired);
        }
        self.end_slow_frames()
    }

    /// A client is slow when it takes nothing for a while, or when more pushes wait for it than should for a while.
    /// Judged after a write was tried: it may be this worker that was late.
    pub(super) fn check_progress(&mut self) -> Result<(), CloseReason> {
        self.over_soft_bound =
            self.outgoing.is_over_soft_bound().then(|| self.over_soft_bound.unwrap_or(self.now));
        let limits = &self.limits;
        let stalled = self.stalled.iter().any(|(_, since)| self.now >= *since + limits.write_stall);
        let behind = self.over_soft_bound.is_some_and(|since| self.now >= since + limits.max_queued_time);
        if stalled || behind { Err(CloseReason::SlowConsumer) } else { Ok(()) }
    }

    /// A frame that stalls ends its stream; on stream 0, and on TCP, the connection (protocol §7).
    fn end_slow_frames(&mut self) -> Result<(), CloseReason> {
        if self.phase != ConnectionPhase::Open {
            return Ok(());
        }
        let deadline = self.limits.frame_deadline;
        let now = self.now;
        while let Some(position) = self
            .streams
            .iter()
            .position(|stream| stream.mid_frame_since.is_some_and(|since| now >= since + deadline))
        {
            self.shared.metrics.reject(Reject::SlowFrame);
            let stream = self.streams.remove(position);
            if stream.id == StreamId::LOGIN {
                return Err(CloseReason::ReadTimeout);
            }
            self.transport.reset(stream.id, CloseReason::ReadTimeout);
            self.forget_stream(stream.id);
        }
        Ok(())
    }

    /// When an open session is to end with its token (row B19).
    fn token_expiry(&self) -> Option<Instant> {
        self.guard.as_ref().filter(|_| self.phase == ConnectionPhase::Open)?.channel.expiry()
    }

    /// Until when a login may wait for its key.
    pub(super) fn key_by(&self) -> Instant {
        self.login_by.checked_sub(KEY_WAIT_MARGIN).unwrap_or(self.login_by)
    }

    /// When the oldest unanswered request has had its time.
    fn answers_due(&self) -> Option<Instant> {
        self.shared.handler.answer_due(&self.guard.as_ref()?.channel)
    }

    /// The earliest moment at which something has to be done although nothing happens.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let limits = &self.limits;
        let phase = match self.phase {
            ConnectionPhase::Login => Some(self.login_by),
            ConnectionPhase::AwaitingKey => Some(self.key_by()),
            ConnectionPhase::Open => Some(self.last_read + limits.read_idle),
            ConnectionPhase::Opening | ConnectionPhase::Draining => None,
        };
        let frames =
            self.streams.iter().filter_map(|stream| Some(stream.mid_frame_since? + limits.frame_deadline));
        let writes = self.stalled.iter().map(|(_, since)| *since + limits.write_stall);
        let pushes = self.over_soft_bound.map(|since| since + limits.max_queued_time);
        let reading = self.may_read().then(|| self.rate.resume_at(self.now)).flatten();
        // The end of a client that is not read from shows only when it is looked for, and so does room.
        let is_paused = !self.may_read() || self.streams_without_room() > 0 || self.a_frame_waits_for_room();
        let look = is_paused.then(|| self.now + PAUSED_LOOK);
        let open_frames = (self.phase == ConnectionPhase::Open).then_some(frames).into_iter().flatten();
        phase
            .into_iter()
            .chain(self.token_expiry())
            .chain(self.answers_due())
            .chain(open_frames)
            .chain(writes)
            .chain(pushes)
            .chain(reading)
            .chain(look)
            .min()
    }
}
