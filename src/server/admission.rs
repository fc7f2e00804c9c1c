//! Who may connect: the process-wide bounds on connections and on how fast they come, and the gauge that counts them.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{CONNECTION_BURST_SECONDS, Limits};
use crate::monitor::metrics::{Reject, Transport, WorkerMetrics};
use crate::session::buckets::{Buckets, Pace};
use crate::wire::close::CloseReason;

/// Connections of the whole process: touched once per connect, and one atomic once per close.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    max: usize,
    /// Of all addresses together; none: unbounded.
    overall: Option<(Pace, Mutex<Instant>)>,
    addresses: Buckets,
}

impl Admission {
    /// At most `max` connections, as fast as the limits allow.
    pub(crate) fn new(max: usize, limits: &Limits, now: Instant) -> Self {
        let per_second = limits.connections_per_second;
        let overall = Pace::new(per_second, per_second.saturating_mul(CONNECTION_BURST_SECONDS));
        let addresses = Buckets::new(limits.address_connections_per_second, limits.address_connection_burst);
        Self {
            open: AtomicUsize::new(0),
            max,
            overall: overall.map(|pace| (pace, Mutex::new(now))),
            addresses,
        }
    }

    /// The bound.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// Admits one more connection; none when the process is full, or when they come too fast.
    pub(crate) fn admit(
        self: &Arc<Self>,
        transport: Transport,
        peer: IpAddr,
        now: Instant,
        metrics: &Arc<WorkerMetrics>,
    ) -> Option<Admitted> {
        if let Some(reason) = self.too_fast(peer, now) {
            metrics.reject(reason);
            return None;
        }
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            metrics.reject(Reject::Connections);
            return None;
        }
        metrics.connection_opened(transport);
        let (admission, metrics) = (Arc::clone(self), Arc::clone(metrics));
        Some(Admitted { admission, metrics, transport, reason: Cell::new(CloseReason::InternalError) })
    }
}

impl Admission {
    /// The address first: what one sends too much of must not use up what all may send.
    fn too_fast(&self, peer: IpAddr, now: Instant) -> Option<Reject> {
        if let Some(network) = network(peer)
            && !self.addresses.take(&network, now)
        {
            return Some(Reject::AddressRate);
        }
        let (pace, full_at) = self.overall.as_ref()?;
        let mut full_at = full_at.lock().unwrap_or_else(PoisonError::into_inner);
        (!pace.take(&mut full_at, now)).then_some(Reject::ConnectionRate)
    }
}

/// Whose connections are counted together: the /24 of an IPv4 address, the /56 of an IPv6 one, which is what one
/// customer of a provider has. None for loopback: a proxy, or a test.
fn network(peer: IpAddr) -> Option<(bool, u64)> {
    const V4_HOST_BITS: u32 = 32 - 24;
    const V6_HOST_BITS: u32 = 128 - 56;
    match peer.to_canonical() {
        peer if peer.is_loopback() => None,
        IpAddr::V4(peer) => Some((false, u64::from(peer.to_bits() >> V4_HOST_BITS))),
        IpAddr::V6(peer) => Some((true, (peer.to_bits() >> V6_HOST_BITS) as u64)),
    }
}

/// One connection's place. Its drop counts the close, on every path.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    metrics: Arc<WorkerMetrics>,
    transport: Transport,
    reason: Cell<CloseReason>,
}

impl Admitted {
    /// Why the connection ends.
    pub(crate) fn set_reason(&self, reason: CloseReason) {
        self.reason.set(reason);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connection_closed(self.transport, self.reason.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::Books;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn admission(max: usize) -> Arc<Admission> {
        Arc::new(Admission::new(max, &Limits::default(), Instant::now()))
    }

    fn open(books: &Books) -> (i64, i64) {
        let of = |transport| books.value(&format!("gateway_connections{{transport=\"{transport}\"}}"));
        (of("quic"), of("tcp"))
    }

    fn closes(books: &Books, reason: CloseReason) -> i64 {
        books.value(&format!("gateway_closes_total{{reason=\"{}\",transport=\"tcp\"}}", reason.token()))
    }

    #[test]
    fn g6_the_process_is_full_at_its_bound_and_has_room_again_after_a_close() {
        let books = Books::new();
        let admission = admission(2);
        let first = admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).unwrap();
        let second = admission.admit(Transport::Quic, HERE, Instant::now(), &books.worker).unwrap();
        for _ in 0..3 {
            assert!(
                admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).is_none(),
                "transports share the bound"
            );
        }
        assert_eq!(books.rejects(Reject::Connections), 3);
        assert_eq!(open(&books), (1, 1));
        drop(second);
        assert_eq!(open(&books), (0, 1));
        let third = admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).unwrap();
        assert!(
            admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).is_none(),
            "refusals took no place"
        );
        drop((first, third));
        assert_eq!(open(&books), (0, 0));
    }

    #[test]
    fn f10_a_close_without_a_reason_is_the_gateways_own_fault() {
        let books = Books::new();
        let admission = admission(2);
        let crashed = admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).unwrap();
        let orderly = admission.admit(Transport::Tcp, HERE, Instant::now(), &books.worker).unwrap();
        orderly.set_reason(CloseReason::Kicked);
        orderly.set_reason(CloseReason::Bye);
        drop((crashed, orderly));
        assert_eq!(closes(&books, CloseReason::InternalError), 1);
        assert_eq!((closes(&books, CloseReason::Bye), closes(&books, CloseReason::Kicked)), (1, 0));
    }

    #[test]
    fn workers_share_one_bound() {
        let (one, other) = (Books::new(), Books::new());
        let admission = admission(1);
        let held = admission.admit(Transport::Tcp, HERE, Instant::now(), &one.worker).unwrap();
        assert!(admission.admit(Transport::Tcp, HERE, Instant::now(), &other.worker).is_none());
        assert_eq!((one.rejects(Reject::Connections), other.rejects(Reject::Connections)), (0, 1));
        drop(held);
        assert!(admission.admit(Transport::Tcp, HERE, Instant::now(), &other.worker).is_some());
    }

    #[test]
    fn addresses_are_counted_by_network_and_loopback_is_not() {
        let of = |address: &str| network(address.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"), "an IPv4 client of a dual-stack socket");
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:1200::1"), of("2001:db8:0:12ff:1::1"));
        assert_ne!(of("2001:db8:0:1200::1"), of("2001:db8:0:1300::1"));
        assert_ne!(of("0.0.1.7"), of("::1:0:0:0"));
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(loopback), None, "{loopback}");
        }
    }

    fn limited(connections: u32, of_address: u32, burst: u32, now: Instant) -> Arc<Admission> {
        let limits = Limits {
            connections_per_second: connections,
            address_connections_per_second: of_address,
            address_connection_burst: burst,
            ..Limits::default()
        };
        Arc::new(Admission::new(100, &limits, now))
    }

    #[test]
    fn d1_one_address_that_connects_too_fast_is_refused_and_others_are_not() {
        let (books, now) = (Books::new(), Instant::now());
        let admission = limited(0, 10, 3, now);
        let come = |address: [u8; 4], now| {
            admission.admit(Transport::Tcp, address.into(), now, &books.worker).is_some()
        };
        assert_eq!([1, 2, 3, 4].map(|host| come([192, 0, 2, host], now)), [true, true, true, false]);
        assert!(come([198, 51, 100, 1], now));
        assert!((0..20).all(|_| come([127, 0, 0, 1], now)));
        assert!(come([192, 0, 2, 1], now + std::time::Duration::from_millis(100)));
        assert_eq!(books.rejects(Reject::AddressRate), 1);
        assert_eq!(open(&books), (0, 0), "a refused one takes no place");
    }

    #[test]
    fn d1_f4_all_together_have_a_rate_of_which_refused_addresses_use_nothing() {
        let (books, now) = (Books::new(), Instant::now());
        let admission = limited(5, 1, 1, now);
        let come =
            |address: [u8; 4]| admission.admit(Transport::Quic, address.into(), now, &books.worker).is_some();
        let one = (0..20).filter(|_| come([192, 0, 2, 1])).count();
        let others = (0..20).filter(|network| come([10, 0, *network, 1])).count();
        assert_eq!((one, others), (1, 9), "two seconds' worth at once");
        assert!(!come([127, 0, 0, 1]), "loopback is a part of the whole");
        assert_eq!((books.rejects(Reject::AddressRate), books.rejects(Reject::ConnectionRate)), (19, 12));
    }
}
