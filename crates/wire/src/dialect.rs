//! The two dialects of the wire: *X_IM* and *kim* differ in two magics, one meta key and one default name.

use std::fmt;
use std::str::FromStr;

/// Which system's magics and gateway key a peer speaks (protocol §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// The default.
    #[default]
    XIm,
    /// The Go system *kim* and its SDKs.
    Kim,
}

impl Dialect {
    /// Both, in the order in which per-dialect caches are laid out; see [`Dialect::index`].
    pub const ALL: [Self; 2] = [Self::XIm, Self::Kim];

    /// Position in [`Dialect::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::XIm => 0,
            Self::Kim => 1,
        }
    }

    /// First four bytes of a LogicPkt.
    pub const fn logic_magic(self) -> [u8; 4] {
        match self {
            Self::XIm => [0x31, 0x32, 0x33, 0x34],
            Self::Kim => [0xC3, 0x11, 0xA3, 0x65],
        }
    }

    /// First four bytes of a BasicPkt.
    pub const fn basic_magic(self) -> [u8; 4] {
        match self {
            Self::XIm => [0x32, 0x33, 0x34, 0x35],
            Self::Kim => [0xC3, 0x15, 0xA7, 0x65],
        }
    }

    /// The meta key under which the gateway's id travels.
    pub const fn gateway_key(self) -> &'static str {
        match self {
            Self::XIm => "dest.logic",
            Self::Kim => "dest.server",
        }
    }

    /// The service that signs users in, unless the configuration names another.
    pub const fn login_service(self) -> &'static str {
        match self {
            Self::XIm => "login",
            Self::Kim => "chat",
        }
    }

    /// The name used in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XIm => "x_im",
            Self::Kim => "kim",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is neither `x_im` nor `kim`.
#[derive(Debug, thiserror::Error)]
#[error("is neither \"x_im\" nor \"kim\"")]
pub struct UnknownDialect;

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x_im" => Ok(Self::XIm),
            "kim" => Ok(Self::Kim),
            _ => Err(UnknownDialect),
        }
    }
}
