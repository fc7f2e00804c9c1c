//! Why a channel ended: one enum for the wire, the log, the metrics and the sign-out (protocol §8).

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;

/// Close codes after which a client must not come back as it is.
const FOR_GOOD: RangeInclusive<u64> = 3500..=3999;

/// Why a channel ended. Codes 3000–3499 invite the client back; 3500–3999 say that it must not retry as is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client's own, orderly.
    Bye,
    /// The gateway is going away.
    Draining,
    /// Nothing was read for the read-idle time.
    HeartbeatTimeout,
    /// The client did not take what was pushed to it.
    SlowConsumer,
    /// The gateway refuses new work.
    Overloaded,
    /// No login service took or answered the sign-in.
    LoginUnavailable,
    /// The gateway no longer knows the session.
    SessionLost,
    /// A fault of the gateway itself.
    InternalError,
    /// No valid login packet within the login deadline.
    LoginTimeout,
    /// A frame that began did not end in time.
    ReadTimeout,
    /// The token or the login was refused.
    Unauthenticated,
    /// The login service signed the account in elsewhere.
    Kicked,
    /// Bytes that are not this protocol.
    ProtocolError,
    /// A frame longer than the limit.
    FrameTooBig,
    /// Something other than `login.signin` came first.
    NotLoggedIn,
    /// Repeated soft violations.
    Abuse,
    /// The token ran out during the session.
    TokenExpired,
    /// The peer ended the connection without a word (FIN, RST). Never on the wire.
    PeerClosed,
    /// The peer is gone (idle, transport error). Never on the wire.
    PeerLost,
}

impl CloseReason {
    /// Every reason; the label set of `gateway_closes_total`.
    pub const ALL: [Self; 19] = [
        Self::Bye,
        Self::Draining,
        Self::HeartbeatTimeout,
        Self::SlowConsumer,
        Self::Overloaded,
        Self::LoginUnavailable,
        Self::SessionLost,
        Self::InternalError,
        Self::LoginTimeout,
        Self::ReadTimeout,
        Self::Unauthenticated,
        Self::Kicked,
        Self::ProtocolError,
        Self::FrameTooBig,
        Self::NotLoggedIn,
        Self::Abuse,
        Self::TokenExpired,
        Self::PeerClosed,
        Self::PeerLost,
    ];

    /// The code on the wire; none for the two that never travel.
    pub const fn code(self) -> Option<u16> {
        Some(match self {
            Self::Bye => 0,
            Self::Draining => 3000,
            Self::HeartbeatTimeout => 3001,
            Self::SlowConsumer => 3002,
            Self::Overloaded => 3003,
            Self::LoginUnavailable => 3004,
            Self::SessionLost => 3005,
            Self::InternalError => 3006,
            Self::LoginTimeout => 3007,
            Self::ReadTimeout => 3008,
            Self::Unauthenticated => 3500,
            Self::Kicked => 3501,
            Self::ProtocolError => 3503,
            Self::FrameTooBig => 3504,
            Self::NotLoggedIn => 3505,
            Self::Abuse => 3506,
            Self::TokenExpired => 3507,
            Self::PeerClosed | Self::PeerLost => return None,
        })
    }

    /// The reason a peer's code stands for; none for codes this protocol does not define.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code().map(u64::from) == Some(code))
    }

    /// The reason for a peer's code, also one this version does not know: what must not be tried again stays so.
    pub fn from_any_code(code: u64) -> Self {
        let unknown = if FOR_GOOD.contains(&code) { Self::ProtocolError } else { Self::PeerClosed };
        Self::from_code(code).unwrap_or(unknown)
    }

    /// The token beside the code: wire text, log field, metric label and sign-out reason.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::Draining => "draining",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::Overloaded => "overloaded",
            Self::LoginUnavailable => "login_unavailable",
            Self::SessionLost => "session_lost",
            Self::InternalError => "internal_error",
            Self::LoginTimeout => "login_timeout",
            Self::ReadTimeout => "read_timeout",
            Self::Unauthenticated => "unauthenticated",
            Self::Kicked => "kicked",
            Self::ProtocolError => "protocol_error",
            Self::FrameTooBig => "frame_too_big",
            Self::NotLoggedIn => "not_logged_in",
            Self::Abuse => "abuse",
            Self::TokenExpired => "token_expired",
            Self::PeerClosed => "peer_closed",
            Self::PeerLost => "peer_lost",
        }
    }

    /// Position in [`CloseReason::ALL`], for counters kept in arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Returns `true` if the client may come back as it is (codes 3000–3499, or no code at all).
    pub const fn may_retry(self) -> bool {
        match self.code() {
            Some(code) => code != 0 && code < 3500,
            None => true,
        }
    }

    /// Payload of the close frame on TCP: `code u16 | token`. Empty for the reasons without a code.
    pub fn payload(self) -> Bytes {
        let Some(code) = self.code() else { return Bytes::new() };
        let mut payload = Vec::with_capacity(2 + self.token().len());
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(self.token().as_bytes());
        payload.into()
    }

    /// Reads the payload of a close frame; the text behind the code is ignored.
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let code = payload.first_chunk::<2>()?;
        Self::from_code(u64::from(u16::from_be_bytes(*code)))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// Text of the close frame with which a logic service refuses a gateway whose id is linked already; the Go systems use the
/// same words.
pub const LINK_REPEATED: &[u8] = b"channelId is repeated";

/// Text of the close frame on a link that a newer one of the same gateway id replaces. Only the logic library says so.
pub const LINK_REPLACED: &[u8] = b"replaced by a newer link";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_index_order_and_codes_round_trip() {
        for (position, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), position);
            if let Some(code) = reason.code() {
                assert_eq!(CloseReason::from_code(u64::from(code)), Some(reason));
                assert_eq!(CloseReason::from_payload(&reason.payload()), Some(reason));
            }
        }
    }

    #[test]
    fn a_code_that_is_not_known_keeps_what_its_range_says() {
        for reason in CloseReason::ALL {
            if let Some(code) = reason.code() {
                assert_eq!(CloseReason::from_any_code(u64::from(code)), reason);
            }
        }
        for (code, reason) in [
            (1, CloseReason::PeerClosed),
            (2999, CloseReason::PeerClosed),
            (3009, CloseReason::PeerClosed),
            (3499, CloseReason::PeerClosed),
            (3502, CloseReason::ProtocolError),
            (3508, CloseReason::ProtocolError),
            (3999, CloseReason::ProtocolError),
            (4000, CloseReason::PeerClosed),
            (u64::MAX, CloseReason::PeerClosed),
        ] {
            assert_eq!(CloseReason::from_any_code(code), reason, "{code}");
        }
    }
}
