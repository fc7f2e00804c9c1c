//! Who may connect: the process-wide bounds on connections, on how fast they come and on what strangers hold, and the
//! gauge that counts them.
//!
//! Nothing here is charged to an address that has proven nothing: whoever forges addresses spends what is theirs.

mod handshakes;
mod networks;
mod newcomers;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub(crate) use self::handshakes::{HandshakeVerdict, Handshakes, Handshaking};
use self::networks::{Good, Network, Networks};
use self::newcomers::NewcomerBudget;
pub(crate) use self::newcomers::{Newcomer, NewcomerStage, Newcomers};
use crate::bans::Bans;
use crate::limits::{ACCEPT_LINE_EVERY, CONNECTION_BURST_SECONDS, Limits, TURNED_AWAY};
use crate::monitor::metrics::{Reject, Transport, WorkerMetrics};
use crate::rate_limit::{Gcra, RateLimiter};
use crate::wire::close::CloseReason;

/// Connections of the whole process: touched once per connect, and one atomic once per close.
#[derive(Debug)]
pub(crate) struct Admission {
    open: AtomicUsize,
    max: AtomicUsize,
    /// Of all addresses together, and until when they are within it; no rate: unbounded.
    overall: Mutex<(Option<Gcra>, Instant)>,
    addresses: RateLimiter,
    bans: Arc<Bans>,
    networks: Networks,
    budget: Arc<NewcomerBudget>,
    /// Refused clients that are being told so.
    turned_away: AtomicUsize,
    /// Of each [`Complaint`].
    complaints: [Mutex<Complaints>; 2],
}

/// A worker's side of it: who is on the way in.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) newcomers: Rc<Newcomers>,
    /// Handshakes of QUIC.
    pub(crate) quic: Rc<Handshakes>,
    /// And of TLS on TCP.
    pub(crate) tls: Rc<Handshakes>,
    /// And of WebSocket, that of TLS under it included.
    pub(crate) websocket: Rc<Handshakes>,
}

impl Entrance {
    /// These limits from now on.
    pub(crate) fn follow_limits(&self, limits: &Limits) {
        self.quic.follow_limits(limits);
        self.tls.follow_limits(limits);
        self.websocket.follow_limits(limits);
    }
}

fn overall_rate(limits: &Limits) -> Option<Gcra> {
    let per_second = limits.connections_per_second;
    Gcra::new(per_second, per_second.saturating_mul(CONNECTION_BURST_SECONDS))
}

/// What is said now and then only, however often it happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Complaint {
    /// Nothing can be accepted.
    Accept = 0,
    /// A balancer sends no proper PROXY header.
    ProxyHeader = 1,
}

/// When something was said.
#[derive(Debug, Default)]
struct Complaints {
    said: Option<Instant>,
    unsaid: u64,
}

impl Admission {
    /// At most `max` connections, as fast as the limits allow; those that have not signed in may use so many bytes.
    pub(crate) fn new(max: usize, before_login: u64, limits: &Limits, now: Instant) -> Self {
        let addresses =
            RateLimiter::new(limits.address_connections_per_second, limits.address_connection_burst);
        Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
            overall: Mutex::new((overall_rate(limits), now)),
            addresses,
            bans: Arc::default(),
            networks: Networks::new(max, limits),
            budget: Arc::new(NewcomerBudget::new(usize::try_from(before_login).unwrap_or(usize::MAX))),
            turned_away: AtomicUsize::new(0),
            complaints: Default::default(),
        }
    }

    /// The same with these whom it does not admit.
    pub(crate) fn barring(self, bans: Arc<Bans>) -> Self {
        Self { bans, ..self }
    }

    /// Returns `true` if nobody may come from there.
    pub(crate) fn bars(&self, peer: IpAddr, now: Instant) -> bool {
        self.bans.bars_address(peer, now)
    }

    /// What is said to somebody from there who is not admitted.
    pub(crate) fn why_not(&self, peer: IpAddr) -> CloseReason {
        if self.bars(peer, Instant::now()) { CloseReason::Kicked } else { CloseReason::Overloaded }
    }

    /// These bounds from now on. Who is here stays.
    pub(crate) fn follow_limits(&self, max: usize, before_login: u64, limits: &Limits) {
        self.max.store(max, Ordering::Relaxed);
        self.overall.lock().unwrap_or_else(PoisonError::into_inner).0 = overall_rate(limits);
        self.addresses.change(limits.address_connections_per_second, limits.address_connection_burst);
        self.networks.follow_limits(max, limits);
        self.budget.change(usize::try_from(before_login).unwrap_or(usize::MAX));
    }

    /// The bound.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Returns `true` if there is no place for anybody.
    pub(crate) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.max()
    }

    /// A worker's side of it.
    pub(crate) fn entrance(&self, limits: &Limits, now: Instant, metrics: &Arc<WorkerMetrics>) -> Entrance {
        Entrance {
            newcomers: Newcomers::new(Arc::clone(&self.budget), Arc::clone(metrics)),
            quic: Handshakes::new(limits, now),
            tls: Handshakes::new(limits, now),
            websocket: Handshakes::new(limits, now),
        }
    }

    /// It happened. Returns how often since the last line of the log about it, if it is worth one now.
    pub(crate) fn complain(&self, of: Complaint, now: Instant) -> Option<u64> {
        let mut complaints = self.complaints[of as usize].lock().unwrap_or_else(PoisonError::into_inner);
        complaints.unsaid += 1;
        if complaints.said.is_some_and(|said| now.saturating_duration_since(said) < ACCEPT_LINE_EVERY) {
            return None;
        }
        complaints.said = Some(now);
        Some(std::mem::take(&mut complaints.unsaid))
    }

    /// Admits one more connection, of a peer whose address is proven; none when the process is full, when its network has
    /// its share, or when they come too fast.
    pub(crate) fn admit(
        self: &Arc<Self>,
        transport: Transport,
        peer: IpAddr,
        now: Instant,
        metrics: &Arc<WorkerMetrics>,
    ) -> Option<Admitted> {
        let share = self.take(peer, now, metrics)?;
        Some(Admitted::new(self.seat(metrics)?, share, transport, metrics))
    }

    /// A place for one more connection, whose client is not known yet; none when the process is full.
    pub(crate) fn seat(self: &Arc<Self>, metrics: &WorkerMetrics) -> Option<Seat> {
        let seat = Seat(Arc::clone(self));
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max() {
            metrics.reject(Reject::Connections);
            return None;
        }
        Some(seat)
    }

    /// The same as [`Admission::admit`] for a connection that has its place. Without a payer nothing but that place is taken
    /// until its client is [named](Self::charge).
    pub(crate) fn admit_seated(
        self: &Arc<Self>,
        seat: Seat,
        transport: Transport,
        payer: Option<IpAddr>,
        now: Instant,
        metrics: &Arc<WorkerMetrics>,
    ) -> Option<Admitted> {
        let share = match payer {
            Some(payer) => self.take(payer, now, metrics)?,
            None => NetworkShare::new(self, None, Good::Connections),
        };
        Some(Admitted::new(seat, share, transport, metrics))
    }

    /// A proxy has named the client of a connection that was admitted without a payer: false if the client's network has
    /// its share, or if connections come too fast. Both are counted.
    pub(crate) fn charge(
        &self,
        admitted: &Admitted,
        client: IpAddr,
        now: Instant,
        metrics: &WorkerMetrics,
    ) -> bool {
        let network = Network::of(client);
        let is_taken = self.take_connection(client, now, metrics);
        if is_taken {
            admitted.share.network.set(network);
        }
        is_taken
    }

    /// A handshake of a peer whose address is proven begins; none when its network has its share of those in progress.
    pub(crate) fn begin_handshake(
        self: &Arc<Self>,
        peer: IpAddr,
        metrics: &WorkerMetrics,
    ) -> Option<NetworkShare> {
        let network = Network::of(peer);
        self.take_share(network, Good::Handshakes, metrics)
            .then(|| NetworkShare::new(self, network, Good::Handshakes))
    }

    /// A client that was refused may be waited for until it knows; none if many are. Each holds a file.
    pub(crate) fn turn_away(self: &Arc<Self>) -> Option<TurnedAway> {
        if self.turned_away.fetch_add(1, Ordering::Relaxed) >= TURNED_AWAY {
            self.turned_away.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(TurnedAway(Arc::clone(self)))
    }

    fn take(self: &Arc<Self>, peer: IpAddr, now: Instant, metrics: &WorkerMetrics) -> Option<NetworkShare> {
        self.take_connection(peer, now, metrics)
            .then(|| NetworkShare::new(self, Network::of(peer), Good::Connections))
    }

    /// One more connection from there; false if it may not be, which is counted. The address first: what one sends too
    /// much of must not use up what all may send.
    fn take_connection(&self, peer: IpAddr, now: Instant, metrics: &WorkerMetrics) -> bool {
        if self.bars(peer, now) {
            metrics.reject(Reject::Banned);
            return false;
        }
        let network = Network::of(peer);
        if network.is_some_and(|network| !self.addresses.take(&network, now)) {
            metrics.reject(Reject::AddressRate);
            return false;
        }
        if !self.is_within_rate(now) {
            metrics.reject(Reject::ConnectionRate);
            return false;
        }
        self.take_share(network, Good::Connections, metrics)
    }

    /// One more of this for the network; false if it has its share, which is counted.
    fn take_share(&self, network: Option<Network>, good: Good, metrics: &WorkerMetrics) -> bool {
        let is_taken = network.is_none_or(|network| self.networks.take(network, good));
        if !is_taken {
            metrics.reject(match good {
                Good::Connections => Reject::AddressConnections,
                Good::Handshakes => Reject::AddressHandshakes,
            });
        }
        is_taken
    }

    fn is_within_rate(&self, now: Instant) -> bool {
        let mut overall = self.overall.lock().unwrap_or_else(PoisonError::into_inner);
        let (gcra, arrival) = &mut *overall;
        gcra.is_none_or(|gcra| gcra.take(arrival, now))
    }
}

/// A place among the connections of the process.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Admission>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection or a handshake in progress, as its network's share of them counts it.
#[derive(Debug)]
pub(crate) struct NetworkShare {
    admission: Arc<Admission>,
    network: Cell<Option<Network>>,
    good: Good,
}

impl NetworkShare {
    fn new(admission: &Arc<Admission>, network: Option<Network>, good: Good) -> Self {
        Self { admission: Arc::clone(admission), network: Cell::new(network), good }
    }
}

impl Drop for NetworkShare {
    fn drop(&mut self) {
        if let Some(network) = self.network.get() {
            self.admission.networks.give_back(network, self.good);
        }
    }
}

/// One connection's place. Its drop counts the close, on every path.
#[derive(Debug)]
pub(crate) struct Admitted {
    metrics: Arc<WorkerMetrics>,
    transport: Transport,
    reason: Cell<CloseReason>,
    _seat: Seat,
    share: NetworkShare,
}

impl Admitted {
    fn new(seat: Seat, share: NetworkShare, transport: Transport, metrics: &Arc<WorkerMetrics>) -> Self {
        metrics.connection_opened(transport);
        let (metrics, reason) = (Arc::clone(metrics), Cell::new(CloseReason::InternalError));
        Self { metrics, transport, reason, _seat: seat, share }
    }

    /// Why the connection ends.
    pub(crate) fn set_reason(&self, reason: CloseReason) {
        self.reason.set(reason);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.metrics.connection_closed(self.transport, self.reason.get());
    }
}

/// A refused client that is waited for.
#[derive(Debug)]
pub(crate) struct TurnedAway(Arc<Admission>);

impl Drop for TurnedAway {
    fn drop(&mut self) {
        self.0.turned_away.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::TestMetrics;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn admission(max: usize) -> Arc<Admission> {
        Arc::new(Admission::new(max, u64::MAX, &Limits::default(), Instant::now()))
    }

    fn open(test_metrics: &TestMetrics) -> (i64, i64) {
        let of = |transport| test_metrics.value(&format!("gateway_connections{{transport=\"{transport}\"}}"));
        (of("quic"), of("tcp"))
    }

    fn closes(test_metrics: &TestMetrics, reason: CloseReason) -> i64 {
        test_metrics
            .value(&format!("gateway_closes_total{{reason=\"{}\",transport=\"tcp\"}}", reason.token()))
    }

    #[test]
    fn g6_the_process_is_full_at_its_bound_and_has_room_again_after_a_close() {
        let test_metrics = TestMetrics::new();
        let admission = admission(2);
        let first = admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).unwrap();
        let second = admission.admit(Transport::Quic, HERE, Instant::now(), &test_metrics.worker).unwrap();
        for _ in 0..3 {
            assert!(
                admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).is_none(),
                "transports share the bound"
            );
        }
        assert_eq!(test_metrics.rejects(Reject::Connections), 3);
        assert_eq!(open(&test_metrics), (1, 1));
        drop(second);
        assert_eq!(open(&test_metrics), (0, 1));
        let third = admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).unwrap();
        assert!(
            admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).is_none(),
            "refusals took no place"
        );
        drop((first, third));
        assert_eq!(open(&test_metrics), (0, 0));
    }

    #[test]
    fn f10_a_close_without_a_reason_is_the_gateways_own_fault() {
        let test_metrics = TestMetrics::new();
        let admission = admission(2);
        let crashed = admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).unwrap();
        let orderly = admission.admit(Transport::Tcp, HERE, Instant::now(), &test_metrics.worker).unwrap();
        orderly.set_reason(CloseReason::Kicked);
        orderly.set_reason(CloseReason::Bye);
        drop((crashed, orderly));
        assert_eq!(closes(&test_metrics, CloseReason::InternalError), 1);
        assert_eq!(
            (closes(&test_metrics, CloseReason::Bye), closes(&test_metrics, CloseReason::Kicked)),
            (1, 0)
        );
    }

    #[test]
    fn workers_share_one_bound() {
        let (one, other) = (TestMetrics::new(), TestMetrics::new());
        let admission = admission(1);
        let held = admission.admit(Transport::Tcp, HERE, Instant::now(), &one.worker).unwrap();
        assert!(admission.admit(Transport::Tcp, HERE, Instant::now(), &other.worker).is_none());
        assert_eq!((one.rejects(Reject::Connections), other.rejects(Reject::Connections)), (0, 1));
        drop(held);
        assert!(admission.admit(Transport::Tcp, HERE, Instant::now(), &other.worker).is_some());
    }

    fn limited(connections: u32, of_address: u32, burst: u32, now: Instant) -> Arc<Admission> {
        let limits = Limits {
            connections_per_second: connections,
            address_connections_per_second: of_address,
            address_connection_burst: burst,
            ..Limits::default()
        };
        Arc::new(Admission::new(100, u64::MAX, &limits, now))
    }

    #[test]
    fn d1_one_address_that_connects_too_fast_is_refused_and_others_are_not() {
        let (test_metrics, now) = (TestMetrics::new(), Instant::now());
        let admission = limited(0, 10, 3, now);
        let come = |address: [u8; 4], now| {
            admission.admit(Transport::Tcp, address.into(), now, &test_metrics.worker).is_some()
        };
        assert_eq!([1, 2, 3, 4].map(|host| come([192, 0, 2, host], now)), [true, true, true, false]);
        assert!(come([198, 51, 100, 1], now));
        assert!((0..20).all(|_| come([127, 0, 0, 1], now)));
        assert!(come([192, 0, 2, 1], now + std::time::Duration::from_millis(100)));
        assert_eq!(test_metrics.rejects(Reject::AddressRate), 1);
        assert_eq!(open(&test_metrics), (0, 0), "a refused one takes no place");
    }

    #[test]
    fn d1_f4_all_together_have_a_rate_of_which_refused_addresses_use_nothing() {
        let (test_metrics, now) = (TestMetrics::new(), Instant::now());
        let admission = limited(5, 1, 1, now);
        let come = |address: [u8; 4]| {
            admission.admit(Transport::Quic, address.into(), now, &test_metrics.worker).is_some()
        };
        let one = (0..20).filter(|_| come([192, 0, 2, 1])).count();
        let others = (0..20).filter(|network| come([10, 0, *network, 1])).count();
        assert_eq!((one, others), (1, 9), "two seconds' worth at once");
        assert!(!come([127, 0, 0, 1]), "loopback is a part of the whole");
        assert_eq!(
            (test_metrics.rejects(Reject::AddressRate), test_metrics.rejects(Reject::ConnectionRate)),
            (19, 12)
        );
    }

    #[test]
    fn d6_a_client_that_a_proxy_names_pays_its_own_rate_before_that_of_all() {
        let (test_metrics, now) = (TestMetrics::new(), Instant::now());
        let admission = limited(5, 1, 1, now);
        let come = |client: [u8; 4]| {
            let seat = admission.seat(&test_metrics.worker).unwrap();
            let admitted = admission.admit_seated(seat, Transport::Ws, None, now, &test_metrics.worker)?;
            admission.charge(&admitted, client.into(), now, &test_metrics.worker).then_some(admitted)
        };
        assert_eq!((0..20).filter_map(|_| come([192, 0, 2, 1])).count(), 1);
        assert_eq!((0..20).filter_map(|network| come([10, 0, network, 1])).count(), 9);
        assert_eq!(
            (test_metrics.rejects(Reject::AddressRate), test_metrics.rejects(Reject::ConnectionRate)),
            (19, 11)
        );
    }

    #[test]
    fn f17_handshakes_of_every_kind_follow_the_limits() {
        let (test_metrics, now) = (TestMetrics::new(), Instant::now());
        let limits = |max_handshakes| Limits { max_handshakes, ..Limits::default() };
        let entrance = admission(10).entrance(&limits(1), now, &test_metrics.worker);
        entrance.follow_limits(&limits(2));
        for handshakes in [&entrance.quic, &entrance.tls, &entrance.websocket] {
            let held: Vec<_> = (0..3).filter_map(|_| handshakes.begin()).collect();
            assert_eq!(held.len(), 2);
        }
    }

    #[test]
    fn h10_one_network_holds_its_share_of_the_connections_and_others_get_in() {
        let (test_metrics, now) = (TestMetrics::new(), Instant::now());
        let limits = Limits { address_connections_share: 50, ..Limits::default() };
        let admission = Arc::new(Admission::new(10, u64::MAX, &limits, now));
        let come =
            |address: [u8; 4]| admission.admit(Transport::Tcp, address.into(), now, &test_metrics.worker);
        let mut held: Vec<_> = (0..9).filter_map(|host| come([192, 0, 2, host])).collect();
        assert_eq!((held.len(), test_metrics.rejects(Reject::AddressConnections)), (5, 4));
        held.extend((0..9).filter_map(|host| come([198, 51, 100, host])));
        assert_eq!((held.len(), test_metrics.rejects(Reject::AddressConnections)), (10, 8));
        assert!(come([203, 0, 113, 1]).is_none());
        assert_eq!(test_metrics.rejects(Reject::Connections), 1);
        drop(held.remove(0));
        assert!(come([203, 0, 113, 1]).is_some(), "the refused one took nothing of its network");
        assert!(come([127, 0, 0, 1]).is_some());
        held.clear();
        assert!((0..5).map(|host| come([192, 0, 2, host])).collect::<Vec<_>>().iter().all(Option::is_some));
    }

    #[test]
    fn h10_one_network_holds_its_share_of_the_handshakes_and_loopback_any() {
        let test_metrics = TestMetrics::new();
        let limits = Limits { max_handshakes: 8, address_handshakes_share: 25, ..Limits::default() };
        let admission = Arc::new(Admission::new(10, u64::MAX, &limits, Instant::now()));
        let begin = |address: [u8; 4]| admission.begin_handshake(address.into(), &test_metrics.worker);
        let held: Vec<_> = (0..5).filter_map(|host| begin([192, 0, 2, host])).collect();
        assert_eq!((held.len(), test_metrics.rejects(Reject::AddressHandshakes)), (2, 3));
        let others: Vec<_> = (0..20).filter_map(|_| begin([127, 0, 0, 1])).collect();
        assert_eq!(others.len(), 20);
        assert!(begin([192, 0, 3, 1]).is_some());
        drop(held);
        assert!(begin([192, 0, 2, 1]).is_some());
    }

    #[test]
    fn d5_that_nothing_can_be_accepted_is_said_once_in_ten_seconds_with_how_often_it_was_not() {
        let (admission, start) = (admission(1), Instant::now());
        let at =
            |seconds| admission.complain(Complaint::Accept, start + std::time::Duration::from_secs(seconds));
        assert_eq!([0, 0, 1, 9].map(at), [Some(1), None, None, None]);
        assert_eq!([10, 11, 60].map(at), [Some(4), None, Some(2)]);
    }

    #[test]
    fn few_of_those_who_are_turned_away_are_waited_for() {
        let admission = admission(1);
        let waited: Vec<_> = (0..100).filter_map(|_| admission.turn_away()).collect();
        assert_eq!(waited.len(), TURNED_AWAY);
        drop(waited);
        assert!(admission.turn_away().is_some());
    }
}
