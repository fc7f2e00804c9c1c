//! Accepts the monitor's connections, also when the process has no file left (row H21).

use std::io;
use std::net::TcpListener as Socket;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::limits::ACCEPT_PAUSE;
use gateway_net::accept_pause::AcceptPause;

/// Files that are kept for visitors, who would otherwise find none when clients have them all.
const SPARE: usize = 2;

/// The listening socket with its spare files.
pub(super) struct MonitorListener {
    inner: TcpListener,
    spare: Spare,
}

/// Handles to the listening socket, which nobody needs but for their places among the open files.
#[derive(Clone)]
pub(super) struct Spare(Arc<Mutex<Vec<Socket>>>);

impl Spare {
    /// Makes up for those that were used. To be called as soon as a visitor has gone: its file is free for a moment.
    pub(super) fn refill(&self) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The first is never given away: it is what the others are made of.
        while files.len() <= SPARE
            && let Some(Ok(another)) = files.first().map(Socket::try_clone)
        {
            files.push(another);
        }
    }

    /// Frees a file; false if there is none.
    fn release(&self) -> bool {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.len() > 1 && files.pop().is_some()
    }
}

impl MonitorListener {
    /// Must be called within the monitor's runtime.
    ///
    /// # Errors
    /// The runtime cannot take the socket, or there is no file for another handle to it.
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        let spare = Spare(Arc::new(Mutex::new(vec![socket.try_clone()?])));
        spare.refill();
        Ok(Self { inner: TcpListener::from_std(socket)?, spare })
    }

    pub(super) fn spare(&self) -> Spare {
        self.spare.clone()
    }

    /// The next visitor. Cancel safe.
    pub(super) async fn accept(&self) -> TcpStream {
        let mut pause = AcceptPause::new(ACCEPT_PAUSE);
        loop {
            match self.inner.accept().await {
                Ok((stream, _)) => return stream,
                Err(_) if self.spare.release() => {}
                Err(error) => {
                    if let Some(pause) = pause.after(&error) {
                        sleep(pause).await;
                    }
                    self.spare.refill();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn h21_spare_files_are_given_away_and_made_up_for() {
        let socket = Socket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = MonitorListener::new(socket).unwrap();
        let spare = listener.spare();
        assert_eq!([0; 4].map(|_| spare.release()), [true, true, false, false]);
        spare.refill();
        assert_eq!([0; 3].map(|_| spare.release()), [true, true, false]);
        let address = listener.inner.local_addr().unwrap();
        let (_theirs, _ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    }
}
