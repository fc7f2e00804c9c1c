//! What a TCP connection carries its frames in: the socket itself, or TLS over it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::monitor::metrics::Transport;

/// A byte stream over a TCP socket that can be reached beneath it.
pub(crate) trait TcpBased: AsyncRead + AsyncWrite + Unpin {
    /// Its label.
    const KIND: Transport;

    /// The socket, for what concerns the connection and not its bytes.
    fn socket(&mut self) -> &mut TcpStream;

    /// Bytes the socket took so far, where a layer holds back what the socket does not take.
    fn taken(&self) -> Option<u64>;
}

impl TcpBased for TcpStream {
    const KIND: Transport = Transport::Tcp;

    fn socket(&mut self) -> &mut TcpStream {
        self
    }

    fn taken(&self) -> Option<u64> {
        None
    }
}

/// TLS over the socket. Boxed: its state is larger than all the rest of a connection.
pub(crate) type TlsOverTcp = Box<TlsStream<CountedSocket>>;

impl TcpBased for TlsOverTcp {
    const KIND: Transport = Transport::Tls;

    fn socket(&mut self) -> &mut TcpStream {
        &mut self.get_mut().0.socket
    }

    fn taken(&self) -> Option<u64> {
        Some(self.get_ref().0.taken)
    }
}

/// The socket under TLS. It counts what it takes: a client that takes a record bit by bit is slow, not stalled, and
/// TLS does not tell the one from the other.
#[derive(Debug)]
pub(crate) struct CountedSocket {
    pub(super) socket: TcpStream,
    taken: u64,
    /// Something came.
    pub(super) was_used: bool,
}

impl CountedSocket {
    pub(super) const fn new(socket: TcpStream) -> Self {
        Self { socket, taken: 0, was_used: false }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = written {
            self.taken += written as u64;
        }
        written
    }
}

impl AsyncRead for CountedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.was_used |= buffer.filled().len() > before;
        read
    }
}

impl AsyncWrite for CountedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
