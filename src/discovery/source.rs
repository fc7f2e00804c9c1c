//! A source of instances that runs.

use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

use super::change::SourceChange;
use super::context::DiscoveryContext;
use super::feed::Feed;

/// Owns the source. Dropping it ends the source at once.
#[derive(Debug)]
pub(crate) struct Discovery {
    pub(super) feed: Feed,
    pub(super) change: SourceChange,
    pub(super) leave: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Discovery {
    /// Instead of the configured source: nobody is told of the gateway.
    pub(crate) fn given(feed: Feed, context: DiscoveryContext) -> Self {
        Self {
            feed,
            change: SourceChange::none(),
            leave: context.drain,
            stop: CancellationToken::new(),
            thread: None,
        }
    }

    /// What the source knows.
    pub(crate) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Takes other configurations to it.
    pub(crate) fn change(&self) -> SourceChange {
        self.change.clone()
    }

    /// Cancelled, it begins the drain: the source takes this gateway's entry out first, if there is one, and has about
    /// a second for it.
    pub(crate) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook; there is nothing left to end.
            let _ = thread.join();
        }
    }
}
