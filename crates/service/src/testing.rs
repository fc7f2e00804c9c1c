//! A gateway's end of a link, in raw frames: a logic service can be tested with it and without a gateway. It panics where
//! what should come does not.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::server::LogicServer;
use gateway_wire::dialect::Dialect;
use gateway_wire::frame::{self, Frame, FrameDecoder, Opcode};
use gateway_wire::packet::{Packet, encode_message};
use gateway_wire::pb;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a server on a free port; it ends with the handle.
pub async fn start(server: LogicServer) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(server.serve(listener, std::future::pending()));
    (address, AbortOnDropHandle::new(task))
}

/// One link to a service.
#[derive(Debug)]
pub struct TestGateway {
    /// Of the gateway.
    pub id: String,
    dialect: Dialect,
    /// The connection.
    pub stream: TcpStream,
    decoder: FrameDecoder,
}

impl TestGateway {
    /// Connects and says nothing.
    pub async fn connect(address: SocketAddr, id: &str, dialect: Dialect) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { id: id.to_owned(), dialect, stream, decoder: FrameDecoder::new(usize::MAX) }
    }

    /// Connects and shakes hands; whether that worked shows later.
    pub async fn greet(address: SocketAddr, id: &str, dialect: Dialect) -> Self {
        let mut gateway = Self::connect(address, id, dialect).await;
        let handshake = pb::InnerHandshakeReq { service_id: id.to_owned() }.encode_to_vec();
        gateway.write(&frame::encode(Opcode::Binary, &handshake)).await;
        gateway
    }

    /// A link that is known to the server: it has answered a ping.
    pub async fn link(address: SocketAddr, id: &str, dialect: Dialect) -> Self {
        let mut gateway = Self::greet(address, id, dialect).await;
        gateway.ping().await;
        gateway
    }

    /// Waits until the server has handled all that was sent, and nothing is on its way back.
    pub async fn ping(&mut self) {
        self.write(&frame::encode(Opcode::Ping, &[])).await;
        let answer = self.frame().await.expect("the link has ended");
        assert_eq!(answer.opcode, Opcode::Pong, "unexpected: {answer:?}");
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request as a gateway forwards it.
    pub async fn request(
        &mut self,
        account: &str,
        command: &str,
        sequence: u32,
        dest: &str,
        body: &impl Message,
    ) {
        let channel = self.channel(account);
        self.request_of(&channel, account, command, sequence, dest, body.encode_to_vec()).await;
    }

    /// Sends a request as the gateway forwards it.
    pub async fn request_of(
        &mut self,
        channel: &str,
        account: &str,
        command: &str,
        sequence: u32,
        dest: &str,
        body: Vec<u8>,
    ) {
        let header = pb::Header {
            command: command.to_owned(),
            channel_id: channel.to_owned(),
            sequence,
            dest: dest.to_owned(),
            meta: vec![
                meta("app", "x_im"),
                meta("account", account),
                meta(self.dialect.gateway_key(), &self.id.clone()),
            ],
            ..Default::default()
        };
        self.write(&encode_message(self.dialect, &header, body).to_bytes()).await;
    }

    /// The channel an account has here in tests that need only one.
    pub fn channel(&self, account: &str) -> String {
        format!("{}_{account}_1", self.id)
    }

    /// Signs an account in on its channel and takes the answer.
    pub async fn sign_in(&mut self, account: &str) {
        let channel = self.channel(account);
        self.sign_in_on(&channel, account, "x_im").await;
        let (header, _) = self.packet().await;
        assert_eq!((header.command.as_str(), header.status), ("login.signin", 0));
    }

    /// Asks for an account of an app to be signed in on a channel.
    pub async fn sign_in_on(&mut self, channel: &str, account: &str, app: &str) {
        let session = pb::Session {
            channel_id: channel.to_owned(),
            gate_id: self.id.clone(),
            account: account.to_owned(),
            app: app.to_owned(),
            ..Default::default()
        };
        self.request_of(channel, account, "login.signin", 1, "", session.encode_to_vec()).await;
    }

    /// The next frame; none at the end of the link.
    pub async fn frame(&mut self) -> Option<Frame> {
        timeout(PATIENCE, async {
            loop {
                if let Some(frame) = self.decoder.next_frame().unwrap() {
                    return Some(frame);
                }
                let mut chunk = BytesMut::with_capacity(64 * 1024);
                match self.stream.read_buf(&mut chunk).await {
                    Ok(read) if read > 0 => self.decoder.push(chunk.freeze()),
                    _ => return None,
                }
            }
        })
        .await
        .expect("no frame came and the link did not end")
    }

    /// The next packet.
    pub async fn packet(&mut self) -> (pb::Header, Bytes) {
        let frame = self.frame().await.expect("the link has ended");
        let packet = Packet::decode(&frame.payload).unwrap();
        let Packet::Logic(packet) = packet else { panic!("unexpected: {packet:?}") };
        assert_eq!(packet.dialect, self.dialect);
        (pb::Header::decode(packet.header).unwrap(), packet.body)
    }

    /// The next packet, its body decoded.
    pub async fn message<M: Message + Default>(&mut self) -> (pb::Header, M) {
        let (header, body) = self.packet().await;
        (header, M::decode(body).unwrap())
    }

    /// The next packet must be an answer with this status.
    pub async fn expect_status(&mut self, status: pb::Status) {
        let (header, _) = self.packet().await;
        assert_eq!((header.flag, header.status), (pb::Flag::Response as i32, status as i32));
    }
}

/// A meta of text.
pub fn meta(key: &str, value: &str) -> pb::Meta {
    pb::Meta { key: key.to_owned(), value: value.to_owned(), r#type: pb::MetaType::String as i32 }
}

/// The value under the last meta of this key.
pub fn meta_of<'a>(header: &'a pb::Header, key: &str) -> Option<&'a str> {
    header.meta.iter().rev().find(|meta| meta.key == key).map(|meta| meta.value.as_str())
}
