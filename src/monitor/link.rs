//! Cells of one link to a logic instance.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::labels::LinkState;

/// Counters and state of one link. Its labels come from discovery.
///
/// With several workers each has a link of its own; they are shown as one, with the worst state.
#[derive(Debug)]
#[repr(align(128))]
pub struct LinkMetrics {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) zone: String,
    state: AtomicU8,
    pub(super) queued_packets: AtomicI64,
    pub(super) queued_bytes: AtomicI64,
    pub(super) reconnects: AtomicU64,
    pub(super) requests_sent: AtomicU64,
    pub(super) pushes_received: AtomicU64,
}

impl LinkMetrics {
    /// A link that is being dialled for the first time.
    pub(super) fn new(service: &str, instance: &str, zone: &str) -> Self {
        Self {
            service: service.to_owned(),
            instance: instance.to_owned(),
            zone: zone.to_owned(),
            state: AtomicU8::new(LinkState::Dialling as u8),
            queued_packets: AtomicI64::new(0),
            queued_bytes: AtomicI64::new(0),
            reconnects: AtomicU64::new(0),
            requests_sent: AtomicU64::new(0),
            pushes_received: AtomicU64::new(0),
        }
    }

    /// The link changed its state.
    pub fn set_state(&self, state: LinkState) {
        self.state.store(state as u8, Relaxed);
    }

    /// Its state.
    pub fn state(&self) -> LinkState {
        LinkState::ALL.get(usize::from(self.state.load(Relaxed))).copied().unwrap_or(LinkState::Dialling)
    }

    /// Its outgoing queue grew or shrank.
    pub fn queued(&self, delta_packets: i64, delta_bytes: i64) {
        self.queued_packets.fetch_add(delta_packets, Relaxed);
        self.queued_bytes.fetch_add(delta_bytes, Relaxed);
    }

    /// It came up again after it had been up before.
    pub fn reconnected(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    /// It may have got the first byte of `n` requests.
    pub fn requests_sent(&self, n: u64) {
        self.requests_sent.fetch_add(n, Relaxed);
    }

    /// It sent a push.
    pub fn push_received(&self) {
        self.pushes_received.fetch_add(1, Relaxed);
    }
}
