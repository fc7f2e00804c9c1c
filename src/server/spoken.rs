//! What is spoken on a listener of TCP: frames or WebSocket, in clear or under TLS.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;

use crate::monitor::metrics::Transport;
use crate::server::admission::{Entrance, Handshakes, NewcomerStage};
use crate::server::tls::{self, TlsParts};
use crate::server::tls_handshake::TURNED_AWAY;
use crate::server::websocket::{self, LivePolicy};
use crate::wire::close::CloseReason;
use crate::wire::frame::{self, Opcode};

/// What is spoken on a socket.
#[derive(Clone)]
pub(crate) struct Spoken {
    /// None: in clear.
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// None: frames as they are.
    pub(super) websocket: Option<Rc<LivePolicy>>,
}

impl Spoken {
    /// Frames, or WebSocket where there is a policy for it; under TLS where there are parts of it.
    ///
    /// # Errors
    /// rustls was built without TLS 1.3.
    pub(crate) fn new(
        tls: Option<&TlsParts>,
        websocket: Option<&Rc<LivePolicy>>,
    ) -> Result<Self, rustls::Error> {
        let alpn = if websocket.is_some() { tls::HTTP_ALPN } else { tls::ALPN };
        let tls = tls.map(|tls| tls.config(alpn)).transpose()?;
        Ok(Self { tls: tls.map(Arc::new), websocket: websocket.map(Rc::clone) })
    }

    pub(super) const fn transport(&self) -> Transport {
        match (&self.tls, &self.websocket) {
            (None, None) => Transport::Tcp,
            (Some(_), None) => Transport::Tls,
            (None, Some(_)) => Transport::Ws,
            (Some(_), Some(_)) => Transport::Wss,
        }
    }

    /// Returns `true` if this peer is an HTTP proxy, which names its client in the request.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.websocket.as_ref().is_some_and(|policy| policy.now().trusted.contains(peer))
    }

    /// The places of handshakes in progress; none where there is no handshake.
    pub(super) fn handshakes<'a>(&self, entrance: &'a Entrance) -> Option<&'a Rc<Handshakes>> {
        match self.transport() {
            Transport::Tls => Some(&entrance.tls),
            Transport::Ws | Transport::Wss => Some(&entrance.websocket),
            Transport::Tcp | Transport::Quic => None,
        }
    }

    pub(super) fn newcomer_stage(&self) -> NewcomerStage {
        match (self.transport(), &self.websocket) {
            (transport, Some(policy)) => NewcomerStage::Upgrade(transport, policy.now().max_head),
            (Transport::Tls, None) => NewcomerStage::Handshake(Transport::Tls),
            (transport, None) => NewcomerStage::Login(transport),
        }
    }

    /// What is said to a client that is turned away, in a few bytes for which a fresh socket has room. Under TLS the reason
    /// could be said only after a handshake, which is too much for one who is turned away for want of room.
    pub(super) fn refusal(&self, reason: CloseReason) -> Bytes {
        match (&self.tls, &self.websocket) {
            (Some(_), _) => Bytes::from_static(&TURNED_AWAY),
            (None, Some(_)) if reason == CloseReason::ProtocolError => {
                Bytes::from_static(websocket::BAD_REQUEST)
            }
            (None, Some(_)) => Bytes::from_static(websocket::TURNED_AWAY),
            (None, None) => frame::encode(Opcode::Close, &reason.payload()),
        }
    }
}
