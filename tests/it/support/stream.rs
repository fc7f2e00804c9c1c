//! One readable byte stream of a client: the TCP connection, a QUIC stream, or the gateway's push stream.

use std::io;

use bytes::Bytes;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Frame, FrameDecoder, Opcode};
use gateway::wire::packet::Packet;
use gateway::wire::pb;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{mpsc, watch};

use super::websocket::ServerMessages;

/// Where something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamOf {
    /// The TCP connection (0), or the n-th stream this client opened.
    Own(usize),
    /// The n-th unidirectional stream the gateway opened; only 0 is right.
    Push(usize),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// FIN.
    Finished,
    /// RST, RESET_STREAM, or the end of the whole connection.
    Broken,
}

/// What a client reads at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    All,
    AllBut(StreamOf),
    Nothing,
}

impl Reading {
    fn includes(self, stream: StreamOf) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(other) => other != stream,
            Self::Nothing => false,
        }
    }
}

/// What a client saw.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A frame.
    Frame(StreamOf, Frame),
    /// The end of a stream.
    End(StreamOf, StreamEnd),
}

/// A LogicPkt a client saw.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Where.
    pub(crate) stream: StreamOf,
    /// In which dialect.
    pub(crate) dialect: Dialect,
    /// Decoded by prost.
    pub(crate) header: pb::Header,
    /// As it came.
    pub(crate) body: Bytes,
}

/// The values of a meta key, in order.
pub(crate) fn metas<'a>(header: &'a pb::Header, key: &str) -> Vec<&'a str> {
    header.meta.iter().filter(|meta| meta.key == key).map(|meta| meta.value.as_str()).collect()
}

impl Seen {
    /// The LogicPkt in it, if it is one.
    pub(crate) fn message(&self) -> Option<Message> {
        let Self::Frame(stream, frame) = self else { return None };
        if frame.opcode != Opcode::Binary {
            return None;
        }
        match Packet::decode(&frame.payload).expect("the gateway sends whole packets") {
            Packet::Logic(packet) => Some(Message {
                stream: *stream,
                dialect: packet.dialect,
                header: pb::Header::decode(packet.header).expect("the gateway sends whole headers"),
                body: packet.body,
            }),
            Packet::Basic { .. } => None,
        }
    }

    /// The BasicPkt in it, if it is one.
    pub(crate) fn basic(&self) -> Option<(StreamOf, Dialect, u16)> {
        let Self::Frame(stream, frame) = self else { return None };
        if frame.opcode != Opcode::Binary {
            return None;
        }
        match Packet::decode(&frame.payload) {
            Ok(Packet::Basic { dialect, code, .. }) => Some((*stream, dialect, code)),
            _ => None,
        }
    }
}

/// How frames lie in what the gateway sends.
pub(crate) enum Framed {
    Frames(FrameDecoder),
    Messages(ServerMessages),
}

impl Framed {
    pub(crate) fn new(is_websocket: bool) -> Self {
        if is_websocket {
            Self::Messages(ServerMessages::default())
        } else {
            Self::Frames(FrameDecoder::new(1 << 30))
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        match self {
            Self::Frames(frames) => frames.push(Bytes::copy_from_slice(chunk)),
            Self::Messages(messages) => messages.push(chunk),
        }
    }

    fn next_frame(&mut self) -> Option<Frame> {
        match self {
            Self::Frames(frames) => frames.next_frame().expect("the gateway sends whole frames"),
            Self::Messages(messages) => messages.next_frame(),
        }
    }

    fn is_mid_frame(&self) -> bool {
        match self {
            Self::Frames(frames) => frames.is_mid_frame(),
            Self::Messages(messages) => messages.is_mid_frame(),
        }
    }
}

/// Reads one stream to its end, frame by frame, while `reading` includes it.
pub(crate) async fn read(
    stream: StreamOf,
    mut decoder: Framed,
    mut from: impl AsyncRead + Unpin,
    seen: mpsc::Sender<Seen>,
    mut reading: watch::Receiver<Reading>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let end = loop {
        if reading.wait_for(|now| now.includes(stream)).await.is_err() {
            return;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = reading.changed() => continue,
        };
        match read {
            Ok(0) => break StreamEnd::Finished,
            Ok(len) => decoder.push(&buffer[..len]),
            Err(error) => break end_of(&error),
        }
        while let Some(frame) = decoder.next_frame() {
            if seen.send(Seen::Frame(stream, frame)).await.is_err() {
                return;
            }
        }
    };
    if end == StreamEnd::Finished {
        assert!(!decoder.is_mid_frame(), "the gateway ended {stream:?} within a frame");
    }
    let _ = seen.send(Seen::End(stream, end)).await;
}

fn end_of(error: &io::Error) -> StreamEnd {
    // The last is a FIN without TLS's own farewell, which is no orderly end.
    let usual = [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::NotConnected,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::UnexpectedEof,
    ];
    assert!(usual.contains(&error.kind()), "unexpected: {error:?}");
    StreamEnd::Broken
}
