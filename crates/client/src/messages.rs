//! Frames as WebSocket messages (protocol §1): a packet is a binary message; ping, pong and close are WebSocket's own.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError, protocol::CloseFrame};

use crate::state::ConnectionState;
use crate::stream::{FrameSink, FrameSource, MAX_FRAME, StreamEnd};
use gateway_wire::close::CloseReason;
use gateway_wire::frame::{Frame, FrameDecoder, Opcode};
use gateway_wire::packet::Encoded;

/// Longest payload of a control frame, bytes (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// Reads messages. Pings are answered by whoever takes the frames, as on the other transports.
pub(super) struct MessageSource<S>(pub(super) WebSocketStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> FrameSource for MessageSource<S> {
    async fn next_frame(&mut self, state: &ConnectionState) -> Result<Frame, StreamEnd> {
        match self.0.next().await {
            Some(Ok(message)) => {
                state.note_read();
                frame_of(message).ok_or(StreamEnd::Violated)
            }
            None | Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                Err(StreamEnd::Finished)
            }
            Some(Err(Error::Io(error))) => Err(StreamEnd::Failed(error)),
            Some(Err(_)) => Err(StreamEnd::Violated),
        }
    }
}

/// Writes frames, one message each.
pub(super) struct MessageSink<S> {
    to: WebSocketStream<S>,
    decoder: FrameDecoder,
}

impl<S> MessageSink<S> {
    pub(super) const fn new(to: WebSocketStream<S>) -> Self {
        Self { to, decoder: FrameDecoder::new(MAX_FRAME) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> FrameSink for MessageSink<S> {
    async fn put(&mut self, frame: Encoded) -> io::Result<()> {
        // In one piece, which masking would make of it otherwise: the body may be shared.
        self.decoder.push(frame.to_bytes());
        while let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
            let message = message_of(frame).ok_or(io::ErrorKind::InvalidInput)?;
            self.to.feed(message).await.map_err(io_error)?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.to.flush().await.map_err(io_error)
    }

    /// Nothing: the server ends the TCP connection (RFC 6455 §7.1.1).
    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// The message of a frame; none for a frame that WebSocket does not have.
fn message_of(frame: Frame) -> Option<Message> {
    let Frame { opcode, payload } = frame;
    if !matches!(opcode, Opcode::Binary | Opcode::Text) && payload.len() > MAX_CONTROL {
        return None;
    }
    Some(match opcode {
        Opcode::Binary => Message::Binary(payload),
        Opcode::Text => Message::Text(payload.try_into().ok()?),
        Opcode::Ping => Message::Ping(payload),
        Opcode::Pong => Message::Pong(payload),
        Opcode::Close => Message::Close(close_of(&payload)?),
        Opcode::Continuation | Opcode::Unknown => return None,
    })
}

/// What a close frame says; none for a code WebSocket does not allow.
fn close_of(payload: &Bytes) -> Option<Option<CloseFrame>> {
    let Some(code) = payload.first_chunk() else { return Some(None) };
    let code = match u16::from_be_bytes(*code) {
        0 => CloseCode::Normal,
        code => CloseCode::from(code),
    };
    let reason = payload.slice(2..).try_into().ok()?;
    code.is_allowed().then_some(Some(CloseFrame { code, reason }))
}

/// The frame of a message; none for a raw frame, which a reader does not give.
fn frame_of(message: Message) -> Option<Frame> {
    let (opcode, payload) = match message {
        Message::Binary(payload) => (Opcode::Binary, payload),
        Message::Text(text) => (Opcode::Text, text.into()),
        Message::Ping(payload) => (Opcode::Ping, payload),
        Message::Pong(payload) => (Opcode::Pong, payload),
        Message::Close(None) => (Opcode::Close, Bytes::new()),
        Message::Close(Some(CloseFrame { code, reason })) => {
            let code = code_of(code).to_be_bytes();
            (Opcode::Close, [&code, reason.as_bytes()].concat().into())
        }
        Message::Frame(_) => return None,
    };
    Some(Frame { opcode, payload })
}

/// The code of this protocol (protocol §8) for one of WebSocket (RFC 6455, section 7.4.1).
fn code_of(code: CloseCode) -> u16 {
    let reason = match code {
        CloseCode::Normal => CloseReason::Bye,
        CloseCode::Protocol | CloseCode::Unsupported | CloseCode::Invalid => CloseReason::ProtocolError,
        CloseCode::Size => CloseReason::FrameTooBig,
        CloseCode::Restart => CloseReason::Draining,
        CloseCode::Again => CloseReason::Overloaded,
        other => return other.into(),
    };
    reason.code().unwrap_or_default()
}
