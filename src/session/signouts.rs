//! Sign-outs that are owed to the login service and not written yet (protocol §4.9).
//!
//! A place is reserved when a channel is registered and filled when it ends, so an end never waits. `dispatch`
//! takes from here what is due; time is passed in.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::limits::{Limits, SIGNOUTS_PER_TURN};
use crate::monitor::metrics::WorkerMetrics;
use crate::session::channel::Identity;
use crate::session::signout::SignOut;
use crate::session::signouts_by_identity::{SignOutsByIdentity, UnderWay};
use crate::session::spare;

/// What becomes of a sign-out that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in the queue of a link.
    Queued,
    /// None is owed: its sign-in was never handed over, or it was superseded.
    NotOwed,
    /// No link takes it now.
    Later,
    /// Whether it is superseded will be known in a moment.
    InDoubt,
}

/// What a turn over the spool came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedSlice {
    /// How many were given up.
    pub(crate) given_up: u64,
    /// More is due: the next turn is to come as soon as others had theirs.
    pub(crate) again: bool,
}

/// What was in the queue of a link.
struct Returned(Box<dyn Iterator<Item = Rc<SignOut>>>);

impl fmt::Debug for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned").finish_non_exhaustive()
    }
}

/// Those that wait, each kind in the order of their age.
#[derive(Debug, Default)]
struct Waiting {
    /// To be looked at in the next turn.
    due: VecDeque<Rc<SignOut>>,
    /// The same, behind those.
    returned: VecDeque<Returned>,
    /// For the answer to their sign-in, or the end of its time.
    held: Held,
    /// For a link.
    stuck: VecDeque<Rc<SignOut>>,
}

impl Waiting {
    fn take_due(&mut self, now: Instant, hold: Duration, retry: Duration) -> Option<Rc<SignOut>> {
        if let Some(signout) = self.due.pop_front() {
            return Some(signout);
        }
        while let Some(Returned(signouts)) = self.returned.front_mut() {
            if let Some(signout) = signouts.next() {
                return Some(signout);
            }
            self.returned.pop_front();
        }
        if self.held.oldest().is_some_and(|since| now >= since + hold) {
            return self.held.take_oldest().inspect(|signout| signout.complete_signin());
        }
        self.stuck.pop_front_if(|signout| now >= signout.since + retry)
    }
}

/// The spool of one worker.
#[derive(Debug)]
pub(crate) struct SignOuts {
    /// Places promised to living channels, and those filled and not written.
    taken: Cell<usize>,
    bounds: Cell<SignOutBounds>,
    waiting: RefCell<Waiting>,
    /// Filled and not written, waiting or in the queue of a link.
    owed: Cell<usize>,
    by_identity: Arc<SignOutsByIdentity>,
    /// Answers of sign-ins are not waited for any more.
    released: Cell<bool>,
    changed: Notify,
    discharged: Notify,
    metrics: Arc<WorkerMetrics>,
}

/// Bounds of a spool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignOutBounds {
    /// Channels and sign-outs together.
    pub(crate) places: usize,
    /// Longest wait for the answer to a sign-in.
    pub(crate) hold: Duration,
    /// Longest life of a sign-out.
    pub(crate) retry: Duration,
}

impl SignOutBounds {
    /// Of a process that takes so many channels.
    pub(crate) const fn of(places: usize, limits: &Limits) -> Self {
        Self { places, hold: limits.login_answer, retry: limits.signout_retry }
    }
}

impl SignOuts {
    /// `by_identity` is shared by the workers of the process.
    pub(crate) fn new(
        bounds: SignOutBounds,
        by_identity: Arc<SignOutsByIdentity>,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        Rc::new(Self {
            taken: Cell::new(0),
            waiting: RefCell::default(),
            owed: Cell::new(0),
            by_identity,
            released: Cell::new(false),
            changed: Notify::new(),
            discharged: Notify::new(),
            metrics,
            bounds: Cell::new(bounds),
        })
    }

    /// Returns `true` if there is no place for one more channel (G6). New logins are refused then.
    pub(crate) fn is_full(&self) -> bool {
        self.taken.get() >= self.bounds.get().places
    }

    /// These from now on.
    pub(crate) fn set_bounds(&self, bounds: SignOutBounds) {
        self.bounds.set(bounds);
        self.changed.notify_one();
    }

    /// Promises a place.
    pub(crate) fn reserve(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// Fills a promised place.
    pub(crate) fn fill(&self, signout: Rc<SignOut>) {
        *signout.owed.borrow_mut() = Some(self.by_identity.owe(&signout.identity));
        self.owed.set(self.owed.get() + 1);
        self.metrics.signouts_waiting(1);
        let mut waiting = self.waiting.borrow_mut();
        if signout.unanswered.get() {
            waiting.held.expect(&signout);
        }
        if signout.is_held() && !self.released.get() {
            waiting.held.hold(&signout);
        } else {
            waiting.due.push_back(signout);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Those that were in the queue of a link, oldest first, are to be placed again. They are asked for in slices.
    pub(crate) fn requeue(&self, signouts: impl Iterator<Item = Rc<SignOut>> + 'static) {
        self.waiting.borrow_mut().returned.push_back(Returned(Box::new(signouts)));
        self.changed.notify_one();
    }

    /// Its last byte was written, or it is not owed, or was given up.
    pub(crate) fn discharge(&self, signout: &SignOut) {
        let Some(owed) = signout.owed.take() else { return };
        if signout.unanswered.get() {
            self.waiting.borrow_mut().held.take(&signout.channel_id);
        }
        self.by_identity.discharge(&signout.identity, owed);
        self.owed.set(self.owed.get() - 1);
        self.taken.set(self.taken.get().saturating_sub(1));
        self.metrics.signouts_waiting(-1);
        self.discharged.notify_one();
    }

    /// Waits until something changed since the last call. Cancel safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A link came up: those that found none are looked at again, oldest first.
    pub(crate) fn nudge(&self) {
        let mut guard = self.waiting.borrow_mut();
        let waiting = &mut *guard;
        waiting.stuck.append(&mut waiting.due);
        std::mem::swap(&mut waiting.stuck, &mut waiting.due);
        self.changed.notify_one();
    }

    /// The end is near: none is held back any more. Written too early is better than not at all.
    pub(crate) fn release(&self) {
        self.released.set(true);
        self.changed.notify_one();
    }

    fn hold(&self) -> Duration {
        if self.released.get() { Duration::ZERO } else { self.bounds.get().hold }
    }

    /// Waits until nothing is owed any more, neither waiting nor in a link's queue. Cancel safe.
    pub(crate) async fn all_discharged(&self) {
        while self.owed.get() > 0 {
            self.discharged.notified().await;
        }
    }

    /// How many are not written yet.
    pub(crate) fn owed(&self) -> usize {
        self.owed.get()
    }

    /// The login service answered a sign-in whose channel has ended; true if its sign-out waits for that.
    pub(crate) fn signin_answered(&self, channel_id: &str) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let Some((signout, was_held)) = waiting.held.take(channel_id) else { return false };
        signout.complete_signin();
        if was_held {
            waiting.due.push_back(signout);
            self.changed.notify_one();
        }
        true
    }

    /// A write is about to be tried that may begin a sign-in of this account: if it does, sign-outs that have to wait
    /// after this are superseded, on every worker. Nothing if the account owes none.
    pub(crate) fn writing_signin(&self, identity: &Identity) -> Option<UnderWay> {
        self.by_identity.writing(identity)
    }

    /// Returns `true` if a sign-out is owed anywhere in the process.
    pub(crate) fn is_any_owed(&self) -> bool {
        self.by_identity.is_any_owed()
    }

    /// When a wait ends although nothing happens.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.waiting.borrow();
        let held = waiting.held.oldest().map(|since| since + self.hold());
        let stuck = waiting.stuck.front().map(|signout| signout.since + self.bounds.get().retry);
        held.into_iter().chain(stuck).min()
    }

    /// Offers what is due to `place`, oldest first and at most [`SIGNOUTS_PER_TURN`]; what finds no link waits for one.
    pub(crate) fn place_due(
        &self,
        now: Instant,
        mut place: impl FnMut(&Rc<SignOut>) -> Placed,
    ) -> PlacedSlice {
        let mut slice = PlacedSlice { given_up: 0, again: true };
        let mut in_doubt = Vec::new();
        for _ in 0..SIGNOUTS_PER_TURN {
            let due = self.waiting.borrow_mut().take_due(now, self.hold(), self.bounds.get().retry);
            let Some(signout) = due else {
                slice.again = !in_doubt.is_empty();
                break;
            };
            if signout.is_held() && !self.released.get() {
                // Its sign-in began while it waited for its turn.
                self.waiting.borrow_mut().held.hold(&signout);
                continue;
            }
            if now >= signout.since + self.bounds.get().retry {
                slice.given_up += 1;
                self.discharge(&signout);
                continue;
            }
            match place(&signout) {
                Placed::Queued => {}
                Placed::NotOwed => self.discharge(&signout),
                Placed::Later => self.waiting.borrow_mut().stuck.push_back(signout),
                Placed::InDoubt => in_doubt.push(signout),
            }
        }
        let mut waiting = self.waiting.borrow_mut();
        waiting.due.extend(in_doubt);
        spare::shrink_queue(&mut waiting.due);
        spare::shrink_queue(&mut waiting.stuck);
        slice
    }
}

/// Sign-outs whose sign-in is not answered: found by channel when the answer comes, by age when it does not. No step is longer because many wait, and what a crowd took is given back when it goes.
#[derive(Debug, Default)]
struct Held {
    unanswered: BTreeMap<Rc<str>, Rc<SignOut>>,
    /// Those of `unanswered` that wait for nothing else.
    by_age: BTreeSet<(Instant, Rc<str>)>,
}

impl Held {
    /// The answer to its sign-in may still come, if that is handed over.
    fn expect(&mut self, signout: &Rc<SignOut>) {
        self.unanswered.insert(Rc::clone(&signout.channel_id), Rc::clone(signout));
    }

    /// It waits for that answer from now on.
    fn hold(&mut self, signout: &SignOut) {
        self.by_age.insert((signout.since, Rc::clone(&signout.channel_id)));
    }

    /// Since when the oldest that is held is owed.
    fn oldest(&self) -> Option<Instant> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// Takes out the oldest that is held.
    fn take_oldest(&mut self) -> Option<Rc<SignOut>> {
        let (_, id) = self.by_age.pop_first()?;
        self.unanswered.remove(&id)
    }

    /// Takes out that of a channel, and tells whether it was held.
    fn take(&mut self, channel_id: &str) -> Option<(Rc<SignOut>, bool)> {
        let signout = self.unanswered.remove(channel_id)?;
        let was_held = self.by_age.remove(&(signout.since, Rc::clone(&signout.channel_id)));
        Some((signout, was_held))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::session::channel::ChannelState;
    use crate::session::fixtures::{CountingWaker, TestMetrics, channel, identity, millis, ticket};
    use crate::session::pending::{InstanceKey, RequestStage};
    use crate::session::signouts_by_identity::Relogin;
    use crate::wire::close::CloseReason;

    const HOLD: Duration = Duration::from_millis(4500);
    const RETRY: Duration = Duration::from_secs(60);
    const A: InstanceKey = InstanceKey(0);

    fn spool(test_metrics: &TestMetrics) -> Rc<SignOuts> {
        let bounds = SignOutBounds { places: 10, hold: HOLD, retry: RETRY };
        SignOuts::new(bounds, Arc::default(), Arc::clone(&test_metrics.worker))
    }

    /// What a run dropped.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Dropped {
        superseded: u64,
        given_up: u64,
    }

    /// The sign-out of a channel that ended at `now` and whose sign-in was handed over.
    fn handed_over(
        test_metrics: &TestMetrics,
        account: &str,
        state: ChannelState,
        now: Instant,
    ) -> Rc<SignOut> {
        let channel = channel(test_metrics, account);
        let signin = ticket(&channel, "login.signin", 1);
        signin.set_stage(RequestStage::Sent(A));
        channel.set_signin(signin);
        channel.set_state(state);
        SignOut::of(&channel, CloseReason::PeerClosed, now)
    }

    fn answered(test_metrics: &TestMetrics, account: &str, now: Instant) -> Rc<SignOut> {
        handed_over(test_metrics, account, ChannelState::Open(now), now)
    }

    fn fill(signouts: &SignOuts, signout: &Rc<SignOut>) {
        signouts.reserve();
        signouts.fill(Rc::clone(signout));
    }

    /// The first byte of a sign-in is written.
    fn sign_in(signouts: &SignOuts, identity: &Identity) {
        if let Some(mut write) = signouts.writing_signin(identity) {
            write.begin();
        }
    }

    /// One turn; the ids that were offered, each of which fares as `placed` unless it was superseded.
    fn run(signouts: &SignOuts, now: Instant, placed: Placed) -> (Vec<String>, Dropped) {
        let (mut offered, mut superseded) = (Vec::new(), 0);
        let slice = signouts.place_due(now, |signout| {
            if signout.relogin() == Relogin::Forwarded {
                superseded += 1;
                return Placed::NotOwed;
            }
            offered.push(signout.channel_id.to_string());
            placed
        });
        assert!(!slice.again);
        (offered, Dropped { superseded, given_up: slice.given_up })
    }

    fn nothing() -> (Vec<String>, Dropped) {
        (Vec::new(), Dropped::default())
    }

    fn offered(signouts: &[&Rc<SignOut>]) -> (Vec<String>, Dropped) {
        (signouts.iter().map(|signout| signout.channel_id.to_string()).collect(), Dropped::default())
    }

    /// Returns `true` if [`SignOuts::all_discharged`] ends now.
    fn are_all_discharged(signouts: &SignOuts) -> bool {
        let (_, waker) = CountingWaker::new();
        pin!(signouts.all_discharged()).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn g5_one_of_an_unanswered_sign_in_is_held_until_the_answer() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let held = handed_over(&test_metrics, "alice", ChannelState::Opening, start);
        fill(&signouts, &held);
        assert_eq!(signouts.next_due(), Some(start + HOLD));
        assert_eq!(run(&signouts, start, Placed::Queued), nothing());
        assert_eq!(run(&signouts, start + HOLD - millis(1), Placed::Queued), nothing());
        assert!(!signouts.signin_answered("g_other_1"));
        assert!(signouts.signin_answered(&held.channel_id));
        assert!(!signouts.signin_answered(&held.channel_id), "once");
        assert_eq!(run(&signouts, start + HOLD - millis(1), Placed::Queued), offered(&[&held]));
        assert_eq!(signouts.next_due(), None);
    }

    #[test]
    fn g5_it_is_held_no_longer_than_the_answer_may_take() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let held = handed_over(&test_metrics, "alice", ChannelState::Opening, start);
        let free = answered(&test_metrics, "bob", start);
        fill(&signouts, &held);
        fill(&signouts, &free);
        assert_eq!(run(&signouts, start, Placed::Queued), offered(&[&free]), "one held delays no other");
        assert_eq!(run(&signouts, start + HOLD, Placed::Queued), offered(&[&held]));
    }

    #[test]
    fn one_whose_sign_in_was_never_handed_over_is_not_held() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let channel = channel(&test_metrics, "alice");
        let signin = ticket(&channel, "login.signin", 1);
        signin.set_stage(RequestStage::Queued(A, 1));
        channel.set_signin(signin);
        let signout = SignOut::of(&channel, CloseReason::PeerClosed, Instant::now());
        assert_eq!(signout.signed_in_at(), None);
        fill(&signouts, &signout);
        assert_eq!(run(&signouts, Instant::now(), Placed::NotOwed), offered(&[&signout]));
        assert!(are_all_discharged(&signouts));
        assert_eq!(test_metrics.signouts_waiting(), 0);
    }

    #[test]
    fn one_that_waits_is_offered_again_in_order_until_the_retry_time_ends() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let (first, second) =
            (answered(&test_metrics, "alice", start), answered(&test_metrics, "bob", start));
        fill(&signouts, &first);
        fill(&signouts, &second);
        for at in [0, 1, 59] {
            let now = start + Duration::from_secs(at);
            signouts.nudge();
            assert_eq!(run(&signouts, now, Placed::Later), offered(&[&first, &second]), "after {at} s");
        }
        assert_eq!(
            run(&signouts, start + Duration::from_secs(59), Placed::Later),
            nothing(),
            "no link came up"
        );
        assert_eq!((test_metrics.signouts_waiting(), signouts.next_due()), (2, Some(start + RETRY)));
        let given_up = Dropped { given_up: 2, superseded: 0 };
        assert_eq!(run(&signouts, start + RETRY, Placed::Later), (Vec::new(), given_up));
        assert_eq!(test_metrics.signouts_waiting(), 0);
        assert!(are_all_discharged(&signouts));
        assert_eq!(run(&signouts, start + RETRY * 2, Placed::Later), nothing());
    }

    #[test]
    fn one_that_had_to_wait_is_superseded_by_a_later_sign_in_of_the_same_user() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let (alice, bob) = (answered(&test_metrics, "alice", start), answered(&test_metrics, "bob", start));
        fill(&signouts, &alice);
        fill(&signouts, &bob);
        assert_eq!(run(&signouts, start, Placed::Later).0.len(), 2);
        signouts.nudge();
        sign_in(&signouts, &identity("alice"));
        sign_in(&signouts, &Identity { app: "other".to_owned(), account: "bob".to_owned() });
        let superseded = Dropped { superseded: 1, given_up: 0 };
        assert_eq!(
            run(&signouts, start + millis(100), Placed::Queued),
            (vec![bob.channel_id.to_string()], superseded)
        );
        assert!(!are_all_discharged(&signouts));
        signouts.discharge(&bob);
        assert!(are_all_discharged(&signouts));
        assert_eq!(test_metrics.signouts_waiting(), 0);
    }

    #[test]
    fn one_that_is_held_for_its_answer_is_superseded_only_behind_it() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let held = handed_over(&test_metrics, "alice", ChannelState::Opening, start);
        fill(&signouts, &held);
        sign_in(&signouts, &identity("alice"));
        assert_eq!(run(&signouts, start, Placed::Queued), nothing());
        assert!(signouts.signin_answered(&held.channel_id));
        assert_eq!(run(&signouts, start, Placed::Queued).1, Dropped { superseded: 1, given_up: 0 });
        assert!(are_all_discharged(&signouts));
    }

    #[test]
    fn one_in_the_queue_of_a_link_is_superseded_only_if_it_must_wait_again() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let (written, cut) =
            (answered(&test_metrics, "alice", start), answered(&test_metrics, "alice", start));
        fill(&signouts, &written);
        fill(&signouts, &cut);
        assert_eq!(run(&signouts, start, Placed::Queued), offered(&[&written, &cut]));
        sign_in(&signouts, &identity("alice"));
        signouts.discharge(&written);
        signouts.requeue(std::iter::once(Rc::clone(&cut)));
        assert_eq!(signouts.owed(), 1);
        let (offered, dropped) = run(&signouts, start + millis(1), Placed::Queued);
        assert_eq!((offered.len(), dropped), (0, Dropped { superseded: 1, given_up: 0 }));
        assert!(are_all_discharged(&signouts));
        assert_eq!(test_metrics.signouts_waiting(), 0);
    }

    #[test]
    fn one_of_a_broken_link_keeps_its_age() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let signout = answered(&test_metrics, "alice", start);
        fill(&signouts, &signout);
        run(&signouts, start, Placed::Queued);
        assert_eq!(run(&signouts, start + millis(1), Placed::Queued), nothing(), "it is no longer here");
        assert!(!are_all_discharged(&signouts), "but owed");
        signouts.requeue(std::iter::once(Rc::clone(&signout)));
        assert_eq!(run(&signouts, start + RETRY - millis(1), Placed::Queued), offered(&[&signout]));
        signouts.requeue(std::iter::once(Rc::clone(&signout)));
        assert_eq!(run(&signouts, start + RETRY, Placed::Queued).1.given_up, 1);
        assert_eq!(test_metrics.signouts_waiting(), 0);
    }

    #[test]
    fn one_whose_sign_in_begins_before_its_turn_is_held_for_the_answer() {
        for is_answered_first in [false, true] {
            let test_metrics = TestMetrics::new();
            let signouts = spool(&test_metrics);
            let start = Instant::now();
            let channel = channel(&test_metrics, "alice");
            let signin = ticket(&channel, "login.signin", 1);
            signin.set_stage(RequestStage::Queued(A, 1));
            channel.set_signin(Rc::clone(&signin));
            let signout = SignOut::of(&channel, CloseReason::PeerClosed, start);
            fill(&signouts, &signout);
            signin.set_stage(RequestStage::Sent(A));
            if is_answered_first {
                assert!(signouts.signin_answered(&signout.channel_id));
            } else {
                assert_eq!(run(&signouts, start, Placed::Queued), nothing());
                assert_eq!(signouts.next_due(), Some(start + HOLD));
                assert!(signouts.signin_answered(&signout.channel_id));
            }
            assert_eq!(run(&signouts, start, Placed::Queued), offered(&[&signout]));
            assert!(!signouts.signin_answered(&signout.channel_id));
        }
    }

    /// So many sign-outs that are due.
    fn crowd(
        test_metrics: &TestMetrics,
        signouts: &SignOuts,
        count: usize,
        state: ChannelState,
        now: Instant,
    ) -> Vec<Rc<str>> {
        let all = (0..count).map(|_| {
            let signout = handed_over(test_metrics, "alice", state, now);
            fill(signouts, &signout);
            Rc::clone(&signout.channel_id)
        });
        all.collect()
    }

    /// Turns until nothing is due; what each offered or gave up.
    fn turns(signouts: &SignOuts, now: Instant, placed: Placed) -> Vec<usize> {
        let mut turns = Vec::new();
        loop {
            let mut offered = 0;
            let slice = signouts.place_due(now, |_| {
                offered += 1;
                placed
            });
            turns.push(offered + usize::try_from(slice.given_up).unwrap());
            if !slice.again {
                return turns;
            }
        }
    }

    const SLICES: [usize; 4] = [SIGNOUTS_PER_TURN, SIGNOUTS_PER_TURN, SIGNOUTS_PER_TURN, 1];
    const CROWD: usize = 3 * SIGNOUTS_PER_TURN + 1;

    #[test]
    fn h22_a_crowd_is_placed_and_given_up_in_slices_and_gives_its_room_back() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        crowd(&test_metrics, &signouts, CROWD, ChannelState::Open(start), start);
        crowd(&test_metrics, &signouts, CROWD, ChannelState::Opening, start);
        assert_eq!(turns(&signouts, start, Placed::Later), SLICES);
        assert_eq!(turns(&signouts, start + HOLD, Placed::Later), SLICES, "those that were held");
        signouts.nudge();
        let slices = turns(&signouts, start + HOLD, Placed::Later);
        assert_eq!((slices.iter().sum::<usize>(), slices.iter().max()), (2 * CROWD, SLICES.iter().max()));
        let slices = turns(&signouts, start + RETRY, Placed::Later);
        assert_eq!((slices.iter().sum::<usize>(), slices.iter().max()), (2 * CROWD, SLICES.iter().max()));
        assert!(are_all_discharged(&signouts));
        let waiting = signouts.waiting.borrow();
        assert!(waiting.due.capacity() <= spare::KEPT && waiting.stuck.capacity() <= spare::KEPT);
    }

    #[test]
    fn h22_what_comes_back_from_a_link_is_asked_for_in_slices() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        crowd(&test_metrics, &signouts, CROWD, ChannelState::Open(start), start);
        let mut queue = Vec::new();
        while signouts
            .place_due(start, |signout| {
                queue.push(Rc::clone(signout));
                Placed::Queued
            })
            .again
        {}
        let asked = Rc::new(Cell::new(0));
        let counter = Rc::clone(&asked);
        signouts.requeue(queue.into_iter().inspect(move |_| counter.set(counter.get() + 1)));
        assert_eq!((asked.get(), signouts.owed()), (0, CROWD));
        assert!(signouts.place_due(start, |_| Placed::Later).again);
        assert_eq!(asked.get(), SIGNOUTS_PER_TURN);
        assert_eq!(turns(&signouts, start, Placed::Later), SLICES[1..]);
        assert!(signouts.waiting.borrow().returned.is_empty());
    }

    #[test]
    fn h22_an_answer_finds_its_sign_out_however_many_are_held() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let held = crowd(&test_metrics, &signouts, 20_000, ChannelState::Opening, Instant::now());
        let begun = Instant::now();
        for id in held.iter().rev() {
            assert!(!signouts.signin_answered("g_other_1"));
            assert!(signouts.signin_answered(id));
        }
        // Less than a tenth of it; more than 10 s when all were walked through.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(turns(&signouts, Instant::now(), Placed::NotOwed).iter().sum::<usize>(), 20_000);
        assert!(are_all_discharged(&signouts));
    }

    #[test]
    fn h22_the_sessions_of_one_account_cost_no_more_than_those_of_many() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        let begun: Vec<_> = (0..40_000).map(|_| answered(&test_metrics, "alice", start)).collect();
        let clock = Instant::now();
        begun.iter().for_each(|signout| fill(&signouts, signout));
        sign_in(&signouts, &identity("alice"));
        begun.iter().for_each(|signout| signouts.discharge(signout));
        // About 0.1 s; more than 10 s when each discharge walked through all of the account.
        assert!(clock.elapsed() < Duration::from_secs(2), "{:?}", clock.elapsed());
        assert!(are_all_discharged(&signouts) && !signouts.is_any_owed());
    }

    #[test]
    fn the_last_discharge_wakes_whoever_waits_for_it() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        assert!(are_all_discharged(&signouts));
        let (first, second) =
            (answered(&test_metrics, "alice", start), answered(&test_metrics, "alice", start));
        fill(&signouts, &first);
        fill(&signouts, &second);
        run(&signouts, Instant::now(), Placed::Queued);
        let (bell, waker) = CountingWaker::new();
        let mut cx = Context::from_waker(&waker);
        let mut all_discharged = pin!(signouts.all_discharged());
        assert!(all_discharged.as_mut().poll(&mut cx).is_pending());
        signouts.discharge(&first);
        assert_eq!(bell.rung(), 1);
        assert!(all_discharged.as_mut().poll(&mut cx).is_pending(), "one of two");
        signouts.discharge(&second);
        assert_eq!(bell.rung(), 2);
        assert!(all_discharged.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn filling_answering_and_nudging_are_told() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let is_told = || {
            let (_, waker) = CountingWaker::new();
            pin!(signouts.changed()).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!(!is_told());
        let start = Instant::now();
        let held = handed_over(&test_metrics, "alice", ChannelState::Opening, start);
        fill(&signouts, &held);
        assert!(is_told());
        assert!(!is_told());
        assert!(signouts.signin_answered(&held.channel_id));
        assert!(is_told());
        signouts.nudge();
        assert!(is_told());
        signouts.requeue(std::iter::once(held));
        assert!(is_told());
    }

    #[test]
    fn one_whose_turn_has_not_come_when_a_later_sign_in_is_forwarded_is_superseded() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        fill(&signouts, &answered(&test_metrics, "alice", start));
        sign_in(&signouts, &identity("alice"));
        assert_eq!(
            run(&signouts, start, Placed::Queued),
            (Vec::new(), Dropped { superseded: 1, given_up: 0 })
        );
        assert!(are_all_discharged(&signouts));
    }

    #[test]
    fn g6_places_are_those_of_channels_and_of_sign_outs_not_written() {
        let test_metrics = TestMetrics::new();
        let signouts = spool(&test_metrics);
        let start = Instant::now();
        for _ in 0..9 {
            signouts.reserve();
        }
        assert!(!signouts.is_full());
        let signout = answered(&test_metrics, "alice", start);
        fill(&signouts, &signout);
        assert!(signouts.is_full(), "an ended channel keeps its place until its sign-out is written");
        run(&signouts, start, Placed::Queued);
        assert!(signouts.is_full());
        signouts.discharge(&signout);
        assert!(!signouts.is_full());
    }
}
