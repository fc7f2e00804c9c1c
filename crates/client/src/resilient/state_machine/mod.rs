//! When to connect, where, and when to stop: decisions only. Time is passed in, chance is a seed.

mod session_state;

use std::time::Duration;

use tokio::time::Instant;

use self::session_state::{Departure, Renewal, SessionState};
use crate::resilient::quiet_period::QuietPeriod;
use crate::resilient::retry_policy::{Retry, of_close};
use crate::resilient::servers::Servers;
use crate::resilient::step::{Act, Input, Why};
use gateway_net::backoff::Backoff;
use gateway_net::rng::Rng;
use gateway_wire::close::CloseReason;

/// After a close 3000, which all clients of a gateway get together: they come back within this time.
const MOVE_WINDOW: Duration = Duration::from_secs(1);

/// Online for so long, a session that is lost begins anew with the shortest pause.
const STEADY: Duration = Duration::from_secs(10);

/// Before a move, how long answers are waited for: the gateway gives them within 4.5 s (G1).
const ANSWERS_OWED: Duration = Duration::from_secs(5);

/// What a machine is made of.
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

/// See the module.
#[derive(Debug)]
pub(super) struct StateMachine {
    plan: Plan,
    rng: Rng,
    stage: SessionState,
    servers: Servers,
    /// Of the connection that is signed in.
    quiet: QuietPeriod,
    /// Failures in a row, for the pause.
    failures: u32,
    /// Tries since the session was online, for the program.
    attempt: u32,
    renewal: Renewal,
    /// Servers not tried for the first connection.
    untried: Vec<usize>,
    was_online: bool,
}

impl StateMachine {
    pub(super) fn new(plan: Plan, rng: Rng) -> Self {
        Self {
            rng,
            stage: SessionState::Connecting { server: 0 },
            servers: Servers::new(plan.servers),
            quiet: QuietPeriod::default(),
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
            SessionState::Pausing { until, .. }
            | SessionState::Online { departure: Departure::Ready { until, .. }, .. } => Some(until),
            SessionState::Online { departure: Departure::At { at, .. }, .. } => {
                Some(self.quiet.alarm().map_or(at, |quiet| at.min(quiet)))
            }
            SessionState::Online { .. } => self.quiet.alarm(),
            _ => None,
        }
    }

    /// Returns `true` if requests may be sent.
    pub(super) fn may_send(&self) -> bool {
        let is_open = matches!(self.stage, SessionState::Online { departure, .. } if !matches!(departure, Departure::Ready { .. }));
        is_open && !self.quiet.is_on()
    }

    /// Returns `true` if [`Input::Idle`] is waited for.
    pub(super) const fn awaits_idle(&self) -> bool {
        matches!(self.stage, SessionState::Online { departure: Departure::Ready { .. }, .. })
    }

    /// Returns `true` if the connection that was signed in is being closed by this side.
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.stage, SessionState::Leaving { .. })
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, SessionState::Over)
    }

    /// The server of the connection being made or signed in.
    pub(super) const fn server(&self) -> usize {
        match self.stage {
            SessionState::Pausing { server, .. }
            | SessionState::Connecting { server }
            | SessionState::SigningIn { server }
            | SessionState::Leaving { server, .. }
            | SessionState::Online { server, .. } => server,
            SessionState::Over => 0,
        }
    }

    /// What follows from what happened. Inputs that do not fit the stage change nothing: they were overtaken.
    pub(super) fn take(&mut self, now: Instant, input: Input) -> Vec<Act> {
        self.quiet = self.quiet.at(now);
        match (self.stage, input) {
            (SessionState::Over, _) => Vec::new(),
            (_, Input::Stop) => self.over(Why::Stopped),
            (_, Input::Begin) => self.connect(self.server()),
            (SessionState::Pausing { server, until }, Input::Alarm) if until <= now => self.connect(server),
            (SessionState::Connecting { server }, Input::Connected) => self.sign_in(server),
            (SessionState::Connecting { server }, Input::ConnectFailed(verdict)) => {
                self.failed(now, server, verdict)
            }
            (SessionState::Connecting { server }, Input::NoToken(verdict)) => {
                self.no_token(now, server, verdict)
            }
            (SessionState::SigningIn { server }, Input::SignedIn) => {
                (self.attempt, self.renewal, self.was_online) = (0, Renewal::No, true);
                self.quiet = QuietPeriod::Never;
                self.stage = SessionState::Online { server, since: now, departure: Departure::None };
                Vec::new()
            }
            (SessionState::SigningIn { server }, Input::SignInFailed(verdict)) => {
                self.failed(now, server, verdict)
            }
            (SessionState::Leaving { .. }, Input::Left(CloseReason::Kicked)) => {
                let mut acts = vec![Act::Kicked];
                acts.extend(self.over(Why::Closed(CloseReason::Kicked)));
                acts
            }
            (SessionState::Leaving { server, is_made: true }, Input::Left(_)) => {
                let mut acts = vec![self.announce(server, Duration::ZERO)];
                acts.extend(self.sign_in(server));
                acts
            }
            (SessionState::Leaving { server, is_made: false }, Input::Left(_)) => self.back_off(now, server),
            (SessionState::Online { server, since, departure }, input) => {
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
        let next = |departure| SessionState::Online { server, since, departure };
        match (departure, input) {
            (_, Input::Closed(reason)) => self.lost(now, (server, since, departure), reason),
            (_, Input::Broken) => self.broken(server, departure),
            (Departure::None, Input::GoAway(told)) => {
                // One half is left for the handshake and for the answers that are owed.
                let at = now + self.rng.within(told.within / 2);
                if !self.plan.once && of_close(told.reason) != Retry::Never {
                    self.quiet = QuietPeriod::before(now, told.within);
                }
                if !self.plan.once && matches!(of_close(told.reason), Retry::Moved) {
                    let to = self.servers.elsewhere(now, server, &mut self.rng);
                    self.stage = next(Departure::At { to, at });
                }
                vec![Act::Draining(told)]
            }
            // The close is nearer than it was said. Where the session goes stays.
            (departure, Input::GoAway(told)) => {
                if of_close(told.reason) != Retry::Never {
                    self.quiet = QuietPeriod::before(now, told.within);
                }
                if let Departure::At { to, at } = departure {
                    let at = at.min(now + self.rng.within(told.within / 2));
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
                let to = self.servers.other(now, to, &mut self.rng);
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
        let after = if self.plan.once || verdict == Retry::Never {
            self.over(Why::Closed(reason))
        } else {
            if verdict == Retry::Renew {
                self.renewal = Renewal::Wanted;
            }
            match (departure, verdict) {
                (Departure::Ready { to, .. }, _) => {
                    let mut acts = vec![self.announce(to, Duration::ZERO)];
                    acts.extend(self.sign_in(to));
                    acts
                }
                (Departure::Connecting { to }, _) => {
                    self.stage = SessionState::Connecting { server: to };
                    vec![self.announce(to, Duration::ZERO)]
                }
                (_, Retry::Moved) => {
                    let to = self.servers.elsewhere(now, server, &mut self.rng);
                    let after = self.rng.within(MOVE_WINDOW);
                    self.pause_for(now, to, after)
                }
                (_, Retry::Elsewhere) => {
                    let to = self.servers.other(now, server, &mut self.rng);
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
    fn failed(&mut self, now: Instant, server: usize, verdict: Retry) -> Vec<Act> {
        let is_hopeless = match verdict {
            Retry::Never => true,
            Retry::Renew => self.renewal == Renewal::Asked,
            Retry::Again | Retry::Elsewhere | Retry::Moved => self.plan.once && self.was_online,
        };
        if is_hopeless {
            return self.over(Why::LastError);
        }
        let is_first = self.plan.must_begin && !self.was_online;
        if verdict == Retry::Renew {
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
            Retry::Moved => self.servers.elsewhere(now, server, &mut self.rng),
            Retry::Again if self.plan.servers == 1 => server,
            _ => self.servers.other(now, server, &mut self.rng),
        };
        self.back_off(now, to)
    }

    /// No server is at fault for this.
    fn no_token(&mut self, now: Instant, server: usize, verdict: Retry) -> Vec<Act> {
        if verdict == Retry::Never || (self.plan.must_begin && !self.was_online) {
            return self.over(Why::LastError);
        }
        if self.renewal == Renewal::Asked {
            self.renewal = Renewal::Wanted;
        }
        self.back_off(now, server)
    }

    fn over(&mut self, why: Why) -> Vec<Act> {
        self.stage = SessionState::Over;
        vec![Act::Over(why)]
    }

    fn connect(&mut self, server: usize) -> Vec<Act> {
        self.stage = SessionState::Connecting { server };
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
        self.stage = SessionState::SigningIn { server };
        vec![Act::SignIn]
    }

    fn leave(&mut self, server: usize, is_made: bool) -> Vec<Act> {
        self.stage = SessionState::Leaving { server, is_made };
        vec![Act::Leave]
    }

    fn back_off(&mut self, now: Instant, server: usize) -> Vec<Act> {
        let after = self.pause();
        self.pause_for(now, server, after)
    }

    fn pause_for(&mut self, now: Instant, server: usize, after: Duration) -> Vec<Act> {
        self.stage = SessionState::Pausing { server, until: now + after };
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
        self.plan.backoff.pause(round, &mut self.rng)
    }
}

#[cfg(test)]
mod tests;
