//! The task that owns a connection: its readers and writers, its heartbeat, its end.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::byte_stream::ByteSource;
use crate::handle::{ClientStream, StreamQueues, heartbeats};
use crate::options::Heartbeat;
use crate::pushes::{PushRoom, PushSender};
use crate::state::{CLOSE_FOLLOWS, ConnectionState};
use crate::stream::{self, StreamEnd, Write};
use crate::wire::{self, PushStream, Wire};
use gateway_net::limits::LINGER;
use gateway_wire::close::CloseReason;
use gateway_wire::frame::{self, Opcode};
use gateway_wire::packet::Encoded;

/// Heartbeat intervals without a byte after which the gateway is gone: before the third, two pings went unanswered.
const SILENT_BEATS: u32 = 3;

/// Which byte stream a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// Opened by the client; 0 is the login stream, on TCP the only one.
    Stream(usize),
    /// Opened by the gateway.
    Pushes,
}

/// The client's own heartbeat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heart {
    pub(super) interval: Option<Duration>,
    pub(super) kind: Heartbeat,
}

/// Ends when the peer has everything that was written to a stream, once that is finished, or wants no more of it.
pub(super) type Arrived = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is done when no close has followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lapse {
    /// One byte stream is over, and the requests on it get no answer.
    Stream(usize),
    /// The session was over with its login stream, probably for this reason.
    Session(CloseReason),
    /// The channel was kicked.
    Kicked,
}

/// Owns every task of a connection; dropped, it closes it. The wire is dropped first.
pub(super) struct Driver {
    pub(super) wire: Wire,
    pub(super) state: Arc<ConnectionState>,
    pub(super) queues: StreamQueues,
    pub(super) readers: JoinSet<(Source, StreamEnd)>,
    pub(super) writers: JoinSet<io::Result<()>>,
    /// Of each QUIC stream the client opened.
    pub(super) arrived: Vec<Arrived>,
    /// Signs of a close, and until when it is waited for; the earliest first.
    pub(super) signs: VecDeque<(Instant, Lapse)>,
    pub(super) stop: Arc<Notify>,
    /// For the reader of the stream the gateway has not opened yet.
    pub(super) pushes: Option<PushSender>,
    pub(super) push_room: PushRoom,
}

/// What ends a connection.
enum ConnectionEnd {
    /// The client wants to leave.
    Asked,
    /// The gateway closed it, or it broke.
    Peer(CloseReason),
    /// It has said that it kicked this client, and then did not close.
    Kicked,
    /// The gateway broke the protocol.
    Violated,
    /// Nothing was heard of the gateway.
    Silent,
}

impl Driver {
    pub(super) async fn run(mut self, heart: Heart) {
        match self.attend(heart).await {
            ConnectionEnd::Asked | ConnectionEnd::Kicked => self.leave(CloseReason::Bye).await,
            ConnectionEnd::Violated => self.leave(CloseReason::ProtocolError).await,
            ConnectionEnd::Silent => self.state.end(CloseReason::PeerLost),
            ConnectionEnd::Peer(reason) => self.drain(reason).await,
        }
    }

    /// Keeps the connection until something ends it.
    async fn attend(&mut self, heart: Heart) -> ConnectionEnd {
        let heart = beat(heart, Arc::clone(&self.state), self.queues.clone());
        tokio::pin!(heart);
        let state = Arc::clone(&self.state);
        let kicked = state.kicked();
        tokio::pin!(kicked);
        let mut is_kicked = false;
        loop {
            let sign = self.signs.front().copied();
            let (until, lapse) = sign.unwrap_or((Instant::now(), Lapse::Kicked));
            tokio::select! {
                () = self.stop.notified() => return ConnectionEnd::Asked,
                reason = self.wire.closed() => return ConnectionEnd::Peer(reason),
                Some(stream) = self.wire.accept_push_stream(), if self.pushes.is_some() => self.add_pushes(stream),
                Some(Ok((source, ended))) = self.readers.join_next() => {
                    if let Some(end) = self.reader_ended(source, ended) {
                        return end;
                    }
                }
                () = &mut kicked, if !is_kicked => {
                    is_kicked = true;
                    self.expect_close(Lapse::Kicked);
                }
                () = sleep_until(until), if sign.is_some() => {
                    self.signs.pop_front();
                    match lapse {
                        Lapse::Stream(index) => self.state.pending.fail_stream(index),
                        Lapse::Session(reason) => return ConnectionEnd::Peer(reason),
                        Lapse::Kicked => return ConnectionEnd::Kicked,
                    }
                }
                () = &mut heart => return ConnectionEnd::Silent,
            }
        }
    }

    fn add_pushes(&mut self, stream: PushStream) {
        if let Some(pushes) = self.pushes.take() {
            let reader = stream::read(ByteSource::new(stream), Arc::clone(&self.state), None, pushes);
            self.readers.spawn(async move { (Source::Pushes, reader.await) });
        }
    }

    fn expect_close(&mut self, lapse: Lapse) {
        self.signs.push_back((Instant::now() + CLOSE_FOLLOWS, lapse));
    }

    fn reader_ended(&mut self, source: Source, ended: StreamEnd) -> Option<ConnectionEnd> {
        match (source, ended) {
            (_, StreamEnd::Violated) => Some(ConnectionEnd::Violated),
            (_, StreamEnd::Closed(reason)) => Some(ConnectionEnd::Peer(reason)),
            (_, StreamEnd::Finished) if self.wire.is_one_stream() => {
                Some(ConnectionEnd::Peer(CloseReason::PeerClosed))
            }
            (_, StreamEnd::Failed(error)) if self.wire.is_one_stream() => {
                Some(ConnectionEnd::Peer(reason_of_io(&error)))
            }
            // The session is over with its login stream, and a gateway that closes ends the other streams as well: if
            // it does, its code says why there is no answer.
            (Source::Stream(0), ended) => {
                self.expect_close(Lapse::Session(reason_of_end(&ended)));
                None
            }
            (Source::Stream(index), _) => {
                self.expect_close(Lapse::Stream(index));
                None
            }
            (Source::Pushes, _) => None,
        }
    }

    /// The peer is gone: what arrived before is still delivered, then the end is told.
    async fn drain(&mut self, reason: CloseReason) {
        self.wire.close(CloseReason::Bye);
        // It may have been opened, filled and closed while the select looked elsewhere. The connection is over, so
        // this does not wait.
        if self.pushes.is_some()
            && let Some(stream) = self.wire.accept_push_stream().await
        {
            self.add_pushes(stream);
        }
        self.pushes = None;
        // What arrived is in memory already, and there may be a notice in it that says why.
        self.push_room.lift();
        let _ = timeout(LINGER, async { while self.readers.join_next().await.is_some() {} }).await;
        self.state.end(reason);
        if self.wire.answers_close() {
            let answer = frame::encode(Opcode::Close, &reason.payload());
            let _ = timeout(LINGER, flush(&self.queues, answer, &mut self.arrived)).await;
        }
    }

    /// Writes what is queued, says why, and waits a little for the peer.
    async fn leave(&mut self, reason: CloseReason) {
        // A gateway that broke the protocol is told so by the code alone.
        if self.wire.is_one_stream() || reason == CloseReason::Bye {
            let last = frame::encode(Opcode::Close, &reason.payload());
            let _ = timeout(LINGER, flush(&self.queues, last, &mut self.arrived)).await;
        }
        if self.wire.is_one_stream() {
            let _ = timeout(LINGER, self.readers.join_next()).await;
        } else {
            self.wire.close(reason);
            self.wire.flush().await;
        }
        self.state.end(reason);
    }
}

impl Drop for Driver {
    /// The last handle is gone: whoever still waits for an answer or a push is told.
    fn drop(&mut self) {
        self.state.end(CloseReason::Bye);
    }
}

/// A gateway that resets the login stream gives the code of the close that it wants to send.
fn reason_of_end(ended: &StreamEnd) -> CloseReason {
    let StreamEnd::Failed(error) = ended else { return CloseReason::PeerClosed };
    wire::reset_code(error).map_or(CloseReason::PeerClosed, CloseReason::from_any_code)
}

fn reason_of_io(error: &io::Error) -> CloseReason {
    match error.kind() {
        // The last is a FIN without TLS's own farewell.
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CloseReason::PeerClosed,
        _ => CloseReason::PeerLost,
    }
}

/// Writes what is queued and `last` on the login stream, behind all the rest: a QUIC close drops what is not there yet, and
/// the gateway reads nothing after `last`.
async fn flush(queues: &StreamQueues, last: Bytes, arrived: &mut [Arrived]) {
    for (index, stream) in queues.0.iter().enumerate().rev() {
        let bytes = if index == 0 { last.clone() } else { Bytes::new() };
        let (done, written) = oneshot::channel();
        if stream.send(Write::Last { bytes, done }).await.is_ok() {
            let _ = written.await;
        }
        if let Some(arrived) = arrived.get_mut(index) {
            arrived.await;
        }
    }
}

/// Sends heartbeats once the channel is open; returns when the gateway has been silent for too long.
async fn beat(heart: Heart, state: Arc<ConnectionState>, queues: StreamQueues) {
    let Some(interval) = heart.interval else { return pending().await };
    state.opened().await;
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = state.reads();
    let mut silent = 0;
    loop {
        ticks.tick().await;
        let reads = state.reads();
        silent = if reads != heard || state.is_held() { 0 } else { silent + 1 };
        heard = reads;
        if silent >= SILENT_BEATS {
            return;
        }
        for ping in heartbeats(heart.kind, state.dialect) {
            // With a full queue there is traffic enough to keep the session.
            let _ = queues.of(ClientStream::Heartbeat).try_send(Write::Packet(Encoded::whole(ping)));
        }
    }
}
