//! The administrator's doors: HTTP/1.1 with JSON over a Unix socket that only the gateway's user may open, and over TCP for
//! whoever has the token. They are a thread of their own; what is asked there may take as long as it takes, and nobody else
//! waits for it.

mod error;
mod event_stream;
pub(crate) mod guard;
pub(crate) mod listing;
pub(crate) mod mailbox;
pub(crate) mod model;
mod network;
pub(crate) mod orders;
mod patient;
pub(crate) mod query;
mod request;
mod socket;
mod stream;
mod visit;

use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub(crate) use self::error::AdminStartError;
use self::event_stream::EventStream;
pub(crate) use self::network::NetworkDoor;
use self::network::OpenDoor;
use self::patient::Patient;
pub(crate) use self::request::{AdminAnswer, AdminRequest, Answerer};
use self::socket::BoundSocket;
pub(crate) use self::stream::LineStream;
use self::visit::{Desk, Visitor, visit};
use crate::limits::{ACCEPT_PAUSE, ADMIN_PATIENCE, ADMIN_VISITORS};
use crate::owned_thread::OwnedThread;

/// Where the administrator is served.
#[derive(Debug, Default)]
pub(crate) struct Doors<'a> {
    pub(crate) socket: Option<&'a Path>,
    pub(crate) network: Option<NetworkDoor>,
}

/// Owns the thread and the file of the socket. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct AdminServer {
    // Ends before the file goes.
    _thread: OwnedThread,
    _socket: Option<BoundSocket>,
}

impl AdminServer {
    /// Listens there.
    ///
    /// # Errors
    /// [`AdminStartError`].
    pub(crate) fn start(doors: Doors<'_>, answer: Answerer) -> Result<Self, AdminStartError> {
        let (socket, listener) = doors.socket.map(BoundSocket::bind).transpose()?.unzip();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(AdminStartError::Thread)?;
        let (listener, door) = {
            let _entered = runtime.enter();
            let listener =
                listener.map(UnixListener::from_std).transpose().map_err(AdminStartError::Thread)?;
            (listener, doors.network.map(OpenDoor::new).transpose().map_err(AdminStartError::Thread)?)
        };
        let thread = OwnedThread::start("admin", move |stopped| {
            runtime.block_on(async {
                let desk = Arc::new(Desk { answer, stream: EventStream::default() });
                tokio::select! {
                    () = serve(listener, Arc::clone(&desk)) => {}
                    () = serve_network(door, Arc::clone(&desk)) => {}
                    () = desk.stream.run(Arc::clone(&desk.answer)) => {}
                    _owner_is_gone = stopped => {}
                }
            });
            // What still blocks in it is left behind.
            runtime.shutdown_background();
        })
        .map_err(AdminStartError::Thread)?;
        Ok(Self { _thread: thread, _socket: socket })
    }
}

/// Ends never.
async fn serve_network(door: Option<OpenDoor>, desk: Arc<Desk>) {
    match door {
        Some(door) => door.serve(desk).await,
        None => pending().await,
    }
}

/// Ends never.
async fn serve(listener: Option<UnixListener>, desk: Arc<Desk>) {
    let Some(listener) = listener else { return pending().await };
    let places = Arc::new(Semaphore::new(ADMIN_VISITORS));
    let mut visits = JoinSet::new();
    loop {
        while visits.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (desk, visitor) = (Arc::clone(&desk), visitor_of(&stream));
                visits.spawn(async move {
                    visit(Patient::new(stream, ADMIN_PATIENCE), visitor, ADMIN_PATIENCE, desk).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE.1).await,
        }
    }
}

/// The gateway's user and root may open the socket: which of them it was.
fn visitor_of(stream: &UnixStream) -> Visitor {
    let who = match stream.peer_cred() {
        Ok(peer) => format!("socket, uid {}", peer.uid()).into(),
        Err(_) => "socket".into(),
    };
    Visitor { who, guard: None }
}

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod tests;
