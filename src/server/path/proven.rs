//! The addresses that have proven themselves.

use std::array;
use std::collections::HashMap;
use std::net::SocketAddr;

use crate::session::spare;

/// Parts of the table, by port: no packet waits for a large table to grow.
const PARTS: usize = 64;

/// How many connections are at each address: as many entries as there are connections at most, and none stays behind.
#[derive(Debug)]
pub(super) struct Proven([HashMap<SocketAddr, u32>; PARTS]);

impl Proven {
    pub(super) fn new() -> Self {
        Self(array::from_fn(|_| HashMap::new()))
    }

    /// Returns `true` if a connection is there.
    pub(super) fn holds(&self, address: &SocketAddr) -> bool {
        self.0[part(address)].contains_key(address)
    }

    /// A connection is there from now on.
    pub(super) fn enter(&mut self, address: SocketAddr) {
        *self.0[part(&address)].entry(address).or_default() += 1;
    }

    /// One of its connections is not there any more.
    pub(super) fn leave(&mut self, address: SocketAddr) {
        let part = &mut self.0[part(&address)];
        if let Some(connections) = part.get_mut(&address) {
            *connections -= 1;
            if *connections == 0 {
                part.remove(&address);
                spare::shrink_map(part);
            }
        }
    }
}

fn part(address: &SocketAddr) -> usize {
    usize::from(address.port()) % PARTS
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::server::path::credit::Credit;

    fn address(number: u32) -> SocketAddr {
        SocketAddr::from(((0x0A00_0000 + number / 8).to_be_bytes(), 40_000 + (number % 20_000) as u16))
    }

    fn room(proven: &Proven) -> usize {
        proven.0.iter().map(HashMap::capacity).sum()
    }

    #[test]
    fn h22_the_addresses_of_a_crowd_are_spread_and_their_room_is_given_back() {
        let mut proven = Proven::new();
        (0..20_000).for_each(|number| proven.enter(address(number)));
        proven.enter(address(7));
        let largest = proven.0.iter().map(HashMap::len).max().unwrap();
        assert!(largest <= 4 * 20_000 / PARTS, "{largest} in one part");
        (0..20_000).for_each(|number| proven.leave(address(number)));
        assert!(proven.holds(&address(7)) && !proven.holds(&address(8)), "two were there");
        proven.leave(address(7));
        assert!(!proven.holds(&address(7)));
        assert!(room(&proven) <= PARTS * 2 * spare::KEPT, "{}", room(&proven));
    }

    /// Run it optimised and alone: `just measure`.
    #[test]
    #[ignore = "measures"]
    fn h22_what_addresses_cost() {
        const CROWD: u32 = 200_000;
        let mut proven = Proven::new();
        let mut longest = Duration::ZERO;
        for number in 0..CROWD {
            let begun = Instant::now();
            proven.enter(address(number));
            longest = longest.max(begun.elapsed());
        }
        let bytes = room(&proven) * 8 / 7 * (size_of::<(SocketAddr, u32)>() + 1);
        println!("proven: {} bytes each, the longest step {longest:?}", bytes / CROWD as usize);
        let scattered = |number: u32| address(number.wrapping_mul(7_919) % CROWD);
        let begun = Instant::now();
        let found = (0..CROWD).filter(|number| proven.holds(&scattered(*number))).count();
        println!("a packet of one that has proven: {:?}", begun.elapsed() / CROWD);
        assert_eq!(found, CROWD as usize);
        let mut credit = Credit::new();
        let begun = Instant::now();
        for number in 0..CROWD {
            credit.received(&scattered(number), 1200);
            assert!(credit.allows(&scattered(number), 1200));
            credit.spend(&scattered(number), 1200);
        }
        println!("a packet of one that has not, and an answer: {:?}", begun.elapsed() / CROWD);
    }
}
