//! What is done to the gateway and to those around it, and what must come of it.

mod clients;
mod consul;
mod instances;
mod process;

use std::time::Duration;

use crate::world::World;

/// How long the load is watched before a fault, to compare.
pub(super) const WATCH: Duration = Duration::from_millis(1500);

/// One kind of fault. Rows of docs/threats.md in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// `kill -9` of a chat instance (E1).
    KillInstance,
    /// `kill -9` of a login instance (E1, B21).
    KillLogin,
    /// SIGSTOP, then SIGCONT (E2).
    PauseInstance,
    /// It stops reading (E3).
    StopReading,
    /// Packets that cannot be read in good frames, then no frame at all (E4).
    BadFrames,
    /// Pushes in another gateway's name (E5).
    WrongGateway,
    /// Pushes to nobody (E6).
    UnknownChannel,
    /// Nothing reaches it any more (E18).
    CutToService,
    /// Nothing comes from it any more (E18).
    CutFromService,
    /// All of a zone (E13).
    ZoneGone,
    /// All of a service (E14).
    ServiceGone,
    /// Consul killed (E9).
    ConsulKilled,
    /// Consul stopped (E9).
    ConsulStopped,
    /// Consul knows nobody (E11).
    ConsulEmptied,
    /// Clients that stop reading (C8, D4, E17).
    SlowClients,
    /// Clients gone without a word (D1).
    VanishedClients,
    /// Connections reset in the middle of a frame (A5, D2).
    ResetClients,
    /// Panics in connection tasks (F10).
    Panics,
    /// SIGSTOP of the gateway, then SIGCONT: what a machine that is moved does.
    PauseGateway,
    /// SIGTERM of the gateway (F1).
    GatewayTerm,
    /// SIGKILL of the gateway, and a new one on the same port (F3, C19).
    GatewayKill,
    /// Everyone back at the same second (F4).
    Stampede,
}

impl Fault {
    pub(crate) const ALL: [Self; 22] = [
        Self::KillInstance,
        Self::KillLogin,
        Self::PauseInstance,
        Self::StopReading,
        Self::BadFrames,
        Self::WrongGateway,
        Self::UnknownChannel,
        Self::CutToService,
        Self::CutFromService,
        Self::ZoneGone,
        Self::ServiceGone,
        Self::ConsulKilled,
        Self::ConsulStopped,
        Self::ConsulEmptied,
        Self::SlowClients,
        Self::VanishedClients,
        Self::ResetClients,
        Self::Panics,
        Self::PauseGateway,
        Self::GatewayTerm,
        Self::GatewayKill,
        Self::Stampede,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KillInstance => "kill-instance",
            Self::KillLogin => "kill-login",
            Self::PauseInstance => "pause-instance",
            Self::StopReading => "stop-reading",
            Self::BadFrames => "bad-frames",
            Self::WrongGateway => "wrong-gateway",
            Self::UnknownChannel => "unknown-channel",
            Self::CutToService => "cut-to-service",
            Self::CutFromService => "cut-from-service",
            Self::ZoneGone => "zone-gone",
            Self::ServiceGone => "service-gone",
            Self::ConsulKilled => "consul-killed",
            Self::ConsulStopped => "consul-stopped",
            Self::ConsulEmptied => "consul-emptied",
            Self::SlowClients => "slow-clients",
            Self::VanishedClients => "vanished-clients",
            Self::ResetClients => "reset-clients",
            Self::Panics => "panics",
            Self::PauseGateway => "pause-gateway",
            Self::GatewayTerm => "gateway-term",
            Self::GatewayKill => "gateway-kill",
            Self::Stampede => "stampede",
        }
    }

    /// How often it is drawn in the long run, beside the others: the figures ask for 100 kills and 40 pauses.
    pub(crate) const fn weight(self) -> usize {
        match self {
            Self::KillInstance => 20,
            Self::PauseInstance => 8,
            Self::GatewayTerm | Self::GatewayKill | Self::KillLogin => 2,
            _ => 1,
        }
    }

    /// Does it, and waits for what must follow.
    pub(crate) async fn inject(self, world: &mut World) -> anyhow::Result<FaultOutcome> {
        match self {
            Self::KillInstance => instances::kill(world, crate::instance::CHAT).await,
            Self::KillLogin => instances::kill(world, crate::instance::LOGIN).await,
            Self::PauseInstance => instances::pause(world).await,
            Self::StopReading => instances::stop_reading(world).await,
            Self::BadFrames => instances::bad_frames(world).await,
            Self::WrongGateway => instances::wrong_gateway(world).await,
            Self::UnknownChannel => instances::unknown_channel(world).await,
            Self::CutToService => instances::cut(world, crate::network::Cut::ToService).await,
            Self::CutFromService => instances::cut(world, crate::network::Cut::FromService).await,
            Self::ZoneGone => instances::zone_gone(world).await,
            Self::ServiceGone => instances::service_gone(world).await,
            Self::ConsulKilled => consul::fail(world, consul::What::Killed).await,
            Self::ConsulStopped => consul::fail(world, consul::What::Stopped).await,
            Self::ConsulEmptied => consul::fail(world, consul::What::Emptied).await,
            Self::SlowClients => clients::slow(world).await,
            Self::VanishedClients => clients::vanished(world).await,
            Self::ResetClients => clients::reset(world).await,
            Self::Panics => clients::panics(world).await,
            Self::PauseGateway => process::pause(world).await,
            Self::GatewayTerm => process::term(world).await,
            Self::GatewayKill => process::kill(world).await,
            Self::Stampede => process::stampede(world).await,
        }
    }
}

/// What came of a fault, beside what the oracle finds.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultOutcome {
    /// Until the gateway had found it and acted.
    pub(crate) found: Option<Duration>,
    /// From its end until all was as before.
    pub(crate) recovered: Option<Duration>,
    /// For people.
    pub(crate) note: String,
    /// Why it was not done.
    pub(crate) skipped: Option<String>,
}

impl FaultOutcome {
    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    pub(super) fn of(found: Option<Duration>, recovered: Option<Duration>) -> Self {
        Self { found, recovered, ..Self::default() }
    }

    pub(super) fn with(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// A time in the unit people read.
pub(crate) fn shown(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 10_000.0 { format!("{millis:.0} ms") } else { format!("{:.1} s", millis / 1000.0) }
}
