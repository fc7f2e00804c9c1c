//! [`ShapedLink`]: a slow network between a client and the gateway, with a rate, a delay and a queue, for UDP datagrams and
//! TCP streams.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::raw::Target;

/// What each direction of the link is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes per second.
    pub(crate) rate: u32,
    /// From one end to the other, beside the time in the queue.
    pub(crate) delay: Duration,
    /// Bytes that wait to be sent; UDP datagrams beyond them are lost.
    pub(crate) queue: u32,
}

/// Bytes asked of a TCP socket at once.
const CHUNK: usize = 4 * 1024;

/// Receive buffer of the sockets towards the gateway: what the kernel takes is not on the link yet.
const SMALL_BUFFER: u32 = 16 * 1024;

/// Chunks or datagrams on their way; their bytes are bounded by the queue.
const ON_THEIR_WAY: usize = 1 << 16;

/// Segments on it are as large as on a network with frames of 1,500 bytes: on loopback the kernel would size its buffers
/// for segments of 64 KiB.
const SEGMENT: u32 = 1400;

/// Until it is dropped.
pub(crate) struct ShapedLink {
    target: Target,
    rate: Rate,
    _tasks: JoinSet<()>,
}

impl ShapedLink {
    /// Leads to the same listeners of a gateway.
    pub(crate) async fn to(gateway: &Target, shape: Shape) -> Self {
        let mut tasks = JoinSet::new();
        let rate = Arc::new(AtomicU32::new(shape.rate));
        let line = Line { shape, rate: Arc::clone(&rate), free_at: Instant::now() };
        let target = Target {
            tcp: relay_tcp(gateway.tcp, line.clone(), &mut tasks).await,
            tls: relay_tcp(gateway.tls, line.clone(), &mut tasks).await,
            ws: relay_tcp(gateway.ws, line.clone(), &mut tasks).await,
            wss: relay_tcp(gateway.wss, line.clone(), &mut tasks).await,
            quic: relay_udp(gateway.quic, line, &mut tasks).await,
        };
        Self { target, rate, _tasks: tasks }
    }

    /// From now on it carries so many bytes per second.
    pub(crate) fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Relaxed);
    }

    /// Where its near end is.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// Bytes per second, now.
type Rate = Arc<AtomicU32>;

/// One direction.
#[derive(Clone)]
struct Line {
    shape: Shape,
    rate: Rate,
    /// When all that waits is sent.
    free_at: Instant,
}

impl Line {
    fn time_of(&self, bytes: u32) -> Duration {
        Duration::from_secs_f64(f64::from(bytes) / f64::from(self.rate.load(Relaxed)))
    }

    /// When so many bytes arrive.
    fn send(&mut self, bytes: usize) -> Instant {
        self.free_at = self.free_at.max(Instant::now()) + self.time_of(u32::try_from(bytes).unwrap());
        self.free_at + self.shape.delay
    }

    /// When its queue has room.
    fn has_room_at(&self) -> Instant {
        self.free_at - self.time_of(self.shape.queue)
    }
}

async fn relay_tcp(gateway: SocketAddr, line: Line, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
            socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT).unwrap();
            let Ok(far) = socket.connect(gateway).await else { continue };
            connections.spawn(join(near, far, line.clone()));
        }
    });
    address
}

async fn join(near: TcpStream, far: TcpStream, line: Line) {
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::join!(stream(near_read, far_write, line.clone()), stream(far_read, near_write, line));
}

/// Carries a stream to its end; a reset becomes a FIN.
async fn stream(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) {
    let (sender, mut arriving) = mpsc::channel::<(Instant, Bytes)>(ON_THEIR_WAY);
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            sleep_until(line.has_room_at()).await;
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
            let chunk = Bytes::copy_from_slice(&buffer[..read]);
            if sender.send((line.send(read), chunk)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, chunk)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _gone_already = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

async fn relay_udp(gateway: SocketAddr, line: Line, tasks: &mut JoinSet<()>) -> SocketAddr {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = near.local_addr().unwrap();
    tasks.spawn(async move {
        let mut clients: HashMap<SocketAddr, Datagrams> = HashMap::new();
        let mut ways_back = JoinSet::new();
        let mut buffer = vec![0; 1 << 16];
        while let Ok((read, client)) = near.recv_from(&mut buffer).await {
            let there = match clients.entry(client) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    far.connect(gateway).await.unwrap();
                    let back = Datagrams::new(Arc::clone(&near), Some(client), line.clone());
                    ways_back.spawn(carry(Arc::clone(&far), back));
                    new.insert(Datagrams::new(far, None, line.clone()))
                }
            };
            there.send(&buffer[..read]);
        }
    });
    address
}

/// Everything that comes from the gateway for one client.
async fn carry(from: Arc<UdpSocket>, mut to: Datagrams) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        // A port that nobody listens on any more is an error of the next call; what came before is still on its way.
        if let Ok(read) = from.recv(&mut buffer).await {
            to.send(&buffer[..read]);
        }
    }
}

/// One direction of datagrams.
struct Datagrams {
    line: Line,
    sender: mpsc::Sender<(Instant, Bytes)>,
    _task: JoinSet<()>,
}

impl Datagrams {
    fn new(socket: Arc<UdpSocket>, to: Option<SocketAddr>, line: Line) -> Self {
        let (sender, mut arriving) = mpsc::channel::<(Instant, Bytes)>(ON_THEIR_WAY);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some((at, datagram)) = arriving.recv().await {
                sleep_until(at).await;
                let _lost = match to {
                    Some(client) => socket.send_to(&datagram, client).await,
                    None => socket.send(&datagram).await,
                };
            }
        });
        Self { line, sender, _task: task }
    }

    fn send(&mut self, datagram: &[u8]) {
        if self.line.has_room_at() <= Instant::now() {
            let at = self.line.send(datagram.len());
            let _lost = self.sender.try_send((at, Bytes::copy_from_slice(datagram)));
        }
    }
}
