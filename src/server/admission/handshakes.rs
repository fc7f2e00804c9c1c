//! Handshakes in progress: how many, how long, and from when on an address must prove itself first (rows C2, H9, H10).
//! Time is passed in, but for the deadline.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::limits::{CROWD_LOOK, Limits};
use crate::monitor::metrics::Reject;
use crate::rate_limit::Gcra;

/// Those of one worker and one transport.
#[derive(Debug)]
pub(crate) struct Handshakes {
    in_progress: Cell<usize>,
    ended: Notify,
    bounds: Cell<HandshakeBounds>,
    /// Until when the attempts of addresses that have proven nothing are within their rate.
    unproven: Cell<Instant>,
}

/// How many there may be, how fast they may come, and how long they may take.
#[derive(Debug, Clone, Copy)]
struct HandshakeBounds {
    most: usize,
    /// In progress from which on addresses must prove themselves.
    prove_from: usize,
    /// Of attempts of addresses that have proven nothing; none: unbounded.
    unproven: Option<Gcra>,
    deadline: Duration,
    deadline_crowded: Duration,
}

impl HandshakeBounds {
    fn of(limits: &Limits) -> Self {
        Self {
            most: limits.max_handshakes,
            prove_from: limits.retry_from,
            unproven: Gcra::new(limits.retry_from_rate, limits.retry_from_rate),
            deadline: limits.handshake_deadline,
            deadline_crowded: limits.handshake_deadline_crowded.min(limits.handshake_deadline),
        }
    }
}

/// What becomes of an attempt to connect over QUIC.
#[derive(Debug)]
pub(crate) enum HandshakeVerdict {
    /// The handshake is in progress for as long as this lives.
    Begin(Handshaking),
    /// The client is to show that it gets what is sent to its address (Retry).
    Prove,
    /// There is no place.
    Refuse,
}

impl HandshakeVerdict {
    /// How it is counted.
    pub(crate) const fn reject(&self) -> Option<Reject> {
        match self {
            Self::Begin(_) => None,
            Self::Prove => Some(Reject::QuicRetry),
            Self::Refuse => Some(Reject::QuicRefused),
        }
    }
}

impl Handshakes {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            in_progress: Cell::new(0),
            ended: Notify::new(),
            bounds: Cell::new(HandshakeBounds::of(limits)),
            unproven: Cell::new(now),
        })
    }

    /// These limits from now on; handshakes in progress keep their deadlines.
    pub(crate) fn follow_limits(&self, limits: &Limits) {
        self.bounds.set(HandshakeBounds::of(limits));
    }

    /// One more of an address that is proven, as every one on TCP is; none if there is no place.
    pub(crate) fn begin(self: &Rc<Self>) -> Option<Handshaking> {
        (self.in_progress.get() < self.bounds.get().most).then(|| {
            self.in_progress.set(self.in_progress.get() + 1);
            Handshaking(Rc::clone(self))
        })
    }

    /// One more over QUIC. Addresses that have proven nothing may be anybody's: they cost little else than their
    /// packet once they are many, whatever they hold (`are_many`) or how fast they come.
    pub(crate) fn judge(self: &Rc<Self>, is_proven: bool, are_many: bool, now: Instant) -> HandshakeVerdict {
        let bounds = self.bounds.get();
        if self.in_progress.get() >= bounds.most {
            return HandshakeVerdict::Refuse;
        }
        if !is_proven && (self.in_progress.get() >= bounds.prove_from || are_many || self.are_fast(now)) {
            return HandshakeVerdict::Prove;
        }
        self.begin().map_or(HandshakeVerdict::Refuse, HandshakeVerdict::Begin)
    }

    fn are_fast(&self, now: Instant) -> bool {
        self.bounds.get().unproven.is_some_and(|gcra| {
            let mut arrival = self.unproven.get();
            let is_in_time = gcra.take(&mut arrival, now);
            self.unproven.set(arrival);
            !is_in_time
        })
    }

    fn is_crowded(&self) -> bool {
        self.in_progress.get() > self.bounds.get().most / 2
    }

    /// Waits until none is in progress; for one task at a time. Cancel safe.
    pub(crate) async fn all_ended(&self) {
        while self.in_progress.get() > 0 {
            self.ended.notified().await;
        }
    }

    /// The outcome of a handshake; none if it took too long. While more than half of the places are taken that is
    /// sooner, also for those that began before. Cancel safe.
    pub(crate) async fn in_time<F: Future>(&self, handshake: F) -> Option<F::Output> {
        let HandshakeBounds { deadline, deadline_crowded, .. } = self.bounds.get();
        let mut handshake = pin!(handshake);
        if let Ok(done) = timeout(deadline_crowded, handshake.as_mut()).await {
            return Some(done);
        }
        let mut left = deadline - deadline_crowded;
        while !left.is_zero() && !self.is_crowded() {
            let look = left.min(CROWD_LOOK);
            if let Ok(done) = timeout(look, handshake.as_mut()).await {
                return Some(done);
            }
            left -= look;
        }
        None
    }
}

/// A handshake in progress.
#[derive(Debug)]
pub(crate) struct Handshaking(Rc<Handshakes>);

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.in_progress.set(self.0.in_progress.get() - 1);
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn handshakes(change: impl FnOnce(&mut Limits)) -> (Rc<Handshakes>, Instant) {
        let mut limits = Limits::default();
        change(&mut limits);
        let now = Instant::now();
        (Handshakes::new(&limits, now), now)
    }

    /// For each attempt `+` if it began, `?` if it is to prove its address, `-` if it is refused.
    fn verdict(judged: &HandshakeVerdict) -> char {
        match judged {
            HandshakeVerdict::Begin(_) => '+',
            HandshakeVerdict::Prove => '?',
            HandshakeVerdict::Refuse => '-',
        }
    }

    #[test]
    fn h9_attempts_that_end_at_once_must_prove_themselves_when_they_come_fast() {
        let (handshakes, start) = handshakes(|limits| limits.retry_from_rate = 200);
        // 5,000 a second, none of which stays.
        let began = |from: u64, to: u64| {
            let attempts = from..to;
            let at = |n: u64| start + Duration::from_micros(n * 200);
            attempts.filter(|n| verdict(&handshakes.judge(false, false, at(*n))) == '+').count()
        };
        assert!((200..=240).contains(&began(0, 1_000)), "what may come at once, and what came since");
        let later = began(1_000, 26_000);
        assert!((995..=1_005).contains(&later), "{later} in five seconds");
        assert_eq!(verdict(&handshakes.judge(true, false, start + Duration::from_secs(6))), '+', "proven");
        let rested = start + Duration::from_secs(10);
        assert_eq!(verdict(&handshakes.judge(false, false, rested)), '+');
    }

    #[test]
    fn c2_attempts_that_stay_must_prove_themselves_when_they_are_many_and_the_proven_have_the_rest() {
        let (handshakes, now) = handshakes(|limits| {
            (limits.retry_from_rate, limits.retry_from, limits.max_handshakes) = (0, 3, 5);
        });
        let mut held = Vec::new();
        let mut come = |is_proven, are_many| {
            held.push(handshakes.judge(is_proven, are_many, now));
            verdict(held.last().unwrap())
        };
        assert_eq!(come(false, true), '?', "they hold too much");
        let seen: String = [false, false, false, false, true, true, true, false]
            .map(|proven| come(proven, false))
            .iter()
            .collect();
        assert_eq!(seen, "+++?++--");
        drop(held);
        assert_eq!(verdict(&handshakes.judge(false, false, now)), '+');
    }

    #[test]
    fn c2_retry_from_0_asks_everybody_and_a_rate_of_0_nobody() {
        let (everybody, now) = handshakes(|limits| limits.retry_from = 0);
        assert_eq!(verdict(&everybody.judge(false, false, now)), '?');
        let (nobody, now) = handshakes(|limits| limits.retry_from_rate = 0);
        assert!((0..10_000).all(|_| verdict(&nobody.judge(false, false, now)) == '+'));
    }

    #[tokio::test]
    async fn h10_a_handshake_has_less_time_while_more_than_half_of_the_places_are_taken() {
        let (handshakes, _) = handshakes(|limits| {
            limits.max_handshakes = 4;
            limits.handshake_deadline = Duration::from_secs(3);
            limits.handshake_deadline_crowded = Duration::from_millis(100);
        });
        let _held: Vec<_> = (0..2).map(|_| handshakes.begin().unwrap()).collect();
        let since = Instant::now();
        assert!(handshakes.in_time(pending::<()>()).await.is_none());
        assert!(since.elapsed() >= Duration::from_secs(3), "{:?}", since.elapsed());

        let third = handshakes.begin().unwrap();
        let since = Instant::now();
        assert!(handshakes.in_time(pending::<()>()).await.is_none());
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        assert_eq!(handshakes.in_time(async { 7 }).await, Some(7));

        // It becomes crowded while one has already taken longer.
        drop(third);
        let since = Instant::now();
        let comes = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _third = handshakes.begin().unwrap();
            pending::<()>().await;
        };
        tokio::select! {
            late = handshakes.in_time(pending::<()>()) => assert!(late.is_none()),
            () = comes => unreachable!(),
        }
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        assert!(handshakes.begin().is_some() && handshakes.begin().is_some());
    }
}
