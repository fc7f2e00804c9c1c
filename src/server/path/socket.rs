//! The socket between the kernel and quinn: to an address that has not proven itself never more than three times what
//! came from it. quinn lets a whole datagram pass whenever any of that budget is left, and what is refused here is to
//! it a packet that was lost.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::paths::Paths;

#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) inner: Arc<dyn AsyncUdpSocket>,
    pub(super) paths: Arc<Paths>,
}

impl Guarded {
    /// Sends datagrams that quinn made in one go one by one, each cut and weighed.
    fn send_each(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for (at, datagram) in transmit.contents.chunks(size).enumerate() {
            let to = transmit.destination;
            let kept = self.paths.kept(datagram);
            if self.paths.may_send(to, kept.len()) {
                let one = Transmit { contents: kept, segment_size: None, ..transmit.clone() };
                match self.inner.try_send(&one) {
                    Ok(()) => self.paths.sent(to, kept.len()),
                    // Later ones count as lost, so that those which left are not sent again.
                    Err(error) if at > 0 && error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.paths.left(datagram, to);
        }
        Ok(())
    }
}

impl AsyncUdpSocket for Guarded {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.paths.needs_a_look(transmit.destination) {
            return self.send_each(transmit);
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            self.paths.received(&meta[..count]);
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
