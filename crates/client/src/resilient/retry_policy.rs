//! What the end of a connection, or of the attempt to make one, says about coming back.

use crate::answer::LoginError;
use crate::connect_error::ConnectError;
use gateway_wire::close::CloseReason;
use gateway_wire::pb::Status;

/// Statuses by which a login says "try again later" (protocol §4.4).
const LATER: std::ops::RangeInclusive<i32> = 300..=399;

/// Whether and how to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// After a pause.
    Again,
    /// After a pause, and rather at another gateway.
    Elsewhere,
    /// All clients of that gateway are told at once: soon, at another gateway.
    Moved,
    /// With a new token, once.
    Renew,
    /// Not as it is.
    Never,
}

/// After a connection was closed (protocol §8).
pub(super) const fn of_close(reason: CloseReason) -> Retry {
    match reason {
        CloseReason::Draining => Retry::Moved,
        CloseReason::Overloaded | CloseReason::LoginUnavailable => Retry::Elsewhere,
        CloseReason::HeartbeatTimeout
        | CloseReason::SlowConsumer
        | CloseReason::SessionLost
        | CloseReason::InternalError
        | CloseReason::LoginTimeout
        | CloseReason::ReadTimeout
        | CloseReason::PeerClosed
        | CloseReason::PeerLost => Retry::Again,
        CloseReason::Unauthenticated | CloseReason::TokenExpired => Retry::Renew,
        CloseReason::Bye
        | CloseReason::Kicked
        | CloseReason::ProtocolError
        | CloseReason::FrameTooBig
        | CloseReason::NotLoggedIn
        | CloseReason::Abuse => Retry::Never,
    }
}

/// After a login failed.
pub(super) fn of_login(error: &LoginError) -> Retry {
    const UNAUTHENTICATED: i32 = Status::Unauthenticated as i32;
    const UNKNOWN: i32 = Status::OutcomeUnknown as i32;
    match error {
        LoginError::Refused { status: UNAUTHENTICATED, .. } => Retry::Renew,
        LoginError::Refused { status, .. } if *status == UNKNOWN || LATER.contains(status) => {
            Retry::Elsewhere
        }
        LoginError::Refused { .. } => Retry::Never,
        LoginError::Closed(reason) => of_close(*reason),
        LoginError::TimedOut | LoginError::BadAnswer => Retry::Elsewhere,
    }
}

/// After no connection came about.
pub(super) fn of_connect(error: &ConnectError) -> Retry {
    match error {
        // These are faults of this program, which time does not mend.
        ConnectError::NoCa | ConnectError::NotCompiledIn { .. } => Retry::Never,
        ConnectError::Closed { reason, .. } => of_close(*reason),
        // A certificate that is not believed may be that of a portal on the way: nothing was told to it.
        _ => Retry::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_invites_back_or_does_not() {
        for (codes, verdict) in [
            (&[3000][..], Retry::Moved),
            (&[3001, 3002, 3005, 3006, 3007, 3008], Retry::Again),
            (&[3003, 3004], Retry::Elsewhere),
            (&[3500, 3507], Retry::Renew),
            (&[0, 3501, 3503, 3504, 3505, 3506], Retry::Never),
        ] {
            for code in codes {
                assert_eq!(of_close(CloseReason::from_code(*code).unwrap()), verdict, "{code}");
            }
        }
        assert_eq!(of_close(CloseReason::PeerClosed), Retry::Again);
        assert_eq!(of_close(CloseReason::PeerLost), Retry::Again);
        for reason in CloseReason::ALL {
            let comes_back = matches!(of_close(reason), Retry::Again | Retry::Elsewhere | Retry::Moved);
            assert_eq!(comes_back, reason.may_retry(), "{reason}");
        }
    }

    #[test]
    fn a_login_that_failed_is_tried_again_where_time_may_help() {
        let refused = |status| of_login(&LoginError::Refused { status, message: String::new() });
        for (status, verdict) in [
            (105, Retry::Renew),
            (210, Retry::Elsewhere),
            (300, Retry::Elsewhere),
            (399, Retry::Elsewhere),
            (100, Retry::Never),
            (103, Retry::Never),
            (404, Retry::Never),
        ] {
            assert_eq!(refused(status), verdict, "{status}");
        }
        assert_eq!(of_login(&LoginError::TimedOut), Retry::Elsewhere);
        assert_eq!(of_login(&LoginError::Closed(CloseReason::TokenExpired)), Retry::Renew);
    }

    #[test]
    fn a_connection_that_failed_is_tried_again_unless_it_is_a_fault_of_this_side() {
        let server = || "gate:8000".to_owned();
        assert_eq!(of_connect(&ConnectError::NoCa), Retry::Never);
        assert_eq!(of_connect(&ConnectError::Refused { server: server() }), Retry::Elsewhere);
        let closed = ConnectError::Closed { server: server(), reason: CloseReason::Abuse };
        assert_eq!(of_connect(&closed), Retry::Never);
    }
}
