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
