//! Those who have not signed in: the memory they may have together, and who of them goes when that is used up (row H11).

use std::cell::{Cell, OnceCell, RefCell};
use std::cmp::max;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::limits::{
    NEWCOMER_QUIC, NEWCOMER_QUIC_HANDSHAKE, NEWCOMER_TCP, NEWCOMER_TLS, NEWCOMER_TLS_HANDSHAKE, NEWCOMER_WS,
    NEWCOMERS_LEAVE_AT,
};
use crate::monitor::metrics::{Reject, Transport, WorkerMetrics};
use crate::session::outgoing::Outgoing;
use crate::wire::close::CloseReason;

/// What there is of it for the process, bytes.
#[derive(Debug)]
pub(super) struct NewcomerBudget {
    most: AtomicUsize,
    used: AtomicUsize,
    /// Of that, by those who were told to go and have not gone yet.
    leaving: AtomicUsize,
}

impl NewcomerBudget {
    pub(super) const fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), used: AtomicUsize::new(0), leaving: AtomicUsize::new(0) }
    }

    /// So much from now on.
    pub(super) fn change(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Relaxed);
        let fits = before.saturating_add(bytes) <= self.most.load(Relaxed);
        if !fits {
            self.used.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// Returns `true` if so much is used that somebody has to go.
    fn is_short(&self) -> bool {
        let staying = self.used.load(Relaxed).saturating_sub(self.leaving.load(Relaxed));
        staying > self.most.load(Relaxed) / 100 * NEWCOMERS_LEAVE_AT
    }

    fn is_half_full(&self) -> bool {
        self.used.load(Relaxed) > self.most.load(Relaxed) / 2
    }
}

/// How far somebody has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewcomerStage {
    /// It comes through a balancer that has yet to say for whom.
    ProxyHeader,
    /// A handshake of [`Transport::Quic`] or [`Transport::Tls`] is in progress.
    Handshake(Transport),
    /// An upgrade to WebSocket is in progress, whose head may have so many bytes.
    Upgrade(Transport, usize),
    /// Its sign-in is awaited.
    Login(Transport),
}

impl NewcomerStage {
    fn cost(self) -> usize {
        match self {
            Self::Handshake(Transport::Quic) => NEWCOMER_QUIC_HANDSHAKE,
            Self::Handshake(Transport::Tls | Transport::Wss) => NEWCOMER_TLS_HANDSHAKE,
            // Its head is read when the handshake of TLS is done.
            Self::Upgrade(Transport::Wss, head) => max(NEWCOMER_TLS_HANDSHAKE, NEWCOMER_TLS + head),
            Self::Upgrade(_, head) => NEWCOMER_WS + head,
            Self::Login(Transport::Quic) => NEWCOMER_QUIC,
            Self::Login(Transport::Tls | Transport::Wss) => NEWCOMER_TLS,
            Self::Handshake(Transport::Ws) | Self::Login(Transport::Ws) => NEWCOMER_WS,
            Self::ProxyHeader | Self::Handshake(Transport::Tcp) | Self::Login(Transport::Tcp) => NEWCOMER_TCP,
        }
    }
}

/// Those of a worker, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Newcomers {
    budget: Arc<NewcomerBudget>,
    metrics: Arc<WorkerMetrics>,
    here: RefCell<BTreeMap<u64, Rc<Exit>>>,
    next: Cell<u64>,
}

/// How one of them is told to go.
#[derive(Debug, Default)]
struct Exit {
    cost: Cell<usize>,
    told: Cell<bool>,
    /// For a handshake, which has no queue yet.
    bell: Notify,
    queue: OnceCell<Rc<Outgoing>>,
}

impl Newcomers {
    pub(super) fn new(budget: Arc<NewcomerBudget>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self { budget, metrics, here: RefCell::default(), next: Cell::new(0) })
    }

    /// One more; none if there is no room, which is counted. When there is little, those who have been here longest
    /// are told to go.
    pub(crate) fn arrive(self: &Rc<Self>, stage: NewcomerStage) -> Option<Newcomer> {
        let cost = stage.cost();
        let fits = self.budget.take(cost);
        self.make_room();
        if !fits {
            self.metrics.reject(Reject::BeforeLogin);
            return None;
        }
        self.metrics.before_login(cost as i64);
        let exit = Rc::new(Exit::default());
        exit.cost.set(cost);
        let number = self.next.replace(self.next.get() + 1);
        self.here.borrow_mut().insert(number, Rc::clone(&exit));
        Some(Newcomer { newcomers: Rc::clone(self), number, exit })
    }

    fn oldest(&self) -> Option<Rc<Exit>> {
        self.here.borrow_mut().pop_first().map(|(_, oldest)| oldest)
    }

    /// Returns `true` if so much is used that nothing may be kept for addresses which have proven nothing.
    pub(crate) fn are_many(&self) -> bool {
        self.budget.is_half_full()
    }

    /// Sends away those who have been here longest while there is little room. Called now and then as well: those who came
    /// last may be with another worker.
    pub(crate) fn make_room(&self) {
        while self.budget.is_short()
            && let Some(oldest) = self.oldest()
        {
            self.budget.leaving.fetch_add(oldest.cost.get(), Relaxed);
            self.metrics.reject(Reject::BeforeLoginClosed);
            oldest.told.set(true);
            oldest.bell.notify_one();
            if let Some(queue) = oldest.queue.get() {
                queue.close(CloseReason::Overloaded);
            }
        }
    }
}

/// Somebody who has not signed in. Its drop says that it has, or that it is gone.
#[derive(Debug)]
pub(crate) struct Newcomer {
    newcomers: Rc<Newcomers>,
    number: u64,
    exit: Rc<Exit>,
}

impl Newcomer {
    /// The handshake is done: from now on it is told to go by its queue.
    pub(crate) fn awaits_login(&self, transport: Transport, queue: &Rc<Outgoing>) {
        let cost = NewcomerStage::Login(transport).cost();
        let before = self.exit.cost.replace(cost);
        let budget = &self.newcomers.budget;
        for used in
            [Some(&budget.used), self.exit.told.get().then_some(&budget.leaving)].into_iter().flatten()
        {
            used.fetch_add(cost, Relaxed);
            used.fetch_sub(before, Relaxed);
        }
        self.newcomers.metrics.before_login(cost as i64 - before as i64);
        let _once = self.exit.queue.set(Rc::clone(queue));
        if self.exit.told.get() {
            queue.close(CloseReason::Overloaded);
        }
    }

    /// Resolves when it is to go. Cancel safe.
    pub(crate) async fn must_go(&self) {
        while !self.exit.told.get() {
            self.exit.bell.notified().await;
        }
    }

    /// Returns `true` if it has to go.
    pub(crate) fn is_leaving(&self) -> bool {
        self.exit.told.get()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let cost = self.exit.cost.get();
        if self.exit.told.get() {
            self.newcomers.budget.leaving.fetch_sub(cost, Relaxed);
        } else {
            self.newcomers.here.borrow_mut().remove(&self.number);
        }
        self.newcomers.budget.used.fetch_sub(cost, Relaxed);
        self.newcomers.metrics.before_login(-(cost as i64));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::session::fixtures::TestMetrics;
    use crate::session::outgoing::OutgoingBounds;

    const TCP: NewcomerStage = NewcomerStage::Login(Transport::Tcp);

    fn newcomers(test_metrics: &TestMetrics, most: usize) -> Rc<Newcomers> {
        Newcomers::new(Arc::new(NewcomerBudget::new(most)), Arc::clone(&test_metrics.worker))
    }

    fn queue(test_metrics: &TestMetrics) -> Rc<Outgoing> {
        Rc::new(Outgoing::new(
            OutgoingBounds::of(&crate::limits::Limits::default()),
            Arc::clone(&test_metrics.worker),
        ))
    }

    #[test]
    fn h11_the_oldest_go_before_the_room_is_used_up_and_nobody_else() {
        let test_metrics = TestMetrics::new();
        let newcomers = newcomers(&test_metrics, 10 * NEWCOMER_TCP);
        let mut here: Vec<_> = (0..8).map(|_| newcomers.arrive(TCP).unwrap()).collect();
        let queues: Vec<_> = here.iter().map(|_| queue(&test_metrics)).collect();
        for (newcomer, queue) in here.iter().zip(&queues) {
            newcomer.awaits_login(Transport::Tcp, queue);
        }
        // The third signs in.
        drop(here.remove(2));
        here.push(newcomers.arrive(TCP).unwrap());
        assert!(here.iter().all(|newcomer| !newcomer.is_leaving()), "eight of ten");
        here.push(newcomers.arrive(TCP).unwrap());
        here.push(newcomers.arrive(TCP).unwrap());
        assert!(newcomers.arrive(TCP).is_none(), "those who go have not gone yet");
        let leaving: Vec<_> = queues.iter().map(|queue| queue.closing()).collect();
        let told = Some(CloseReason::Overloaded);
        assert_eq!(leaving, [told, told, None, None, None, None, None, None]);
        let counted =
            (test_metrics.rejects(Reject::BeforeLogin), test_metrics.rejects(Reject::BeforeLoginClosed));
        assert_eq!(counted, (1, 2), "no more go than make room");
        here.drain(..2);
        here.push(newcomers.arrive(TCP).unwrap());
        assert_eq!(here.iter().filter(|newcomer| newcomer.is_leaving()).count(), 1);
        here.clear();
        assert_eq!(newcomers.budget.used.load(Relaxed) + newcomers.budget.leaving.load(Relaxed), 0);
        assert!(newcomers.here.borrow().is_empty());
        assert_eq!(test_metrics.value("gateway_before_login_bytes"), 0);
    }

    #[test]
    fn h11_a_handshake_is_told_to_go_and_so_is_what_comes_of_it() {
        let test_metrics = TestMetrics::new();
        let newcomers = newcomers(&test_metrics, NEWCOMER_QUIC_HANDSHAKE + NEWCOMER_TLS_HANDSHAKE);
        let first = newcomers.arrive(NewcomerStage::Handshake(Transport::Quic)).unwrap();
        assert!(newcomers.are_many());
        let second = {
            let mut cx = Context::from_waker(Waker::noop());
            let mut going = pin!(first.must_go());
            assert!(going.as_mut().poll(&mut cx).is_pending());
            let second = newcomers.arrive(NewcomerStage::Handshake(Transport::Tls));
            assert!(going.as_mut().poll(&mut cx).is_ready());
            second.unwrap()
        };
        assert!(newcomers.arrive(NewcomerStage::Handshake(Transport::Quic)).is_none());
        let late = queue(&test_metrics);
        first.awaits_login(Transport::Quic, &late);
        assert_eq!(late.closing(), Some(CloseReason::Overloaded), "it got through in the same moment");
        drop((first, second));
        assert_eq!(newcomers.budget.used.load(Relaxed) + newcomers.budget.leaving.load(Relaxed), 0);
        assert!(!newcomers.are_many());
    }

    #[test]
    fn h11_workers_share_the_room_and_each_sends_away_its_own() {
        let test_metrics = TestMetrics::new();
        let one = newcomers(&test_metrics, 10 * NEWCOMER_TCP);
        let other = Newcomers::new(Arc::clone(&one.budget), Arc::clone(&test_metrics.worker));
        let of_one: Vec<_> = (0..8).map(|_| one.arrive(TCP).unwrap()).collect();
        let first = other.arrive(TCP).unwrap();
        let second = other.arrive(TCP).unwrap();
        assert!(first.is_leaving() && !second.is_leaving());
        assert!(of_one.iter().all(|newcomer| !newcomer.is_leaving()));
        assert!(other.arrive(TCP).is_none());
        assert!(second.is_leaving(), "it has no older ones");
        drop((first, second));
        let third = other.arrive(TCP).unwrap();
        one.make_room();
        let leaving: Vec<_> = of_one.iter().map(Newcomer::is_leaving).collect();
        assert_eq!(leaving, [[true].as_slice(), &[false; 7]].concat());
        assert!(!third.is_leaving());
    }
}
