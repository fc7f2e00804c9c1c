//! One byte stream, TCP or QUIC: frames in, frames out.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};

use crate::answer::Answer;
use crate::go_away::GoAway;
use crate::handover::Handover;
use crate::pushes::{Push, PushSender};
use crate::state::ConnectionState;
use gateway_net::limits::{KIB, READ_CHUNK};
use gateway_wire::close::CloseReason;
use gateway_wire::frame::{self, Frame, FrameDecoder, Opcode};
use gateway_wire::packet::{self, BASIC_GO_AWAY, BASIC_PING, BASIC_PONG, Encoded, LogicPacket, Packet};
use gateway_wire::pb;

/// Largest frame a client accepts, bytes: what a logic service may send.
pub(super) const MAX_FRAME: usize = 16 * 1024 * KIB;

/// Frames queued for one stream; then senders wait.
pub(super) const WRITE_QUEUE: usize = 256;

/// Frames taken from the queue at once.
const WRITE_BATCH: usize = 64;

/// Bytes gathered for one write; a larger body is written by itself.
const WRITE_GATHER: usize = 16 * KIB;

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

/// Reads frames until the stream ends.
pub(super) async fn read(
    mut from: impl AsyncRead + Unpin,
    state: Arc<ConnectionState>,
    replies: Option<mpsc::Sender<Write>>,
    pushes: PushSender,
) -> StreamEnd {
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    let mut chunk = BytesMut::new();
    loop {
        chunk.reserve(READ_CHUNK);
        match from.read_buf(&mut chunk).await {
            Ok(0) => return StreamEnd::Finished,
            Ok(_) => state.note_read(),
            Err(error) => return StreamEnd::Failed(error),
        }
        decoder.push(chunk.split().freeze());
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return StreamEnd::Violated,
            };
            if let Some(ended) = take(frame, &state, replies.as_ref(), &pushes).await {
                return ended;
            }
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
                    state.go_away(told);
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
pub(super) async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Write>,
) -> io::Result<()> {
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    let mut gathered = Vec::with_capacity(WRITE_GATHER);
    while queue.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        for order in batch.drain(..) {
            match order {
                Write::Packet(frame) => gather(&mut to, &mut gathered, frame).await?,
                Write::Request { frame, handover } => {
                    if handover.hand_over() {
                        gather(&mut to, &mut gathered, frame).await?;
                    }
                }
                Write::Last { bytes, done } => {
                    gathered.extend_from_slice(&bytes);
                    to.write_all(&gathered).await?;
                    to.flush().await?;
                    to.shutdown().await?;
                    let _ = done.send(());
                    return Ok(());
                }
            }
        }
        to.write_all(&gathered).await?;
        to.flush().await?;
        gathered.clear();
    }
    Ok(())
}

/// Puts a frame behind what is gathered, which is written when there is no room for it.
async fn gather(
    to: &mut (impl AsyncWrite + Unpin),
    gathered: &mut Vec<u8>,
    frame: Encoded,
) -> io::Result<()> {
    for piece in [frame.head, frame.body] {
        if gathered.len() + piece.len() > WRITE_GATHER {
            to.write_all(gathered).await?;
            gathered.clear();
        }
        if piece.len() > WRITE_GATHER {
            to.write_all(&piece).await?;
        } else {
            gathered.extend_from_slice(&piece);
        }
    }
    Ok(())
}
