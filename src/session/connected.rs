//! What the registry knows of a connection beside what waits for its client: where it comes from and who it is.

use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Instant;

use crate::monitor::metrics::Transport;
use crate::session::channel::Channel;
use crate::session::outgoing::Outgoing;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionOrigin {
    /// The client's own where a balancer names it. On QUIC the one it came with, wherever it has moved since.
    pub(crate) address: IpAddr,
    pub(crate) transport: Transport,
    /// When it was accepted.
    pub(crate) since: Instant,
}

/// One connection of a worker.
#[derive(Debug)]
pub(crate) struct ConnectedClient {
    pub(crate) outgoing: Rc<Outgoing>,
    pub(crate) origin: ConnectionOrigin,
    /// Once it has one. Weak: a channel ends with its guard, whoever looks at the registry.
    pub(super) channel: Option<Weak<Channel>>,
}

impl ConnectedClient {
    /// Its channel, unless it has not signed in, or that has ended.
    pub(crate) fn channel(&self) -> Option<Rc<Channel>> {
        self.channel.as_ref()?.upgrade()
    }
}
