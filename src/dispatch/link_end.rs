//! [`LinkEnd`]: why a link ended, for the log and for health.

use std::time::Duration;
use std::{fmt, io};

use crate::dispatch::health::Loss;
use crate::wire::frame::FrameError;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// A close frame and nothing else came: the service does not want this gateway id.
    Refused,
    /// The service took a newer link with this gateway's id in its place. This gateway made none: another one did.
    Replaced,
    /// A close frame.
    Closed,
    /// The connection ended.
    Eof,
    /// The connection broke.
    Io(String),
    /// No byte for so long, pings notwithstanding (row E2).
    Silent,
    /// A frame began and did not end in this time, whatever came meanwhile (row H13).
    SlowFrame(Duration),
    /// Not one byte after the handshake in that time.
    Mute,
    /// Not a frame (row E4).
    BadFrame(FrameError),
    /// Its instance has left the set, and it owed nothing more or had had its time (row E11).
    Left,
    /// The task that served it panicked: a fault of the gateway (row F10).
    Panicked,
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Replaced => f.write_str("replaced by the link of another gateway with the same id"),
            Self::Closed => f.write_str("closed by the service"),
            Self::Eof => f.write_str("connection ended"),
            Self::Io(error) => write!(f, "connection broke: {error}"),
            Self::Silent => f.write_str("no answer to pings"),
            Self::SlowFrame(limit) => write!(f, "a frame that had begun did not end within {limit:?}"),
            Self::Mute => f.write_str("no sign of life after the handshake"),
            Self::BadFrame(error) => write!(f, "bad frame: {error}"),
            Self::Left => f.write_str("no longer in the set of instances"),
            Self::Panicked => f.write_str("a fault of the gateway; please report this"),
        }
    }
}

impl LinkEnd {
    /// What it means to health.
    pub(super) fn loss(&self) -> Loss {
        match self {
            Self::Refused => Loss::Refused,
            Self::Replaced | Self::Closed | Self::Eof | Self::Io(_) => Loss::Ended,
            // What begins a frame and stays within it is as good as silent.
            Self::Silent | Self::SlowFrame(_) => Loss::Silent,
            Self::Mute => Loss::NotReached,
            Self::BadFrame(_) | Self::Left | Self::Panicked => Loss::Given,
        }
    }
}

impl From<io::Error> for LinkEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}
