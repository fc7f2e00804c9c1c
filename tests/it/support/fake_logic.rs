//! [`FakeLogic`]: a logic service that records everything it gets as events and answers as it is told.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{FrameDecoder, Opcode, encode};
use gateway::wire::packet::{Packet, encode_message};
use gateway::wire::pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::stream::metas;
use super::{PATIENCE, soon};

/// A packet the gateway sent.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The link it came on, counted from 0.
    pub(crate) link: usize,
    /// By its magic.
    pub(crate) dialect: Dialect,
    /// Decoded by prost.
    pub(crate) header: pb::Header,
    /// As it came.
    pub(crate) body: Bytes,
}

impl Received {
    /// The only value of a meta key.
    pub(crate) fn meta(&self, key: &str) -> &str {
        let values = metas(&self.header, key);
        assert_eq!(values.len(), 1, "one {key} in {:?}", self.header);
        values[0]
    }

    /// The Session of a sign-in.
    pub(crate) fn session(&self) -> pb::Session {
        assert_eq!(self.header.command, "login.signin");
        pb::Session::decode(self.body.clone()).expect("a Session")
    }
}

/// What happened, in the order in which it happened.
#[derive(Debug, Clone)]
pub(crate) enum LogicEvent {
    /// A link was opened and shook hands with this gateway id.
    Handshake { link: usize, gate: String },
    /// A packet arrived.
    Packet(Received),
    /// A frame pong came.
    Pong { link: usize },
    /// A link ended.
    Ended { link: usize },
    /// The gateway did what it must never do; every later wait fails with this, and so does the drop.
    Fault(String),
}

enum LinkCommand {
    Bytes(Bytes),
    Finish,
    Reset,
}

#[derive(Default)]
struct FakeLogicState {
    events: Vec<LogicEvent>,
    /// Of each link, by its number; closed channels belong to links that ended.
    links: Vec<mpsc::Sender<LinkCommand>>,
    /// Commands that are recorded and not answered.
    held: HashSet<String>,
    /// Status and body of the answers to a command, where they are not the default ones.
    answers: HashMap<String, (i32, Vec<u8>)>,
    /// Links still to be refused with "channelId is repeated".
    refuse: usize,
    message_id: i64,
}

struct FakeLogicInner {
    dialect: Dialect,
    state: Mutex<FakeLogicState>,
    changed: watch::Sender<()>,
    reading: watch::Sender<bool>,
    /// Bytes that its sockets took, of all links.
    sent: AtomicU64,
}

/// See the module. Dropping it closes its listener and its links.
pub(crate) struct FakeLogic {
    /// Where the gateway dials it.
    pub(crate) address: SocketAddr,
    shared: Arc<FakeLogicInner>,
    tasks: JoinSet<()>,
}

/// Makes a dormant service listen.
pub(crate) struct Waker(oneshot::Sender<()>);

impl Waker {
    /// From now on it accepts links.
    pub(crate) fn wake(self) {
        self.0.send(()).expect("the service was not dropped");
    }
}

/// Links waiting to be accepted.
const BACKLOG: u32 = 64;

/// Orders a writer may be behind.
const ORDERS_AHEAD: usize = 1 << 16;

/// Receive buffer of a service that will stop reading, bytes: small, so that the gateway notices.
const SMALL_BUFFER: u32 = 8 * 1024;

impl FakeLogic {
    /// Listens on a free port.
    pub(crate) fn start(dialect: Dialect) -> Self {
        Self::bind(dialect, None)
    }

    /// Listens where another one listened until it was stopped.
    pub(crate) fn start_at(dialect: Dialect, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        Self::serving(dialect, address, async { listener })
    }

    /// The same with a small receive buffer, for tests in which it stops reading.
    pub(crate) fn start_narrow(dialect: Dialect) -> Self {
        Self::bind(dialect, Some(SMALL_BUFFER))
    }

    /// Holds a port at which nobody listens until it is woken.
    pub(crate) fn dormant(dialect: Dialect) -> (Self, Waker) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        let (wake, woken) = oneshot::channel();
        let logic = Self::serving(dialect, address, async move {
            let _ = woken.await;
            socket.listen(BACKLOG).unwrap()
        });
        (logic, Waker(wake))
    }

    fn bind(dialect: Dialect, buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        // So that another one can listen there when this one is gone.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(BACKLOG).unwrap();
        let address = listener.local_addr().unwrap();
        Self::serving(dialect, address, async { listener })
    }

    fn serving(
        dialect: Dialect,
        address: SocketAddr,
        listener: impl Future<Output = TcpListener> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(FakeLogicInner {
            dialect,
            state: Mutex::new(FakeLogicState::default()),
            changed: watch::channel(()).0,
            reading: watch::channel(true).0,
            sent: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&shared);
        tasks.spawn(async move { accept(listener.await, accepting).await });
        Self { address, shared, tasks }
    }

    fn state<T>(&self, act: impl FnOnce(&mut FakeLogicState) -> T) -> T {
        act(&mut self.shared.state.lock().unwrap())
    }

    // --- Scripts ---------------------------------------------------------------------------------------------

    /// From now on this command is recorded and not answered.
    pub(crate) fn hold(&self, command: &str) {
        self.state(|state| state.held.insert(command.to_owned()));
    }

    /// From now on this command is answered again.
    pub(crate) fn unhold(&self, command: &str) {
        self.state(|state| state.held.remove(command));
    }

    /// From now on this command is answered with this.
    pub(crate) fn answer_with(&self, command: &str, status: i32, body: Vec<u8>) {
        self.state(|state| state.answers.insert(command.to_owned(), (status, body)));
    }

    /// The next `links` links are refused as if their gateway id were known already.
    pub(crate) fn refuse(&self, links: usize) {
        self.state(|state| state.refuse = links);
    }

    /// Stops reading from every link, until told otherwise.
    pub(crate) fn stop_reading(&self) {
        self.shared.reading.send_replace(false);
    }

    /// Reads on.
    pub(crate) fn read_on(&self) {
        self.shared.reading.send_replace(true);
    }

    // --- Events ----------------------------------------------------------------------------------------------

    /// Awaits that `find` finds something in the events so far.
    pub(crate) async fn find<T>(&self, what: &str, find: impl Fn(&[LogicEvent]) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let search = async {
            loop {
                changed.borrow_and_update();
                self.check();
                if let Some(found) = self.state(|state| find(&state.events)) {
                    return found;
                }
                changed.changed().await.expect("the sender is ours");
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; events: {:#?}", self.events()),
        }
    }

    /// Fails the test if the gateway has broken a rule that holds everywhere.
    fn check(&self) {
        let fault = |event: &LogicEvent| {
            if let LogicEvent::Fault(fault) = event { Some(fault.clone()) } else { None }
        };
        if let Some(fault) = self.state(|state| state.events.iter().find_map(fault)) {
            panic!("{fault}");
        }
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<LogicEvent> {
        self.state(|state| state.events.clone())
    }

    /// All packets with this command so far, in order.
    pub(crate) fn packets(&self, command: &str) -> Vec<Received> {
        self.state(|state| packets(&state.events, command).cloned().collect())
    }

    /// Awaits the n-th packet with this command, counted from 0.
    pub(crate) async fn packet(&self, command: &str, n: usize) -> Received {
        let what = format!("{command} number {n}");
        self.find(&what, |events| packets(events, command).nth(n).cloned()).await
    }

    /// Awaits the sign-in of an account.
    pub(crate) async fn signin(&self, account: &str) -> Received {
        let what = format!("the sign-in of {account}");
        self.find(&what, |events| {
            packets(events, "login.signin").find(|packet| packet.meta("account") == account).cloned()
        })
        .await
    }

    /// Awaits the sign-out of a channel.
    pub(crate) async fn signout(&self, channel: &str) -> Received {
        let what = format!("the sign-out of {channel}");
        self.find(&what, |events| {
            packets(events, "login.signout").find(|packet| packet.header.channel_id == channel).cloned()
        })
        .await
    }

    /// Awaits the handshake of the n-th link, counted from 0; returns the gateway id it named.
    pub(crate) async fn handshake(&self, n: usize) -> String {
        let what = format!("link {n}");
        self.find(&what, |events| {
            events.iter().find_map(|event| match event {
                LogicEvent::Handshake { link, gate } if *link == n => Some(gate.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Awaits a frame pong on the n-th link.
    pub(crate) async fn pong(&self, n: usize) {
        let is_pong = |event: &LogicEvent| matches!(event, LogicEvent::Pong { link } if *link == n);
        self.find(&format!("a pong on link {n}"), |events| events.iter().any(is_pong).then_some(())).await;
    }

    /// Awaits the end of the n-th link.
    pub(crate) async fn ended(&self, n: usize) {
        let is_end = |event: &LogicEvent| matches!(event, LogicEvent::Ended { link } if *link == n);
        self.find(&format!("the end of link {n}"), |events| events.iter().any(is_end).then_some(())).await;
    }

    // --- Sending ---------------------------------------------------------------------------------------------

    fn order(&self, link: usize, order: LinkCommand) {
        let sender = self.state(|state| state.links[link].clone());
        let _ = sender.try_send(order).inspect_err(|error| {
            assert!(matches!(error, mpsc::error::TrySendError::Closed(_)), "the writer is far behind");
        });
    }

    fn last_link(&self) -> usize {
        self.state(|state| state.links.len().checked_sub(1).expect("a link was opened"))
    }

    /// Sends bytes on the newest link, in one write.
    pub(crate) fn send(&self, bytes: impl Into<Bytes>) {
        self.order(self.last_link(), LinkCommand::Bytes(bytes.into()));
    }

    /// Answers a request on the link it came on.
    pub(crate) fn answer(&self, request: &Received, status: i32, body: &[u8]) {
        self.order(request.link, LinkCommand::Bytes(self.shared.answer(request, status, body)));
    }

    /// The answer to a request as bytes, as it would have been had its command not been held.
    pub(crate) fn answer_frame(&self, request: &Received) -> Bytes {
        let (status, body) = self.shared.default_answer(request);
        self.shared.answer(request, status, &body)
    }

    /// Answers a request as it would have been answered had its command not been held.
    pub(crate) fn answer_default(&self, request: &Received) {
        self.order(request.link, LinkCommand::Bytes(self.answer_frame(request)));
    }

    /// A push as bytes, with its destination metas behind the header's own.
    pub(crate) fn push_frame(
        &self,
        gate: &str,
        channels: &[&str],
        mut header: pb::Header,
        body: &[u8],
    ) -> Bytes {
        header.meta.push(meta(self.shared.dialect.gateway_key(), gate));
        header.meta.push(meta("dest.channels", &channels.join(",")));
        encode_message(self.shared.dialect, &header, body.to_vec()).to_bytes()
    }

    /// Pushes `chat.user.talk` to channels of the gateway on the newest link.
    pub(crate) async fn push(&self, channels: &[&str], sequence: u32, body: &[u8]) {
        let gate = self.handshake(self.last_link()).await;
        self.send(self.push_frame(&gate, channels, push_header("chat.user.talk", sequence), body));
    }

    /// The same on the link of the gateway with this id.
    pub(crate) fn push_to(&self, gate: &str, channels: &[&str], sequence: u32, body: &[u8]) {
        let frame = self.push_frame(gate, channels, push_header("chat.user.talk", sequence), body);
        let link = self.events().iter().rev().find_map(|event| match event {
            LogicEvent::Handshake { link, gate: of } if of == gate => Some(*link),
            _ => None,
        });
        self.order(link.expect("a gateway with this id shook hands"), LinkCommand::Bytes(frame));
    }

    /// Tells the gateway that a channel was signed in elsewhere.
    pub(crate) async fn kick(&self, channel: &str) {
        let gate = self.handshake(self.last_link()).await;
        let body = pb::KickOutNotify { channel_id: channel.into() }.encode_to_vec();
        self.send(self.push_frame(&gate, &[channel], push_header("login.signin", 0), &body));
    }

    /// Bytes that its sockets took so far; it stands while the gateway does not read.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// Ends the newest link with a FIN behind everything sent so far.
    pub(crate) fn finish_link(&self) {
        self.order(self.last_link(), LinkCommand::Finish);
    }

    /// Ends the newest link at once with an RST.
    pub(crate) fn reset_link(&self) {
        self.order(self.last_link(), LinkCommand::Reset);
    }

    /// Ends everything: the listener and all links. Where it listened can be used again afterwards.
    pub(crate) async fn stop(&mut self) -> SocketAddr {
        soon("the end of a fake service", self.tasks.shutdown()).await;
        self.address
    }
}

fn packets<'a>(events: &'a [LogicEvent], command: &'a str) -> impl Iterator<Item = &'a Received> {
    events.iter().filter_map(move |event| match event {
        LogicEvent::Packet(packet) if packet.header.command == command => Some(packet),
        _ => None,
    })
}

/// A meta as logic services write them.
pub(crate) fn meta(key: &str, value: &str) -> pb::Meta {
    pb::Meta { key: key.into(), value: value.into(), r#type: pb::MetaType::String as i32 }
}

/// The header of a push, without destinations.
pub(crate) fn push_header(command: &str, sequence: u32) -> pb::Header {
    pb::Header { command: command.into(), sequence, flag: pb::Flag::Push as i32, ..Default::default() }
}

impl FakeLogicInner {
    fn record(&self, event: LogicEvent) {
        self.state.lock().unwrap().events.push(event);
        self.changed.send_replace(());
    }

    /// What a well-behaved service says to a command.
    fn default_answer(&self, request: &Received) -> (i32, Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        if let Some(answer) = state.answers.get(&request.header.command) {
            return answer.clone();
        }
        let body = match request.header.command.as_str() {
            "login.signin" => pb::LoginResp {
                channel_id: request.header.channel_id.clone(),
                account: request.meta("account").into(),
            }
            .encode_to_vec(),
            "chat.user.talk" => {
                state.message_id += 1;
                pb::MessageResp { message_id: state.message_id, send_time: 1 }.encode_to_vec()
            }
            _ => Vec::new(),
        };
        (0, body)
    }

    fn answer(&self, request: &Received, status: i32, body: &[u8]) -> Bytes {
        let gate = request.meta(self.dialect.gateway_key());
        let header = pb::Header {
            flag: pb::Flag::Response as i32,
            status,
            meta: vec![
                meta(self.dialect.gateway_key(), gate),
                meta("dest.channels", &request.header.channel_id),
            ],
            ..request.header.clone()
        };
        encode_message(self.dialect, &header, body.to_vec()).to_bytes()
    }

    fn is_answered(&self, command: &str) -> bool {
        command != "login.signout" && !self.state.lock().unwrap().held.contains(command)
    }
}

async fn accept(listener: TcpListener, shared: Arc<FakeLogicInner>) {
    let mut links = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let refused = {
            let mut state = shared.state.lock().unwrap();
            state.refuse.checked_sub(1).map(|left| state.refuse = left).is_some()
        };
        if refused {
            links.spawn(refuse(stream));
            continue;
        }
        let (orders, from_test) = mpsc::channel(ORDERS_AHEAD);
        let link = {
            let mut state = shared.state.lock().unwrap();
            state.links.push(orders.clone());
            state.links.len() - 1
        };
        links.spawn(serve(link, stream, Arc::clone(&shared), orders, from_test));
    }
}

/// Does what the Go services do to a gateway id they know already: handshake, close frame, close.
async fn refuse(mut stream: TcpStream) {
    let mut handshake = [0; 5];
    if stream.read_exact(&mut handshake).await.is_ok() {
        let mut payload = 1000u16.to_be_bytes().to_vec();
        payload.extend_from_slice(b"channelId is repeated");
        let _ = stream.write_all(&encode(Opcode::Close, &payload)).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut rest)).await;
    }
}

/// One link: reads until it ends, while a second future writes what is ordered.
async fn serve(
    link: usize,
    stream: TcpStream,
    shared: Arc<FakeLogicInner>,
    orders: mpsc::Sender<LinkCommand>,
    from_test: mpsc::Receiver<LinkCommand>,
) {
    let (read, write) = stream.into_split();
    tokio::select! {
        () = read_link(link, read, &shared, &orders) => {}
        () = write_link(write, &shared, from_test) => {}
    }
    shared.record(LogicEvent::Ended { link });
}

async fn write_link(
    mut write: OwnedWriteHalf,
    shared: &FakeLogicInner,
    mut from_test: mpsc::Receiver<LinkCommand>,
) {
    while let Some(order) = from_test.recv().await {
        match order {
            LinkCommand::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    let Ok(written @ 1..) = write.write(&bytes).await else {
                        // The reading side sees the end as well and records it.
                        return std::future::pending().await;
                    };
                    bytes.advance(written);
                    shared.sent.fetch_add(written as u64, Relaxed);
                }
            }
            LinkCommand::Finish => {
                let _ = write.shutdown().await;
                return std::future::pending().await;
            }
            LinkCommand::Reset => {
                let _ = socket2::SockRef::from(write.as_ref()).set_linger(Some(Duration::ZERO));
                write.forget();
                return;
            }
        }
    }
}

async fn read_link(
    link: usize,
    mut read: OwnedReadHalf,
    shared: &FakeLogicInner,
    orders: &mpsc::Sender<LinkCommand>,
) {
    let mut reading = shared.reading.subscribe();
    let mut decoder = FrameDecoder::new(1 << 30);
    let mut buffer = vec![0; 16 * 1024];
    let mut shaken = false;
    loop {
        if reading.wait_for(|on| *on).await.is_err() {
            return;
        }
        let len = tokio::select! {
            read = read.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(len) => len,
            },
            _ = reading.changed() => continue,
        };
        decoder.push(Bytes::copy_from_slice(&buffer[..len]));
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return shared.record(LogicEvent::Fault(format!("link {link}: {error}"))),
            };
            let handled = match frame.opcode {
                Opcode::Ping => {
                    let _ = orders.send(LinkCommand::Bytes(encode(Opcode::Pong, &[]))).await;
                    Ok(())
                }
                Opcode::Pong => {
                    shared.record(LogicEvent::Pong { link });
                    Ok(())
                }
                Opcode::Binary if !shaken => {
                    shaken = true;
                    handshake(link, frame.payload, shared)
                }
                Opcode::Binary => packet(link, &frame.payload, shared, orders).await,
                other => Err(format!("{other:?} to a logic service")),
            };
            if let Err(fault) = handled {
                return shared.record(LogicEvent::Fault(format!("link {link}: {fault}")));
            }
        }
    }
}

fn handshake(link: usize, payload: Bytes, shared: &FakeLogicInner) -> Result<(), String> {
    let request = pb::InnerHandshakeReq::decode(payload).map_err(|error| error.to_string())?;
    shared.record(LogicEvent::Handshake { link, gate: request.service_id });
    Ok(())
}

async fn packet(
    link: usize,
    payload: &Bytes,
    shared: &FakeLogicInner,
    orders: &mpsc::Sender<LinkCommand>,
) -> Result<(), String> {
    let packet = match Packet::decode(payload).map_err(|error| error.to_string())? {
        Packet::Logic(packet) => packet,
        Packet::Basic { .. } => return Err("a BasicPkt to a logic service".into()),
    };
    if packet.dialect != shared.dialect {
        return Err(format!("{} to a service of dialect {}", packet.dialect, shared.dialect));
    }
    let header = pb::Header::decode(packet.header).map_err(|error| error.to_string())?;
    if header.flag != pb::Flag::Request as i32 || header.status != 0 {
        return Err(format!("flag or status is not that of a request: {header:?}"));
    }
    for key in ["app", "account", shared.dialect.gateway_key()] {
        if metas(&header, key).len() != 1 {
            return Err(format!("not exactly one {key}: {header:?}"));
        }
    }
    let received = Received { link, dialect: packet.dialect, header, body: packet.body };
    shared.record(LogicEvent::Packet(received.clone()));
    if shared.is_answered(&received.header.command) {
        let (status, body) = shared.default_answer(&received);
        let _ = orders.send(LinkCommand::Bytes(shared.answer(&received, status, &body))).await;
    }
    Ok(())
}

impl Drop for FakeLogic {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}
