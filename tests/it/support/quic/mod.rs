//! [`RawQuic`]: a QUIC client on quinn's state machine without its I/O. The test owns the UDP socket: it can send from
//! another address, go silent, and see every datagram that comes back.

mod crypto;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig,
    Event, TokenStore, TransportConfig, VarInt,
};
use tokio::net::UdpSocket;

use self::crypto::{Tap, Tapped};
use super::identity;
use super::soon;

/// See the module.
pub(crate) struct RawQuic {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    connection: Connection,
    server: SocketAddr,
    /// Packets leave from here.
    pub(crate) socket: UdpSocket,
    /// Keys, and what sealed packets are made of.
    tap: Arc<Tap>,
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
    let (mut bytes, mut buffer) = (0, [0; 2048]);
    while let Ok(received) = tokio::time::timeout(quiet, socket.recv_from(&mut buffer)).await {
        bytes += received.unwrap().0;
    }
    bytes
}

impl RawQuic {
    /// A client that has sent nothing yet. `tokens` are offered to the gateway.
    pub(crate) async fn new(server: SocketAddr, tokens: Arc<dyn TokenStore>) -> Self {
        let tls = QuicClientConfig::try_from(identity::tls_client(&[identity::ALPN])).unwrap();
        let tap = Arc::new(Tap::default());
        let mut config = ClientConfig::new(Arc::new(Tapped { tls: Arc::new(tls), tap: Arc::clone(&tap) }));
        let mut transport = TransportConfig::default();
        transport.mtu_discovery_config(None).max_concurrent_uni_streams(VarInt::from_u32(1));
        config.transport_config(Arc::new(transport)).token_store(tokens);
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (handle, connection) = endpoint.connect(Instant::now(), config, server, "localhost").unwrap();
        let socket = socket().await;
        Self { endpoint, handle, connection, server, socket, tap, traffic: (0, 0), lost: None }
    }

    /// A client whose handshake is done and confirmed.
    pub(crate) async fn connect(server: SocketAddr) -> Self {
        let mut raw = Self::new(server, Arc::new(quinn_proto::NoneTokenStore)).await;
        raw.until("a handshake", |raw| raw.connection.stats().frame_rx.handshake_done > 0).await;
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
            self.traffic.0 += self.socket.send_to(&datagram, self.server).await.unwrap();
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

    /// A sealed 1-RTT packet with any frames, newer than all before. The state machine knows nothing of it: whoever
    /// sends it should go on by hand.
    pub(crate) fn sealed(&mut self, frames: &[u8]) -> Vec<u8> {
        let ordinary = self.ping();
        // An id of the gateway has eight bytes.
        self.tap.seal(&ordinary[1..9], frames)
    }
}
