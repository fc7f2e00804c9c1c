//! One packet, as it is shown.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::limits::TRACED_COMMAND;

/// What a line is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketKind {
    /// A connection that was there when the trace began.
    Connected,
    /// A sign-in, from the client.
    Login,
    /// From the client.
    #[default]
    Request,
    /// To the client: of a logic service, or of the gateway where no instance is named.
    Answer,
    /// To the client.
    Push,
    /// To the client, of the gateway: it is kicked, or to go away.
    Notice,
    /// From the client, answered by the gateway.
    Heartbeat,
    /// The channel has ended.
    Closed,
}

impl PacketKind {
    /// None where it is no packet.
    const fn direction(self) -> Option<&'static str> {
        match self {
            Self::Login | Self::Request | Self::Heartbeat => Some("in"),
            Self::Answer | Self::Push | Self::Notice => Some("out"),
            Self::Connected | Self::Closed => None,
        }
    }
}

/// What is known where a packet passes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TracedPacket<'a> {
    pub(crate) kind: PacketKind,
    pub(crate) command: &'a str,
    pub(crate) sequence: Option<u32>,
    /// All of the packet.
    pub(crate) bytes: Option<usize>,
    pub(crate) body_bytes: Option<usize>,
    /// The logic instance it goes to or comes from.
    pub(crate) instance: Option<&'a str>,
    /// From its arrival until its first byte may have been with the instance.
    pub(crate) queued: Option<Duration>,
    /// From then until the answer was there.
    pub(crate) served: Option<Duration>,
    /// Of an answer.
    pub(crate) status: Option<i32>,
    /// What became of it.
    pub(crate) outcome: &'a str,
    pub(crate) transport: Option<&'static str>,
    pub(crate) address: Option<IpAddr>,
}

impl TracedPacket<'_> {
    /// To the client, of the gateway.
    pub(crate) fn notice(outcome: &'static str) -> Self {
        Self { kind: PacketKind::Notice, outcome, ..Self::default() }
    }

    /// From the client, which is alive.
    pub(crate) fn heartbeat() -> Self {
        Self { kind: PacketKind::Heartbeat, outcome: "answered", ..Self::default() }
    }
}

/// One line of a trace.
#[derive(Debug, Serialize)]
pub(crate) struct TraceLine {
    #[serde(serialize_with = "rfc3339")]
    at: SystemTime,
    worker: usize,
    app: String,
    account: String,
    /// None for a login that came to none.
    channel: Option<String>,
    direction: Option<&'static str>,
    kind: PacketKind,
    #[serde(skip_serializing_if = "String::is_empty")]
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i32>,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl TraceLine {
    pub(super) fn new(
        worker: usize,
        (app, account): (&str, &str),
        channel: Option<&str>,
        packet: &TracedPacket<'_>,
    ) -> Self {
        let end = packet.command.floor_char_boundary(TRACED_COMMAND);
        Self {
            at: SystemTime::now(),
            worker,
            app: app.to_owned(),
            account: account.to_owned(),
            channel: channel.map(str::to_owned),
            direction: packet.kind.direction(),
            kind: packet.kind,
            command: packet.command[..end].to_owned(),
            sequence: packet.sequence,
            bytes: packet.bytes,
            body_bytes: packet.body_bytes,
            instance: packet.instance.map(str::to_owned),
            queue_seconds: packet.queued.map(|time| time.as_secs_f64()),
            service_seconds: packet.served.map(|time| time.as_secs_f64()),
            status: packet.status,
            outcome: packet.outcome.to_owned(),
            transport: packet.transport,
            address: packet.address.map(|address| address.to_canonical().to_string()),
        }
    }
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_micros(*at))
}
