//! The end of a connection: what is queued is flushed, the client is told why, the login service is told once.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::{timeout, timeout_at};

use super::{Connection, ConnectionPhase};
use crate::handler::get_ip;
use crate::limits::FLUSH;
use crate::monitor::metrics::{LoginResult, Transport as Label};
use crate::server::admission::Newcomer;
use crate::server::transport::{CloseDetails, Flushed, Transport};
use crate::wire::close::CloseReason;

impl<T: Transport> Connection<T> {
    /// Flush, sign-out, close: in this order, so that the last answer is never destroyed (protocol §8). The channel
    /// takes no push from its first line on.
    pub(super) async fn end(mut self, reason: CloseReason) {
        self.outgoing.close(reason);
        let flush_by = Instant::now() + FLUSH;
        // Nothing is read any more, and the end may take its time.
        self.streams.clear();
        self.outgoing.partial.set(0);
        self.admitted.set_reason(self.outgoing.closing().unwrap_or(reason));
        // The guard is kept until behind this: were the future dropped here, it would still sign the client out.
        let flushed = self.flush_until(flush_by).await;
        // A kick that came meanwhile stands above a drain.
        let reason = self.outgoing.closing().unwrap_or(reason);
        self.admitted.set_reason(reason);
        let peer = get_ip(self.peer);
        let channel = self.guard.as_ref().map(|guard| &*guard.channel);
        let (log, kind, now) = (&self.shared.log, self.transport.kind(), Instant::now());
        log.close(channel, reason, kind, &peer, now);
        if let Some(channel) = channel {
            self.shared.closes.note(channel, reason, kind, self.peer, now);
        }
        if let Some(mut guard) = self.guard.take() {
            if self.phase == ConnectionPhase::Opening && guard.channel.is_opening() {
                self.shared.metrics.login(LoginResult::Abandoned);
            }
            guard.set_reason(reason);
            // The sign-out is placed before the close, which may linger: the login service need not wait for a peer.
            drop(guard);
        }
        if self.awaited_key.is_some() {
            self.shared.metrics.login(LoginResult::Abandoned);
        }
        let say_why = flushed && !self.said_goodbye;
        // Who makes room for others is not waited for.
        let lingers = !self.newcomer.as_ref().is_some_and(Newcomer::is_leaving);
        self.transport.close(CloseDetails { reason, flushed, flush_by, say_why, lingers }).await;
    }

    /// Writes all that is queued, or at least what the reason for the close can follow. Returns `true` if it is written.
    async fn flush_until(&mut self, by: Instant) -> bool {
        if !self.outgoing.closing().is_none_or(is_worth_a_flush) || self.outgoing.is_torn() {
            return false;
        }
        let shared = Rc::clone(&self.shared);
        tokio::select! {
            // What can be written at once is, also when the time is over already.
            biased;
            flushed = self.flush_in_time(by) => flushed,
            () = shared.channels.flushing_over() => false,
        }
    }

    async fn flush_in_time(&mut self, by: Instant) -> bool {
        match timeout_at(by.into(), poll_fn(|cx| self.poll_flushed(cx))).await {
            Ok(flushed) => flushed.is_ok(),
            // Its close does not go behind what is queued.
            Err(_late) if self.transport.kind() == Label::Quic => false,
            Err(_late) => {
                // A frame that has begun must end, or the close frame would be read as a part of it.
                self.outgoing.discard_unbegun();
                matches!(timeout(FLUSH, poll_fn(|cx| self.poll_flushed(cx))).await, Ok(Ok(())))
            }
        }
    }

    /// Writes until nothing is queued, nor held back by the transport.
    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        self.outgoing.begin_poll(cx);
        let result = self.drive_write(cx);
        self.outgoing.end_poll();
        result?;
        let all_gone = self.outgoing.is_empty() && self.transport.flush(cx)? == Flushed::All;
        if all_gone { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// A client that takes nothing, or is lost, is not waited for. One that has finished its side may still read.
const fn is_worth_a_flush(reason: CloseReason) -> bool {
    !matches!(reason, CloseReason::SlowConsumer | CloseReason::PeerLost)
}
