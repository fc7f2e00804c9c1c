//! [`Raw`]: a client that writes the bytes it is told to, over TCP, TLS, WebSocket or QUIC, and sees everything that comes back.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

use bytes::Bytes;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use gateway::wire::packet::{BASIC_PING, encode_basic, encode_message};
use gateway::wire::pb;
use prost::Message as _;
use quinn::{ConnectionError, VarInt};
use tokio::io::{AsyncWriteExt as _, WriteHalf};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::identity;
use super::stream::{self, Framed, Message, Reading, Seen, StreamEnd, StreamOf};
use super::websocket::{self, ToMessages};
use super::{PATIENCE, soon};

/// The six ways of speaking to the gateway; every end-to-end case is run over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket on plain TCP: what is written is translated on the way.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC with everything on stream 0.
    QuicOne,
    /// QUIC with login, heartbeat and messages on streams of their own.
    QuicMany,
}

impl Kind {
    /// All of them. A table names them one by one, which `tests/tidy` holds: rstest reads it before there are constants.
    pub(crate) const ALL: [Self; 6] =
        [Self::Tcp, Self::Tls, Self::Ws, Self::Wss, Self::QuicOne, Self::QuicMany];

    /// Returns `true` if frames travel as messages of WebSocket.
    pub(crate) fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Returns `true` if everything goes over one byte stream that is the connection itself.
    pub(crate) fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls | Self::Ws | Self::Wss)
    }
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) tcp: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) ws: SocketAddr,
    pub(crate) wss: SocketAddr,
    pub(crate) quic: SocketAddr,
}

/// What may differ between clients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Dialect of everything this client encodes.
    pub(crate) dialect: Dialect,
    /// Receive buffer of the TCP socket, or receive window of a QUIC stream, bytes.
    pub(crate) receive_buffer: Option<u32>,
    /// A QUIC client that grants the gateway no stream for pushes.
    pub(crate) refuses_push_stream: bool,
    /// What a TCP client sends ahead of everything else, TLS included.
    pub(crate) preface: &'static [u8],
    /// What the request of a WebSocket client has beside, each line with its end.
    pub(crate) headers: &'static str,
    /// Where a TCP client comes from; none: from anywhere.
    pub(crate) from: Option<Ipv4Addr>,
}

/// What a client does beside signing in: on a stream of its own, or on stream 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Heartbeat,
    Messages,
}

enum Wire {
    Tcp(Option<OwnedWriteHalf>),
    /// With a second handle to the socket, for what cannot be said through TLS.
    Tls(Option<(WriteHalf<TlsStream<TcpStream>>, OwnedFd)>),
    Quic {
        endpoint: quinn::Endpoint,
        connection: quinn::Connection,
        streams: Vec<quinn::SendStream>,
    },
}

/// See the module.
pub(crate) struct Raw {
    kind: Kind,
    /// Of everything this client encodes.
    pub(crate) dialect: Dialect,
    wire: Wire,
    /// Between the bytes that are written and a WebSocket.
    messages: Option<ToMessages>,
    seen: mpsc::Receiver<Seen>,
    /// Upgrades while the QUIC connection lives, so that `seen` ends with the last stream.
    seen_by: mpsc::WeakSender<Seen>,
    stash: VecDeque<Seen>,
    reading: watch::Sender<Reading>,
    tasks: JoinSet<()>,
    sequence: u32,
    refuses_push_stream: bool,
}

/// Everything that was left to see, and how the gateway closed.
#[derive(Debug)]
pub(crate) struct CloseDetails {
    /// The close code; none when the connection ended without one.
    pub(crate) code: Option<u16>,
    /// LogicPkts not taken before, in order of arrival per stream.
    pub(crate) messages: Vec<Message>,
}

impl CloseDetails {
    /// The one Response with this sequence.
    pub(crate) fn response(&self, sequence: u32) -> &Message {
        let mut found = self.messages.iter().filter(|message| is_response(message, sequence));
        let first = found.next().unwrap_or_else(|| panic!("no response to {sequence}: {self:?}"));
        assert!(found.next().is_none(), "two responses to {sequence}: {self:?}");
        first
    }
}

fn is_response(message: &Message, sequence: u32) -> bool {
    message.header.flag == pb::Flag::Response as i32 && message.header.sequence == sequence
}

/// Frames a client may be ahead of its test.
const SEEN_AHEAD: usize = 1 << 16;

impl Raw {
    /// Connects with the default dialect.
    pub(crate) async fn connect(kind: Kind, target: &Target) -> Self {
        Self::connect_with(kind, target, Options::default()).await
    }

    /// On a QUIC connection that a stack of another kind has made.
    pub(crate) fn on(endpoint: quinn::Endpoint, connection: quinn::Connection) -> Self {
        let (sender, seen) = mpsc::channel(SEEN_AHEAD);
        let seen_by = sender.downgrade();
        let (reading, _) = watch::channel(Reading::All);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_pushes(connection.clone(), sender, reading.subscribe()));
        let wire = Wire::Quic { endpoint, connection, streams: Vec::new() };
        let (kind, dialect) = (Kind::QuicMany, Dialect::default());
        Self {
            kind,
            dialect,
            wire,
            messages: None,
            seen,
            seen_by,
            stash: VecDeque::new(),
            reading,
            tasks,
            sequence: 0,
            refuses_push_stream: false,
        }
    }

    /// Connects; nothing is written yet, so that on QUIC no stream exists for the gateway either.
    pub(crate) async fn connect_with(kind: Kind, target: &Target, options: Options) -> Self {
        let (sender, seen) = mpsc::channel(SEEN_AHEAD);
        let seen_by = sender.downgrade();
        let (reading, _) = watch::channel(Reading::All);
        let mut tasks = JoinSet::new();
        let framed = Framed::new(kind.is_websocket());
        let wire = match kind {
            Kind::Tcp | Kind::Ws => {
                let address = if kind == Kind::Ws { target.ws } else { target.tcp };
                let mut socket = tcp_connect(address, options).await;
                if kind == Kind::Ws {
                    websocket::upgrade(&mut socket, options.headers).await;
                }
                let (read, write) = socket.into_split();
                tasks.spawn(stream::read(StreamOf::Own(0), framed, read, sender, reading.subscribe()));
                Wire::Tcp(Some(write))
            }
            Kind::Tls | Kind::Wss => {
                let (address, alpn) = match kind {
                    Kind::Wss => (target.wss, identity::HTTP_ALPN),
                    _ => (target.tls, identity::ALPN),
                };
                let socket = tcp_connect(address, options).await;
                let handle = socket.as_fd().try_clone_to_owned().unwrap();
                let mut stream = identity::tls_connect(socket, &[alpn]).await.expect("a TLS handshake");
                if kind == Kind::Wss {
                    websocket::upgrade(&mut stream, options.headers).await;
                }
                let (read, write) = tokio::io::split(stream);
                tasks.spawn(stream::read(StreamOf::Own(0), framed, read, sender, reading.subscribe()));
                Wire::Tls(Some((write, handle)))
            }
            Kind::QuicOne | Kind::QuicMany => {
                let (endpoint, connection) = quic_connect(target.quic, options).await;
                let pushes = accept_pushes(connection.clone(), sender, reading.subscribe());
                tasks.spawn(pushes);
                Wire::Quic { endpoint, connection, streams: Vec::new() }
            }
        };
        let Options { dialect, refuses_push_stream, .. } = options;
        Self {
            kind,
            dialect,
            wire,
            messages: kind.is_websocket().then(ToMessages::default),
            seen,
            seen_by,
            stash: VecDeque::new(),
            reading,
            tasks,
            sequence: 0,
            refuses_push_stream,
        }
    }

    // --- Writing ---------------------------------------------------------------------------------------------

    /// The stream this kind of client uses for something.
    pub(crate) fn stream_for(&self, purpose: Purpose) -> usize {
        match (self.kind, purpose) {
            (Kind::Tcp | Kind::Tls | Kind::Ws | Kind::Wss | Kind::QuicOne, _) => 0,
            (Kind::QuicMany, Purpose::Heartbeat) => 1,
            (Kind::QuicMany, Purpose::Messages) => 2,
        }
    }

    /// Opens streams until there are more than `stream`; needs nothing on TCP.
    pub(crate) async fn open(&mut self, stream: usize) {
        let Wire::Quic { connection, streams, .. } = &mut self.wire else {
            assert_eq!(stream, 0, "TCP has one stream");
            return;
        };
        while streams.len() <= stream {
            let (send, recv) = soon("a stream", connection.open_bi()).await.expect("a stream is granted");
            let seen_by = self.seen_by.upgrade().expect("the connection lives");
            self.tasks.spawn(stream::read(
                StreamOf::Own(streams.len()),
                Framed::new(false),
                recv,
                seen_by,
                self.reading.subscribe(),
            ));
            streams.push(send);
        }
    }

    /// Writes bytes on a stream; errors are left to the reading side.
    pub(crate) async fn write_on(&mut self, stream: usize, bytes: impl AsRef<[u8]>) {
        let bytes = self.translated(bytes.as_ref());
        self.write_as_is(stream, &bytes).await;
    }

    fn translated(&mut self, bytes: &[u8]) -> Vec<u8> {
        match &mut self.messages {
            Some(messages) => messages.translate(bytes),
            None => bytes.to_vec(),
        }
    }

    /// The same, but what a WebSocket is to carry is frames of its own already.
    pub(crate) async fn write_as_is(&mut self, stream: usize, bytes: &[u8]) {
        self.open(stream).await;
        let _ = match &mut self.wire {
            Wire::Tcp(write) => {
                soon("room to write", write.as_mut().expect("still open").write_all(bytes)).await.is_ok()
            }
            Wire::Tls(write) => {
                let (write, _) = write.as_mut().expect("still open");
                let written = async {
                    write.write_all(bytes).await?;
                    write.flush().await
                };
                soon("room to write", written).await.is_ok()
            }
            Wire::Quic { streams, .. } => {
                soon("room to write", streams[stream].write_all(bytes)).await.is_ok()
            }
        };
    }

    /// Writes bytes on the login stream.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.write_on(0, bytes).await;
    }

    /// Writes bytes one by one, each in a packet of its own as far as the transport allows.
    pub(crate) async fn drip(&mut self, stream: usize, bytes: impl AsRef<[u8]>) {
        for byte in self.translated(bytes.as_ref()) {
            self.write_as_is(stream, &[byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Finishes a stream; on TCP that is a FIN.
    pub(crate) async fn finish(&mut self, stream: usize) {
        match &mut self.wire {
            Wire::Tcp(write) => write.as_mut().expect("still open").shutdown().await.unwrap(),
            Wire::Tls(write) => write.as_mut().expect("still open").0.shutdown().await.unwrap(),
            Wire::Quic { streams, .. } => streams[stream].finish().unwrap(),
        }
    }

    /// A hard end: RST on TCP, RESET_STREAM of the login stream on QUIC.
    pub(crate) async fn reset(&mut self) {
        match &mut self.wire {
            Wire::Tcp(write) => {
                let write = write.take().expect("still open");
                socket2::SockRef::from(write.as_ref()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                self.tasks.shutdown().await;
                write.forget();
            }
            Wire::Tls(write) => {
                let (write, handle) = write.take().expect("still open");
                socket2::SockRef::from(&handle).set_linger(Some(std::time::Duration::ZERO)).unwrap();
                self.tasks.shutdown().await;
                drop((write, handle));
            }
            Wire::Quic { streams, .. } => streams[0].reset(VarInt::from_u32(0)).unwrap(),
        }
    }

    /// An orderly end by the client: a close frame on TCP, close code 0 on QUIC.
    pub(crate) async fn bye(&mut self) {
        if let Wire::Quic { connection, .. } = &self.wire {
            connection.close(VarInt::from_u32(0), b"bye");
        } else {
            self.write(self.encode_bye()).await;
        }
    }

    /// Stops reading everything, until told otherwise.
    pub(crate) fn stop_reading(&self) {
        self.reading.send_replace(Reading::Nothing);
    }

    /// Stops reading one of its own streams, until told otherwise.
    pub(crate) fn stop_reading_stream(&self, stream: usize) {
        self.reading.send_replace(Reading::AllBut(StreamOf::Own(stream)));
    }

    /// Reads on.
    pub(crate) fn read_on(&self) {
        self.reading.send_replace(Reading::All);
    }

    /// The QUIC connection and its endpoint, for tests of QUIC alone.
    pub(crate) fn quic(&self) -> (&quinn::Endpoint, &quinn::Connection) {
        match &self.wire {
            Wire::Quic { endpoint, connection, .. } => (endpoint, connection),
            Wire::Tcp(_) | Wire::Tls(_) => panic!("a TCP client has no QUIC connection"),
        }
    }

    /// The send side of a QUIC stream.
    pub(crate) fn quic_stream(&mut self, stream: usize) -> &mut quinn::SendStream {
        match &mut self.wire {
            Wire::Quic { streams, .. } => &mut streams[stream],
            Wire::Tcp(_) | Wire::Tls(_) => panic!("a TCP client has no streams"),
        }
    }

    // --- Packets ---------------------------------------------------------------------------------------------

    /// A sequence not used before on this client.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence += 1;
        self.sequence
    }

    /// A LogicPkt as bytes.
    pub(crate) fn encode(&self, header: &pb::Header, body: &[u8]) -> Bytes {
        encode_message(self.dialect, header, body.to_vec()).to_bytes()
    }

    /// The close frame of a client that leaves.
    pub(crate) fn encode_bye(&self) -> Bytes {
        encode(Opcode::Close, &CloseReason::Bye.payload())
    }

    /// Sends a LogicPkt on a stream.
    pub(crate) async fn send_on(&mut self, stream: usize, header: &pb::Header, body: &[u8]) {
        let bytes = self.encode(header, body);
        self.write_on(stream, bytes).await;
    }

    /// Sends a request on the stream for messages; returns its sequence.
    pub(crate) async fn request(&mut self, command: &str, dest: &str, body: &[u8]) -> u32 {
        let sequence = self.next_sequence();
        let header = request(command, sequence, dest);
        self.send_on(self.stream_for(Purpose::Messages), &header, body).await;
        sequence
    }

    /// Sends `chat.user.talk`; returns its sequence.
    pub(crate) async fn talk(&mut self, dest: &str, text: &str) -> u32 {
        let body = pb::MessageReq { r#type: 1, body: text.into(), extra: String::new() }.encode_to_vec();
        self.request("chat.user.talk", dest, &body).await
    }

    /// The frame of a sign-in.
    pub(crate) fn signin_frame(&self, sequence: u32, login: &pb::LoginReq) -> Bytes {
        self.encode(&request("login.signin", sequence, ""), &login.encode_to_vec())
    }

    /// Sends a sign-in; returns its sequence.
    pub(crate) async fn signin(&mut self, token: &str) -> u32 {
        self.signin_with(&pb::LoginReq { token: token.into(), ..Default::default() }).await
    }

    /// Sends a sign-in with any body; returns its sequence.
    pub(crate) async fn signin_with(&mut self, login: &pb::LoginReq) -> u32 {
        let sequence = self.next_sequence();
        let frame = self.signin_frame(sequence, login);
        self.write(frame).await;
        sequence
    }

    /// Signs an account in and returns the channel id the login service gave back.
    pub(crate) async fn login(&mut self, account: &str) -> String {
        let sequence = self.signin(&identity::token(account)).await;
        let answer = self.response(sequence).await;
        assert_eq!(answer.header.status, 0, "{answer:?}");
        assert_eq!(answer.header.command, "login.signin");
        assert_eq!(answer.stream, StreamOf::Own(0), "the answer comes back on the stream that asked");
        let body = pb::LoginResp::decode(answer.body).unwrap();
        assert_eq!(body.account, account);
        body.channel_id
    }

    /// Sends a heartbeat of either sort and awaits its answer on the same stream.
    pub(crate) async fn heartbeat(&mut self, frame_ping: bool) {
        let stream = self.stream_for(Purpose::Heartbeat);
        if frame_ping {
            self.write_on(stream, encode(Opcode::Ping, &[])).await;
            self.take("a frame pong", |seen| match seen {
                Seen::Frame(at, frame) if frame.opcode == Opcode::Pong => Some(*at),
                _ => None,
            })
            .await;
        } else {
            self.write_on(stream, encode_basic(self.dialect, BASIC_PING)).await;
            let (at, dialect, code) = self.take("a pong", Seen::basic).await;
            assert_eq!((at, dialect, code), (StreamOf::Own(stream), self.dialect, 2));
        }
    }

    // --- Reading ---------------------------------------------------------------------------------------------

    /// The next thing that arrives; none after the end of everything.
    pub(crate) async fn next(&mut self) -> Option<Seen> {
        if let Some(seen) = self.stash.pop_front() {
            return Some(seen);
        }
        soon("anything from the gateway", self.seen.recv()).await
    }

    /// Awaits the first thing `wanted` picks; everything else stays for later calls, in order.
    pub(crate) async fn take<T>(&mut self, what: &str, wanted: impl Fn(&Seen) -> Option<T>) -> T {
        let found = self.stash.iter().enumerate().find_map(|(at, seen)| Some((at, wanted(seen)?)));
        if let Some((at, value)) = found {
            self.stash.remove(at);
            return value;
        }
        loop {
            let Ok(seen) = tokio::time::timeout(PATIENCE, self.seen.recv()).await else {
                panic!("waited {PATIENCE:?} in vain for {what}; not taken: {}", self.describe_stash());
            };
            let Some(seen) = seen else {
                panic!("closed ({}) instead of {what}; {}", self.close_reason(), self.describe_stash());
            };
            if let Some(value) = wanted(&seen) {
                return value;
            }
            self.stash.push_back(seen);
        }
    }

    fn describe_stash(&self) -> String {
        let short = |seen: &Seen| match seen.message() {
            Some(Message { stream, header, .. }) => {
                format!("{stream:?} {} {} status {}", header.command, header.sequence, header.status)
            }
            None => format!("{seen:?}").chars().take(80).collect(),
        };
        self.stash.iter().map(short).collect::<Vec<_>>().join(", ")
    }

    fn close_reason(&self) -> String {
        match &self.wire {
            Wire::Quic { connection, .. } => format!("{:?}", connection.close_reason()),
            Wire::Tcp(_) | Wire::Tls(_) => format!("{:?}", self.stash.back()),
        }
    }

    /// Awaits the Response to a request; its stream is that of the request's purpose unless the caller checks.
    pub(crate) async fn response(&mut self, sequence: u32) -> Message {
        let what = format!("the response to {sequence}");
        self.take(&what, |seen| seen.message().filter(|message| is_response(message, sequence))).await
    }

    /// Awaits the next push and checks that it came where pushes come.
    pub(crate) async fn push(&mut self) -> Message {
        let push = self
            .take("a push", |seen| {
                seen.message().filter(|message| message.header.flag != pb::Flag::Response as i32)
            })
            .await;
        let on_login = self.kind.is_tcp() || self.refuses_push_stream;
        let expected = if on_login { StreamOf::Own(0) } else { StreamOf::Push(0) };
        assert_eq!(push.stream, expected, "{push:?}");
        push
    }

    /// Everything seen and not taken so far, without waiting.
    pub(crate) fn leftovers(&mut self) -> Vec<Seen> {
        while let Ok(seen) = self.seen.try_recv() {
            self.stash.push_back(seen);
        }
        self.stash.drain(..).collect()
    }

    /// Reads until the gateway has closed, and checks that the close came last.
    pub(crate) async fn farewell(&mut self) -> CloseDetails {
        let mut all: Vec<Seen> = self.stash.drain(..).collect();
        while let Some(seen) = soon("the gateway to close", self.seen.recv()).await {
            all.push(seen);
        }
        while let Some(task) = self.tasks.join_next().await {
            task.expect("what the gateway sent could be read");
        }
        let code = match &self.wire {
            Wire::Quic { connection, .. } => quic_code(&soon("the close", connection.closed()).await),
            Wire::Tcp(_) | Wire::Tls(_) => tcp_code(&all, self.messages.as_ref()),
        };
        CloseDetails { code, messages: all.iter().filter_map(Seen::message).collect() }
    }

    /// Awaits the close and checks its code; returns what came before it.
    pub(crate) async fn closed_with(&mut self, code: u16) -> CloseDetails {
        let farewell = self.farewell().await;
        assert_eq!(farewell.code, Some(code), "{farewell:?}");
        farewell
    }
}

/// The header of a request.
pub(crate) fn request(command: &str, sequence: u32, dest: &str) -> pb::Header {
    pb::Header { command: command.into(), sequence, dest: dest.into(), ..Default::default() }
}

fn quic_code(error: &ConnectionError) -> Option<u16> {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            Some(u16::try_from(close.error_code.into_inner()).expect("a code of two bytes"))
        }
        _ => None,
    }
}

/// On TCP the close frame is the last thing before the FIN, which a reset must not overtake (row D9).
fn tcp_code(all: &[Seen], messages: Option<&ToMessages>) -> Option<u16> {
    let close = all.iter().position(|seen| matches!(seen, Seen::Frame(_, f) if f.opcode == Opcode::Close))?;
    let Seen::Frame(_, frame) = &all[close] else { unreachable!() };
    assert!(
        matches!(all[close + 1..], [Seen::End(StreamOf::Own(0), StreamEnd::Finished)]),
        "behind the close frame there is a FIN and nothing else: {all:?}"
    );
    let payload = match messages {
        Some(messages) => websocket::close_payload(&frame.payload, messages.said_goodbye)?,
        None => frame.payload.clone(),
    };
    let reason = CloseReason::from_payload(&payload).expect("a code of the protocol");
    assert_eq!(payload, reason.payload(), "code and token");
    reason.code()
}

async fn tcp_connect(address: SocketAddr, options: Options) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    if let Some(from) = options.from {
        socket.bind((from, 0).into()).unwrap();
    }
    let mut stream = soon("a TCP connection", socket.connect(address)).await.expect("the gateway listens");
    stream.set_nodelay(true).unwrap();
    stream.write_all(options.preface).await.unwrap();
    stream
}

async fn quic_connect(address: SocketAddr, options: Options) -> (quinn::Endpoint, quinn::Connection) {
    let mut transport = quinn::TransportConfig::default();
    if let Some(bytes) = options.receive_buffer {
        transport.stream_receive_window(bytes.into());
    }
    if options.refuses_push_stream {
        transport.max_concurrent_uni_streams(0u32.into());
    }
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = identity::quic_client(&[identity::ALPN], transport);
    let connecting = endpoint.connect_with(config, address, "localhost").unwrap();
    let connection = soon("a QUIC connection", connecting).await.expect("the gateway accepts");
    (endpoint, connection)
}

/// Reads every stream the gateway opens, until the connection ends.
async fn accept_pushes(
    connection: quinn::Connection,
    seen_by: mpsc::Sender<Seen>,
    reading: watch::Receiver<Reading>,
) {
    let mut streams = JoinSet::new();
    for number in 0.. {
        let Ok(stream) = connection.accept_uni().await else { break };
        streams.spawn(stream::read(
            StreamOf::Push(number),
            Framed::new(false),
            stream,
            seen_by.clone(),
            reading.clone(),
        ));
    }
    streams.join_all().await;
}
