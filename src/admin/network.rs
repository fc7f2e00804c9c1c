//! The administrator's API over TCP: to whoever has the token, encrypted unless it stays on this machine.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::guard::{DoorGuard, payer};
use super::patient::Patient;
use super::visit::{Desk, Visitor, visit};
use crate::limits::{
    ACCEPT_PAUSE, ADMIN_HEAD_DEADLINE, ADMIN_NETWORK_VISITORS, ADMIN_OF_ONE, ADMIN_PATIENCE,
    ADMIN_SEND_BUFFER,
};

/// Bound, not yet served.
#[derive(Debug)]
pub(crate) struct NetworkDoor {
    pub(crate) listener: StdListener,
    pub(crate) guard: DoorGuard,
    /// None on this machine alone.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// The same in a runtime.
pub(super) struct OpenDoor {
    listener: TcpListener,
    guard: Arc<DoorGuard>,
    tls: Option<TlsAcceptor>,
}

impl OpenDoor {
    /// Must be called within a runtime.
    pub(super) fn new(door: NetworkDoor) -> io::Result<Self> {
        door.listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(door.listener)?;
        Ok(Self { listener, guard: Arc::new(door.guard), tls: door.tls.map(TlsAcceptor::from) })
    }

    /// Ends never.
    pub(super) async fn serve(self, desk: Arc<Desk>) {
        let (places, crowd) = (Arc::new(Semaphore::new(ADMIN_NETWORK_VISITORS)), Crowd::default());
        let mut visits = JoinSet::new();
        loop {
            while visits.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, peer)) = self.listener.accept().await else {
                sleep(ACCEPT_PAUSE.1).await;
                continue;
            };
            // One address does not keep the others out.
            let Some(entered) = crowd.enter(payer(peer.ip())) else { continue };
            if prepare(&stream).is_err() {
                continue;
            }
            let who = format!("token, {}", peer.ip().to_canonical()).into();
            let visitor = Visitor { who, guard: Some((Arc::clone(&self.guard), peer.ip())) };
            let (tls, desk) = (self.tls.clone(), Arc::clone(&desk));
            visits.spawn(async move {
                greet(stream, tls, visitor, desk).await;
                drop((place, entered));
            });
        }
    }
}

/// A reader that has vanished without a word is found within the patience: the kernel keeps little for it, and gives up on what is
/// not acknowledged.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_send_buffer_size(ADMIN_SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(ADMIN_PATIENCE))?;
    Ok(())
}

/// Whoever does not read what is written to it is hung up on.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, visitor: Visitor, desk: Arc<Desk>) {
    let stream = Patient::new(stream, ADMIN_PATIENCE);
    let Some(tls) = tls else {
        return visit(stream, visitor, ADMIN_HEAD_DEADLINE, desk).await;
    };
    if let Ok(Ok(stream)) = timeout(ADMIN_HEAD_DEADLINE, tls.accept(stream)).await {
        visit(stream, visitor, ADMIN_HEAD_DEADLINE, desk).await;
    }
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Crowd {
    fn enter(&self, peer: IpAddr) -> Option<Entered> {
        let mut crowd = self.lock();
        let count = crowd.entry(peer).or_default();
        if *count >= ADMIN_OF_ONE {
            return None;
        }
        *count += 1;
        drop(crowd);
        Some(Entered { crowd: self.clone(), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of them.
struct Entered {
    crowd: Crowd,
    peer: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut crowd = self.crowd.lock();
        if let Some(count) = crowd.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                crowd.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_keeps_little_for_a_reader_and_gives_up_on_one_that_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&stream).unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(ADMIN_PATIENCE));
        assert!(socket.send_buffer_size().unwrap() <= 2 * ADMIN_SEND_BUFFER);
    }
}
