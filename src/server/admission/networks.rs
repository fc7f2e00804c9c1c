//! What each network holds of what is there for all: open connections, and handshakes in progress (row H10).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::Limits;

/// Parts of the table, so that two workers seldom wait for each other.
const SHARDS: usize = 16;

/// A share of all, percent, that bounds nothing.
const WHOLE: u32 = 100;

/// Nobody holds so many.
const UNBOUNDED: u32 = u32::MAX;

/// Of each [`Good`]. What is not bounded is counted all the same: a reload may bound it.
fn shares(connections: usize, limits: &Limits) -> [u32; 2] {
    let share = |of: usize, percent: u32| match percent {
        WHOLE.. => UNBOUNDED,
        percent => u32::try_from(of * percent as usize / 100).unwrap_or(UNBOUNDED).max(1),
    };
    [
        share(connections, limits.address_connections_share),
        share(limits.max_handshakes, limits.address_handshakes_share),
    ]
}

/// Whose connections are counted together: the /24 of an IPv4 address, the /56 of an IPv6 one, which is what one
/// customer of a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network {
    is_v6: bool,
    prefix: u64,
}

impl Network {
    /// None for loopback: a proxy, or a test.
    pub(super) fn of(peer: IpAddr) -> Option<Self> {
        const V4_HOST_BITS: u32 = 32 - 24;
        const V6_HOST_BITS: u32 = 128 - 56;
        match peer.to_canonical() {
            peer if peer.is_loopback() => None,
            IpAddr::V4(peer) => {
                Some(Self { is_v6: false, prefix: u64::from(peer.to_bits() >> V4_HOST_BITS) })
            }
            IpAddr::V6(peer) => Some(Self { is_v6: true, prefix: (peer.to_bits() >> V6_HOST_BITS) as u64 }),
        }
    }
}

/// What a network may not have all of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Good {
    Connections = 0,
    Handshakes = 1,
}

/// How much each network that has anything holds. As many entries as there are connections at most, and none stays
/// behind.
#[derive(Debug)]
pub(super) struct Networks {
    /// Of each [`Good`]; [`UNBOUNDED`]: as many as they like.
    most: [AtomicU32; 2],
    hasher: RandomState,
    shards: [Mutex<HashMap<Network, [u32; 2]>>; SHARDS],
}

impl Networks {
    /// Shares of `connections` of the process, and of the handshakes of one worker: clients may choose their worker.
    pub(super) fn new(connections: usize, limits: &Limits) -> Self {
        let most = shares(connections, limits).map(AtomicU32::new);
        Self { most, hasher: RandomState::new(), shards: Default::default() }
    }

    /// These shares from now on. Who holds more keeps it.
    pub(super) fn follow_limits(&self, connections: usize, limits: &Limits) {
        for (most, share) in self.most.iter().zip(shares(connections, limits)) {
            most.store(share, Relaxed);
        }
    }

    /// One more for this network; false if it has its share. Each is to be given [back](Self::give_back).
    pub(super) fn take(&self, network: Network, good: Good) -> bool {
        let most = self.most[good as usize].load(Relaxed);
        let mut shard = self.shard(network);
        let held = &mut shard.entry(network).or_default()[good as usize];
        if *held >= most {
            return false;
        }
        *held += 1;
        true
    }

    pub(super) fn give_back(&self, network: Network, good: Good) {
        let mut shard = self.shard(network);
        let Entry::Occupied(mut known) = shard.entry(network) else { return };
        known.get_mut()[good as usize] -= 1;
        if *known.get() == [0; 2] {
            known.remove();
        }
        // What a crowd left behind is given back as it goes.
        if shard.capacity() > 64 && shard.capacity() > shard.len() * 8 {
            let keep = shard.len() * 2;
            shard.shrink_to(keep);
        }
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, HashMap<Network, [u32; 2]>> {
        let shard = self.hasher.hash_one(network) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<Network> {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_counted_by_network_and_loopback_is_not() {
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"), "an IPv4 client of a dual-stack socket");
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:1200::1"), of("2001:db8:0:12ff:1::1"));
        assert_ne!(of("2001:db8:0:1200::1"), of("2001:db8:0:1300::1"));
        assert_ne!(of("0.0.1.7"), of("::1:0:0:0"));
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(loopback), None, "{loopback}");
        }
    }

    fn networks(connections_share: u32, handshakes_share: u32) -> Networks {
        let limits = Limits {
            max_handshakes: 8,
            address_connections_share: connections_share,
            address_handshakes_share: handshakes_share,
            ..Limits::default()
        };
        Networks::new(10, &limits)
    }

    #[test]
    fn h10_a_network_has_its_share_of_each_good_and_no_more() {
        let networks = networks(50, 25);
        let (one, other) = (of("192.0.2.1").unwrap(), of("192.0.3.1").unwrap());
        let take = |network, good, times: usize| (0..times).filter(|_| networks.take(network, good)).count();
        assert_eq!((take(one, Good::Connections, 20), take(one, Good::Handshakes, 20)), (5, 2));
        assert_eq!((take(other, Good::Connections, 20), take(other, Good::Handshakes, 1)), (5, 1));
        networks.give_back(one, Good::Connections);
        assert_eq!((take(one, Good::Connections, 3), take(one, Good::Handshakes, 1)), (1, 0));
    }

    #[test]
    fn h10_the_smallest_share_is_one_and_the_whole_bounds_nothing() {
        let of_few = networks(1, 1);
        let one = of("192.0.2.1").unwrap();
        assert!(of_few.take(one, Good::Handshakes) && !of_few.take(one, Good::Handshakes));
        let unbounded = networks(WHOLE, WHOLE);
        assert!((0..100).all(|_| unbounded.take(one, Good::Connections)));
        unbounded.give_back(one, Good::Connections);
    }

    #[test]
    fn h10_who_holds_nothing_is_forgotten() {
        let networks = networks(50, 25);
        let addresses: Vec<_> =
            (0..20_000u32).filter_map(|n| Network::of((n << 8 | 1 << 30).to_be_bytes().into())).collect();
        for network in &addresses {
            assert!(networks.take(*network, Good::Connections));
        }
        for network in &addresses {
            networks.give_back(*network, Good::Connections);
        }
        let (held, room) = networks.shards.iter().fold((0, 0), |(held, room), shard| {
            let shard = shard.lock().unwrap();
            (held + shard.len(), room + shard.capacity())
        });
        assert_eq!(held, 0);
        assert!(room < 2_000, "{room}");
    }
}
