//! A logic service for measurements: it signs everybody in, echoes, and pushes as often as it is asked to. One thread, and
//! one write for all that one read brought.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use bytes::Bytes;
use gateway_wire::command::{LOGIN_SIGNIN, LOGIN_SIGNOUT};
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{Frame, FrameDecoder, Opcode, encode};
use gateway_wire::pb;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::frames;
use crate::role::control;
use crate::role::epoll_server::{EpollServer, serve, watch};

/// Its name among the roles.
pub(crate) const NAME: &str = "logic";

/// What it is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogicService {
    /// Where gateways dial it.
    pub(crate) listen: SocketAddr,
    /// Bytes of the body of a push.
    pub(crate) push_body: usize,
}

/// Bytes of one read.
const READ: usize = 256 * 1024;

/// Largest frame of a gateway, bytes.
const MAX_FRAME: usize = 16 * 1024 * 1024;

pub(crate) fn run(argument: &str) -> Result<(), BenchError> {
    let LogicService { listen, push_body } = control::parse(argument)?;
    let online = OnlineChannels { push_body, ..OnlineChannels::default() };
    serve(listen, &mut LogicLinks { links: Vec::new(), online, buffer: vec![0; READ] })
}

struct LogicLinks {
    links: Vec<LogicLink>,
    online: OnlineChannels,
    buffer: Vec<u8>,
}

impl EpollServer for LogicLinks {
    fn accepted(&mut self, registry: &Registry, mut socket: TcpStream) -> Result<(), BenchError> {
        watch(registry, &mut socket, self.links.len(), Interest::READABLE | Interest::WRITABLE)?;
        let (frames, gate_id, out) = (FrameDecoder::new(MAX_FRAME), String::new(), Vec::new());
        self.links.push(LogicLink { socket, frames, gate_id, out });
        Ok(())
    }

    fn ready(&mut self, index: usize) -> Result<(), BenchError> {
        self.links[index].turn(&mut self.buffer, &mut self.online)
    }
}

/// Who is signed in, and the pushes to all of them.
#[derive(Debug, Default)]
struct OnlineChannels {
    channels: BTreeSet<String>,
    push_body: usize,
    /// The push to everybody who is in `channels`; empty when that changed.
    push: Bytes,
}

impl OnlineChannels {
    fn push(&mut self, dialect: Dialect, gate_id: &str) -> &Bytes {
        if self.push.is_empty() {
            let ids: Vec<&str> = self.channels.iter().map(String::as_str).collect();
            let body = Bytes::from(vec![b'x'; self.push_body]);
            self.push = frames::push(dialect, gate_id, &ids.join(","), body);
        }
        &self.push
    }
}

/// One link of a gateway.
struct LogicLink {
    socket: TcpStream,
    frames: FrameDecoder,
    gate_id: String,
    /// What is still to be written.
    out: Vec<u8>,
}

impl LogicLink {
    fn turn(&mut self, buffer: &mut [u8], online: &mut OnlineChannels) -> Result<(), BenchError> {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => break,
            };
            self.frames.push(Bytes::copy_from_slice(&buffer[..read]));
            while let Some(frame) =
                self.frames.next_frame().map_err(|error| BenchError::failed(format!("a link: {error}")))?
            {
                self.take(&frame, online)?;
            }
            if read < buffer.len() {
                break;
            }
        }
        self.write();
        Ok(())
    }

    fn take(&mut self, frame: &Frame, online: &mut OnlineChannels) -> Result<(), BenchError> {
        if frame.opcode == Opcode::Ping {
            self.out.extend_from_slice(&encode(Opcode::Pong, &[]));
        }
        if frame.opcode != Opcode::Binary {
            return Ok(());
        }
        if self.gate_id.is_empty() {
            let hello = pb::InnerHandshakeReq::decode(frame.payload.clone());
            self.gate_id =
                hello.map_err(|error| BenchError::failed(format!("no handshake: {error}")))?.service_id;
            return Ok(());
        }
        let Some(packet) = frames::logic_packet(&frame.payload) else { return Ok(()) };
        let Some(header) = frames::header(&packet) else { return Ok(()) };
        let (dialect, gate_id) = (packet.dialect, &*self.gate_id);
        match header.command {
            LOGIN_SIGNIN => {
                online.channels.insert(header.channel_id.to_owned());
                online.push = Bytes::new();
                let channel_id = header.channel_id.to_owned();
                let body = pb::LoginResp { channel_id, account: String::new() }.encode_to_vec().into();
                frames::respond(&mut self.out, dialect, gate_id, &header, body);
            }
            LOGIN_SIGNOUT => {
                online.channels.remove(header.channel_id);
                online.push = Bytes::new();
            }
            frames::BURST => {
                let count = packet.body.first_chunk().map_or(1, |count| u32::from_be_bytes(*count));
                let push = online.push(dialect, gate_id);
                for _ in 0..count {
                    self.out.extend_from_slice(push);
                }
                frames::respond(&mut self.out, dialect, gate_id, &header, Bytes::new());
            }
            _ => frames::respond(&mut self.out, dialect, gate_id, &header, packet.body.clone()),
        }
        Ok(())
    }

    /// Writes what can be; the rest when the socket has room again, of which there is an event.
    fn write(&mut self) {
        let mut written = 0;
        while written < self.out.len() {
            match self.socket.write(&self.out[written..]) {
                Ok(0) => break,
                Ok(wrote) => written += wrote,
                // What ended is seen by the read.
                Err(_) => break,
            }
        }
        self.out.drain(..written);
    }
}
