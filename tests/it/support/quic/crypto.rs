//! TLS that shows its 1-RTT keys, so that a test can seal packets of its own.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError};

/// Of the header and of what stands behind it.
type Sealing = (Arc<dyn HeaderKey>, Arc<dyn PacketKey>);

/// The client's own 1-RTT keys, the packet numbers it used, and what the gateway acknowledged.
#[derive(Default)]
pub(super) struct Tap {
    keys: Mutex<Option<Sealing>>,
    largest: AtomicU64,
    /// The test sealed a packet of its own.
    forged: AtomicBool,
    acknowledged: AtomicU64,
    /// Numbers of the packets received since then that were not asked for yet.
    received: Mutex<Vec<u64>>,
}

impl Tap {
    /// The largest packet number used.
    pub(super) fn largest(&self) -> u64 {
        self.largest.load(Relaxed)
    }

    /// The largest packet number the gateway acknowledged since a packet was forged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    /// The numbers of the packets received since a packet was forged, each once.
    pub(super) fn take_received(&self) -> Vec<u64> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    /// Makes padding of what answers a forged packet: quinn's client would end the connection over the acknowledgement
    /// of a packet, or the end of an id, it knows nothing of.
    fn hide_answers(&self, payload: &mut [u8]) {
        let mut end = 0;
        while end < payload.len() {
            let start = end;
            let kind = varint(payload, &mut end);
            let mut next = || varint(payload, &mut end);
            match kind {
                // PADDING, PING, HANDSHAKE_DONE, IMMEDIATE_ACK.
                0x00 | 0x01 | 0x1e | 0x1f => continue,
                // ACK, with counts of ECN or without.
                0x02 | 0x03 => {
                    self.acknowledged.fetch_max(next(), Relaxed);
                    let _delay = next();
                    let ranges = next();
                    for _ in 0..1 + 2 * ranges + 3 * (kind & 1) {
                        next();
                    }
                }
                // RETIRE_CONNECTION_ID.
                0x19 => drop(next()),
                // PATH_CHALLENGE, PATH_RESPONSE.
                0x1a | 0x1b => {
                    end += 8;
                    continue;
                }
                // NEW_CONNECTION_ID: the length of the id, the id, and a token of 16 bytes.
                0x18 => {
                    next();
                    next();
                    end += 1 + usize::from(payload[end]) + 16;
                    continue;
                }
                // ACK_FREQUENCY.
                0xaf => {
                    for _ in 0..4 {
                        next();
                    }
                    continue;
                }
                // NEW_TOKEN.
                0x07 => {
                    let length = next();
                    end += usize::try_from(length).unwrap();
                    continue;
                }
                // None that answers comes behind any other.
                _ => return,
            }
            payload[start..end].fill(0);
        }
    }

    /// A packet with a short header to this id.
    pub(super) fn seal(&self, id: &[u8], frames: &[u8]) -> Vec<u8> {
        let (header, key) = self.keys.lock().unwrap().clone().expect("the handshake is done");
        self.forged.store(true, Relaxed);
        let number = self.largest.fetch_add(1, Relaxed) + 1;
        let mut packet = vec![0x43];
        packet.extend_from_slice(id);
        let number_at = packet.len();
        packet.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        let header_len = packet.len();
        packet.extend_from_slice(frames);
        packet.resize(packet.len() + key.tag_len(), 0);
        key.encrypt(number, &mut packet, header_len);
        header.encrypt(number_at, &mut packet);
        packet
    }
}

/// Reads an integer of variable length (RFC 9000 section 16).
fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let length = 1 << (bytes[*at] >> 6);
    let value = bytes[*at..*at + length].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    *at += length;
    value & (u64::MAX >> (64 - (8 * length - 2)))
}

pub(super) struct Tapped {
    pub(super) tls: Arc<dyn ClientConfig>,
    pub(super) tap: Arc<Tap>,
}

impl ClientConfig for Tapped {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.tls).start_session(version, server_name, params)?;
        Ok(Box::new(TappedSession { inner, tap: Arc::clone(&self.tap), given: 0 }))
    }
}

struct TappedSession {
    inner: Box<dyn Session>,
    tap: Arc<Tap>,
    /// Sets of keys the handshake gave: the second is for 1-RTT.
    given: usize,
}

impl Session for TappedSession {
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
        self.given += 1;
        if self.given < 2 {
            return Some(Keys { header, packet });
        }
        let (header_key, key): Sealing = (header.local.into(), packet.local.into());
        *self.tap.keys.lock().unwrap() = Some((Arc::clone(&header_key), Arc::clone(&key)));
        let local = Box::new(TappedKey { key, tap: Arc::clone(&self.tap) });
        let remote = Box::new(TappedKey { key: packet.remote.into(), tap: Arc::clone(&self.tap) });
        Some(Keys {
            header: KeyPair { local: Box::new(SharedHeader(header_key)), remote: header.remote },
            packet: KeyPair { local, remote },
        })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.inner.next_1rtt_keys()
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

struct SharedHeader(Arc<dyn HeaderKey>);

impl HeaderKey for SharedHeader {
    fn decrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.0.decrypt(pn_offset, packet);
    }

    fn encrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        self.0.encrypt(pn_offset, packet);
    }

    fn sample_size(&self) -> usize {
        self.0.sample_size()
    }
}

struct TappedKey {
    key: Arc<dyn PacketKey>,
    tap: Arc<Tap>,
}

impl PacketKey for TappedKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.tap.largest.fetch_max(packet, Relaxed);
        self.key.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)?;
        if self.tap.forged.load(Relaxed) {
            self.tap.received.lock().unwrap().push(packet);
            self.tap.hide_answers(payload);
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}
