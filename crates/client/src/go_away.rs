//! The gateway's word that it will close this connection (protocol §2, BasicPkt code 3).

use std::net::Ipv6Addr;
use std::time::Duration;

use gateway_net::resolve::host_and_port;
use gateway_wire::close::CloseReason;
use gateway_wire::packet;
pub use gateway_wire::packet::GO_AWAY_TAG;

/// The gateway is about to close this connection; until it does, requests are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoAway {
    /// From its arrival: the time within which to leave.
    pub within: Duration,
    /// With which the gateway will close whoever is still there.
    pub reason: CloseReason,
}

impl GoAway {
    /// Reads the body of the packet.
    pub(super) fn from_body(body: &[u8]) -> Option<Self> {
        let packet::GoAway { seconds, code } = packet::GoAway::decode(body)?;
        let within = Duration::from_secs(seconds.into());
        Some(Self { within, reason: CloseReason::from_any_code(code.into()) })
    }
}

/// The `host:port` of another gateway in the body of the packet, if there is one.
pub(super) fn go_to(body: &[u8]) -> Option<&str> {
    packet::GoAway::go_to(body).filter(|to| is_address(to))
}

/// What else a gateway sends is none: an address of a page, a name with something before it, half an IPv6 address.
fn is_address(to: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@');
    let Ok((host, port)) = host_and_port(to) else { return false };
    let is_bracketed = to.starts_with('[');
    let is_host =
        if is_bracketed { host.parse::<Ipv6Addr>().is_ok() } else { !host.contains([':', '[', ']']) };
    port != 0 && is_host && !to.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_name_another_gateway() {
        let read = |to: &str| go_to(&[&[0, 20, 0x0b, 0xb8], to.as_bytes()].concat()).map(str::to_owned);
        for to in ["gate02:8000", "[::1]:8000"] {
            assert_eq!(read(to).as_deref(), Some(to));
        }
        for to in [
            "",
            "gate02",
            "gate 02:8000",
            ":8000",
            "2001:db8::1",
            "http://gate02:8000",
            "[::1:8000",
            "::1]:8000",
            "[gate02]:8000",
            "gate02:0",
            "user@h:1",
            "gate02/:1",
            "gate\u{1b}02:8000",
            &format!("{}:8000", "g".repeat(256)),
        ] {
            assert_eq!(read(to), None, "{to}");
        }
        assert_eq!(go_to(&[0, 20, 0x0b, 0xb8, 0xff]), None);
    }

    #[test]
    fn it_carries_seconds_and_a_close_code() {
        let read = |body: &[u8]| GoAway::from_body(body);
        let draining = GoAway { within: Duration::from_secs(300), reason: CloseReason::Draining };
        assert_eq!(read(&[1, 44, 0x0b, 0xb8]), Some(draining));
        assert_eq!(read(&[1, 44, 0x0b, 0xb8, 9, 9]), Some(draining), "more than is known here");
        assert_eq!(read(&[1, 44, 0x0b]), None);
        assert_eq!(read(&[]), None);
    }
}
