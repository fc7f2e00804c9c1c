//! `X-Forwarded-For`: for whom an HTTP proxy speaks.

use std::net::{IpAddr, SocketAddr};

use crate::config::TrustedPeers;

/// The client of a request that came from `peer` with these values of the header: the rightmost address that is no trusted proxy's. What stands left of it
/// was written by the client itself and says nothing.
///
/// Each proxy appends whom it speaks for, so an entry is believed if the one to its right, or the peer, is trusted. Where an
/// entry is no client's address, the proxy that wrote it stands for its client.
pub(super) fn client_behind<'a>(
    peer: IpAddr,
    lists: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &TrustedPeers,
) -> IpAddr {
    let mut client = peer;
    for entry in lists.rev().flat_map(|list| list.rsplit(|byte| *byte == b',')) {
        if !trusted.contains(client) {
            break;
        }
        let Some(address) = address(entry.trim_ascii()) else { break };
        client = address;
    }
    client
}

/// A client's address as proxies write it: alone, in brackets, or with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry).ok()?;
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = bare.parse::<IpAddr>().ok().or_else(with_port)?.to_canonical();
    // Nobody comes from there, and whoever does is bound by no limit of addresses.
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn client(peer: &str, lists: &[&str]) -> String {
        let trusted = TrustedPeers::parse(["10.0.0.0/8", "fd00::/8"]).unwrap();
        let lists = lists.iter().map(|list| list.as_bytes());
        client_behind(peer.parse().unwrap(), lists, &trusted).to_string()
    }

    #[rstest]
    #[case::no_header("10.0.0.1", &[], "10.0.0.1")]
    #[case::one("10.0.0.1", &["192.0.2.7"], "192.0.2.7")]
    #[case::what_the_client_wrote("10.0.0.1", &["203.0.113.9, 192.0.2.7"], "192.0.2.7")]
    #[case::two_proxies("10.0.0.1", &["192.0.2.7, 10.0.0.2"], "192.0.2.7")]
    #[case::two_headers("10.0.0.1", &["203.0.113.9", "192.0.2.7,10.0.0.2"], "192.0.2.7")]
    #[case::client_inside("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3")]
    #[case::stranger("192.0.2.8", &["10.0.0.3"], "192.0.2.8")]
    #[case::v6("fd00::1", &["2001:db8::7"], "2001:db8::7")]
    #[case::v6_in_brackets("fd00::1", &["[2001:db8::7]"], "2001:db8::7")]
    #[case::v6_with_port("fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7")]
    #[case::v4_with_port("10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7")]
    #[case::v4_as_v6("10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7")]
    #[case::proxy_as_v6("::ffff:10.0.0.1", &["192.0.2.7"], "192.0.2.7")]
    #[case::unknown("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1")]
    #[case::empty("10.0.0.1", &[""], "10.0.0.1")]
    #[case::empty_entry("10.0.0.1", &["192.0.2.7, "], "10.0.0.1")]
    #[case::no_text("10.0.0.1", &["192.0.2.7, \u{e9}"], "10.0.0.1")]
    #[case::loopback("10.0.0.1", &["192.0.2.7, 127.0.0.1"], "10.0.0.1")]
    #[case::loopback_v6("10.0.0.1", &["::1"], "10.0.0.1")]
    #[case::loopback_as_v6("10.0.0.1", &["::ffff:127.0.0.1"], "10.0.0.1")]
    #[case::unspecified("10.0.0.1", &["0.0.0.0"], "10.0.0.1")]
    #[case::a_name("10.0.0.1", &["client.example"], "10.0.0.1")]
    fn d6_the_client_is_the_rightmost_address_that_is_no_proxys(
        #[case] peer: &str,
        #[case] lists: &[&str],
        #[case] expected: &str,
    ) {
        assert_eq!(client(peer, lists), expected);
    }
}
