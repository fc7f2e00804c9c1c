//! One link of a scripted service, with a line of its own to the ledger: what it notes there is in the kernel's hands
//! before anything that follows from it is.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gateway::wire::command;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Frame, FrameDecoder, Opcode, encode, head};
use gateway::wire::packet::{LogicPacket, Packet, encode_message};
use gateway::wire::pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::{Order, ServiceScript};
use crate::note::{Note, Sender};
use crate::seeded::Seeded;
use crate::stamp::Stamp;

/// Channels a link pushes to: those it heard of last.
const KNOWN: usize = 64;

/// Receivers of a push to several.
const GROUP: usize = 3;

/// One push in so many goes to several.
const GROUP_EVERY: usize = 8;

/// Body of a push of a flood, bytes.
const FLOOD_BODY: usize = 8 * 1024;

/// Pushes of a flood written at once, and how long it pauses then: what goes to others is on the same link.
const FLOOD_BATCH: u64 = 16;
const FLOOD_PAUSE: Duration = Duration::from_millis(1);

/// How long an answer is held back.
const HELD: Duration = Duration::from_millis(150);

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// Longest frame a gateway sends, bytes.
const MAX_FRAME: usize = 1 << 20;

/// A frame of so many bytes is more than any gateway takes.
const ABSURD: usize = u32::MAX as usize;

const DIALECT: Dialect = Dialect::XIm;

/// See the module.
pub(super) struct Link {
    name: String,
    script: ServiceScript,
    orders: broadcast::Receiver<Order>,
    reading: watch::Receiver<bool>,
    gate: Option<String>,
    known: VecDeque<String>,
    /// Pushes to each channel so far.
    pushed: HashMap<String, u64>,
    /// Answers to each channel so far.
    answered: HashMap<String, u64>,
    /// Answers that are held back, oldest first.
    held: VecDeque<(Instant, pb::Header, Vec<u8>)>,
    /// Channels to be flooded, one after the other, and the pushes that are left.
    floods: VecDeque<(String, u64)>,
    flood_at: Instant,
    random: Seeded,
    /// To the ledger, then to the gateway.
    notes: String,
    out: Vec<u8>,
}

impl Link {
    pub(super) fn new(
        name: String,
        script: ServiceScript,
        orders: broadcast::Receiver<Order>,
        reading: watch::Receiver<bool>,
    ) -> Self {
        let random = Seeded::new(script.run ^ u64::from(crc32fast::hash(name.as_bytes())));
        let (known, pushed, answered) = (VecDeque::new(), HashMap::new(), HashMap::new());
        let (notes, out) = (String::new(), Vec::new());
        Self {
            name,
            script,
            orders,
            reading,
            gate: None,
            known,
            pushed,
            answered,
            held: VecDeque::new(),
            floods: VecDeque::new(),
            flood_at: Instant::now(),
            random,
            notes,
            out,
        }
    }

    /// Until the gateway ends it, or breaks the protocol.
    pub(super) async fn serve(mut self, stream: TcpStream) {
        if let Err(error) = self.talk(stream).await {
            eprintln!("chaos: service {}: {error:#}", self.name);
        }
    }

    async fn talk(&mut self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut ledger = TcpStream::connect(self.script.ledger).await.context("no ledger")?;
        ledger.set_nodelay(true)?;
        let greeting = format!("link {}\n", self.name);
        ledger.write_all(greeting.as_bytes()).await?;
        let (mut read, mut write) = stream.into_split();
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let mut buffer = vec![0; READ];
        loop {
            let mut fine = Ok(());
            tokio::select! {
                len = read.read(&mut buffer), if *self.reading.borrow() => {
                    // A reset is an end like any other.
                    let Ok(len @ 1..) = len else { return Ok(()) };
                    decoder.push(Bytes::copy_from_slice(&buffer[..len]));
                    fine = self.take_all(&mut decoder);
                }
                order = self.orders.recv() => {
                    match order {
                        Ok(Order::Flood(channel, count)) => self.floods.push_back((channel, count)),
                        Ok(order) => self.obey(&order),
                        Err(RecvError::Lagged(lost)) => self.fault(format_args!("{lost} orders came too fast")),
                        Err(RecvError::Closed) => return Ok(()),
                    }
                }
                () = due(self.held.front().map(|(at, ..)| *at)) => {
                    if let Some((_, header, body)) = self.held.pop_front() {
                        self.answer_request(&header, body);
                    }
                }
                () = due(self.floods.front().map(|_| self.flood_at)) => self.flood(),
                changed = self.reading.changed() => changed?,
            }
            self.flush(&mut ledger, &mut write).await?;
            fine?;
        }
    }

    fn flood(&mut self) {
        let Some((channel, left)) = self.floods.pop_front() else { return };
        let now = FLOOD_BATCH.min(left);
        (0..now).for_each(|_| self.push(std::slice::from_ref(&channel), FLOOD_BODY));
        if left > now {
            self.floods.push_front((channel, left - now));
        }
        self.flood_at = Instant::now() + FLOOD_PAUSE;
    }

    async fn flush(&mut self, ledger: &mut TcpStream, write: &mut OwnedWriteHalf) -> anyhow::Result<()> {
        ledger.write_all(self.notes.as_bytes()).await?;
        self.notes.clear();
        let written = write.write_all(&self.out).await;
        self.out.clear();
        // The reading side sees the end as well, after what came before it.
        drop(written);
        Ok(())
    }

    fn note(&mut self, note: &Note) {
        writeln!(self.notes, "{note}").expect("a String takes everything");
    }

    fn fault(&mut self, error: impl std::fmt::Display) {
        self.note(&Note::Fault { text: error.to_string() });
    }

    fn take_all(&mut self, decoder: &mut FrameDecoder) -> anyhow::Result<()> {
        let mut take = || {
            while let Some(frame) = decoder.next_frame()? {
                self.take(frame)?;
            }
            Ok(())
        };
        take().inspect_err(|error: &anyhow::Error| self.fault(error))
    }

    fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        match frame.opcode {
            Opcode::Ping => self.out.extend_from_slice(&encode(Opcode::Pong, &frame.payload)),
            Opcode::Pong => {}
            Opcode::Binary if self.gate.is_none() => {
                let gate = pb::InnerHandshakeReq::decode(frame.payload)?.service_id;
                self.note(&Note::Opened { instance: self.script.instance.clone(), gate: gate.clone() });
                self.gate = Some(gate);
            }
            Opcode::Binary => match Packet::decode(&frame.payload)? {
                Packet::Logic(packet) => self.take_packet(&packet)?,
                Packet::Basic { .. } => bail!("a BasicPkt to a logic service"),
            },
            other => bail!("{other:?} to a logic service"),
        }
        Ok(())
    }

    fn take_packet(&mut self, packet: &LogicPacket) -> anyhow::Result<()> {
        let header = pb::Header::decode(packet.header.clone())?;
        if header.flag != pb::Flag::Request as i32 || header.status != 0 {
            bail!("neither flag nor status is that of a request: {header:?}");
        }
        let sender = sender(&header)?;
        match header.command.as_str() {
            command::LOGIN_SIGNIN => self.sign_in(&header, sender, packet),
            command::LOGIN_SIGNOUT => {
                self.known.retain(|known| *known != sender.channel);
                let reason = meta(&header, "reason")?;
                self.note(&Note::SignOut { sender, reason });
                Ok(())
            }
            _ => self.serve_request(&header, sender, packet),
        }
    }

    fn sign_in(&mut self, header: &pb::Header, sender: Sender, packet: &LogicPacket) -> anyhow::Result<()> {
        let session = pb::Session::decode(packet.body.clone())?;
        let (channel, account) = (sender.channel.clone(), session.account.clone());
        if session.channel_id != channel || session.app != sender.app || session.gate_id != sender.gate {
            bail!("the Session and the header of a sign-in differ: {session:?}, {header:?}");
        }
        self.remember(&channel);
        self.note(&Note::SignIn { sender, account: account.clone() });
        // Earlier than the answer: the gateway holds it until that is written (row B22).
        self.push(std::slice::from_ref(&channel), 0);
        let answer = pb::LoginResp { channel_id: channel, account };
        self.answer(header, answer.encode_to_vec());
        Ok(())
    }

    fn serve_request(
        &mut self,
        header: &pb::Header,
        sender: Sender,
        packet: &LogicPacket,
    ) -> anyhow::Result<()> {
        let stamp = Stamp::first(&packet.body).map_err(anyhow::Error::msg)?;
        let channel = sender.channel.clone();
        self.remember(&channel);
        let held = stamp.is_held() && self.script.instance.starts_with("chat");
        self.note(&Note::Request { sender, stamp });
        if held {
            self.held.push_back((Instant::now() + HELD, header.clone(), packet.body.to_vec()));
        } else {
            self.answer_request(header, packet.body.to_vec());
        }
        for _ in 0..self.script.pushes {
            let several = self.random.below(GROUP_EVERY) == 0;
            let mut to: Vec<String> = (0..if several { GROUP } else { 1 })
                .map(|_| self.known[self.random.below(self.known.len())].clone())
                .collect();
            to.sort();
            to.dedup();
            self.push(&to, 0);
        }
        Ok(())
    }

    /// The echo of a request, numbered among the answers to its channel as it is written.
    fn answer_request(&mut self, header: &pb::Header, mut body: Vec<u8>) {
        let channel = header.channel_id.clone();
        let n = self.answered.entry(channel.clone()).or_default();
        *n += 1;
        let written = Stamp { run: self.script.run, sender: self.name.clone(), channel, n: *n };
        body.extend_from_slice(format!("\n{written}").as_bytes());
        self.answer(header, body);
    }

    fn remember(&mut self, channel: &str) {
        if !self.known.iter().any(|known| known == channel) {
            if self.known.len() == KNOWN {
                self.known.pop_front();
            }
            self.known.push_back(channel.to_owned());
        }
    }

    fn answer(&mut self, request: &pb::Header, body: Vec<u8>) {
        let header = pb::Header {
            command: request.command.clone(),
            sequence: request.sequence,
            flag: pb::Flag::Response as i32,
            ..Default::default()
        };
        let to = request.channel_id.clone();
        self.out.extend_from_slice(&packet(header, self.gate(), &to, body));
    }

    /// One push, numbered anew for each of its receivers.
    fn push(&mut self, channels: &[String], room: usize) {
        let mut body = String::with_capacity(room);
        for channel in channels {
            let n = self.pushed.entry(channel.clone()).or_default();
            *n += 1;
            let n = *n;
            self.note(&Note::Push { channel: channel.clone(), n });
            let stamp =
                Stamp { run: self.script.run, sender: self.name.clone(), channel: channel.clone(), n };
            writeln!(body, "{stamp}").expect("a String takes everything");
        }
        writeln!(body, "{}", Stamp::time_line(SystemTime::now())).expect("a String takes everything");
        body.extend(std::iter::repeat_n('.', room.saturating_sub(body.len())));
        let push = packet(push_header(), self.gate(), &channels.join(","), body.into_bytes());
        self.out.extend_from_slice(&push);
    }

    fn gate(&self) -> &str {
        self.gate.as_deref().unwrap_or_default()
    }

    fn obey(&mut self, order: &Order) {
        // Number 0: whoever gets one of these got what was not for it.
        let stamp = Stamp { run: self.script.run, sender: self.name.clone(), channel: "nobody".into(), n: 0 };
        let body = stamp.to_string().into_bytes();
        let known: Vec<String> = self.known.iter().take(GROUP).cloned().collect();
        match order {
            Order::BadPackets => {
                self.out.extend_from_slice(&encode(Opcode::Binary, b"no magic at all"));
                let mut lying = Dialect::XIm.logic_magic().to_vec();
                lying.extend_from_slice(&[0, 0, 0, 9, 1, 2]);
                self.out.extend_from_slice(&encode(Opcode::Binary, &lying));
                let other = encode_message(Dialect::Kim, &push_header(), body).to_bytes();
                self.out.extend_from_slice(&other);
            }
            Order::BadFrame => self.out.extend_from_slice(&head(Opcode::Binary, ABSURD)),
            Order::WrongGateway => {
                self.out.extend_from_slice(&packet(push_header(), "gate99", &known.join(","), body))
            }
            Order::UnknownChannel => {
                let ids = format!("{}_nobody_1,,{}_%2C_2,x", self.gate(), self.gate());
                self.out.extend_from_slice(&packet(push_header(), self.gate(), &ids, body));
            }
            Order::StopReading | Order::Read | Order::Flood(..) => {}
        }
    }
}

/// A packet to these channels.
fn packet(mut header: pb::Header, gate: &str, channels: &str, body: Vec<u8>) -> Bytes {
    let meta = |key: &str, value: &str| pb::Meta {
        key: key.into(),
        value: value.into(),
        r#type: pb::MetaType::String as i32,
    };
    header.meta = vec![meta(DIALECT.gateway_key(), gate), meta("dest.channels", channels)];
    encode_message(DIALECT, &header, body).to_bytes()
}

/// Waits until then; for ever if there is nothing to wait for.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn push_header() -> pb::Header {
    let command = command::CHAT_USER_TALK.to_owned();
    pb::Header { command, flag: pb::Flag::Push as i32, ..Default::default() }
}

fn sender(header: &pb::Header) -> anyhow::Result<Sender> {
    Ok(Sender {
        channel: header.channel_id.clone(),
        account: meta(header, "account")?,
        app: meta(header, "app")?,
        gate: meta(header, DIALECT.gateway_key())?,
    })
}

/// The value of a key that must stand exactly once.
fn meta(header: &pb::Header, key: &str) -> anyhow::Result<String> {
    let mut values = header.meta.iter().filter(|meta| meta.key == key).map(|meta| meta.value.clone());
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => bail!("not exactly one {key}: {header:?}"),
    }
}
