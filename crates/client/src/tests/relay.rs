//! A slow road between a QUIC client and its gateway.

use super::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// One way.
const DELAY: Duration = Duration::from_millis(20);

/// What waits for the road towards the gateway, bytes; more is dropped.
const QUEUE: usize = 64 << 10;

/// See the module. For one client.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    is_mute: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    /// A road that takes so many bytes a second towards the gateway.
    pub(super) async fn new(gateway: SocketAddr, rate: u32) -> Self {
        let (front, back) = (udp().await, udp().await);
        back.connect(gateway).await.unwrap();
        let address = front.local_addr().unwrap();
        let is_mute = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(run(front, back, rate, Arc::clone(&is_mute)));
        Self { address, is_mute, _task: AbortOnDropHandle::new(task) }
    }

    /// From now on nothing gets through to the client.
    pub(super) fn mute(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }
}

async fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

async fn run(front: UdpSocket, back: UdpSocket, rate: u32, is_mute: Arc<AtomicBool>) {
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    let (mut waiting, mut free_at, mut client) = (0, Instant::now(), back.local_addr().unwrap());
    let (mut from_front, mut from_back) = ([0; 2048], [0; 2048]);
    loop {
        let due = |queue: &VecDeque<(Instant, Vec<u8>)>| {
            queue.front().map_or(Instant::now() + PATIENCE, |next| next.0)
        };
        tokio::select! {
            Ok((length, from)) = front.recv_from(&mut from_front) => {
                client = from;
                if waiting + length <= QUEUE {
                    waiting += length;
                    free_at = free_at.max(Instant::now()) + Duration::from_secs(length as u64) / rate;
                    up.push_back((free_at + DELAY, from_front[..length].to_vec()));
                }
            }
            Ok(length) = back.recv(&mut from_back) => {
                if !is_mute.load(Ordering::Relaxed) {
                    down.push_back((Instant::now() + DELAY, from_back[..length].to_vec()));
                }
            }
            () = sleep_until(due(&up)), if !up.is_empty() => {
                let (_, datagram) = up.pop_front().unwrap();
                waiting -= datagram.len();
                let _ = back.send(&datagram).await;
            }
            () = sleep_until(due(&down)), if !down.is_empty() => {
                let (_, datagram) = down.pop_front().unwrap();
                let _ = front.send_to(&datagram, client).await;
            }
        }
    }
}
