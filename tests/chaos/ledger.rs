//! [`Ledger`]: the oracle behind a local TCP port. A note is safe once the kernel has it, so a service that is killed
//! right after its note loses none.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::note::Note;
use crate::oracle::Oracle;

/// Orders an instance may be behind.
const ORDERS_AHEAD: usize = 64;

/// Who is told everything, and judges.
pub(crate) trait Judge: Send + 'static {
    /// A logic service noted this of one of its links.
    fn told(&mut self, link: &str, note: &Note, now: Instant);

    /// The link is over, and all its notes were told.
    fn link_ended(&mut self, link: &str);
}

impl Judge for Oracle {
    fn told(&mut self, link: &str, note: &Note, now: Instant) {
        note.tell(link, self, now);
    }

    fn link_ended(&mut self, link: &str) {
        Self::link_ended(self, link);
    }
}

struct LedgerInner<J> {
    oracle: Mutex<J>,
    /// Where the orders for an instance go; one of an instance that is gone stays until its successor says hello.
    orders: Mutex<HashMap<String, mpsc::Sender<String>>>,
    hello: Notify,
}

/// See the module. Clones share it.
pub(crate) struct Ledger<J = Oracle> {
    pub(crate) address: SocketAddr,
    shared: Arc<LedgerInner<J>>,
    _server: Arc<AbortOnDropHandle<()>>,
}

impl<J> Clone for Ledger<J> {
    fn clone(&self) -> Self {
        let Self { address, shared, _server } = self;
        Self { address: *address, shared: Arc::clone(shared), _server: Arc::clone(_server) }
    }
}

impl<J: Judge> Ledger<J> {
    pub(crate) async fn start(oracle: J) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the ledger cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(LedgerInner {
            oracle: Mutex::new(oracle),
            orders: Mutex::default(),
            hello: Notify::new(),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// The oracle; not to be held over an await.
    pub(crate) fn oracle(&self) -> MutexGuard<'_, J> {
        self.shared.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells an instance what to do.
    pub(crate) async fn order(&self, instance: &str, order: &str) -> anyhow::Result<()> {
        let sender =
            self.orders().get(instance).cloned().with_context(|| format!("{instance} never said hello"))?;
        sender.send(order.to_owned()).await.with_context(|| format!("{instance} is gone"))
    }

    /// Forgets the line to an instance that is to be started anew.
    pub(crate) fn forget(&self, instance: &str) {
        self.orders().remove(instance);
    }

    /// Waits until an instance has said hello. Cancel safe.
    pub(crate) async fn met(&self, instance: &str) {
        loop {
            let heard = self.shared.hello.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if self.orders().contains_key(instance) {
                return;
            }
            heard.await;
        }
    }

    fn orders(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<String>>> {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept<J: Judge>(listener: TcpListener, shared: Arc<LedgerInner<J>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// One connection: its first line says whether it takes orders for an instance or brings the notes of a link.
async fn serve<J: Judge>(stream: TcpStream, shared: Arc<LedgerInner<J>>) {
    let (read, write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let Ok(Some(first)) = lines.next_line().await else { return };
    match first.split_once(' ') {
        Some(("instance", name)) => {
            let (sender, orders) = mpsc::channel(ORDERS_AHEAD);
            shared.orders.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
            shared.hello.notify_waiters();
            tokio::select! {
                () = pass_on(orders, write) => {}
                _ = lines.next_line() => {}
            }
        }
        Some(("link", link)) => {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut oracle = shared.oracle.lock().unwrap_or_else(PoisonError::into_inner);
                match line.parse::<Note>() {
                    Ok(note) => oracle.told(link, &note, Instant::now()),
                    // A service that is killed leaves half a line.
                    Err(error) => eprintln!("chaos: ledger: {link}: {error}"),
                }
            }
            shared.oracle.lock().unwrap_or_else(PoisonError::into_inner).link_ended(link);
        }
        _ => eprintln!("chaos: ledger: {first:?} is no greeting"),
    }
}

async fn pass_on(mut orders: mpsc::Receiver<String>, mut write: OwnedWriteHalf) {
    while let Some(order) = orders.recv().await {
        if write.write_all(format!("{order}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
