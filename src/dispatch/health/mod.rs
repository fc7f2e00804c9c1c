//! The life of one instance as its worker sees it: an explicit state machine, pure, with the time passed in.
//!
//! ```text
//!                dial        sign of life         time        timeouts        answer   lost
//!  dialling      -           healthy, warming (1)     -           -               -        broken
//!                            or half-open (2)
//!  warming         -           -                    healthy (3)   ejected (4)     -        broken
//!  healthy         -           -                    -           ejected (4)     -        broken
//!  unproven:
//!    ejected     -           half-open (6)         half-open    -               -        broken
//!    half-open    -           -                    -           ejected (5)     healthy    broken
//!    asked       -           -                    half-open    ejected (5)     healthy    broken
//!  broken        dialling    -                    -           -               -        -
//! ```
//!
//! 1. Healthy if it is of the first set of its source and was never up, or was healthy and is back within
//!    [`Rule::returned_within`]; else warming (protocol §6): it warms up, and one that comes and goes does not have accounts
//!    moved to it and back (row E7).
//! 2. If it went silent, or was ejected when its link broke. Warming is for those that are new or came and went; one that
//!    hung is half-open instead, however long it was away: what it must show is an answer, not age. It waits out no
//!    ejection: that belonged to the connection which broke, and a trial risks one request (row E2).
//! 3. After [`Rule::warming`] in one piece.
//! 4. [`Rule::timeouts`] of them without an answer between, if others of its zone remain (passive ejection).
//! 5. One is enough.
//! 6. If its link had been silent for so long that a ping is without its pong: it hung as a whole, and that is over
//!    (row E2). One that went on to answer pings waits.
//!
//! Ejected, an instance gets nothing for [`Rule::ejected`] times the number of times it was ejected, at most
//! [`Rule::ejected_max`]; the number is forgotten when it has been well for [`FORGIVEN`]. On trial it gets one request,
//! the first that hashes there, and is *asked*: its answer makes it healthy, its timeout ejects it again. When nobody
//! learns how that request ended, its client having left, the next one is the trial. A link that breaks ends an ejection
//! and leaves the number as it is.

use std::time::{Duration, Instant};

use crate::limits::Limits;
use crate::monitor::metrics::LinkState;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// An instance is warming for so long after its first sign of life.
    pub(crate) warming: Duration,
    /// A healthy instance that is back after no more than this is still healthy.
    pub(crate) returned_within: Duration,
    /// Timeouts in a row that eject; 0: never.
    pub(crate) timeouts: u32,
    /// The first ejection.
    pub(crate) ejected: Duration,
    /// The longest ejection.
    pub(crate) ejected_max: Duration,
    /// A trial whose end nobody has told by then has none.
    pub(crate) trial: Duration,
}

impl Rule {
    /// The rule of an operator's limits.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            warming: limits.backend_warming,
            returned_within: limits.backend_returned_within,
            timeouts: limits.backend_timeouts,
            ejected: limits.backend_ejected,
            ejected_max: limits.backend_ejected_max,
            trial: limits.request_deadline.max(limits.login_answer) + TRIAL_GRACE,
        }
    }
}

/// Ejections are forgotten when the last one ended so long ago.
pub(crate) const FORGIVEN: Duration = Duration::from_secs(300);

/// The timeout of a trial's request is known before its trial is given up.
const TRIAL_GRACE: Duration = Duration::from_secs(1);

/// What an instance is to the selector while its link is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// May be chosen.
    Healthy,
    /// May be chosen while its service has no healthy instance.
    Warming,
    /// May be chosen for one request.
    HalfOpen,
    /// That request is with it; may be chosen while its service has neither healthy nor warming instances.
    Asked,
    /// The same, without a request.
    Ejected,
}

/// Why a link ended, or did not come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// No connection, or no sign of life on it.
    NotReached,
    /// The instance knows another link with this gateway id (row E15).
    Refused,
    /// By the instance, or because the connection broke.
    Ended,
    /// No byte in return for its pings (row E2).
    Silent,
    /// By the gateway: bytes that are no frame, a fault of its own, or the instance has left.
    Given,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthEvent {
    /// A connection is tried.
    Dial,
    /// The first sign of life on a connection.
    Alive,
    /// A sign of life on a connection that had missed a pong, or the end of a pause of this worker.
    Resumed,
    /// The connection is gone.
    Lost(Loss),
    /// Time has passed.
    Time,
    /// It was given a request while half-open.
    Asked,
    /// It answered a request.
    Answered,
    /// It did not answer a request in its time, one that [is about now](Health::is_about_now). `may_eject`:
    /// enough others of its zone remain if it is ejected.
    TimedOut { may_eject: bool },
}

/// A change of state, for log and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: LinkState,
    pub(crate) to: LinkState,
    /// A word of a fixed set.
    pub(crate) reason: &'static str,
}

/// See the module. Belongs to one instance at one address and outlives its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Health {
    stage: HealthState,
    /// What the next sign of life means.
    past: Past,
    /// Without an answer between.
    timeouts: u32,
    ejections: u32,
    /// When the last ejection ends, or ended; if its link broke before, when it would have.
    ejected_until: Option<Instant>,
    /// When it last went on after it had hung.
    resumed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HealthState {
    Dialling,
    Warming { until: Instant },
    Healthy,
    Ejected { until: Instant },
    HalfOpen,
    Asked { until: Instant },
    Broken,
}

#[derive(Debug, Clone, Copy)]
enum Past {
    /// Never up.
    Unseen {
        is_of_first_set: bool,
    },
    Lost {
        at: Instant,
        was_healthy: bool,
    },
    /// It hung, or was ejected, and has shown nothing since.
    Unproven,
}

impl Health {
    /// Of an instance that was not linked yet.
    ///
    /// The first set of a source is every instance of a service it names when it first names one of that service. The
    /// first time each comes up it is healthy at its first sign of life, whenever that is: one that was down when the
    /// gateway started belongs to the set all the same. From then on it is like any other. An instance that a source
    /// names later is warming first, and so is one that has another address than before.
    pub(crate) const fn new(is_of_first_set: bool) -> Self {
        Self {
            stage: HealthState::Dialling,
            past: Past::Unseen { is_of_first_set },
            timeouts: 0,
            ejections: 0,
            ejected_until: None,
            resumed: None,
        }
    }

    /// Returns `true` if a request that arrived then and was not answered says anything of the instance as it is now.
    /// What it left lying while it hung goes on timing out after it is back.
    pub(crate) fn is_about_now(&self, arrived: Instant) -> bool {
        self.resumed.is_none_or(|resumed| arrived >= resumed)
    }

    /// Its state, as log and metrics name it.
    pub(crate) const fn state(&self) -> LinkState {
        match self.stage {
            HealthState::Dialling => LinkState::Dialling,
            HealthState::Warming { .. } => LinkState::Warming,
            HealthState::Healthy => LinkState::Healthy,
            HealthState::Ejected { .. } | HealthState::HalfOpen | HealthState::Asked { .. } => {
                LinkState::Ejected
            }
            HealthState::Broken => LinkState::Broken,
        }
    }

    /// What the selector may do with it; none while its link is not up.
    pub(crate) const fn standing(&self) -> Option<Standing> {
        match self.stage {
            HealthState::Dialling | HealthState::Broken => None,
            HealthState::Warming { .. } => Some(Standing::Warming),
            HealthState::Healthy => Some(Standing::Healthy),
            HealthState::Ejected { .. } => Some(Standing::Ejected),
            HealthState::HalfOpen => Some(Standing::HalfOpen),
            HealthState::Asked { .. } => Some(Standing::Asked),
        }
    }

    /// When [`HealthEvent::Time`] will change it; none if time alone changes nothing.
    pub(crate) const fn next_due(&self) -> Option<Instant> {
        match self.stage {
            HealthState::Warming { until }
            | HealthState::Ejected { until }
            | HealthState::Asked { until } => Some(until),
            HealthState::Dialling | HealthState::Healthy | HealthState::HalfOpen | HealthState::Broken => {
                None
            }
        }
    }

    /// Returns `true` if [`HealthEvent::Answered`] would change anything.
    pub(crate) const fn awaits_proof(&self) -> bool {
        self.timeouts > 0 || matches!(self.stage, HealthState::HalfOpen | HealthState::Asked { .. })
    }

    /// Returns `true` if it was up before.
    pub(crate) const fn was_up(&self) -> bool {
        !matches!(self.past, Past::Unseen { .. })
    }

    /// What it is after this, and what of that is to be told. Events that mean nothing in a state change nothing.
    pub(crate) fn on(&mut self, event: HealthEvent, now: Instant, rule: &Rule) -> Option<Transition> {
        let from = self.state();
        let reason = match event {
            HealthEvent::Dial => self.dial(),
            HealthEvent::Alive => self.come_up(now, rule),
            HealthEvent::Resumed => self.resume(now),
            HealthEvent::Lost(loss) => self.lose(loss, now),
            HealthEvent::Time => self.grow(now),
            HealthEvent::Asked => {
                if self.stage == HealthState::HalfOpen {
                    self.stage = HealthState::Asked { until: now + rule.trial };
                }
                None
            }
            HealthEvent::Answered => self.answer(),
            HealthEvent::TimedOut { may_eject } => self.time_out(may_eject, now, rule),
        }?;
        Some(Transition { from, to: self.state(), reason })
    }

    fn dial(&mut self) -> Option<&'static str> {
        if self.stage != HealthState::Broken {
            return None;
        }
        self.stage = HealthState::Dialling;
        Some("dialled")
    }

    fn resume(&mut self, now: Instant) -> Option<&'static str> {
        (self.resumed, self.timeouts) = (Some(now), 0);
        if matches!(self.stage, HealthState::Ejected { .. }) {
            self.stage = HealthState::HalfOpen;
        }
        None
    }

    /// A warming instance that was lost begins its time anew, however soon it is back: it has to hold in one piece.
    fn come_up(&mut self, now: Instant, rule: &Rule) -> Option<&'static str> {
        if self.standing().is_some() {
            return None;
        }
        let is_healthy = match self.past {
            Past::Unseen { is_of_first_set } => is_of_first_set,
            Past::Lost { at, was_healthy } => {
                was_healthy && now.saturating_duration_since(at) <= rule.returned_within
            }
            Past::Unproven => {
                self.stage = HealthState::HalfOpen;
                return Some("unproven");
            }
        };
        self.stage = if is_healthy {
            HealthState::Healthy
        } else {
            HealthState::Warming { until: now + rule.warming }
        };
        // From now on it is like any other.
        self.past = Past::Lost { at: now, was_healthy: false };
        Some("alive")
    }

    /// Without an effect on what is to come where no link was up: a redial that failed does not shorten an absence.
    fn lose(&mut self, loss: Loss, now: Instant) -> Option<&'static str> {
        let _counted_as_grown = self.grow(now);
        self.past = match self.stage {
            HealthState::Broken => return None,
            HealthState::Dialling => self.past,
            HealthState::Ejected { .. } | HealthState::HalfOpen | HealthState::Asked { .. } => Past::Unproven,
            HealthState::Warming { .. } | HealthState::Healthy if loss == Loss::Silent => Past::Unproven,
            HealthState::Warming { .. } => Past::Lost { at: now, was_healthy: false },
            HealthState::Healthy => Past::Lost { at: now, was_healthy: true },
        };
        self.stage = HealthState::Broken;
        self.timeouts = 0;
        Some(match loss {
            Loss::NotReached => "not_reached",
            Loss::Refused => "refused",
            Loss::Ended => "ended",
            Loss::Silent => "silent",
            Loss::Given => "given_up",
        })
    }

    fn grow(&mut self, now: Instant) -> Option<&'static str> {
        if self.next_due().is_none_or(|due| now < due) {
            return None;
        }
        if matches!(self.stage, HealthState::Warming { .. }) {
            self.stage = HealthState::Healthy;
            return Some("grown");
        }
        self.stage = HealthState::HalfOpen;
        None
    }

    fn answer(&mut self) -> Option<&'static str> {
        self.timeouts = 0;
        if !matches!(self.stage, HealthState::HalfOpen | HealthState::Asked { .. }) {
            return None;
        }
        self.stage = HealthState::Healthy;
        Some("answered")
    }

    fn time_out(&mut self, may_eject: bool, now: Instant, rule: &Rule) -> Option<&'static str> {
        let reason = match self.stage {
            HealthState::HalfOpen | HealthState::Asked { .. } => "trial_failed",
            HealthState::Warming { .. } | HealthState::Healthy => {
                self.timeouts = self.timeouts.saturating_add(1);
                if rule.timeouts == 0 || self.timeouts < rule.timeouts || !may_eject {
                    return None;
                }
                "timeouts"
            }
            HealthState::Ejected { .. } | HealthState::Dialling | HealthState::Broken => return None,
        };
        self.timeouts = 0;
        if self.ejected_until.is_none_or(|until| now.saturating_duration_since(until) > FORGIVEN) {
            self.ejections = 0;
        }
        self.ejections = self.ejections.saturating_add(1);
        let until = now + rule.ejected.saturating_mul(self.ejections).min(rule.ejected_max);
        self.ejected_until = Some(until);
        self.stage = HealthState::Ejected { until };
        Some(reason)
    }
}

#[cfg(test)]
mod tests;
