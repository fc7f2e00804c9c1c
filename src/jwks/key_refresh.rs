//! The side of those who meet a key that is not known: they ask for a fetch, and may wait for its end.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// How a fetch ended, and how many have ended by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchEnd {
    number: u64,
    /// What it brought is in effect.
    pub(crate) is_good: bool,
}

/// Asks for a fetch. Clones share everything; whoever asks waits for nobody.
#[derive(Debug, Clone)]
pub(crate) struct KeyRefresh {
    wish: Arc<Notify>,
    ends: watch::Receiver<FetchEnd>,
}

/// The side of who fetches.
#[derive(Debug)]
pub(super) struct RefreshWishes {
    wish: Arc<Notify>,
    ends: watch::Sender<FetchEnd>,
}

pub(super) fn refresh_channel() -> (RefreshWishes, KeyRefresh) {
    let wish = Arc::new(Notify::new());
    let (sender, ends) = watch::channel(FetchEnd { number: 0, is_good: false });
    (RefreshWishes { wish: Arc::clone(&wish), ends: sender }, KeyRefresh { wish, ends })
}

impl KeyRefresh {
    /// Asks for a fetch, which is made when one may be.
    pub(crate) fn ask(&self) {
        self.wish.notify_one();
    }

    /// The end of the next fetch that ends. By then its keys are in effect. Never resolves where nobody fetches any more.
    pub(crate) fn next_end(&self) -> impl Future<Output = FetchEnd> + 'static {
        let mut ends = self.ends.clone();
        ends.mark_unchanged();
        async move {
            match ends.changed().await {
                Ok(()) => *ends.borrow(),
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl RefreshWishes {
    /// Waits until somebody asks. Cancel safe.
    pub(super) async fn asked(&self) {
        self.wish.notified().await;
    }

    /// A fetch has ended.
    pub(super) fn end(&self, is_good: bool) {
        self.ends.send_modify(|end| *end = FetchEnd { number: end.number + 1, is_good });
    }
}
