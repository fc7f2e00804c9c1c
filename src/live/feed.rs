//! From whoever changes what is in effect to the workers, and word of who has taken it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::ResolvesServerCert;
use tokio::sync::watch;

use super::Live;
use super::certificate::LiveCertificate;
use super::reader::{LiveReader, Numbered};

/// Of a worker that has ended: it takes everything.
const ENDED: u64 = u64::MAX;

/// The side that changes it. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LiveSource {
    sender: Arc<watch::Sender<Numbered>>,
    taken: Arc<Taken>,
}

/// Up to which number each worker has taken what there is.
#[derive(Debug)]
struct Taken {
    by_worker: Mutex<Vec<u64>>,
    changed: Condvar,
}

/// A worker's side. Dropped, the worker is waited for no more.
#[derive(Debug)]
pub(crate) struct LiveFeed {
    receiver: watch::Receiver<Numbered>,
    taken: Arc<Taken>,
    worker: usize,
}

impl LiveSource {
    /// What is in effect at the start of so many workers.
    pub(crate) fn new(live: Live, workers: usize) -> Self {
        let sender = watch::Sender::new(Numbered { number: 0, live: Arc::new(live) });
        let taken = Taken { by_worker: Mutex::new(vec![0; workers]), changed: Condvar::new() };
        Self { sender: Arc::new(sender), taken: Arc::new(taken) }
    }

    /// What is in effect now.
    pub(crate) fn current(&self) -> Arc<Live> {
        Arc::clone(&self.sender.borrow().live)
    }

    /// Puts something else into effect. Two that do so at the same time follow one another, so none undoes what the other
    /// changed. Returns at once; see [`LiveSource::wait_taken`].
    pub(crate) fn change(&self, change: impl FnOnce(&Live) -> Live) {
        self.sender.send_modify(|last| {
            *last = Numbered { number: last.number + 1, live: Arc::new(change(&last.live)) };
        });
    }

    /// Blocks until every worker has taken what is in effect now; false if one has not in this time.
    pub(crate) fn wait_taken(&self, patience: Duration) -> bool {
        let number = self.sender.borrow().number;
        let by_worker = self.taken.by_worker.lock().unwrap_or_else(PoisonError::into_inner);
        let is_behind = |by_worker: &mut Vec<u64>| by_worker.iter().any(|taken| *taken < number);
        let waited = self.taken.changed.wait_timeout_while(by_worker, patience, is_behind);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Shows visitors the certificate that is in effect.
    pub(crate) fn certificate(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(LiveCertificate(LiveReader::new(self.sender.subscribe())))
    }

    /// The side of this worker.
    pub(crate) fn feed(&self, worker: usize) -> LiveFeed {
        LiveFeed { receiver: self.sender.subscribe(), taken: Arc::clone(&self.taken), worker }
    }
}

impl LiveFeed {
    /// Looks at what is in effect.
    pub(crate) fn reader(&self) -> LiveReader {
        LiveReader::new(self.receiver.clone())
    }

    /// Shows clients the certificate that is in effect.
    pub(crate) fn certificate(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(LiveCertificate(self.reader()))
    }

    /// Hands over what is in effect whenever that changes, for ever. Cancel safe.
    pub(crate) async fn follow(mut self, take: impl Fn(&Live)) {
        loop {
            let Numbered { number, live } = self.receiver.borrow_and_update().clone();
            if number > 0 {
                take(&live);
            }
            self.taken.set(self.worker, number);
            if self.receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Drop for LiveFeed {
    fn drop(&mut self) {
        self.taken.set(self.worker, ENDED);
    }
}

impl Taken {
    fn set(&self, worker: usize, number: u64) {
        let mut by_worker = self.by_worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = by_worker.get_mut(worker) {
            *taken = number;
        }
        self.changed.notify_all();
    }
}
