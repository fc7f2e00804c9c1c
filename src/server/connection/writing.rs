//! The writing half of a turn: whatever streams have room get what is queued for them, and none is awaited.

use std::task::{Context, Poll};

use super::{Connection, Phase};
use crate::server::transport::{Flushed, Transport, Wrote};
use crate::session::outgoing::LaneId;
use crate::wire::close::CloseReason;

impl<T: Transport> Connection<T> {
    /// Writes until every stream is empty or takes no more.
    pub(super) fn write_turn(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        self.write_ready(cx)?;
        // The login response is with the transport: pushes may follow, on their own stream if it is granted now.
        // Not earlier: a push on another stream could reach the client before its answer was even sent (row B22).
        let is_open = matches!(self.phase, Phase::Open | Phase::Draining);
        if is_open && !self.has_push_lane && self.outgoing.is_login_written() {
            self.has_push_lane = true;
            let lane = self.transport.open_push_lane(cx);
            if lane == LaneId::PUSH {
                self.outgoing.add_lane(lane);
            }
            self.outgoing.set_push_lane(lane);
            self.write_ready(cx)?;
        }
        self.flush(cx)?;
        self.finish_lanes();
        Ok(())
    }

    /// What the transport holds back is no longer queued, but a client that takes nothing of it stalls all the same.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let stalled = self.stalled.iter_mut().find(|(lane, _)| *lane == LaneId::LOGIN);
        match (self.transport.flush(cx)?, stalled) {
            (Flushed::All, Some(_)) if self.outgoing.is_lane_empty(LaneId::LOGIN) => {
                self.stalled.retain(|(lane, _)| *lane != LaneId::LOGIN);
            }
            (Flushed::Part, Some((_, since))) => *since = self.now,
            (Flushed::Part | Flushed::Nothing, None) => self.stalled.push((LaneId::LOGIN, self.now)),
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
            let count = outgoing.lane_count();
            for step in 0..count {
                let Some(lane) = outgoing.lane_at((self.first_to_write + step) % count) else { break };
                if outgoing.is_lane_empty(lane) {
                    continue;
                }
                match self.write_lane(lane, cx)? {
                    Some(Wrote::Bytes(written)) => {
                        outgoing.advance(lane, written);
                        // Any byte taken is progress. How much is judged by the bounds of what waits, not by this clock.
                        self.stalled.retain(|(stalled, _)| *stalled != lane);
                        wrote = true;
                    }
                    Some(Wrote::Stopped) => {
                        self.lane_stopped(lane)?;
                        // The others have moved.
                        wrote = true;
                        break;
                    }
                    // The clock runs from the first refusal: asking again must not set it back.
                    None if self.stalled.iter().any(|(stalled, _)| *stalled == lane) => {}
                    None => self.stalled.push((lane, self.now)),
                }
            }
            self.first_to_write = (self.first_to_write + 1) % count.max(1);
        }
        Ok(())
    }

    fn write_lane(&mut self, lane: LaneId, cx: &mut Context<'_>) -> Result<Option<Wrote>, CloseReason> {
        let transport = &mut self.transport;
        match self.outgoing.write_with(lane, |frames| transport.poll_write(lane, frames, cx)) {
            Poll::Ready(wrote) => wrote.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The client wants nothing more on this stream. Without its push stream, or stream 0, a channel cannot go on
    /// (G2); of any other stream only the answers are lost.
    fn lane_stopped(&mut self, lane: LaneId) -> Result<(), CloseReason> {
        match lane {
            LaneId::PUSH => Err(CloseReason::SlowConsumer),
            LaneId::LOGIN => Err(CloseReason::PeerClosed),
            other => {
                self.lanes.retain(|lane| lane.id != other);
                self.transport.reset(other, CloseReason::Bye);
                self.forget_lane(other);
                Ok(())
            }
        }
    }

    /// A stream the client finished is finished in turn once it owes nothing (protocol §7).
    fn finish_lanes(&mut self) {
        if !self.lanes.iter().any(|lane| lane.finished) {
            return;
        }
        let Some(guard) = &self.guard else { return };
        let (outgoing, transport) = (&self.outgoing, &mut self.transport);
        // `retain` runs nothing of others, so the borrow cannot meet another one.
        let pending = guard.channel.pending.borrow();
        self.lanes.retain(|lane| {
            let owes = !lane.finished || pending.on_lane(lane.id) > 0 || !outgoing.is_lane_empty(lane.id);
            if !owes {
                transport.finish(lane.id);
                outgoing.remove_lane(lane.id);
            }
            owes
        });
    }
}
