//! Sign-outs that are owed to the login service and not written yet (protocol §4.9).
//!
//! A place is reserved when a channel is registered and filled when it ends, so an end never waits. `dispatch`
//! takes from here what is due; time is passed in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::monitor::metrics::WorkerMetrics;
use crate::session::channel::{Channel, Identity};
use crate::session::pending::{InstanceKey, Stage, Ticket};
use crate::session::relogins::{Mark, Relogins};
use crate::wire::close::CloseReason;
use crate::wire::rewrite::Origin;

/// One sign-out.
#[derive(Debug)]
pub(crate) struct SignOut {
    /// Of the channel that ended.
    pub(crate) channel_id: Rc<str>,
    /// Of that channel.
    pub(crate) identity: Identity,
    /// Why it ended.
    pub(crate) reason: CloseReason,
    /// The sign-in it undoes.
    pub(crate) signin: Option<Rc<Ticket>>,
    /// The sign-in is not answered: the sign-out is held back, or the Go services might handle it first.
    unanswered: Cell<bool>,
    /// A later sign-in of the same app and account was forwarded, by whichever worker.
    superseded: Mark,
    since: Instant,
}

impl SignOut {
    /// The sign-out of a channel that ends now.
    pub(crate) fn of(channel: &Channel, reason: CloseReason, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            channel_id: Rc::clone(&channel.id),
            identity: channel.identity.clone(),
            reason,
            signin: channel.signin(),
            unanswered: Cell::new(channel.is_opening()),
            superseded: Mark::default(),
            since: now,
        })
    }

    /// What goes into its header.
    pub(crate) fn origin<'a>(&'a self, gate_id: &'a str) -> Origin<'a> {
        let Identity { app, account } = &self.identity;
        Origin { channel_id: &self.channel_id, app, account, gate_id }
    }

    /// The instance that got the sign-in.
    pub(crate) fn signed_in_at(&self) -> Option<InstanceKey> {
        match self.signin.as_ref()?.stage() {
            Stage::Sent(instance) => Some(instance),
            _ => None,
        }
    }

    /// Was the same account signed in again while this waited in the spool? Then it must not be written behind that
    /// sign-in: the Go login services delete by account.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// The answer to its sign-in came, or is not to come.
    fn settle_signin(&self) {
        if let Some(signin) = &self.signin {
            signin.settle();
        }
    }

    fn is_held(&self) -> bool {
        self.unanswered.get() && self.signed_in_at().is_some()
    }
}

/// What becomes of a sign-out that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// It is in the queue of a link.
    Queued,
    /// None is owed: its sign-in was never handed over, or it was superseded.
    NotOwed,
    /// No link takes it now.
    Later,
}

/// Those that wait, each kind in the order of their age.
#[derive(Debug, Default)]
struct Waiting {
    /// To be looked at in the next run.
    due: VecDeque<Rc<SignOut>>,
    /// For the answer to their sign-in, or the end of its time.
    held: VecDeque<Rc<SignOut>>,
    /// For a link.
    stuck: VecDeque<Rc<SignOut>>,
}

/// The spool of one worker.
#[derive(Debug)]
pub(crate) struct SignOuts {
    /// Places promised to living channels, and those filled and not written.
    taken: Cell<usize>,
    places: usize,
    waiting: RefCell<Waiting>,
    /// Filled and not written, waiting or in the queue of a link.
    owed: Cell<usize>,
    relogins: Arc<Relogins>,
    changed: Notify,
    settled: Notify,
    metrics: Arc<WorkerMetrics>,
    hold: Duration,
    retry: Duration,
}

/// Bounds of a spool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Channels and sign-outs together.
    pub(crate) places: usize,
    /// Longest wait for the answer to a sign-in.
    pub(crate) hold: Duration,
    /// Longest life of a sign-out.
    pub(crate) retry: Duration,
}

impl SignOuts {
    /// `relogins` is shared by the workers of the process.
    pub(crate) fn new(bounds: Bounds, relogins: Arc<Relogins>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        Rc::new(Self {
            taken: Cell::new(0),
            places: bounds.places,
            waiting: RefCell::default(),
            owed: Cell::new(0),
            relogins,
            changed: Notify::new(),
            settled: Notify::new(),
            metrics,
            hold: bounds.hold,
            retry: bounds.retry,
        })
    }

    /// Is there no place for one more channel (G6)? New logins are refused then.
    pub(crate) fn is_full(&self) -> bool {
        self.taken.get() >= self.places
    }

    /// Promises a place.
    pub(crate) fn reserve(&self) {
        self.taken.set(self.taken.get() + 1);
    }

    /// Fills a promised place.
    pub(crate) fn fill(&self, signout: Rc<SignOut>) {
        self.relogins.owe(&signout.identity, &signout.superseded);
        self.owed.set(self.owed.get() + 1);
        self.metrics.signouts_waiting(1);
        let mut waiting = self.waiting.borrow_mut();
        if signout.is_held() {
            waiting.held.push_back(signout);
        } else {
            waiting.due.push_back(signout);
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// One that was in the queue of a link that broke waits again.
    pub(crate) fn requeue(&self, signout: Rc<SignOut>) {
        self.waiting.borrow_mut().due.push_back(signout);
        self.changed.notify_one();
    }

    /// Its last byte was written, or it is not owed, or was given up.
    pub(crate) fn settle(&self, signout: &Rc<SignOut>) {
        self.relogins.settle(&signout.identity, &signout.superseded);
        self.owed.set(self.owed.get().saturating_sub(1));
        self.taken.set(self.taken.get().saturating_sub(1));
        self.metrics.signouts_waiting(-1);
        self.settled.notify_one();
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

    /// Waits until nothing is owed any more, neither waiting nor in a link's queue. Cancel safe.
    pub(crate) async fn all_settled(&self) {
        while self.owed.get() > 0 {
            self.settled.notified().await;
        }
    }

    /// How many are not written yet.
    pub(crate) fn owed(&self) -> usize {
        self.owed.get()
    }

    /// The login service answered a sign-in whose channel has ended; true if its sign-out was held for it.
    pub(crate) fn signin_answered(&self, channel_id: &str) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let position = waiting.held.iter().position(|signout| &*signout.channel_id == channel_id);
        let Some(signout) = position.and_then(|position| waiting.held.remove(position)) else { return false };
        signout.unanswered.set(false);
        signout.settle_signin();
        waiting.due.push_back(signout);
        self.changed.notify_one();
        true
    }

    /// A sign-in of this app and account was forwarded: sign-outs that have to wait after this are superseded, on every
    /// worker.
    ///
    /// To be told before the write: the login service may answer, and another worker act on it, while the write returns.
    /// [`retract`](Self::retract) takes back what it returns if nothing was written.
    pub(crate) fn supersede(&self, identity: &Identity) -> Vec<Mark> {
        self.relogins.supersede(identity)
    }

    /// Nothing was written of the sign-ins that made these marks.
    pub(crate) fn retract(marks: &[Mark]) {
        for mark in marks {
            mark.store(false, Ordering::Release);
        }
    }

    /// Is a sign-out owed anywhere in the process?
    pub(crate) fn is_any_owed(&self) -> bool {
        self.relogins.is_any_owed()
    }

    /// When a wait ends although nothing happens.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.waiting.borrow();
        let held = waiting.held.front().map(|signout| signout.since + self.hold);
        let stuck = waiting.stuck.front().map(|signout| signout.since + self.retry);
        held.into_iter().chain(stuck).min()
    }

    /// Offers what is due to `place`, oldest first; what finds no link waits for one. Returns how many were given up.
    pub(crate) fn run(&self, now: Instant, mut place: impl FnMut(&Rc<SignOut>) -> Placed) -> u64 {
        let mut given_up = 0;
        while let Some(signout) = self.take_due(now) {
            if now >= signout.since + self.retry {
                given_up += 1;
                self.settle(&signout);
                continue;
            }
            match place(&signout) {
                Placed::Queued => {}
                Placed::NotOwed => self.settle(&signout),
                Placed::Later => {
                    self.waiting.borrow_mut().stuck.push_back(signout);
                }
            }
        }
        given_up
    }

    fn take_due(&self, now: Instant) -> Option<Rc<SignOut>> {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(signout) = waiting.due.pop_front() {
            return Some(signout);
        }
        let (hold, retry) = (self.hold, self.retry);
        if waiting.held.front().is_some_and(|signout| now >= signout.since + hold) {
            return waiting.held.pop_front().inspect(|signout| signout.settle_signin());
        }
        if waiting.stuck.front().is_some_and(|signout| now >= signout.since + retry) {
            return waiting.stuck.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::session::channel::State;
    use crate::session::fixtures::{Bell, Books, channel, identity, millis, ticket};

    const HOLD: Duration = Duration::from_millis(4500);
    const RETRY: Duration = Duration::from_secs(60);
    const A: InstanceKey = InstanceKey(0);

    fn spool(books: &Books) -> Rc<SignOuts> {
        let bounds = Bounds { places: 10, hold: HOLD, retry: RETRY };
        SignOuts::new(bounds, Arc::default(), Arc::clone(&books.worker))
    }

    /// What a run dropped.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Dropped {
        superseded: u64,
        given_up: u64,
    }

    /// The sign-out of a channel that ended at `now` and whose sign-in was handed over.
    fn handed_over(books: &Books, account: &str, state: State, now: Instant) -> Rc<SignOut> {
        let channel = channel(books, account);
        let signin = ticket(&channel, "login.signin", 1);
        signin.set_stage(Stage::Sent(A));
        channel.set_signin(signin);
        channel.set_state(state);
        SignOut::of(&channel, CloseReason::PeerClosed, now)
    }

    fn answered(books: &Books, account: &str, now: Instant) -> Rc<SignOut> {
        handed_over(books, account, State::Open(now), now)
    }

    fn fill(signouts: &SignOuts, signout: &Rc<SignOut>) {
        signouts.reserve();
        signouts.fill(Rc::clone(signout));
    }

    /// One run; the ids that were offered, each of which fares as `placed` unless it was superseded.
    fn run(signouts: &SignOuts, now: Instant, placed: Placed) -> (Vec<String>, Dropped) {
        let (mut offered, mut superseded) = (Vec::new(), 0);
        let given_up = signouts.run(now, |signout| {
            if signout.is_superseded() {
                superseded += 1;
                return Placed::NotOwed;
            }
            offered.push(signout.channel_id.to_string());
            placed
        });
        (offered, Dropped { superseded, given_up })
    }

    fn nothing() -> (Vec<String>, Dropped) {
        (Vec::new(), Dropped::default())
    }

    fn offered(signouts: &[&Rc<SignOut>]) -> (Vec<String>, Dropped) {
        (signouts.iter().map(|signout| signout.channel_id.to_string()).collect(), Dropped::default())
    }

    /// Has [`SignOuts::all_settled`] an end now?
    fn is_settled(signouts: &SignOuts) -> bool {
        let (_, waker) = Bell::new();
        pin!(signouts.all_settled()).poll(&mut Context::from_waker(&waker)).is_ready()
    }

    #[test]
    fn g5_one_of_an_unanswered_sign_in_is_held_until_the_answer() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let held = handed_over(&books, "alice", State::Opening, start);
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
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let held = handed_over(&books, "alice", State::Opening, start);
        let free = answered(&books, "bob", start);
        fill(&signouts, &held);
        fill(&signouts, &free);
        assert_eq!(run(&signouts, start, Placed::Queued), offered(&[&free]), "one held delays no other");
        assert_eq!(run(&signouts, start + HOLD, Placed::Queued), offered(&[&held]));
    }

    #[test]
    fn one_whose_sign_in_was_never_handed_over_is_not_held() {
        let books = Books::new();
        let signouts = spool(&books);
        let channel = channel(&books, "alice");
        let signin = ticket(&channel, "login.signin", 1);
        signin.set_stage(Stage::Queued(A, 1));
        channel.set_signin(signin);
        let signout = SignOut::of(&channel, CloseReason::PeerClosed, Instant::now());
        assert_eq!(signout.signed_in_at(), None);
        fill(&signouts, &signout);
        assert_eq!(run(&signouts, Instant::now(), Placed::NotOwed), offered(&[&signout]));
        assert!(is_settled(&signouts));
        assert_eq!(books.signouts_waiting(), 0);
    }

    #[test]
    fn one_that_waits_is_offered_again_in_order_until_the_retry_time_ends() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let (first, second) = (answered(&books, "alice", start), answered(&books, "bob", start));
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
        assert_eq!((books.signouts_waiting(), signouts.next_due()), (2, Some(start + RETRY)));
        let given_up = Dropped { given_up: 2, superseded: 0 };
        assert_eq!(run(&signouts, start + RETRY, Placed::Later), (Vec::new(), given_up));
        assert_eq!(books.signouts_waiting(), 0);
        assert!(is_settled(&signouts));
        assert_eq!(run(&signouts, start + RETRY * 2, Placed::Later), nothing());
    }

    #[test]
    fn one_that_had_to_wait_is_superseded_by_a_later_sign_in_of_the_same_user() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let (alice, bob) = (answered(&books, "alice", start), answered(&books, "bob", start));
        fill(&signouts, &alice);
        fill(&signouts, &bob);
        assert_eq!(run(&signouts, start, Placed::Later).0.len(), 2);
        signouts.nudge();
        signouts.supersede(&identity("alice"));
        signouts.supersede(&Identity { app: "other".to_owned(), account: "bob".to_owned() });
        let superseded = Dropped { superseded: 1, given_up: 0 };
        assert_eq!(
            run(&signouts, start + millis(100), Placed::Queued),
            (vec![bob.channel_id.to_string()], superseded)
        );
        assert!(!is_settled(&signouts));
        signouts.settle(&bob);
        assert!(is_settled(&signouts));
        assert_eq!(books.signouts_waiting(), 0);
    }

    #[test]
    fn one_that_is_held_for_its_answer_is_superseded_only_behind_it() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let held = handed_over(&books, "alice", State::Opening, start);
        fill(&signouts, &held);
        signouts.supersede(&identity("alice"));
        assert_eq!(run(&signouts, start, Placed::Queued), nothing());
        assert!(signouts.signin_answered(&held.channel_id));
        assert_eq!(run(&signouts, start, Placed::Queued).1, Dropped { superseded: 1, given_up: 0 });
        assert!(is_settled(&signouts));
    }

    #[test]
    fn one_in_the_queue_of_a_link_is_superseded_only_if_it_must_wait_again() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let (written, cut) = (answered(&books, "alice", start), answered(&books, "alice", start));
        fill(&signouts, &written);
        fill(&signouts, &cut);
        assert_eq!(run(&signouts, start, Placed::Queued), offered(&[&written, &cut]));
        signouts.supersede(&identity("alice"));
        signouts.settle(&written);
        signouts.requeue(Rc::clone(&cut));
        assert_eq!(signouts.owed(), 1);
        let (offered, dropped) = run(&signouts, start + millis(1), Placed::Queued);
        assert_eq!((offered.len(), dropped), (0, Dropped { superseded: 1, given_up: 0 }));
        assert!(is_settled(&signouts));
        assert_eq!(books.signouts_waiting(), 0);
    }

    #[test]
    fn one_of_a_broken_link_keeps_its_age() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        let signout = answered(&books, "alice", start);
        fill(&signouts, &signout);
        run(&signouts, start, Placed::Queued);
        assert_eq!(run(&signouts, start + millis(1), Placed::Queued), nothing(), "it is no longer here");
        assert!(!is_settled(&signouts), "but owed");
        signouts.requeue(Rc::clone(&signout));
        assert_eq!(run(&signouts, start + RETRY - millis(1), Placed::Queued), offered(&[&signout]));
        signouts.requeue(Rc::clone(&signout));
        assert_eq!(run(&signouts, start + RETRY, Placed::Queued).1.given_up, 1);
        assert_eq!(books.signouts_waiting(), 0);
    }

    #[test]
    fn everything_settled_wakes_whoever_waits_for_it() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        assert!(is_settled(&signouts));
        let (first, second) = (answered(&books, "alice", start), answered(&books, "alice", start));
        fill(&signouts, &first);
        fill(&signouts, &second);
        run(&signouts, Instant::now(), Placed::Queued);
        let (bell, waker) = Bell::new();
        let mut cx = Context::from_waker(&waker);
        let mut all_settled = pin!(signouts.all_settled());
        assert!(all_settled.as_mut().poll(&mut cx).is_pending());
        signouts.settle(&first);
        assert_eq!(bell.rung(), 1);
        assert!(all_settled.as_mut().poll(&mut cx).is_pending(), "one of two");
        signouts.settle(&second);
        assert_eq!(bell.rung(), 2);
        assert!(all_settled.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn filling_answering_and_nudging_are_told() {
        let books = Books::new();
        let signouts = spool(&books);
        let is_told = || {
            let (_, waker) = Bell::new();
            pin!(signouts.changed()).poll(&mut Context::from_waker(&waker)).is_ready()
        };
        assert!(!is_told());
        let start = Instant::now();
        let held = handed_over(&books, "alice", State::Opening, start);
        fill(&signouts, &held);
        assert!(is_told());
        assert!(!is_told());
        assert!(signouts.signin_answered(&held.channel_id));
        assert!(is_told());
        signouts.nudge();
        assert!(is_told());
        signouts.requeue(held);
        assert!(is_told());
    }

    #[test]
    fn one_whose_turn_has_not_come_when_a_later_sign_in_is_forwarded_is_superseded() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        fill(&signouts, &answered(&books, "alice", start));
        signouts.supersede(&identity("alice"));
        assert_eq!(
            run(&signouts, start, Placed::Queued),
            (Vec::new(), Dropped { superseded: 1, given_up: 0 })
        );
        assert!(is_settled(&signouts));
    }

    #[test]
    fn g6_places_are_those_of_channels_and_of_sign_outs_not_written() {
        let books = Books::new();
        let signouts = spool(&books);
        let start = Instant::now();
        for _ in 0..9 {
            signouts.reserve();
        }
        assert!(!signouts.is_full());
        let signout = answered(&books, "alice", start);
        fill(&signouts, &signout);
        assert!(signouts.is_full(), "an ended channel keeps its place until its sign-out is written");
        run(&signouts, start, Placed::Queued);
        assert!(signouts.is_full());
        signouts.settle(&signout);
        assert!(!signouts.is_full());
    }
}
