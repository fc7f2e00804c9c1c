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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::udp::EcnCodepoint;

    use super::*;

    fn bound() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    /// The mark with which a datagram arrives that is sent as one that met congestion.
    async fn carried(from: &Arc<dyn AsyncUdpSocket>, to: &Arc<dyn AsyncUdpSocket>) -> Option<EcnCodepoint> {
        let mut writable = Arc::clone(from).create_io_poller();
        poll_fn(|cx| writable.as_mut().poll_writable(cx)).await.unwrap();
        let destination = to.local_addr().unwrap();
        let ecn = Some(EcnCodepoint::Ce);
        from.try_send(&Transmit { destination, ecn, contents: b"x", segment_size: None, src_ip: None })
            .unwrap();
        let (mut buffer, mut meta) = ([0; 2048], [RecvMeta::default()]);
        poll_fn(|cx| to.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta)).await.unwrap();
        meta[0].ecn
    }

    #[tokio::test]
    async fn h6_no_mark_is_sent_and_none_is_shown() {
        let quinns = || TokioRuntime.wrap_udp_socket(bound()).unwrap();
        let (ours, theirs, others) = (unmarked(bound()).unwrap(), quinns(), quinns());
        assert_eq!(carried(&theirs, &others).await, Some(EcnCodepoint::Ce), "this machine carries marks");
        assert_eq!(carried(&ours, &theirs).await, None);
        assert_eq!(carried(&theirs, &ours).await, None);
    }
}
