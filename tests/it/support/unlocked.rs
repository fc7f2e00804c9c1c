//! [`Unlocked`]: a logic service that writes as the Go services do. What it sends goes through a small buffer; one task
//! writes frames into it, and another, which reads, puts its pongs into the same buffer. Nothing keeps the two apart, so a
//! pong that is due while a frame is being written lands within it, and bytes are lost or sent twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Frame, FrameDecoder, HEAD_LEN, Opcode, encode, head};
use gateway::wire::packet::{Packet, encode_message};
use gateway::wire::pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};

use super::fake_logic::{meta, push_header};

/// Bytes of the buffer.
const BUFFER: usize = 4096;

/// Frames that wait for the writing task.
const AHEAD: usize = 5;

/// Body of a push, bytes: a frame fills the buffer more than once.
const BODY: usize = 3000;

/// What it did.
#[derive(Default)]
pub(crate) struct Seen {
    links: AtomicUsize,
    pings: AtomicUsize,
}

/// See the module. Dropping it ends it.
pub(crate) struct Unlocked {
    /// Where the gateway dials it.
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Unlocked {
    /// Listens on a free port. It answers every request; `floods`: and from the first one on it pushes without a pause, to
    /// a channel that does not exist.
    pub(crate) async fn start(floods: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.links.fetch_add(1, Relaxed);
                links.spawn(serve(stream, floods, Arc::clone(&counted)));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    /// Links that were opened so far.
    pub(crate) fn links(&self) -> usize {
        self.seen.links.load(Relaxed)
    }

    /// Pings that came so far.
    pub(crate) fn pings(&self) -> usize {
        self.seen.pings.load(Relaxed)
    }
}

async fn serve(stream: TcpStream, floods: bool, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    let (mut read, write) = stream.into_split();
    let mut decoder = FrameDecoder::new(1 << 24);
    let Some(handshake) = next_frame(&mut read, &mut decoder).await else { return };
    let gate = pb::InnerHandshakeReq::decode(handshake.payload).unwrap().service_id;
    let writer = Arc::new(GoWriter::new(write));
    let (sender, frames) = mpsc::channel(AHEAD);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_loop(Arc::clone(&writer), frames));
    let mut flood_to = floods.then_some(gate);
    while let Some(frame) = next_frame(&mut read, &mut decoder).await {
        match frame.opcode {
            Opcode::Ping => {
                seen.pings.fetch_add(1, Relaxed);
                writer.write_frame(Opcode::Pong, &[]).await;
                writer.flush().await;
            }
            Opcode::Binary => {
                let Ok(Packet::Logic(packet)) = Packet::decode(&frame.payload) else { return };
                let _ended = sender.send(answer(packet.dialect, &packet.header)).await;
                if let Some(gate) = flood_to.take() {
                    tasks.spawn(flood(sender.clone(), gate));
                }
            }
            _ => {}
        }
    }
}

async fn next_frame(read: &mut OwnedReadHalf, decoder: &mut FrameDecoder) -> Option<Frame> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        let len = read.read(&mut buffer).await.ok().filter(|len| *len > 0)?;
        decoder.push(Bytes::copy_from_slice(&buffer[..len]));
    }
}

/// The payload of a good answer to a request.
fn answer(dialect: Dialect, header: &[u8]) -> Bytes {
    let header = pb::Header::decode(header).unwrap();
    let gate = header.meta.iter().find(|meta| meta.key == dialect.gateway_key()).unwrap().value.clone();
    let metas = vec![meta(dialect.gateway_key(), &gate), meta("dest.channels", &header.channel_id)];
    let header = pb::Header { flag: pb::Flag::Response as i32, meta: metas, ..header };
    encode_message(dialect, &header, Bytes::new()).to_bytes().slice(HEAD_LEN..)
}

async fn flood(frames: mpsc::Sender<Bytes>, gate: String) {
    let dialect = Dialect::XIm;
    let mut header = push_header("chat.user.talk", 0);
    header.meta = vec![meta(dialect.gateway_key(), &gate), meta("dest.channels", "nobody")];
    let frame = encode_message(dialect, &header, vec![0; BODY]).to_bytes().slice(HEAD_LEN..);
    while frames.send(frame.clone()).await.is_ok() {}
}

async fn write_loop(writer: Arc<GoWriter>, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        writer.write_frame(Opcode::Binary, &frame).await;
        while let Ok(frame) = frames.try_recv() {
            writer.write_frame(Opcode::Binary, &frame).await;
        }
        writer.flush().await;
    }
}

/// A buffered writer that two tasks use without a lock. Each step is whole, as memory is; a frame is several steps, and
/// wherever the real one can be interrupted, by its scheduler or in the kernel, this one is. Only writes to the socket
/// exclude each other.
struct GoWriter {
    buffer: Mutex<Vec<u8>>,
    socket: tokio::sync::Mutex<OwnedWriteHalf>,
}

impl GoWriter {
    fn new(socket: OwnedWriteHalf) -> Self {
        Self { buffer: Mutex::default(), socket: tokio::sync::Mutex::new(socket) }
    }

    async fn write_frame(&self, opcode: Opcode, payload: &[u8]) {
        let head = head(opcode, payload.len());
        for part in [&head[..1], &head[1..], payload] {
            self.write(part).await;
            yield_now().await;
        }
    }

    async fn write(&self, mut bytes: &[u8]) {
        loop {
            let buffered = self.buffer.lock().unwrap().len();
            let room = BUFFER.saturating_sub(buffered);
            if bytes.len() <= room {
                break;
            }
            if buffered == 0 {
                self.send(bytes).await;
                return;
            }
            self.buffer.lock().unwrap().extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            self.flush().await;
        }
        self.buffer.lock().unwrap().extend_from_slice(bytes);
    }

    /// What the other task adds while the socket takes its time is gone afterwards.
    async fn flush(&self) {
        let bytes = self.buffer.lock().unwrap().clone();
        if !bytes.is_empty() {
            self.send(&bytes).await;
            self.buffer.lock().unwrap().clear();
        }
    }

    async fn send(&self, bytes: &[u8]) {
        // The end of the connection is seen by who reads.
        let _ended = self.socket.lock().await.write_all(bytes).await;
        yield_now().await;
    }
}

/// The head of a frame of so many bytes, and as many of them as are given.
pub(crate) fn begun_frame(len: usize, bytes: &[u8]) -> Bytes {
    let mut frame = encode(Opcode::Binary, &vec![0; len]).to_vec();
    frame.truncate(HEAD_LEN);
    frame.extend_from_slice(bytes);
    frame.into()
}
