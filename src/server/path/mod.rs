//! Where clients are, and whether they have proven it (row H5).
//!
//! Anybody can write any address on a packet, so what is sent there is weighed until its owner has shown that it gets
//! what is sent: by the handshake, by a token the gateway gave it, or by the answer to a PATH_CHALLENGE. quinn keeps such
//! accounts for itself, and exceeds them by a datagram each time.

mod acks;
mod credit;
mod frames;
mod keys;
mod paths;
mod proven;
mod socket;

use std::sync::Arc;

use quinn::{AsyncUdpSocket, Connecting, ConnectionError, Incoming};

pub(crate) use self::paths::{Path, Paths};

impl Paths {
    /// Puts the books between a socket and quinn.
    pub(crate) fn guard(self: &Arc<Self>, inner: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(socket::Guarded { inner, paths: Arc::clone(self) })
    }

    /// Accepts a connection and follows where its client is.
    ///
    /// # Errors
    /// quinn's, when the connection cannot begin.
    pub(crate) fn accept(
        self: &Arc<Self>,
        incoming: Incoming,
    ) -> Result<(Connecting, Arc<Path>), ConnectionError> {
        let path = Arc::new(Path::new(Arc::clone(self), incoming.remote_address()));
        if incoming.remote_address_validated() {
            path.prove_home();
        }
        let mut server = self.server();
        server.crypto = Arc::new(keys::Watched { tls: server.crypto, path: Arc::clone(&path) });
        Ok((incoming.accept_with(Arc::new(server))?, path))
    }
}
