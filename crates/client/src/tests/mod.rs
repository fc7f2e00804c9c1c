#![cfg(test)]
//! The client against a scripted gateway that speaks the wire over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use quinn::VarInt;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::{
    CallError, Client, ClientStream, ConnectError, ConnectOptions, Heartbeat, LoginError, Pushes,
    RequestError, Requests as _, Streams, Transport, TrustedCa, quic_endpoint,
};
use gateway_wire::close::CloseReason;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{self, Frame, FrameDecoder, Opcode};
use gateway_wire::packet::{BASIC_PING, BASIC_PONG, Packet, encode_basic, encode_message};
use gateway_wire::{command, pb};

mod auto;
mod connecting;
mod goodbye;
mod kicks;
mod pushes;
mod relay;
mod resilient;
mod session;
mod upgrades;
mod web;

/// Far above what anything here takes; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it never happened")
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The gateway's end of one byte stream.
struct Pipe {
    io: Box<dyn Io>,
    decoder: FrameDecoder,
}

impl Pipe {
    fn new(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io), decoder: FrameDecoder::new(1 << 24) }
    }

    /// The next frame, or `None` when the client finished.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut chunk = BytesMut::with_capacity(4096);
            if soon(self.io.read_buf(&mut chunk)).await.ok()? == 0 {
                return None;
            }
            self.decoder.push(chunk.freeze());
        }
    }

    async fn request(&mut self) -> (pb::Header, Bytes) {
        let frame = self.frame().await.expect("a request");
        let Packet::Logic(packet) = Packet::decode(&frame.payload).unwrap() else { panic!("a LogicPkt") };
        (pb::Header::decode(packet.header).unwrap(), packet.body)
    }

    async fn write(&mut self, bytes: &[u8]) {
        soon(self.io.write_all(bytes)).await.unwrap();
        soon(self.io.flush()).await.unwrap();
    }

    async fn answer(&mut self, request: &pb::Header, status: i32, body: Vec<u8>) {
        self.write(&response(request, status, body)).await;
    }

    /// Takes the login and answers it.
    async fn sign_in(&mut self) {
        let (header, body) = self.request().await;
        assert_eq!(header.command, command::LOGIN_SIGNIN);
        assert_eq!(pb::LoginReq::decode(body).unwrap().token, "token");
        self.answer(&header, 0, login_resp()).await;
    }
}

fn login_resp() -> Vec<u8> {
    pb::LoginResp { channel_id: "gate01_alice_1".to_owned(), account: "alice".to_owned() }.encode_to_vec()
}

fn response(request: &pb::Header, status: i32, body: Vec<u8>) -> Bytes {
    let header = pb::Header { flag: pb::Flag::Response as i32, status, ..request.clone() };
    encode_message(Dialect::XIm, &header, body).to_bytes()
}

fn push(id: i64, text: &str) -> Bytes {
    let body = pb::MessagePush {
        message_id: id,
        body: text.to_owned(),
        sender: "bob".to_owned(),
        ..Default::default()
    };
    let header = pb::Header {
        command: command::CHAT_USER_TALK.to_owned(),
        flag: pb::Flag::Push as i32,
        ..Default::default()
    };
    encode_message(Dialect::XIm, &header, body.encode_to_vec()).to_bytes()
}

/// The notice that a channel is kicked.
fn kick(channel: &str) -> Bytes {
    let notify = pb::KickOutNotify { channel_id: channel.to_owned() };
    let header = pb::Header {
        command: command::LOGIN_SIGNIN.to_owned(),
        flag: pb::Flag::Push as i32,
        ..Default::default()
    };
    encode_message(Dialect::XIm, &header, notify.encode_to_vec()).to_bytes()
}

/// A QUIC listener with a certificate of its own.
struct QuicGate {
    endpoint: quinn::Endpoint,
    ca: TrustedCa,
}

/// A server's certificate for 127.0.0.1, and who believes it.
fn server_tls(alpn: &[u8]) -> (rustls::ServerConfig, TrustedCa) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    (tls, TrustedCa::from_der([cert.der().clone()]).unwrap())
}

/// A TLS listener with a certificate of its own.
struct TlsGate {
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    ca: TrustedCa,
}

impl TlsGate {
    async fn new(alpn: &[u8]) -> Self {
        let (tls, ca) = server_tls(alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(tls)), ca }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::tls(self.listener.local_addr().unwrap().to_string(), self.ca.clone())
    }

    /// What comes of one client's handshake.
    async fn accept(&self) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        // A reset takes with it what the system still holds back.
        socket.set_nodelay(true).unwrap();
        soon(self.acceptor.accept(socket)).await
    }
}

impl QuicGate {
    fn new(alpn: &[u8]) -> Self {
        Self::at(server_tls(alpn), 0)
    }

    /// With this identity, on this port.
    fn at((tls, ca): (rustls::ServerConfig, TrustedCa), port: u16) -> Self {
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = quinn::Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        Self { endpoint, ca }
    }

    fn options(&self, streams: Streams) -> ConnectOptions {
        let server = self.endpoint.local_addr().unwrap().to_string();
        ConnectOptions { streams, ..ConnectOptions::quic(server, self.ca.clone()) }
    }

    async fn accept(&self) -> quinn::Connection {
        soon(self.endpoint.accept()).await.unwrap().await.unwrap()
    }
}

async fn accept_pipe(connection: &quinn::Connection) -> Pipe {
    let (to, from) = soon(connection.accept_bi()).await.unwrap();
    Pipe::new(tokio::io::join(from, to))
}

/// A client and the gateway's end of its connection.
struct Pair {
    client: Client,
    pushes: Pushes,
    login: Pipe,
    quic: Option<(QuicGate, quinn::Connection)>,
}

impl Pair {
    async fn tcp(change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = ConnectOptions::tcp(listener.local_addr().unwrap().to_string());
        change(&mut options);
        let (connected, accepted) = tokio::join!(Client::connect(options), listener.accept());
        let (client, pushes) = connected.unwrap();
        let (socket, _) = accepted.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { client, pushes, login: Pipe::new(socket), quic: None }
    }

    async fn tls(change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let gate = TlsGate::new(b"x-im/1").await;
        let mut options = gate.options();
        change(&mut options);
        let (connected, accepted) = tokio::join!(Client::connect(options), gate.accept());
        let (client, pushes) = connected.unwrap();
        Self { client, pushes, login: Pipe::new(accepted.unwrap()), quic: None }
    }

    /// The login stream shows when the client writes: `first` makes it.
    async fn quic(streams: Streams, change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let gate = QuicGate::new(b"x-im/1");
        let mut options = gate.options(streams);
        change(&mut options);
        let (connected, connection) = tokio::join!(Client::connect(options), gate.accept());
        let (client, pushes) = connected.unwrap();
        client.send_raw(ClientStream::Login, frame::encode(Opcode::Ping, &[])).await.unwrap();
        let mut login = accept_pipe(&connection).await;
        assert_eq!(login.frame().await.unwrap().opcode, Opcode::Ping);
        Self { client, pushes, login, quic: Some((gate, connection)) }
    }

    async fn ws(change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = ConnectOptions::ws(listener.local_addr().unwrap().to_string());
        change(&mut options);
        let (connected, login) = tokio::join!(Client::connect(options), async {
            let (socket, _) = listener.accept().await.unwrap();
            // A reset takes with it what the system still holds back.
            socket.set_nodelay(true).unwrap();
            web::accept(socket).await
        });
        let (client, pushes) = connected.unwrap();
        Self { client, pushes, login, quic: None }
    }

    async fn wss(change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let gate = TlsGate::new(b"http/1.1").await;
        let mut options = ConnectOptions { transport: Transport::Wss, ..gate.options() };
        change(&mut options);
        let (connected, login) =
            tokio::join!(Client::connect(options), async { web::accept(gate.accept().await.unwrap()).await });
        let (client, pushes) = connected.unwrap();
        Self { client, pushes, login, quic: None }
    }

    async fn of(kind: Kind, change: impl FnOnce(&mut ConnectOptions)) -> Self {
        match kind {
            Kind::Tcp => Self::tcp(change).await,
            Kind::Tls => Self::tls(change).await,
            Kind::Ws => Self::ws(change).await,
            Kind::Wss => Self::wss(change).await,
            Kind::QuicOne => Self::quic(Streams::Single, change).await,
            Kind::QuicMany => Self::quic(Streams::Separate, change).await,
        }
    }

    async fn signed_in(kind: Kind, change: impl FnOnce(&mut ConnectOptions)) -> Self {
        let mut pair = Self::of(kind, change).await;
        let (login, ()) = tokio::join!(pair.client.login("token"), pair.login.sign_in());
        assert_eq!(login.unwrap().channel_id, "gate01_alice_1");
        pair
    }

    /// Pushes as the gateway does; the stream it uses.
    async fn push(&mut self, packet: &[u8]) -> Option<quinn::SendStream> {
        let Some((_, connection)) = &self.quic else {
            self.login.write(packet).await;
            return None;
        };
        let mut uni = connection.open_uni().await.unwrap();
        uni.write_all(packet).await.unwrap();
        Some(uni)
    }

    /// Ends the connection as the gateway does.
    async fn close(&mut self, reason: CloseReason) {
        match &self.quic {
            Some((_, connection)) => connection.close(VarInt::from(reason.code().unwrap()), b""),
            None => self.login.write(&frame::encode(Opcode::Close, &reason.payload())).await,
        }
    }

    fn connection(&self) -> &quinn::Connection {
        &self.quic.as_ref().unwrap().1
    }

    /// The stream requests come on: the login stream, or the one of the messages stream.
    async fn messages(&mut self, kind: Kind) -> Option<Pipe> {
        if kind != Kind::QuicMany {
            return None;
        }
        let _heartbeat = accept_pipe(self.connection()).await;
        Some(accept_pipe(self.connection()).await)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Ws,
    Wss,
    QuicOne,
    QuicMany,
}
