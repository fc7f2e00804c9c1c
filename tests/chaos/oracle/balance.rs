//! What must hold at a quiet moment: nothing under way, and both sides agree.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::channel::{Channel, End, Outcome, Pushes};
use super::{Link, Oracle, ViolationKind, WRITTEN_BEFORE};

/// Why a missing sign-out is not owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// The account signed in again, and the gateway must say that it dropped the sign-out for that.
    Overtaken,
    Superseded,
    Torn,
}

impl Oracle {
    /// What is still under way; empty when the moment is quiet. `retry` is how long a sign-out is retried.
    pub(crate) fn under_way(&self, retry: Duration) -> Vec<String> {
        let mut found = Vec::new();
        let mut overtaken = self.superseded.seen;
        for (id, channel) in &self.channels {
            if channel.waiting > 0 {
                found.push(format!("{id}: {} requests", channel.waiting));
            }
            for (link, pushes) in missing(channel, &self.links) {
                found.push(format!("{id}: {} of {} pushes of {link}", pushes.got, pushes.sent));
            }
            if self.owes_signout(channel) {
                match self.excuse(channel, retry) {
                    None => found.push(format!("{id}: its sign-out")),
                    Some(Excuse::Overtaken) => overtaken += 1,
                    Some(Excuse::Superseded | Excuse::Torn) => {}
                }
            }
        }
        if overtaken > self.superseded.said {
            let said = self.superseded.said;
            found.push(format!("{overtaken} overtaken sign-outs, of which the gateway dropped {said}"));
        }
        found
    }

    /// Judges everything that both sides must agree on. To be called at a quiet moment, or when that did not come.
    pub(crate) fn judge(&mut self, retry: Duration) {
        let mut found = Vec::new();
        let mut settled = Vec::new();
        for (id, channel) in &self.channels {
            for n in &channel.unchecked {
                found.extend(untrue(id, channel, *n));
            }
            for (link, pushes) in missing(channel, &self.links) {
                let evidence =
                    format!("{id} lives and got {} of {} pushes of {link}", pushes.got, pushes.sent);
                found.push((ViolationKind::Lost, pushes.sent - pushes.got, evidence));
            }
            for (link, pushes) in channel.pushes.iter().filter(|(_, pushes)| pushes.got > pushes.sent) {
                let evidence = format!("{id} got push {} of {link}, which sent {}", pushes.got, pushes.sent);
                found.push((ViolationKind::Crossed, pushes.got - pushes.sent, evidence));
            }
            if channel.waiting > 0 {
                let evidence = format!("{id}: {} requests neither answered nor closed", channel.waiting);
                found.push((ViolationKind::Unanswered, channel.waiting as u64, evidence));
            }
            if self.owes_signout(channel) {
                settled.push((id.clone(), self.excuse(channel, retry)));
            }
            if channel.end == End::Open && channel.signin.is_none() {
                found.push((
                    ViolationKind::Lifecycle,
                    1,
                    format!("{id} is open and no login service saw its sign-in"),
                ));
            }
        }
        for (kind, count, evidence) in found {
            self.violated(kind, count, evidence);
        }
        self.settle(settled);
    }

    /// What was judged is not judged again.
    fn settle(&mut self, signouts: Vec<(String, Option<Excuse>)>) {
        for (id, excuse) in signouts {
            match excuse {
                Some(Excuse::Overtaken) => self.overtaken(&id),
                Some(Excuse::Superseded) => self.totals.superseded += 1,
                Some(Excuse::Torn) => self.totals.excused += 1,
                None => {
                    let end = self.channels[&id].end;
                    self.violated(
                        ViolationKind::Lifecycle,
                        1,
                        format!("{id} ({end:?}) ended and was never signed out"),
                    );
                }
            }
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.signout_settled = true;
            }
        }
        for channel in self.channels.values_mut() {
            channel.unchecked.clear();
            for pushes in channel.pushes.values_mut().filter(|_| channel.end != End::Ended) {
                pushes.got = pushes.sent.max(pushes.got);
            }
            channel.waiting = 0;
        }
    }

    fn overtaken(&mut self, id: &str) {
        self.totals.superseded += 1;
        self.superseded.seen += 1;
        let super::Superseded { said, seen } = self.superseded;
        if seen > said {
            let evidence =
                format!("{id} ended and was never signed out, and the gateway dropped {said}, not {seen}");
            self.violated(ViolationKind::Lifecycle, 1, evidence);
        }
    }

    /// Returns `true` if it was handed over, is over, and its sign-out is missing.
    fn owes_signout(&self, channel: &Channel) -> bool {
        !matches!(channel.end, End::Open | End::Wild)
            && channel.signin.is_some()
            && channel.signout.is_none()
            && !channel.signout_settled
    }

    fn excuse(&self, channel: &Channel, retry: Duration) -> Option<Excuse> {
        let signin = channel.signin.as_ref()?.at;
        let later = self.last_signin.get(&channel.account);
        let torn = |from: Instant| {
            let window = (from.checked_sub(WRITTEN_BEFORE).unwrap_or(from), from + retry);
            self.login_torn.iter().any(|at| window.0 <= *at && *at <= window.1)
        };
        // A sign-out that has to wait is dropped when the account signed in again (protocol §4.9). One that waits for
        // nothing but its turn is overtaken when the client is back before the gateway knew that it had left.
        let superseded = later.is_some_and(|(life, at)| *life == channel.life && *at > signin);
        match (torn(channel.ended_at.unwrap_or(signin)), superseded) {
            (true, true) => Some(Excuse::Superseded),
            (true, false) => Some(Excuse::Torn),
            (false, true) => Some(Excuse::Overtaken),
            (false, false) => None,
        }
    }
}

/// Pushes that a live link sent and a live channel does not have.
fn missing<'a>(
    channel: &'a Channel,
    links: &'a HashMap<String, Link>,
) -> impl Iterator<Item = (&'a str, Pushes)> {
    let is_live = |link: &str| links.get(link).is_some_and(|link| !link.ended && !link.torn);
    let open = channel.end == End::Open;
    let behind = move |(link, pushes): &(&String, &Pushes)| open && pushes.got < pushes.sent && is_live(link);
    channel.pushes.iter().filter(behind).map(|(link, pushes)| (link.as_str(), *pushes))
}

/// An answer that says what did not happen.
fn untrue(id: &str, channel: &Channel, n: u64) -> Option<(ViolationKind, u64, String)> {
    let outcome = channel.requests.get(usize::try_from(n).ok()?.checked_sub(1)?)?.outcome;
    let times = channel.sightings(n);
    let what = match (outcome, times) {
        (Outcome::Status(0), 0) => "was answered 0 and no logic service saw it",
        (Outcome::Status(300), 1..) => {
            "was answered 300 (nothing was handed over) and a logic service saw it"
        }
        (Outcome::Status(status), _) if !matches!(status, 0 | 210 | 300) => {
            "was answered with a status nobody wrote"
        }
        _ => return None,
    };
    Some((ViolationKind::Untrue, 1, format!("{id}: request {n} ({outcome:?}) {what}")))
}
