//! Clients that misbehave: they stop reading, vanish without a word, or reset their connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use gateway::wire::command;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{FrameDecoder, Opcode};
use gateway::wire::packet::{Packet, encode_message};
use gateway::wire::pb;
use gateway_client::{Client, ConnectOptions, Pushes, Transport};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::load::LoadContext;

/// Longest wait for a login of a client of this kind.
const LOGIN: Duration = Duration::from_secs(10);

/// Largest frame a login brings back, bytes.
const MAX_FRAME: usize = 64 * 1024;

/// Flow control window of a stream of a QUIC client that stalls, bytes.
const NARROW_WINDOW: u32 = 16 * 1024;

/// Receive buffer and segments of a TCP client that stalls, bytes: the sender's buffer grows with the segments.
const NARROW_BUFFER: usize = 4096;
const NARROW_SEGMENT: u32 = 536;

/// A client that signs in and then takes nothing more.
pub(crate) struct Slow {
    pub(crate) channel: String,
    _connection: Connection,
}

/// What must not be dropped.
enum Connection {
    Library { _client: Client, _pushes: Pushes },
    Socket { _stream: TcpStream },
}

/// Connects one.
pub(crate) async fn slow(shared: &LoadContext, account: &str, transport: Transport) -> anyhow::Result<Slow> {
    slow_with(shared, account, shared.options(transport)).await
}

/// Connects one over QUIC whose buffers on the way to it are small.
pub(crate) async fn narrow_quic(shared: &LoadContext, account: &str) -> anyhow::Result<Slow> {
    let mut options = shared.options(Transport::Quic);
    options.stream_window = NARROW_WINDOW;
    slow_with(shared, account, options).await
}

async fn slow_with(shared: &LoadContext, account: &str, options: ConnectOptions) -> anyhow::Result<Slow> {
    let (client, pushes) = Client::connect(options).await?;
    let login = client.login(&shared.token(account)).await?;
    shared.ledger.oracle().wild(&login.channel_id, account);
    Ok(Slow {
        channel: login.channel_id,
        _connection: Connection::Library { _client: client, _pushes: pushes },
    })
}

/// Connects one over plain TCP whose buffers on the way to it are small.
pub(crate) async fn narrow_tcp(
    shared: &LoadContext,
    server: SocketAddr,
    account: &str,
) -> anyhow::Result<Slow> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(NARROW_BUFFER)?;
    socket.set_tcp_mss(NARROW_SEGMENT)?;
    socket.set_nonblocking(true)?;
    let mut stream = TcpSocket::from_std_stream(socket.into()).connect(server).await?;
    let (channel, _) = sign_in(shared, &mut stream, account).await?;
    Ok(Slow { channel, _connection: Connection::Socket { _stream: stream } })
}

/// Signs clients in on a thread of their own, which then never runs again: their sockets stay open, and nothing is read,
/// acknowledged or said. The channels they had.
pub(crate) async fn vanish(
    shared: Arc<LoadContext>,
    accounts: Vec<(String, Transport)>,
) -> anyhow::Result<Vec<String>> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let outcome = sign_in_and_freeze(&shared, &accounts);
        let _nobody_waits = tell.send(outcome);
    });
    told.await.context("the thread of the vanishing clients failed")?
}

fn sign_in_and_freeze(shared: &LoadContext, accounts: &[(String, Transport)]) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for (account, transport) in accounts {
            clients.push(slow(shared, account, *transport).await?);
        }
        anyhow::Ok(clients)
    })?;
    let channels = clients.iter().map(|client| client.channel.clone()).collect();
    // Not dropped: that would say goodbye. A run has few of them.
    std::mem::forget((clients, runtime));
    Ok(channels)
}

/// Signs in over plain TCP and resets the connection in the middle of a frame. Its channel.
pub(crate) async fn reset(shared: &LoadContext, server: SocketAddr, account: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    let (channel, frame) = sign_in(shared, &mut stream, account).await?;
    stream.write_all(&frame[..7]).await?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(channel)
}

/// Signs in without the library. The channel, and the frame that was sent.
async fn sign_in(
    shared: &LoadContext,
    stream: &mut TcpStream,
    account: &str,
) -> anyhow::Result<(String, Bytes)> {
    let header = pb::Header { command: command::LOGIN_SIGNIN.into(), sequence: 1, ..Default::default() };
    let login = pb::LoginReq { token: shared.token(account), ..Default::default() };
    let frame = encode_message(Dialect::XIm, &header, login.encode_to_vec()).to_bytes();
    stream.write_all(&frame).await?;
    let channel = timeout(LOGIN, login_answer(stream)).await.context("no answer to a login")??;
    shared.ledger.oracle().wild(&channel, account);
    Ok((channel, frame))
}

async fn login_answer(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    let mut buffer = vec![0; MAX_FRAME];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            if frame.opcode != Opcode::Binary {
                continue;
            }
            let Packet::Logic(packet) = Packet::decode(&frame.payload)? else { bail!("no LogicPkt first") };
            let header = pb::Header::decode(packet.header)?;
            // The very first packet must be it: nothing is pushed before (G5).
            if header.command != command::LOGIN_SIGNIN || header.flag != pb::Flag::Response as i32 {
                bail!("G5: {header:?} before the answer to the login");
            }
            if header.status != 0 {
                bail!("a login was answered {}", header.status);
            }
            return Ok(pb::LoginResp::decode(packet.body)?.channel_id);
        }
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            bail!("the connection ended before the login was answered");
        }
        decoder.push(Bytes::copy_from_slice(&buffer[..len]));
    }
}
