//! [`StackSession`] is a session of a client program; [`Peer`] is whom it talks to, over TCP.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{FrameDecoder, Opcode};
use gateway_wire::packet::{BASIC_PING, BASIC_PONG, LogicPacket, Packet, encode_basic, encode_message};
use gateway_wire::pb;
use prost::Message as _;

use crate::stack_process::{Heard, StackProcess};

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(15);

/// Largest frame that is read.
const MAX_FRAME: usize = 1 << 20;

const TALK: &str = "chat.user.talk";

fn request(command: &str, sequence: u32, dest: &str, body: Vec<u8>) -> Bytes {
    let (command, dest) = (command.to_owned(), dest.to_owned());
    let header = pb::Header { command, sequence, dest, ..pb::Header::default() };
    encode_message(Dialect::default(), &header, body).to_bytes()
}

fn sign_in(token: &str) -> Bytes {
    let login = pb::LoginReq { token: token.to_owned(), ..pb::LoginReq::default() };
    request("login.signin", 1, "", login.encode_to_vec())
}

fn talk(sequence: u32, dest: &str, text: &str) -> Bytes {
    let message = pb::MessageReq { r#type: 1, body: text.to_owned(), ..pb::MessageReq::default() };
    request(TALK, sequence, dest, message.encode_to_vec())
}

/// The packets that became complete.
fn packets(decoder: &mut FrameDecoder, bytes: Bytes) -> Result<Vec<Packet>> {
    decoder.push(bytes);
    let mut found = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        ensure!(frame.opcode == Opcode::Binary, "a frame {:?} came", frame.opcode);
        found.push(Packet::decode(&frame.payload)?);
    }
    Ok(found)
}

fn header_of(packet: &LogicPacket) -> Result<pb::Header> {
    pb::Header::decode(packet.header.clone()).context("a header that cannot be read")
}

fn is_response(packet: &Packet, sequence: u32) -> Result<Option<pb::Header>> {
    let Packet::Logic(packet) = packet else { return Ok(None) };
    let header = header_of(packet)?;
    Ok((header.flag == pb::Flag::Response as i32 && header.sequence == sequence).then_some(header))
}

/// See the module.
pub(crate) struct StackSession {
    process: StackProcess,
    stream_0: FrameDecoder,
    push_stream: FrameDecoder,
    answers: VecDeque<Packet>,
    /// Texts of the messages that were pushed and not looked at yet.
    pushed: VecDeque<String>,
    sequence: u32,
    channel: String,
}

impl StackSession {
    /// Signs in on a connection whose handshake is complete.
    pub(crate) fn sign_in(process: StackProcess, token: &str) -> Result<Self> {
        let (stream_0, push_stream) = (FrameDecoder::new(MAX_FRAME), FrameDecoder::new(MAX_FRAME));
        let (answers, pushed, channel) = (VecDeque::new(), VecDeque::new(), String::new());
        let mut session = Self { process, stream_0, push_stream, answers, pushed, sequence: 1, channel };
        session.process.send(&sign_in(token))?;
        session.channel = session.response(1)?.channel_id;
        ensure!(!session.channel.is_empty(), "the answer to the sign-in names no channel");
        Ok(session)
    }

    /// Reads what comes next, answers and pushes.
    fn read(&mut self, deadline: Instant) -> Result<()> {
        match self.process.hear(deadline.saturating_duration_since(Instant::now())) {
            Some(Heard::Stream0(bytes)) => self.answers.extend(packets(&mut self.stream_0, bytes)?),
            Some(Heard::Pushes(bytes)) => {
                for packet in packets(&mut self.push_stream, bytes)? {
                    let Packet::Logic(packet) = packet else { bail!("{packet:?} came as a push") };
                    self.pushed.push_back(pb::MessagePush::decode(packet.body)?.body);
                }
            }
            Some(Heard::Closed(how)) => bail!("the connection was closed: {how}"),
            Some(Heard::Connected) => bail!("it connected twice"),
            None => bail!("nothing came for {PATIENCE:?}, or the program ended"),
        }
        Ok(())
    }

    fn response(&mut self, sequence: u32) -> Result<pb::Header> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(packet) = self.answers.pop_front() {
                if let Some(header) = is_response(&packet, sequence)? {
                    ensure!(header.status == 0, "{} was answered {}", header.command, header.status);
                    return Ok(header);
                }
            }
            self.read(deadline)?;
        }
    }

    /// Sends a heartbeat; returns when its answer came.
    pub(crate) fn ping(&mut self) -> Result<Instant> {
        self.process.send(&encode_basic(Dialect::default(), BASIC_PING))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(packet) = self.answers.pop_front() {
                if matches!(packet, Packet::Basic { code: BASIC_PONG, .. }) {
                    return Ok(Instant::now());
                }
            }
            self.read(deadline)?;
        }
    }

    /// Talks to this account; the answer names the channel of the sign-in.
    pub(crate) fn talk(&mut self, dest: &str) -> Result<()> {
        self.sequence += 1;
        self.process.send(&talk(self.sequence, dest, "hello"))?;
        let channel = self.response(self.sequence)?.channel_id;
        ensure!(channel == self.channel, "channel {} became {channel}", self.channel);
        Ok(())
    }

    /// Waits for the next message, which must be this one; returns when it came.
    pub(crate) fn expect_push(&mut self, text: &str) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(pushed) = self.pushed.pop_front() {
                ensure!(pushed == text, "message {pushed:?} came where {text:?} was next");
                return Ok(Instant::now());
            }
            self.read(deadline).with_context(|| format!("message {text:?} did not come"))?;
        }
    }

    /// Says goodbye.
    pub(crate) fn leave(mut self) -> Result<()> {
        ensure!(self.pushed.is_empty(), "messages came twice: {:?}", self.pushed);
        Ok(self.process.quit()?)
    }
}

/// See the module.
pub(crate) struct Peer {
    stream: TcpStream,
    decoder: FrameDecoder,
    sequence: u32,
}

impl Peer {
    /// Connects and signs in.
    pub(crate) fn sign_in(gateway: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(gateway)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut peer = Self { stream, decoder: FrameDecoder::new(MAX_FRAME), sequence: 1 };
        peer.stream.write_all(&sign_in(token))?;
        peer.answered(1)?;
        Ok(peer)
    }

    /// Talks to this account, and returns when the service has it.
    pub(crate) fn talk(&mut self, dest: &str, text: &str) -> Result<()> {
        self.sequence += 1;
        self.stream.write_all(&talk(self.sequence, dest, text))?;
        self.answered(self.sequence)
    }

    fn answered(&mut self, sequence: u32) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = self.stream.read(&mut buffer)?;
            ensure!(length > 0, "the peer's connection was closed");
            for packet in packets(&mut self.decoder, Bytes::copy_from_slice(&buffer[..length]))? {
                if let Some(header) = is_response(&packet, sequence)? {
                    ensure!(header.status == 0, "the peer was answered {}", header.status);
                    return Ok(());
                }
            }
        }
    }
}
