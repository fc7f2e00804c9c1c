//! What clients tell the oracle.

use std::time::{Duration, Instant};

use super::channel::{End, Outcome, Request};
use super::{Oracle, Reply, ViolationKind};
use crate::stamp::Stamp;

/// Answers kept of each link and channel to compare the next ones with: more than a client has under way.
const ANSWERS_KEPT: usize = 512;

impl Oracle {
    /// A client's login was answered: this channel is its own.
    pub(crate) fn opened(&mut self, id: &str, account: &str) {
        let channel = self.channel(id, account);
        let repeated = channel.end != End::Unclaimed;
        channel.end = End::Open;
        account.clone_into(&mut channel.account);
        if repeated {
            self.violated(ViolationKind::Lifecycle, 1, format!("channel id {id} was given twice"));
        }
    }

    /// A client that misbehaves has this channel: no pushes are expected to arrive, and its end is another's to judge.
    pub(crate) fn wild(&mut self, id: &str, account: &str) {
        self.channel(id, account).end = End::Wild;
    }

    /// Its connection is over.
    pub(crate) fn ended(&mut self, id: &str, now: Instant) {
        if let Some(channel) = self.channels.get_mut(id) {
            channel.end = End::Ended;
            channel.ended_at = Some(now);
        }
    }

    /// A client is about to send its next request; its number.
    pub(crate) fn sending(&mut self, id: &str, now: Instant) -> u64 {
        self.totals.requests += 1;
        let channel = self.channel(id, "");
        channel.requests.push(Request { sent: now, outcome: Outcome::Waiting });
        channel.waiting += 1;
        channel.requests.len() as u64
    }

    /// An answer came. A client reports them in the order in which it asked.
    pub(crate) fn answered(&mut self, id: &str, reply: Reply<'_>) {
        let Reply { n, status, echo, written, at } = reply;
        let Some(channel) = self.channels.get_mut(id) else { return };
        let signed_out = channel.signout.as_ref().map(|signout| signout.at);
        let Some(request) = channel.request(n) else {
            return self.violated(
                ViolationKind::Crossed,
                1,
                format!("{id} got an answer to {n}, which it never sent"),
            );
        };
        let (before, sent) = (std::mem::replace(&mut request.outcome, Outcome::Status(status)), request.sent);
        if before != Outcome::Waiting {
            let evidence = format!("{id}: request {n} ended twice: {before:?}, then {status}");
            return self.violated(ViolationKind::Duplicated, 1, evidence);
        }
        channel.waiting -= 1;
        channel.unchecked.push(n);
        self.count(Outcome::Status(status));
        if let Some(echo) = echo
            && (self.check_stamp(echo), echo.channel.as_str(), echo.n) != (true, id, n)
        {
            self.violated(
                ViolationKind::Crossed,
                1,
                format!("{id} got the answer {echo} to its request {n}"),
            );
        }
        if let Some(written) = written {
            self.check_answer_order(id, n, written, at);
        }
        if status == 0 && signed_out.is_some_and(|at| sent > at) {
            self.violated(
                ViolationKind::Lifecycle,
                1,
                format!("{id}: request {n}, sent after the sign-out, was served"),
            );
        }
        let took = at.saturating_duration_since(sent);
        if took > self.expected.patience + self.asleep(sent, at) {
            self.violated(
                ViolationKind::Late,
                1,
                format!("{id}: request {n} was answered {status} after {took:?}"),
            );
        }
    }

    /// How much of this time the gateway was stopped.
    fn asleep(&self, from: Instant, to: Instant) -> Duration {
        let part = |&(stopped, went_on): &(Instant, Instant)| {
            to.min(went_on).saturating_duration_since(from.max(stopped))
        };
        self.pauses.iter().map(part).sum()
    }

    /// The gateway process was stopped for this time: nobody can be answered then.
    pub(crate) fn paused(&mut self, from: Instant, to: Instant) {
        self.pauses.push((from, to));
    }

    /// What a link wrote first came first, in whichever order the requests were asked.
    fn check_answer_order(&mut self, id: &str, n: u64, written: &Stamp, at: Instant) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let answers = channel.answers.entry(written.sender.clone()).or_default();
        let late = answers.range(..written.n).next_back().is_some_and(|(_, before)| *before > at);
        let early = answers.range(written.n + 1..).next().is_some_and(|(_, after)| *after < at);
        let again = answers.insert(written.n, at).is_some();
        if answers.len() > ANSWERS_KEPT {
            answers.pop_first();
        }
        if late || early || again {
            self.violated(
                ViolationKind::Order,
                1,
                format!("{id}: answer {written} to request {n} came out of order"),
            );
        }
    }

    /// A request ended without an answer: with its connection, or because its client gave up.
    pub(crate) fn unanswered(&mut self, id: &str, n: u64, outcome: Outcome, now: Instant) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Some(request) = channel.request(n) else { return };
        if request.outcome != Outcome::Waiting {
            return;
        }
        request.outcome = outcome;
        let took = now.saturating_duration_since(request.sent);
        channel.waiting -= 1;
        let times = channel.sightings(n);
        self.count(outcome);
        if outcome == Outcome::GaveUp {
            let evidence =
                format!("{id}: request {n} has no answer after {took:?}; handed over {times} times");
            self.violated(ViolationKind::Unanswered, 1, evidence);
        }
    }

    fn count(&mut self, outcome: Outcome) {
        let totals = &mut self.totals;
        match outcome {
            Outcome::Status(210) => totals.outcome_unknown += 1,
            Outcome::Status(100..=399) => totals.refused += 1,
            Outcome::Status(_) => totals.answers += 1,
            Outcome::Closed => totals.closed += 1,
            Outcome::Waiting | Outcome::GaveUp => {}
        }
    }

    /// A response that matched no request in flight.
    pub(crate) fn unmatched(&mut self, id: &str, count: u64) {
        self.violated(
            ViolationKind::Duplicated,
            count,
            format!("{id} got {count} answers to nothing, or second ones"),
        );
    }

    /// A push came; `stamp` is the one of this channel in its body.
    pub(crate) fn got(&mut self, id: &str, stamp: Option<&Stamp>) {
        let Some(stamp) = stamp else {
            return self.violated(
                ViolationKind::Crossed,
                1,
                format!("{id} got a push that does not name it"),
            );
        };
        if !self.check_stamp(stamp) {
            return;
        }
        let Some(channel) = self.channels.get_mut(id) else { return };
        let pushes = channel.pushes.entry(stamp.sender.clone()).or_default();
        let expected = pushes.got + 1;
        pushes.got = pushes.got.max(stamp.n);
        if stamp.n < expected {
            self.violated(
                ViolationKind::Duplicated,
                1,
                format!("{id} got push {stamp} again or late, {expected} was next"),
            );
        } else if stamp.n > expected {
            let evidence = format!("{id} got push {stamp} and not {expected} before it");
            self.violated(ViolationKind::Lost, stamp.n - expected, evidence);
        }
    }
}
