//! Congestion control that lets a QUIC close through.
//!
//! A CONNECTION_CLOSE is not subject to congestion control (RFC 9002 section 7). quinn-proto 0.11 holds it back all the same
//! while anything else is pending and the window is full or its pacer has no token left; and a connection that is
//! closed reads no acknowledgement and sends no probe, so that neither changes any more and the peer is never told. The
//! window of [`lifting`] can be opened for that one packet.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn::{Connection, VarInt};
use quinn_proto::RttEstimator;

/// Closes a connection so that the close leaves at once, whatever is pending. What is pending is dropped. The transport
/// configuration of the connection must have the controllers of [`lifting`]; with others it is an ordinary close.
pub fn close(connection: &Connection, code: VarInt, reason: &[u8]) {
    if let Ok(controller) = connection.congestion_state().into_any().downcast::<Lifting>() {
        // Until the next line the connection may send too much: a few datagrams, if another thread drives it just now.
        controller.is_lifted.store(true, Ordering::Relaxed);
    }
    connection.close(code, reason);
}

/// quinn's default controllers, whose window [`close`] can lift.
pub fn lifting() -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(Factory { inner: Arc::new(CubicConfig::default()) })
}

struct Factory {
    inner: Arc<CubicConfig>,
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.inner).build(now, current_mtu);
        Box::new(Lifting { inner, is_lifted: Arc::default() })
    }
}

/// Copies share the switch: quinn hands out copies only.
struct Lifting {
    inner: Box<dyn Controller>,
    is_lifted: Arc<AtomicBool>,
}

impl fmt::Debug for Lifting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifting").field("is_lifted", &self.is_lifted).finish_non_exhaustive()
    }
}

impl Controller for Lifting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_acked: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        // Above u32, quinn's pacer lets everything through as well.
        if self.is_lifted.load(Ordering::Relaxed) { u64::MAX } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), is_lifted: Arc::clone(&self.is_lifted) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
