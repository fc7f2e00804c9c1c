//! [`RawQuic`]: a QUIC client on quinn's state machine without its I/O. The test owns the UDP socket: it can send from
//! another address, go silent, and see every datagram that comes back.

mod crypto;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway::wire::dialect::Dialect;
use gateway::wire::packet::encode_message;
use gateway::wire::pb;
use prost::Message as _;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, Side, StreamId, TokenStore, TransportConfig, VarInt,
};
use tokio::net::UdpSocket;

use self::crypto::{Tap, Tapped};
use super::identity;
use super::raw::request;
use super::soon;

/// See the module.
pub(crate) struct RawQuic {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    server: SocketAddr,
    /// Packets go there: to the server, unless a balancer is played.
    pub(crate) to: SocketAddr,
    /// Packets leave from here.
    pub(crate) socket: UdpSocket,
    /// Keys, and what sealed packets are made of.
    tap: Arc<Tap>,
    /// The gateway's id of the connection, once a sealed packet needed it.
    id: Vec<u8>,
    /// How many bytes the gateway's ids have.
    id_len: usize,
    /// The client's own, as packets of the gateway name it.
    own_id: Vec<u8>,
    /// Bytes sent and received from and at `socket` since it was made.
    pub(crate) traffic: (usize, usize),
    /// What ended the connection.
    pub(crate) lost: Option<ConnectionError>,
}

/// A socket of 127.0.0.1.
pub(crate) async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

/// Bytes that come to a socket until none did for so long.
pub(crate) async fn bytes_until_quiet(socket: &UdpSocket, quiet: Duration) -> usize {
    sizes_until_quiet(socket, quiet).await.iter().sum()
}

/// The same, datagram by datagram.
pub(crate) async fn sizes_until_quiet(socket: &UdpSocket, quiet: Duration) -> Vec<usize> {
    let (mut sizes, mut buffer) = (Vec::new(), [0; 2048]);
    while let Ok(received) = tokio::time::timeout(quiet, socket.recv_from(&mut buffer)).await {
        sizes.push(received.unwrap().0);
    }
    sizes
}

impl RawQuic {
    /// A client that has sent nothing yet. `tokens` are offered to the gateway.
    pub(crate) async fn new(server: SocketAddr, tokens: Arc<dyn TokenStore>) -> Self {
        Self::offering(server, tokens, &[identity::ALPN]).await
    }

    /// The same, of a client that offers these protocols: with many of them a ClientHello is as large as one likes.
    pub(crate) async fn offering(server: SocketAddr, tokens: Arc<dyn TokenStore>, alpn: &[&[u8]]) -> Self {
        /// Bytes that may be under way from the start: more than any test's first flight.
        const FIRST_FLIGHT: u64 = 64 * 1024;
        let tls = QuicClientConfig::try_from(identity::tls_client(alpn)).unwrap();
        let tap = Arc::new(Tap::default());
        let mut config = ClientConfig::new(Arc::new(Tapped { tls: Arc::new(tls), tap: Arc::clone(&tap) }));
        let mut transport = TransportConfig::default();
        let mut congestion = CubicConfig::default();
        congestion.initial_window(FIRST_FLIGHT);
        transport
            .mtu_discovery_config(None)
            .max_concurrent_uni_streams(VarInt::from_u32(1))
            .congestion_controller_factory(Arc::new(congestion));
        config.transport_config(Arc::new(transport)).token_store(tokens);
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (handle, connection) = endpoint.connect(Instant::now(), config, server, "localhost").unwrap();
        let socket = socket().await;
        Self {
            endpoint,
            handle,
            connection,
            server,
            to: server,
            socket,
            tap,
            id: Vec::new(),
            id_len: 0,
            own_id: Vec::new(),
            traffic: (0, 0),
            lost: None,
        }
    }

    /// A client whose handshake is done and confirmed.
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let mut raw = Self::new(server, Arc::new(quinn_proto::NoneTokenStore)).await;
        raw.until("a handshake", |raw| raw.is_confirmed()).await;
        raw.flush().await;
        raw
    }

    /// The datagrams the client wants to send now.
    pub(crate) fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        loop {
            let mut buffer = Vec::new();
            match self.connection.poll_transmit(Instant::now(), 1, &mut buffer) {
                Some(transmit) => datagrams.push(buffer[..transmit.size].to_vec()),
                None => return datagrams,
            }
        }
    }

    /// The datagram with a PING, and nothing else but what is due anyway.
    pub(crate) fn ping(&mut self) -> Vec<u8> {
        self.connection.ping();
        self.datagrams().concat()
    }

    /// Sends what is due.
    pub(crate) async fn flush(&mut self) {
        for datagram in self.datagrams() {
            self.traffic.0 += self.socket.send_to(&datagram, self.to).await.unwrap();
        }
    }

    /// From now on packets leave from another address, as behind a translator that forgot the one before.
    pub(crate) async fn rebind(&mut self) {
        self.socket = socket().await;
        self.traffic = (0, 0);
    }

    /// Sends, receives and keeps time until something is so.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&mut Self) -> bool) {
        soon(what, async {
            while !done(self) {
                self.turn().await;
            }
        })
        .await;
    }

    /// One step: what is due is sent, then a datagram or the timer is awaited.
    async fn turn(&mut self) {
        self.flush().await;
        let timer = self.connection.poll_timeout().map(tokio::time::Instant::from_std);
        let mut buffer = [0; 2048];
        tokio::select! {
            received = self.socket.recv_from(&mut buffer) => self.take(&buffer[..received.unwrap().0]),
            () = async {
                match timer {
                    Some(timer) => tokio::time::sleep_until(timer).await,
                    None => std::future::pending().await,
                }
            } => self.connection.handle_timeout(Instant::now()),
        }
        self.settle();
    }

    /// Waits for one datagram and takes it; sends nothing.
    pub(crate) async fn receive(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let received = soon("a datagram", self.socket.recv_from(&mut buffer)).await;
        let datagram = &buffer[..received.unwrap().0];
        self.take(datagram);
        self.settle();
        datagram.to_vec()
    }

    /// Carries messages between the two machines.
    fn settle(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            if let Event::ConnectionLost { reason } = event {
                self.lost = Some(reason);
            }
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        self.traffic.1 += datagram.len();
        if datagram[0] & 0x80 == 0 {
            // Such an id has eight bytes.
            self.own_id = datagram[1..9].to_vec();
        } else {
            // Behind the version stand both ids, each with its length.
            self.id_len = datagram[6 + usize::from(datagram[5])].into();
        }
        let mut response = Vec::new();
        let data = BytesMut::from(datagram);
        let event = self.endpoint.handle(Instant::now(), self.server, None, None, data, &mut response);
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    /// PATH_CHALLENGE frames that have come.
    pub(crate) fn challenges(&self) -> u64 {
        self.connection.stats().frame_rx.path_challenge
    }

    /// Sends a PING from where the client is.
    pub(crate) async fn ping_from_here(&mut self) {
        self.connection.ping();
        self.flush().await;
    }

    /// Returns `true` if the handshake is done, and confirmed by the gateway.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.connection.stats().frame_rx.handshake_done > 0
    }

    /// Returns `true` if the gateway's flight has not been taken whole.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Packets of the client that it holds for lost.
    pub(crate) fn lost_packets(&self) -> u64 {
        self.connection.stats().path.lost_packets
    }

    /// STREAM frames that have come.
    pub(crate) fn stream_frames(&self) -> u64 {
        self.connection.stats().frame_rx.stream
    }

    /// Writes on the first bidirectional stream; what is written is little enough for any window.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.connection.streams().open(Dir::Bi);
        let first = StreamId::new(Side::Client, Dir::Bi, 0);
        assert_eq!(self.connection.send_stream(first).write(bytes).unwrap(), bytes.len());
    }

    /// Signs in on the first stream, until something is answered there.
    pub(crate) async fn sign_in(&mut self, account: &str) {
        let login = pb::LoginReq { token: identity::token(account), ..Default::default() };
        let header = request("login.signin", 1, "");
        self.write(&encode_message(Dialect::default(), &header, login.encode_to_vec()).to_bytes());
        self.until("the answer to the login", |raw| raw.stream_frames() > 0).await;
        self.flush().await;
    }

    /// The gateway's id of the connection.
    pub(crate) fn id(&mut self) -> &[u8] {
        if self.id.is_empty() {
            self.id = self.ping()[1..=self.id_len].to_vec();
        }
        &self.id
    }

    /// The client's own id, once the gateway sent a 1-RTT packet.
    pub(crate) fn own_id(&self) -> &[u8] {
        &self.own_id
    }

    /// A sealed 1-RTT packet with any frames, newer than all before. The state machine knows nothing of it, and what
    /// it sends itself from then on has numbers that the gateway has seen: whoever sends it should go on by hand. What
    /// comes is understood as before.
    pub(crate) fn sealed(&mut self, frames: &[u8]) -> Vec<u8> {
        let id = self.id().to_vec();
        self.tap.seal(&id, frames)
    }

    /// Sends such a packet.
    pub(crate) async fn forge(&mut self, frames: &[u8]) {
        let packet = self.sealed(frames);
        self.traffic.0 += self.socket.send_to(&packet, self.to).await.unwrap();
    }

    /// ACK frames of what came since the first forged packet and was not acknowledged in this way, packet by packet.
    pub(crate) fn acknowledgements(&self) -> Vec<u8> {
        let numbers = self.tap.take_received();
        let frame = |number: u64| {
            let largest = u32::try_from(number).unwrap() | 0x8000_0000;
            [&[0x02][..], &largest.to_be_bytes(), &[0; 3]].concat()
        };
        numbers.into_iter().flat_map(frame).collect()
    }

    /// Sends forged PINGs until one is acknowledged.
    pub(crate) async fn lives(&mut self) {
        const SEND_AGAIN: Duration = Duration::from_millis(100);
        let first = self.tap.largest() + 1;
        let is_over = |raw: &Self| raw.tap.acknowledged() >= first || raw.lost.is_some();
        let acknowledged = async {
            while !is_over(self) {
                self.forge(&[0x01]).await;
                let turns = async {
                    while !is_over(self) {
                        self.turn().await;
                    }
                };
                let _lost_on_the_way = tokio::time::timeout(SEND_AGAIN, turns).await;
            }
        };
        soon("an acknowledgement", acknowledged).await;
        assert!(self.lost.is_none(), "{:?}", self.lost);
    }

    /// Sends a PING as the state machine does and awaits an acknowledgement. That machine updates its keys within its first
    /// 1,000 packets, after which forged ones are no longer understood.
    pub(crate) async fn is_answered(&mut self) {
        let before = self.connection.stats().frame_rx.acks;
        self.ping_from_here().await;
        let is_over = |raw: &mut Self| raw.connection.stats().frame_rx.acks > before || raw.lost.is_some();
        self.until("an acknowledgement", is_over).await;
        assert!(self.lost.is_none(), "{:?}", self.lost);
    }

    /// Takes what comes for so long.
    pub(crate) async fn turn_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while tokio::time::timeout(end.saturating_duration_since(Instant::now()), self.turn()).await.is_ok() {
        }
    }

    /// Awaits the end that the gateway's QUIC made of it; returns the code.
    pub(crate) async fn closed(&mut self) -> u64 {
        self.until("the end", |raw| raw.lost.is_some()).await;
        match self.lost {
            Some(ConnectionError::ConnectionClosed(ref close)) => close.error_code.into(),
            ref other => panic!("{other:?}"),
        }
    }
}
