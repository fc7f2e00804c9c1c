//! A listener for the monitor that bounds how many connections are served and how long each may take (row F12).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use crate::limits::ACCEPT_PAUSE;

/// Accepts while fewer than its limit are being served; the others wait in the kernel's backlog. So connections that
/// fill every place and say nothing delay a health check by the deadline, and no longer.
pub(super) struct BoundedListener {
    inner: TcpListener,
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl BoundedListener {
    /// At most `limit` connections at once, each cut off after `deadline`.
    pub(super) fn new(inner: TcpListener, limit: usize, deadline: Duration) -> Self {
        Self { inner, places: Arc::new(Semaphore::new(limit)), deadline }
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("this semaphore is never closed");
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            match self.inner.accept().await {
                Ok((stream, address)) => {
                    let deadline = Box::pin(sleep(self.deadline));
                    return (BoundedStream { stream, deadline, _place: place }, address);
                }
                // Out of files, or the peer has gone: both pass, and neither may turn this into a busy loop.
                Err(_) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(ACCEPT_PAUSE.1);
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A connection that fails with a timeout once its time is over, whether it reads or writes slowly.
pub(super) struct BoundedStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl BoundedStream {
    /// The socket, or an error once the time is over. Registers the task for the deadline.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not bounded: closing our half waits for nobody.
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn bounded(limit: usize, deadline: Duration) -> BoundedListener {
        BoundedListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), limit, deadline)
    }

    #[tokio::test]
    async fn f12_a_silent_client_is_cut_off_and_its_place_is_free_again() {
        let mut listener = bounded(1, Duration::from_millis(20)).await;
        let address = listener.local_addr().unwrap();
        let _silent = TcpStream::connect(address).await.unwrap();
        let _next = TcpStream::connect(address).await.unwrap();
        let (mut first, _) = listener.accept().await;
        let error = first.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(first);
        listener.accept().await;
    }

    #[tokio::test]
    async fn f12_no_more_than_the_limit_are_accepted() {
        let mut listener = bounded(1, Duration::from_secs(60)).await;
        let address = listener.local_addr().unwrap();
        let _clients =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let first = listener.accept().await;
        {
            let mut second = Box::pin(listener.accept());
            let polled = std::future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending())).await;
            assert!(polled, "the second one waits for a place");
        }
        drop(first);
        listener.accept().await;
    }
}
