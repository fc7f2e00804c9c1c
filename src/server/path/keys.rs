//! What quinn's keys see, so that the gateway need not believe addresses: a packet that only the handshake's other end
//! can have made proves where it lives, and so does the answer to a challenge.
//!
//! They also see whether a client acknowledges what it is sent: [`Acks`](super::acks::Acks).
//!
//! And one thing they do. quinn pads each packet with a PATH_CHALLENGE to 1,200 bytes, which a client that sent one PING
//! of 31 bytes from its new address may not get (RFC 9000 section 8.2.1 allows a shorter one then). The padding is left
//! out when the packet is sealed, and the socket cuts the datagram there: [`Path::sealed`].

use std::any::Any;
use std::sync::Arc;

use bytes::BytesMut;
use quinn::crypto::{
    CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session,
    UnsupportedVersion,
};
use quinn::{ConnectionId, Side};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;

use super::frames::challenge;
use super::paths::{Path, Sealed};

/// The TLS of one connection, watched by its path.
pub(super) struct Watched {
    pub(super) tls: Arc<dyn ServerConfig>,
    pub(super) path: Arc<Path>,
}

impl ServerConfig for Watched {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.tls.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.tls.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let inner = Arc::clone(&self.tls).start_session(version, params);
        Box::new(WatchedSession { inner, path: Arc::clone(&self.path), next: EncryptionLevel::Handshake })
    }
}

/// Which packets a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EncryptionLevel {
    Handshake,
    Data,
}

struct WatchedSession {
    inner: Box<dyn Session>,
    path: Arc<Path>,
    /// What the next keys of the handshake are for: it gives two sets, in this order.
    next: EncryptionLevel,
}

impl WatchedSession {
    fn watch(
        &self,
        keys: KeyPair<Box<dyn PacketKey>>,
        level: EncryptionLevel,
    ) -> KeyPair<Box<dyn PacketKey>> {
        let watch = |inner| -> Box<dyn PacketKey> {
            Box::new(WatchedKey { inner, path: Arc::clone(&self.path), level })
        };
        KeyPair { local: watch(keys.local), remote: watch(keys.remote) }
    }
}

impl Session for WatchedSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Keys { header, packet } = self.inner.write_handshake(buf)?;
        let level = std::mem::replace(&mut self.next, EncryptionLevel::Data);
        Some(Keys { header, packet: self.watch(packet, level) })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.inner.next_1rtt_keys()?;
        Some(self.watch(keys, EncryptionLevel::Data))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

struct WatchedKey {
    inner: Box<dyn PacketKey>,
    path: Arc<Path>,
    level: EncryptionLevel,
}

impl PacketKey for WatchedKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let tag_len = self.inner.tag_len();
        let payload = header_len..buf.len() - tag_len;
        if self.level == EncryptionLevel::Data {
            self.path.sending(packet, &buf[payload.clone()]);
        }
        let found = (self.level == EncryptionLevel::Data).then(|| challenge(&buf[payload])).flatten();
        let Some(found) = found else { return self.inner.encrypt(packet, buf, header_len) };
        // Only a packet with a short header can be cut: it ends where its datagram does, and nothing names its length.
        let end = header_len + found.end + tag_len;
        self.inner.encrypt(packet, &mut buf[..end], header_len);
        if let Some(tag) = buf[..end].last_chunk() {
            self.path.sealed(Sealed { tag: *tag, cut: buf.len() - end }, found.token);
        }
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)?;
        self.path.opened(payload);
        if self.level == EncryptionLevel::Data {
            self.path.received(packet, payload);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
