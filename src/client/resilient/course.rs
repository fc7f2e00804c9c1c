//! When to connect, where, and when to stop: decisions only. Time is passed in, chance is a seed.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::resilient::backoff::{Backoff, Dice};
use crate::client::resilient::hush::Hush;
use crate::client::resilient::servers::Servers;
use crate::client::resilient::step::{Act, Input, Why};
use crate::client::resilient::verdict::{Verdict, of_close};
use crate::wire::close::CloseReason;

/// After a close 3000, which all clients of a gateway get together: they come back within this time.
const MOVE_WINDOW: Duration = Duration::from_secs(1);

/// Online for so long, a session that is lost begins anew with the shortest pause.
const STEADY: Duration = Duration::from_secs(10);

/// Before a move, how long answers are waited for: the gateway gives them within 4.5 s (G1).
const ANSWERS_OWED: Duration = Duration::from_secs(5);

/// What a course is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// At least one.
    pub(super) servers: usize,
    pub(super) backoff: Backoff,
    /// The first loss ends the session.
    pub(super) once: bool,
    /// So does a first connection that does not come about with any server.
    pub(super) must_begin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Pausing {
        server: usize,
        until: Instant,
    },
    Connecting {
        server: usize,
    },
    SigningIn {
        server: usize,
    },
    Online {
        server: usize,
        since: Instant,
        departure: Departure,
    },
    /// Bye is under way; then on to `server`, where the handshake may be done already.
    Leaving {
        server: usize,
        is_made: bool,
    },
    Over,
}

/// How far the move to another gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    None,
    /// The handshake begins then.
    At {
        to: usize,
        at: Instant,
    },
    Connecting {
        to: usize,
    },
    /// It is done; answers are waited for until then, and nothing new is sent.
    Ready {
        to: usize,
        until: Instant,
    },
}

/// Whether a new token was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    No,
    Wanted,
    Asked,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Course {
    plan: Plan,
    dice: Dice,
    stage: Stage,
    servers: Servers,
    /// Of the connection that is signed in.
    hush: Hush,
    /// Failures in a row, for the pause.
    failures: u32,
    /// Tries since the session was online, for the program.
    attempt: u32,
    renewal: Renewal,
    /// Servers not tried for the first connection.
    untried: Vec<usize>,
    was_online: bool,
}

impl Course {
    pub(super) fn new(plan: Plan, dice: Dice) -> Self {
        Self {
            dice,
            stage: Stage::Connecting { server: 0 },
            servers: Servers::new(plan.servers),
            hush: Hush::default(),
            failures: 0,
            attempt: 0,
            renewal: Renewal::No,
            untried: (1..plan.servers).rev().collect(),
            was_online: false,
            plan,
        }
    }

    /// When to call with [`Input::Alarm`].
    pub(super) fn alarm(&self) -> Option<Instant> {
        match self.stage {
            Stage::Pausing { until, .. }
            | Stage::Online { departure: Departure::Ready { until, .. }, .. } => Some(until),
            Stage::Online { departure: Departure::At { at, .. }, .. } => {
                Some(self.hush.alarm().map_or(at, |hush| at.min(hush)))
            }
            Stage::Online { .. } => self.hush.alarm(),
            _ => None,
        }
    }

    /// Returns `true` if requests may be sent.
    pub(super) fn may_send(&self) -> bool {
        let is_open = matches!(self.stage, Stage::Online { departure, .. } if !matches!(departure, Departure::Ready { .. }));
        is_open && !self.hush.is_on()
    }

    /// Returns `true` if [`Input::Idle`] is waited for.
    pub(super) const fn awaits_idle(&self) -> bool {
        matches!(self.stage, Stage::Online { departure: Departure::Ready { .. }, .. })
    }

    /// Returns `true` if the connection that was signed in is being closed by this side.
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. })
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The server of the connection being made or signed in.
    pub(super) const fn server(&self) -> usize {
        match self.stage {
            Stage::Pausing { server, .. }
            | Stage::Connecting { server }
            | Stage::SigningIn { server }
            | Stage::Leaving { server, .. }
            | Stage::Online { server, .. } => server,
            Stage::Over => 0,
        }
    }

    /// What follows from what happened. Inputs that do not fit the stage change nothing: they were overtaken.
    pub(super) fn take(&mut self, now: Instant, input: Input) -> Vec<Act> {
        self.hush = self.hush.at(now);
        match (self.stage, input) {
            (Stage::Over, _) => Vec::new(),
            (_, Input::Stop) => self.over(Why::Stopped),
            (_, Input::Begin) => self.connect(self.server()),
            (Stage::Pausing { server, until }, Input::Alarm) if until <= now => self.connect(server),
            (Stage::Connecting { server }, Input::Connected) => self.sign_in(server),
            (Stage::Connecting { server }, Input::ConnectFailed(verdict)) => {
                self.failed(now, server, verdict)
            }
            (Stage::Connecting { server }, Input::NoToken(verdict)) => self.no_token(now, server, verdict),
            (Stage::SigningIn { server }, Input::SignedIn) => {
                (self.attempt, self.renewal, self.was_online) = (0, Renewal::No, true);
                self.hush = Hush::Never;
                self.stage = Stage::Online { server, since: now, departure: Departure::None };
                Vec::new()
            }
            (Stage::SigningIn { server }, Input::SignInFailed(verdict)) => self.failed(now, server, verdict),
            (Stage::Leaving { .. }, Input::Left(CloseReason::Kicked)) => {
                let mut acts = vec![Act::Kicked];
                acts.extend(self.over(Why::Closed(CloseReason::Kicked)));
                acts
            }
            (Stage::Leaving { server, is_made: true }, Input::Left(_)) => {
                let mut acts = vec![self.announce(server, Duration::ZERO)];
                acts.extend(self.sign_in(server));
                acts
            }
            (Stage::Leaving { server, is_made: false }, Input::Left(_)) => self.back_off(now, server),
            (Stage::Online { server, since, departure }, input) => {
                self.online(now, (server, since, departure), input)
            }
            _ => Vec::new(),
        }
    }

    fn online(
        &mut self,
        now: Instant,
        (server, since, departure): (usize, Instant, Departure),
        input: Input,
    ) -> Vec<Act> {
        let next = |departure| Stage::Online { server, since, departure };
        match (departure, input) {
            (_, Input::Closed(reason)) => self.lost(now, (server, since, departure), reason),
            (_, Input::Broken) => self.broken(server, departure),
            (Departure::None, Input::GoAway(told)) => {
                // One half is left for the handshake and for the answers that are owed.
                let at = now + self.dice.within(told.within / 2);
                if !self.plan.once && of_close(told.reason) != Verdict::Never {
                    self.hush = Hush::before(now, told.within);
                }
                if !self.plan.once && matches!(of_close(told.reason), Verdict::Moved) {
                    let to = self.servers.elsewhere(now, server, &mut self.dice);
                    self.stage = next(Departure::At { to, at });
                }
                vec![Act::Draining(told)]
            }
            (Departure::At { to, at }, Input::Alarm) if at <= now => {
                self.stage = next(Departure::Connecting { to });
                vec![self.make(to)]
            }
            (Departure::Connecting { to }, Input::Connected) => {
                self.stage = next(Departure::Ready { to, until: now + ANSWERS_OWED });
                Vec::new()
            }
            (Departure::Connecting { to }, Input::ConnectFailed(_) | Input::NoToken(_)) => {
                // The connection at hand still serves.
                let to = self.servers.other(now, to, &mut self.dice);
                let at = now + self.pause();
                self.stage = next(Departure::At { to, at });
                Vec::new()
            }
            (Departure::Ready { to, .. }, Input::Idle) => self.leave(to, true),
            (Departure::Ready { to, until }, Input::Alarm) if until <= now => self.leave(to, true),
            _ => Vec::new(),
        }
    }

    fn lost(
        &mut self,
        now: Instant,
        (server, since, departure): (usize, Instant, Departure),
        reason: CloseReason,
    ) -> Vec<Act> {
        let mut acts = vec![Act::Lost(reason)];
        if reason == CloseReason::Kicked {
            acts.push(Act::Kicked);
        }
        if now.saturating_duration_since(since) >= STEADY {
            self.failures = 0;
        }
        let verdict = of_close(reason);
        let after = if self.plan.once || verdict == Verdict::Never {
            self.over(Why::Closed(reason))
        } else {
            if verdict == Verdict::Renew {
                self.renewal = Renewal::Wanted;
            }
            match (departure, verdict) {
                (Departure::Ready { to, .. }, _) => {
                    let mut acts = vec![self.announce(to, Duration::ZERO)];
                    acts.extend(self.sign_in(to));
                    acts
                }
                (Departure::Connecting { to }, _) => {
                    self.stage = Stage::Connecting { server: to };
                    vec![self.announce(to, Duration::ZERO)]
                }
                (_, Verdict::Moved) => {
                    let to = self.servers.elsewhere(now, server, &mut self.dice);
                    let after = self.dice.within(MOVE_WINDOW);
                    self.pause_for(now, to, after)
                }
                (_, Verdict::Elsewhere) => {
                    let to = self.servers.other(now, server, &mut self.dice);
                    self.back_off(now, to)
                }
                _ => self.back_off(now, server),
            }
        };
        acts.extend(after);
        acts
    }

    fn broken(&mut self, server: usize, departure: Departure) -> Vec<Act> {
        let reason = CloseReason::PeerClosed;
        let mut acts = vec![Act::Lost(reason)];
        acts.extend(match departure {
            _ if self.plan.once => self.over(Why::Closed(reason)),
            Departure::Ready { to, .. } => self.leave(to, true),
            // A handshake that is under way is given up with the stage that asked for it.
            Departure::Connecting { to } | Departure::At { to, .. } => self.leave(to, false),
            Departure::None => self.leave(server, false),
        });
        acts
    }

    /// A connect or a sign-in failed.
    fn failed(&mut self, now: Instant, server: usize, verdict: Verdict) -> Vec<Act> {
        let is_hopeless = match verdict {
            Verdict::Never => true,
            Verdict::Renew => self.renewal == Renewal::Asked,
            Verdict::Again | Verdict::Elsewhere | Verdict::Moved => self.plan.once && self.was_online,
        };
        if is_hopeless {
            return self.over(Why::LastError);
        }
        let is_first = self.plan.must_begin && !self.was_online;
        if verdict == Verdict::Renew {
            self.renewal = Renewal::Wanted;
            return if is_first { self.connect(server) } else { self.back_off(now, server) };
        }
        if is_first {
            return match self.untried.pop() {
                Some(next) => self.connect(next),
                None => self.over(Why::LastError),
            };
        }
        let to = match verdict {
            Verdict::Moved => self.servers.elsewhere(now, server, &mut self.dice),
            Verdict::Again if self.plan.servers == 1 => server,
            _ => self.servers.other(now, server, &mut self.dice),
        };
        self.back_off(now, to)
    }

    /// No server is at fault for this.
    fn no_token(&mut self, now: Instant, server: usize, verdict: Verdict) -> Vec<Act> {
        if verdict == Verdict::Never || (self.plan.must_begin && !self.was_online) {
            return self.over(Why::LastError);
        }
        if self.renewal == Renewal::Asked {
            self.renewal = Renewal::Wanted;
        }
        self.back_off(now, server)
    }

    fn over(&mut self, why: Why) -> Vec<Act> {
        self.stage = Stage::Over;
        vec![Act::Over(why)]
    }

    fn connect(&mut self, server: usize) -> Vec<Act> {
        self.stage = Stage::Connecting { server };
        vec![self.make(server)]
    }

    fn make(&mut self, server: usize) -> Act {
        let renew = self.renewal == Renewal::Wanted;
        if renew {
            self.renewal = Renewal::Asked;
        }
        Act::Connect { server, renew }
    }

    fn sign_in(&mut self, server: usize) -> Vec<Act> {
        self.stage = Stage::SigningIn { server };
        vec![Act::SignIn]
    }

    fn leave(&mut self, server: usize, is_made: bool) -> Vec<Act> {
        self.stage = Stage::Leaving { server, is_made };
        vec![Act::Leave]
    }

    fn back_off(&mut self, now: Instant, server: usize) -> Vec<Act> {
        let after = self.pause();
        self.pause_for(now, server, after)
    }

    fn pause_for(&mut self, now: Instant, server: usize, after: Duration) -> Vec<Act> {
        self.stage = Stage::Pausing { server, until: now + after };
        vec![self.announce(server, after)]
    }

    fn announce(&mut self, server: usize, after: Duration) -> Act {
        self.attempt = self.attempt.saturating_add(1);
        Act::Reconnecting { attempt: self.attempt, after, server }
    }

    /// The pause after one more failure. With several servers it grows when each had a try.
    fn pause(&mut self) -> Duration {
        let round = self.failures / u32::try_from(self.plan.servers).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.plan.backoff.pause(round, &mut self.dice)
    }
}

#[cfg(test)]
mod tests;
