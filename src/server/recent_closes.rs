//! The last channels of a worker that ended, for whoever asks why somebody is gone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use crate::limits::RECENT_CLOSES;
use crate::monitor::metrics::Transport;
use crate::session::channel::{Channel, Identity};
use crate::wire::close::CloseReason;

/// The end of one channel.
#[derive(Debug)]
pub(crate) struct RecentClose {
    pub(crate) at: Instant,
    pub(crate) channel: Rc<str>,
    pub(crate) identity: Identity,
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) reason: CloseReason,
}

/// See the module. Those of strangers are left out: there may be any number of them.
#[derive(Debug, Default)]
pub(crate) struct RecentCloses(RefCell<VecDeque<RecentClose>>);

impl RecentCloses {
    /// A channel ended.
    pub(crate) fn note(
        &self,
        channel: &Channel,
        reason: CloseReason,
        transport: Transport,
        address: IpAddr,
        at: Instant,
    ) {
        let mut closes = self.0.borrow_mut();
        if closes.len() == RECENT_CLOSES {
            closes.pop_front();
        }
        let (channel, identity) = (Rc::clone(&channel.id), channel.identity.clone());
        closes.push_back(RecentClose { at, channel, identity, address, transport, reason });
    }

    /// Shows them, the last one first, until `visit` returns false.
    pub(crate) fn for_newest(&self, visit: impl FnMut(&RecentClose) -> bool) {
        let _all = self.0.borrow().iter().rev().all(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::{TestMetrics, channel};

    #[test]
    fn the_last_thousand_are_kept() {
        let test_metrics = TestMetrics::new();
        let closes = RecentCloses::default();
        let address = IpAddr::from([192, 0, 2, 1]);
        for number in 0..=RECENT_CLOSES {
            let channel = channel(&test_metrics, &format!("u{number}"));
            closes.note(&channel, CloseReason::Bye, Transport::Tcp, address, Instant::now());
        }
        let mut seen = Vec::new();
        closes.for_newest(|close| {
            seen.push(close.identity.account.clone());
            true
        });
        assert_eq!(seen.len(), RECENT_CLOSES);
        assert_eq!((&*seen[0], &*seen[RECENT_CLOSES - 1]), ("u1000", "u1"));
    }
}
