//! What is in effect, for those who look now and then.

use std::sync::Arc;

use tokio::sync::watch;

use super::Live;

/// One in effect, counted from 0 at the start.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) live: Arc<Live>,
}

/// A look at what is in effect, for those who need it seldom.
#[derive(Debug, Clone)]
pub(crate) struct LiveReader(watch::Receiver<Numbered>);

impl LiveReader {
    pub(super) const fn new(receiver: watch::Receiver<Numbered>) -> Self {
        Self(receiver)
    }

    /// What is in effect now. A lock is held for one copy of a pointer: not for what happens with every packet.
    pub(crate) fn current(&self) -> Arc<Live> {
        Arc::clone(&self.0.borrow().live)
    }
}
