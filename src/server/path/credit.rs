//! What may be sent to addresses that have not proven themselves: three bytes for each that came (row H5).
//!
//! A table of fixed size. Only credit is kept, never debt, so whatever is forgotten makes the gateway more careful: an
//! address that is pushed out by others gets nothing until it sends again.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;

use crate::limits::{AMPLIFICATION, UNPROVEN_ADDRESSES};

/// Places an address can have. The one that was not used for longest is taken.
const WAYS: usize = 4;

#[derive(Debug, Clone, Copy, Default)]
struct AddressCredit {
    /// A keyed hash of the address: nobody outside can choose two that collide, or fill one set of places.
    tag: u64,
    /// Bytes that may still be sent.
    credit: u32,
    /// When it was last used, in datagrams received; 0: never.
    used: u32,
}

/// The credit of the addresses heard last.
#[derive(Debug)]
pub(super) struct Credit {
    sets: Vec<[AddressCredit; WAYS]>,
    hasher: RandomState,
    received: u32,
}

impl Credit {
    /// Memory is taken page by page as places are used.
    pub(super) fn new() -> Self {
        let sets = vec![[AddressCredit::default(); WAYS]; UNPROVEN_ADDRESSES / WAYS];
        Self { sets, hasher: RandomState::new(), received: 0 }
    }

    fn tag(&self, address: &SocketAddr) -> u64 {
        self.hasher.hash_one(address)
    }

    fn set(&mut self, tag: u64) -> &mut [AddressCredit; WAYS] {
        let sets = self.sets.len() as u64;
        &mut self.sets[(tag % sets) as usize]
    }

    /// So many bytes came from there.
    pub(super) fn received(&mut self, from: &SocketAddr, bytes: usize) {
        // After 2^32 datagrams the order is wrong for a while, which costs somebody one more packet.
        self.received = self.received.wrapping_add(1).max(1);
        let (tag, now) = (self.tag(from), self.received);
        let set = self.set(tag);
        let place = match set.iter().position(|place| place.tag == tag) {
            Some(at) => &mut set[at],
            None => {
                let oldest = set.iter_mut().min_by_key(|place| place.used).expect("a set has places");
                *oldest = AddressCredit { tag, ..AddressCredit::default() };
                oldest
            }
        };
        let credit = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(AMPLIFICATION);
        place.credit = place.credit.saturating_add(credit);
        place.used = now;
    }

    /// Returns `true` if so many bytes may be sent there.
    pub(super) fn allows(&mut self, to: &SocketAddr, bytes: usize) -> bool {
        let tag = self.tag(to);
        let credit = self.set(tag).iter().find(|place| place.tag == tag).map_or(0, |place| place.credit);
        usize::try_from(credit).is_ok_and(|credit| bytes <= credit)
    }

    /// So many bytes were sent there.
    pub(super) fn spend(&mut self, to: &SocketAddr, bytes: usize) {
        let tag = self.tag(to);
        if let Some(place) = self.set(tag).iter_mut().find(|place| place.tag == tag) {
            place.credit = place.credit.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 4433))
    }

    #[test]
    fn h5_three_bytes_go_out_for_each_that_came_and_no_more() {
        let mut credit = Credit::new();
        let (one, other) = (address(1), address(2));
        assert!(!credit.allows(&one, 1), "nothing came");
        credit.received(&one, 31);
        assert!(!credit.allows(&one, 94) && credit.allows(&one, 93));
        assert!(!credit.allows(&other, 1));
        assert!(!credit.allows(&SocketAddr::new(one.ip(), 1), 1), "another port is another address");
        credit.spend(&one, 60);
        assert!(!credit.allows(&one, 34) && credit.allows(&one, 33));
        credit.received(&one, 10);
        assert!(credit.allows(&one, 63) && !credit.allows(&one, 64));
    }

    #[test]
    fn h5_a_flood_of_addresses_takes_no_memory_and_gives_nobody_more() {
        let mut credit = Credit::new();
        let honest = address(0);
        credit.received(&honest, 1200);
        credit.spend(&honest, 3600);
        let flood = 4 * UNPROVEN_ADDRESSES as u32;
        for n in 1..=flood {
            credit.received(&address(n), 1200);
        }
        assert_eq!(credit.sets.len() * WAYS, UNPROVEN_ADDRESSES);
        assert!(!credit.allows(&honest, 1), "what was sent is not forgotten with the address");
        credit.received(&honest, 100);
        assert!(credit.allows(&honest, 300) && !credit.allows(&honest, 301));
    }

    /// At 8,000 new addresses a second a handshake of a second is not disturbed.
    #[test]
    fn h5_an_address_outlives_a_flood_of_a_second() {
        let mut credit = Credit::new();
        for n in 0..1000 {
            credit.received(&address(n), 1200);
        }
        for n in 1000..9000 {
            credit.received(&address(n), 1200);
        }
        let kept = (0..1000).filter(|n| credit.allows(&address(*n), 3600)).count();
        assert!(kept >= 995, "{kept} of 1000");
    }
}
