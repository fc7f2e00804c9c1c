//! The hash of a channel id, for the table that every push looks its receivers up in.

use std::hash::Hasher;

/// An odd number without a pattern: the golden ratio in 64 bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hashes the end of an id, which is the end of a number that counts up (protocol §4.2): nobody but this process chooses it,
/// so none of those in the table were made to collide, whatever their accounts are. A lookup of an id that is not there
/// costs what one costs that is.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, id: &[u8]) {
        let end = match id.last_chunk::<8>() {
            Some(end) => u64::from_le_bytes(*end),
            None => id.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
        let spread = u128::from(end ^ SPREAD) * u128::from(SPREAD);
        // Both ends of a hash are used: the upper for comparing, the lower for finding a place.
        self.0 = (spread >> 64) as u64 ^ spread as u64;
    }

    fn write_u8(&mut self, _end_of_text: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;

    #[test]
    fn ids_that_count_up_are_spread_over_places_and_marks() {
        let hash = |id: &str| BuildHasherDefault::<IdHasher>::default().hash_one(id);
        let hashes: Vec<_> =
            (0..65_536u64).map(|n| hash(&format!("gate01_u{n}_{}", 7_651_234_567_890_123_456 + n))).collect();
        let places: HashSet<_> = hashes.iter().map(|hash| hash & 0xFFFF).collect();
        let marks: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
        // Random ones would fill 63 % of the places.
        assert!(places.len() > 65_536 / 2, "{}", places.len());
        assert_eq!(marks.len(), 128);
        assert_ne!(hash("a"), hash("b"));
    }
}
