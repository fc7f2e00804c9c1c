//! Networks as people write them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// The bits before an IPv4 address in IPv6.
const MAPPED_BITS: u8 = 96;

/// An address, or a network; one of IPv4 in IPv6 counts as IPv4, as those who come from there do.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(alone).map(|network: IpNet| canonical(network.trunc()))
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let within = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let as_v4 = |address: Ipv6Addr| Ipv4Net::new(address.to_ipv4_mapped()?, within?).ok();
    as_v4(mapped.addr()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_the_same_whatever_it_is_written_in() {
        for (text, meant) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/128", "192.0.2.7/32"),
            ("::ffff:192.0.2.9/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("::192.0.2.0/120", "::c000:200/120"),
            ("2001:db8::1/56", "2001:db8::/56"),
        ] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), Some(meant), "{text}");
        }
        assert_eq!(network("10.0.0"), None);
    }
}
