//! One stream of frames, whatever carries them: what each asks for is done, and what is queued is written.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use crate::answer::Answer;
use crate::go_away::{self, GoAway};
use crate::handover::Handover;
use crate::pushes::{Push, PushSender};
use crate::state::ConnectionState;
use gateway_net::limits::KIB;
use gateway_wire::close::CloseReason;
use gateway_wire::frame::{self, Frame, Opcode};
use gateway_wire::packet::{self, BASIC_GO_AWAY, BASIC_PING, BASIC_PONG, Encoded, LogicPacket, Packet};
use gateway_wire::pb;

/// Largest frame a client accepts, bytes: what a logic service may send.
pub(super) const MAX_FRAME: usize = 16 * 1024 * KIB;

/// Frames queued for one stream; then senders wait.
pub(super) const WRITE_QUEUE: usize = 256;

/// Frames taken from the queue at once.
const WRITE_BATCH: usize = 64;

/// How a stream ended.
#[derive(Debug)]
pub(super) enum StreamEnd {
    /// The peer finished it.
    Finished,
    /// A close frame came.
    Closed(CloseReason),
    /// It broke.
    Failed(io::Error),
    /// The peer sent what is not this protocol.
    Violated,
}

/// An order to a writer.
#[derive(Debug)]
pub(super) enum Write {
    /// One frame, or any bytes.
    Packet(Encoded),
    /// A request, unless its sender has taken it back.
    Request { frame: Encoded, handover: Arc<Handover> },
    /// The last bytes. `done` is told when they, and all before them, were handed to the transport.
    Last { bytes: Bytes, done: oneshot::Sender<()> },
}

/// Where frames come from.
pub(super) trait FrameSource: Send {
    /// The next frame, or how the stream ended. What arrives is noted in `state`. Not cancel safe.
    fn next_frame(
        &mut self,
        state: &ConnectionState,
    ) -> impl Future<Output = Result<Frame, StreamEnd>> + Send;
}

/// Where frames go.
pub(super) trait FrameSink: Send {
    /// Takes a frame; it may wait for others until [`flush`](Self::flush). Not cancel safe, as all of these.
    fn put(&mut self, frame: Encoded) -> impl Future<Output = io::Result<()>> + Send;

    /// Hands everything that was taken to the transport.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends the stream: nothing follows.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Reads frames until the stream ends.
pub(super) async fn read(
    mut from: impl FrameSource,
    state: Arc<ConnectionState>,
    replies: Option<mpsc::Sender<Write>>,
    pushes: PushSender,
) -> StreamEnd {
    loop {
        let frame = match from.next_frame(&state).await {
            Ok(frame) => frame,
            Err(ended) => return ended,
        };
        if let Some(ended) = take(frame, &state, replies.as_ref(), &pushes).await {
            return ended;
        }
    }
}

/// Does what one frame asks for; an end when it ends the stream.
async fn take(
    frame: Frame,
    state: &ConnectionState,
    replies: Option<&mpsc::Sender<Write>>,
    pushes: &PushSender,
) -> Option<StreamEnd> {
    match frame.opcode {
        Opcode::Ping => pong(frame::encode(Opcode::Pong, &frame.payload), state, replies),
        Opcode::Pong => state.count(|counts| counts.frame_pongs += 1),
        Opcode::Close => {
            let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            let reason = code.map_or(CloseReason::PeerClosed, |code| CloseReason::from_any_code(code.into()));
            return Some(StreamEnd::Closed(reason));
        }
        Opcode::Text | Opcode::Continuation | Opcode::Unknown => return Some(StreamEnd::Violated),
        Opcode::Binary => match Packet::decode(&frame.payload) {
            Ok(Packet::Basic { dialect, code: BASIC_PING, .. }) => {
                pong(packet::encode_basic(dialect, BASIC_PONG), state, replies);
            }
            Ok(Packet::Basic { code: BASIC_GO_AWAY, body, .. }) => {
                if let Some(told) = GoAway::from_body(&body) {
                    state.go_away(told, go_away::go_to(&body));
                }
            }
            Ok(Packet::Basic { code: BASIC_PONG, .. }) => state.count(|counts| counts.basic_pongs += 1),
            // Other codes are for clients that know more than this one.
            Ok(Packet::Basic { .. }) => {}
            Ok(Packet::Logic(packet)) => return deliver(packet, state, pushes).await,
            Err(_) => return Some(StreamEnd::Violated),
        },
    }
    None
}

/// Gives a packet to the request or the consumer it is for.
async fn deliver(packet: LogicPacket, state: &ConnectionState, pushes: &PushSender) -> Option<StreamEnd> {
    let Ok(header) = pb::Header::decode(packet.header) else { return Some(StreamEnd::Violated) };
    if header.flag == pb::Flag::Response as i32 {
        state.answer(Answer::new(header, packet.body));
    } else {
        // A push that carries flag Request by mistake of its sender is delivered all the same.
        let push = Push { header, body: packet.body };
        if let Some(kick) = push.kick() {
            state.kick(kick.channel_id);
        }
        pushes.send(push, state).await;
    }
    None
}

/// Answers a ping. With a full queue there is no answer: the gateway pings again, and waiting here could make both
/// ends wait for each other.
fn pong(frame: Bytes, state: &ConnectionState, replies: Option<&mpsc::Sender<Write>>) {
    let queued = replies.is_some_and(|to| to.try_send(Write::Packet(Encoded::whole(frame))).is_ok());
    if queued {
        state.count(|counts| counts.pings_answered += 1);
    }
}

/// Writes what is queued, several frames at once, until the stream breaks or the last bytes are out; it then finishes
/// the stream.
pub(super) async fn write(mut to: impl FrameSink, mut queue: mpsc::Receiver<Write>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        for order in batch.drain(..) {
            match order {
                Write::Packet(frame) => to.put(frame).await?,
                Write::Request { frame, handover } => {
                    if handover.hand_over() {
                        to.put(frame).await?;
                    }
                }
                Write::Last { bytes, done } => {
                    to.put(Encoded::whole(bytes)).await?;
                    to.flush().await?;
                    to.finish().await?;
                    let _ = done.send(());
                    return Ok(());
                }
            }
        }
        to.flush().await?;
    }
    Ok(())
}
