//! The UDP socket under quinn, at both ends: without congestion marks (ECN).
//!
//! On a path that marks everything, two quinns answer each other's acknowledgements at once and without end: a mark
//! calls for an immediate acknowledgement, and the packet that carries it is marked as well (row H6). So nothing is
//! sent as capable of ECN, and the marks of what comes are not shown.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime as _, TokioRuntime, UdpPoller};

/// Version 1 of QUIC (RFC 9000), the only one spoken: the drafts before it are another protocol under the same name.
pub const QUIC_VERSION: u32 = 1;

/// Hands a bound socket to quinn. Must be called on a tokio runtime.
pub fn unmarked(socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    Ok(Arc::new(Unmarked(TokioRuntime.wrap_udp_socket(socket)?)))
}

#[derive(Debug)]
struct Unmarked(Arc<dyn AsyncUdpSocket>);

impl AsyncUdpSocket for Unmarked {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(&Transmit { ecn: None, ..transmit.clone() })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.0.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            meta.iter_mut().take(count).for_each(|meta| meta.ecn = None);
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}
