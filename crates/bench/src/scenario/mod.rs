//! What is measured. Each scenario starts what it needs and ends it.

mod contest;
mod idle;
mod latency;
mod loads;
mod login;
mod loss;
mod micro;
mod push;
mod quic_echo;
mod slow;
mod storm;
pub(crate) mod target;
mod tcp_echo;

pub use self::target::TargetGateway;
use crate::bench::BenchRun;
use crate::error::BenchError;
use crate::report::ScenarioResult;

type Run = fn(&BenchRun<'_>) -> Result<ScenarioResult, BenchError>;

/// A scenario by name.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is measured.
    pub what: &'static str,
    run: Run,
    /// Whether it is short enough for a look.
    pub is_quick: bool,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub const ALL: &'static [Self] = &[
        Self::quick("b1", "TCP echo, 64 and 1,000 clients", tcp_echo::run),
        Self::long("b1w", "TCP echo over TLS and over WebSocket", tcp_echo::carried),
        Self::quick("b2", "QUIC echo, 64 and 1,000 connections", quic_echo::run),
        Self::long("b3", "latency added at 5,000 messages a second", latency::run),
        Self::long("b4", "memory of idle connections", idle::memory),
        Self::long("b5", "heartbeats, and wake-ups without a client", idle::heartbeats),
        Self::long("b6", "logins, full and resumed", login::run),
        Self::long("b7", "messages while logins storm", storm::run),
        Self::long("b9", "one push to 1,000 and 5,000 channels", push::sparse),
        Self::quick("b10", "64 pushes at once to 1,000 channels", push::burst),
        Self::long("b11", "loss: QUIC beside TCP", loss::run),
        Self::long("b13", "pushes while some clients do not read", slow::run),
        Self::quick("b14", "steps of a message without sockets", micro::run),
    ];

    const fn quick(name: &'static str, what: &'static str, run: Run) -> Self {
        Self { name, what, run, is_quick: true }
    }

    const fn long(name: &'static str, what: &'static str, run: Run) -> Self {
        Self { name, what, run, is_quick: false }
    }

    /// The scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name == name)
    }

    pub(crate) fn run(self, bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
        (self.run)(bench)
    }
}
