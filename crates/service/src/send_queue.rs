//! The outgoing queue of one link, and the task that writes it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use gateway_net::gather::gather;
use gateway_net::limits::SLICES_PER_WRITE;
use gateway_wire::packet::Encoded;

/// Why a packet was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendError {
    /// The link is closing or gone.
    Closed,
    /// The queue is full: the gateway does not take what it is sent. The link is cut, because a push left out
    /// would be a gap that nobody could see (G2).
    Full,
}

/// Senders never wait: a packet is queued, or the link is cut.
#[derive(Debug)]
pub(super) struct SendQueue {
    state: Mutex<QueueState>,
    /// Wakes the writer; it alone waits here.
    ready: Notify,
    cut: CancellationToken,
    max_packets: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct QueueState {
    queue: VecDeque<Encoded>,
    /// Packets and bytes queued or being written.
    packets: usize,
    bytes: usize,
    open: bool,
}

impl SendQueue {
    pub(super) fn new(max_packets: usize, max_bytes: usize) -> Self {
        let state = QueueState { queue: VecDeque::new(), packets: 0, bytes: 0, open: true };
        Self {
            state: Mutex::new(state),
            ready: Notify::new(),
            cut: CancellationToken::new(),
            max_packets,
            max_bytes,
        }
    }

    /// Queues a packet behind what is queued. An empty queue takes one of any size.
    pub(super) fn send(&self, packet: Encoded) -> Result<(), SendError> {
        let mut state = self.state();
        if !state.open {
            return Err(SendError::Closed);
        }
        let fits = state.packets < self.max_packets && state.bytes + packet.len() <= self.max_bytes;
        if !fits && state.packets > 0 {
            drop(state);
            self.cut();
            return Err(SendError::Full);
        }
        state.push(packet);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Nothing is taken any more; what is queued is still written, `farewell` last.
    pub(super) fn close(&self, farewell: Bytes) {
        let mut state = self.state();
        if state.open {
            state.open = false;
            state.push(Encoded::whole(farewell));
        }
        drop(state);
        self.ready.notify_one();
    }

    /// Ends the link at once; what is queued is lost.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.open = false;
        state.queue.clear();
        drop(state);
        self.cut.cancel();
    }

    /// Packets that were queued and not, or not wholly, written.
    pub(super) fn unwritten(&self) -> usize {
        self.state().packets
    }

    /// Returns `true` if the link was ended by [`cut`](Self::cut).
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Writes what is queued, as much as is ready in one vectored write, until the send_queue is closed and empty,
    /// or cut, or the socket takes nothing for `stall`. The last thing it does is a FIN.
    pub(super) async fn write_to(&self, mut half: OwnedWriteHalf, stall: Duration) -> io::Result<()> {
        tokio::select! {
            written = self.write_all(&mut half, stall) => written?,
            () = self.cut.cancelled() => return Ok(()),
        }
        half.shutdown().await
    }

    async fn write_all(&self, half: &mut OwnedWriteHalf, stall: Duration) -> io::Result<()> {
        while let Some(mut batch) = self.next_batch().await {
            let (packets, bytes) = (batch.packets, batch.bytes);
            while !batch.slices.is_empty() {
                let mut slots = [IoSlice::new(&[]); SLICES_PER_WRITE];
                let slices = gather(&mut slots, batch.slices.iter().map(|slice| &**slice));
                let written = timeout(stall, half.write_vectored(slices))
                    .await
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                batch.advance(written);
            }
            let mut state = self.state();
            state.packets -= packets;
            state.bytes -= bytes;
        }
        Ok(())
    }

    /// What is ready, up to one vectored write of it; none when the send_queue is closed and empty.
    async fn next_batch(&self) -> Option<Batch> {
        loop {
            {
                let mut state = self.state();
                if !state.queue.is_empty() {
                    return Some(Batch::take(&mut state.queue));
                }
                if !state.open {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn push(&mut self, packet: Encoded) {
        self.packets += 1;
        self.bytes += packet.len();
        self.queue.push_back(packet);
    }
}

/// Packets on their way into the socket.
struct Batch {
    slices: VecDeque<Bytes>,
    packets: usize,
    bytes: usize,
}

impl Batch {
    fn take(queue: &mut VecDeque<Encoded>) -> Self {
        let mut batch = Self { slices: VecDeque::new(), packets: 0, bytes: 0 };
        // Two slices at most come from a packet.
        while batch.slices.len() + 2 <= SLICES_PER_WRITE {
            let Some(packet) = queue.pop_front() else { break };
            batch.packets += 1;
            batch.bytes += packet.len();
            batch.slices.extend([packet.head, packet.body].into_iter().filter(|slice| !slice.is_empty()));
        }
        batch
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.slices.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.slices.pop_front();
        }
    }
}
