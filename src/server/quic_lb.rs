//! QUIC-LB: connection ids in which a balancer finds the server they lead to (draft-ietf-quic-load-balancers-21). Pure:
//! nonces are passed in, or counted from a start that is.
//!
//! ```text
//! 3 bits         config id: which of the balancer's configurations the id follows; 7: none of them
//! 5 bits         how many bytes follow, or bits without a meaning
//! 1 to 15 bytes  server id    both in clear or encrypted as one, 19 bytes at most
//! 4 to 18 bytes  nonce
//! ```

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use quinn_proto::ConnectionId;

use crate::config::{QuicLb, QuicLbKey};

/// The config id of ids that no balancer can read.
const UNROUTABLE: u8 = 0b111;

/// Server id and nonce, at most.
const MOST_BYTES: usize = 19;

/// A block of AES: with exactly as many bytes, they are encrypted at once.
const BLOCK: usize = 16;

/// Writes and reads the ids of one configuration.
pub(crate) struct LbCodec {
    lb: QuicLb,
    cipher: Cipher,
}

enum Cipher {
    Plaintext,
    SinglePass(Box<(EncryptingKey, DecryptingKey)>),
    FourPass(Box<FourPass>),
}

/// Server id and nonce, one behind the other.
type Fields = [u8; MOST_BYTES];

impl LbCodec {
    pub(crate) fn new(lb: &QuicLb) -> Self {
        let cipher = match &lb.key {
            None => Cipher::Plaintext,
            Some(key) if lb.id_len() == 1 + BLOCK => {
                let decrypting = DecryptingKey::ecb(unbound(key)).expect(AES_HAS_ECB);
                Cipher::SinglePass(Box::new((encrypting(key), decrypting)))
            }
            Some(key) => Cipher::FourPass(Box::new(FourPass::new(key))),
        };
        Self { lb: lb.clone(), cipher }
    }

    /// The id of this server with a nonce, of which no more than the configured length counts. `spare` are five bits
    /// that say nothing.
    pub(crate) fn encode(&self, nonce: &[u8], spare: u8) -> ConnectionId {
        let (server, len) = (self.lb.server_id.len(), self.lb.id_len());
        let mut id = [0; 1 + MOST_BYTES];
        id[0] = first_octet(self.lb.config_id, if self.lb.encode_length { len - 1 } else { spare.into() });
        id[1..=server].copy_from_slice(&self.lb.server_id);
        id[1 + server..len].copy_from_slice(&nonce[..self.lb.nonce_length]);
        match &self.cipher {
            Cipher::Plaintext => {}
            Cipher::SinglePass(keys) => encrypt_block(&keys.0, &mut id[1..len]),
            Cipher::FourPass(passes) => passes.encrypt(&mut id[1..len]),
        }
        ConnectionId::new(&id[..len])
    }

    /// Server id and nonce of an id of this configuration, whichever server it leads to.
    pub(crate) fn decode(&self, id: &[u8]) -> Option<Fields> {
        let (first, rest) = id.split_first()?;
        if first >> 5 != self.lb.config_id || id.len() != self.lb.id_len() {
            return None;
        }
        let mut fields = [0; MOST_BYTES];
        let used = &mut fields[..rest.len()];
        used.copy_from_slice(rest);
        match &self.cipher {
            Cipher::Plaintext => {}
            Cipher::SinglePass(keys) => {
                keys.1.decrypt(used, DecryptionContext::None).expect(WHOLE_BLOCK);
            }
            Cipher::FourPass(passes) => passes.decrypt(used),
        }
        Some(fields)
    }

    /// Returns `true` if the id follows this configuration and leads to this server.
    pub(crate) fn is_own(&self, id: &[u8]) -> bool {
        self.decode(id).is_some_and(|fields| fields.starts_with(&self.lb.server_id))
    }
}

/// The first byte of an id that no balancer can read, `following` bytes before its end (section 3.2 of the draft).
pub(crate) fn unroutable_octet(following: usize) -> u8 {
    first_octet(UNROUTABLE, following)
}

fn first_octet(config_id: u8, low_bits: usize) -> u8 {
    config_id << 5 | (low_bits & 0b1_1111) as u8
}

const AES_HAS_ECB: &str = "AES-128 takes 16 bytes of key and knows ECB";

const WHOLE_BLOCK: &str = "ECB takes whole blocks";

fn unbound(key: &QuicLbKey) -> UnboundCipherKey {
    UnboundCipherKey::new(&AES_128, &key.0).expect(AES_HAS_ECB)
}

fn encrypting(key: &QuicLbKey) -> EncryptingKey {
    EncryptingKey::ecb(unbound(key)).expect(AES_HAS_ECB)
}

fn encrypt_block(key: &EncryptingKey, block: &mut [u8]) {
    key.encrypt(block).expect(WHOLE_BLOCK);
}

/// The draft's permutation of texts that are no block: four rounds of a Feistel network around AES (section 5.4.2).
struct FourPass(EncryptingKey);

impl FourPass {
    const PASSES: std::ops::RangeInclusive<u8> = 1..=4;

    fn new(key: &QuicLbKey) -> Self {
        Self(encrypting(key))
    }

    fn encrypt(&self, text: &mut [u8]) {
        self.turn(text, Self::PASSES);
    }

    /// Each pass is its own inverse.
    fn decrypt(&self, text: &mut [u8]) {
        self.turn(text, Self::PASSES.rev());
    }

    fn turn(&self, text: &mut [u8], passes: impl Iterator<Item = u8>) {
        let mut halves = Halves::split(text);
        for pass in passes {
            let (from, to) = match pass % 2 {
                1 => (halves.left, &mut halves.right),
                _ => (halves.right, &mut halves.left),
            };
            let mask = self.mask(&from[..halves.len], text.len(), pass);
            to.iter_mut().zip(mask).take(halves.len).for_each(|(byte, mask)| *byte ^= mask);
            halves.clear_middle(text.len());
        }
        halves.join(text);
    }

    /// One half of a text of this length, expanded to a block and encrypted.
    fn mask(&self, half: &[u8], len: usize, pass: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..half.len()].copy_from_slice(half);
        block[BLOCK - 2..].copy_from_slice(&[len as u8, pass]);
        encrypt_block(&self.0, &mut block);
        block
    }
}

/// Of an odd number of bytes each half has four bits of the middle one; its other four stay 0.
struct Halves {
    left: [u8; MOST_BYTES.div_ceil(2)],
    right: [u8; MOST_BYTES.div_ceil(2)],
    /// Bytes of each.
    len: usize,
}

impl Halves {
    fn split(text: &[u8]) -> Self {
        let len = text.len().div_ceil(2);
        let mut halves = Self { left: Default::default(), right: Default::default(), len };
        halves.left[..len].copy_from_slice(&text[..len]);
        halves.right[..len].copy_from_slice(&text[text.len() - len..]);
        halves.clear_middle(text.len());
        halves
    }

    fn clear_middle(&mut self, text: usize) {
        if text % 2 == 1 {
            self.left[self.len - 1] &= 0xf0;
            self.right[0] &= 0x0f;
        }
    }

    fn join(&self, text: &mut [u8]) {
        let start = text.len() - self.len;
        text[start..].copy_from_slice(&self.right[..self.len]);
        let middle = if start < self.len { self.right[0] } else { 0 };
        text[..self.len].copy_from_slice(&self.left[..self.len]);
        text[self.len - 1] |= middle;
    }
}

/// Nonces of one configuration: none comes twice, and none tells anything about another (section 9.6 of the draft). A
/// counter does the first, whatever the length; random ones of 4 bytes would repeat after 65,000. It is permuted under a
/// key of the gateway's own, so that nobody can link nonces in clear or guess encrypted ones. It begins at a random
/// place: where the process before began to count is not known, and that both meet is as unlikely as they are short.
pub(crate) struct Nonces {
    permutation: FourPass,
    start: u64,
    drawn: u64,
    len: usize,
}

/// A nonce, behind whose length zeros follow, and five bits that tell as little.
pub(crate) struct Nonce {
    pub(crate) bytes: [u8; MOST_BYTES],
    pub(crate) spare: u8,
}

impl Nonces {
    /// Nonces of so many bytes. The key is the gateway's own, and the same after a restart; `start` is random.
    pub(crate) fn new(key: &QuicLbKey, start: u64, len: usize) -> Self {
        Self { permutation: FourPass::new(key), start, drawn: 0, len }
    }

    /// How many have been drawn.
    #[cfg(test)]
    pub(crate) fn drawn(&self) -> u64 {
        self.drawn
    }

    /// How many there are.
    fn available(&self) -> u64 {
        u32::try_from(8 * self.len).ok().and_then(|bits| 1u64.checked_shl(bits)).unwrap_or(u64::MAX)
    }
}

impl Iterator for Nonces {
    type Item = Nonce;

    /// Ends when all have been drawn.
    fn next(&mut self) -> Option<Nonce> {
        if self.drawn == self.available() {
            return None;
        }
        let counter = self.start.wrapping_add(self.drawn).to_be_bytes();
        self.drawn += 1;
        let mut bytes = [0; MOST_BYTES];
        let counted = self.len.min(counter.len());
        bytes[self.len - counted..self.len].copy_from_slice(&counter[counter.len() - counted..]);
        let text = &mut bytes[..self.len];
        self.permutation.encrypt(text);
        // No pass has this number.
        let [spare, ..] = self.permutation.mask(&text[..self.len.div_ceil(2)], self.len, 0);
        Some(Nonce { bytes, spare: spare >> 3 })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn codec(config_id: u8, server_id: &[u8], nonce_length: usize, key: Option<[u8; 16]>) -> LbCodec {
        let (server_id, key) = (server_id.to_vec(), key.map(QuicLbKey));
        LbCodec::new(&QuicLb { config_id, server_id, nonce_length, key, encode_length: true })
    }

    /// Appendix B of the draft, and the example of section 5.4.2 behind it. Two are printed with mistakes: the second nonce
    /// lacks its last digit, which is 0 here, and the last id begins with config id 0, although it stands there as of 3.
    #[test]
    fn the_vectors_of_the_draft() {
        const KEY: &str = "8f95f09245765f80256934e50c66207f";
        for (config_id, server_id, nonce, key, id) in [
            (0, "c4605e", "4504cc4f", "", "07c4605e4504cc4f"),
            (1, "350d28b420", "3487d970b0", "", "2a350d28b4203487d970b0"),
            (0, "ed793a", "ee080dbf", KEY, "0720b1d07b359d3c"),
            (1, "ed793a51d49b8f5fab65", "ee080dbf48", KEY, "2fcc381bc74cb4fbad2823a3d1f8fed2"),
            (2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", KEY, "504dd2d05a7b0de9b2b9907afb5ecf8cc3"),
            (0, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", KEY, "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"),
            (0, "31441a", "9c69c275", "fdf726a9893ec05c0632d3956680baf0", "0767947d29be054a"),
        ] {
            let (server_id, nonce, id) = (bytes(server_id), bytes(nonce), bytes(id));
            let codec = codec(config_id, &server_id, nonce.len(), bytes(key).try_into().ok());
            assert_eq!(codec.encode(&nonce, 0)[..], id, "{server_id:02x?} {nonce:02x?}");
            let fields = codec.decode(&id).unwrap();
            assert_eq!(fields[..id.len() - 1], [server_id, nonce].concat());
            assert!(codec.is_own(&id));
        }
    }

    #[test]
    fn every_length_comes_back_under_every_algorithm() {
        for (server, nonce) in (1..=15).flat_map(|server| (4..=18).map(move |nonce| (server, nonce))) {
            if server + nonce > MOST_BYTES {
                continue;
            }
            for key in [None, Some([0x5a; 16])] {
                let server_id: Vec<_> = (1..=server).map(|byte| byte as u8 * 17).collect();
                let own = codec(6, &server_id, nonce, key);
                let text: Vec<_> = (0..nonce).map(|byte| 200 - byte as u8).collect();
                let id = own.encode(&text, 0);
                assert_eq!((id.len(), id[0]), (1 + server + nonce, 0b110_00000 | (server + nonce) as u8));
                assert_eq!(own.decode(&id).unwrap()[..server + nonce], [&server_id[..], &text].concat());
                let mut other_server = server_id.clone();
                other_server[server - 1] ^= 1;
                assert!(own.is_own(&id) && !codec(6, &other_server, nonce, key).is_own(&id));
                assert!(!codec(5, &server_id, nonce, key).is_own(&id), "another configuration");
                assert!((0..id.len()).all(|len| !own.is_own(&id[..len])));
                let visible = id[1..].windows(server).any(|part| part == server_id);
                assert!(key.is_none() == visible || server < 3, "{server} {nonce}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            server_id in proptest::collection::vec(any::<u8>(), 1..=15),
            nonce in proptest::collection::vec(any::<u8>(), 4..=18),
            key: Option<[u8; 16]>,
            config_id in 0u8..=6,
            spare in 0u8..32,
        ) {
            prop_assume!(server_id.len() + nonce.len() <= MOST_BYTES);
            let lb = QuicLb {
                config_id,
                server_id,
                nonce_length: nonce.len(),
                key: key.map(QuicLbKey),
                encode_length: false,
            };
            let codec = LbCodec::new(&lb);
            let id = codec.encode(&nonce, spare);
            prop_assert_eq!((id.len(), id[0]), (lb.id_len(), config_id << 5 | spare));
            let fields = codec.decode(&id).unwrap();
            prop_assert_eq!(&fields[..id.len() - 1], &[lb.server_id, nonce].concat()[..]);
        }

        #[test]
        fn noise_is_read_without_harm(
            id in proptest::collection::vec(any::<u8>(), 0..=24),
            key: Option<[u8; 16]>,
            nonce in 4usize..=16,
        ) {
            let own = codec(0, &[1, 2, 3], nonce, key);
            let id_fits = id.first().is_some_and(|first| first >> 5 == 0) && id.len() == 4 + nonce;
            prop_assert_eq!(own.decode(&id).is_some(), id_fits);
        }
    }

    /// Two bytes are not allowed, but they can all be drawn.
    #[test]
    fn every_nonce_comes_once_wherever_the_count_begins_and_then_they_end() {
        for start in [0, 1 << 15, u64::MAX] {
            let drawn =
                || Nonces::new(&QuicLbKey([7; 16]), start, 2).map(|nonce| [nonce.bytes[0], nonce.bytes[1]]);
            assert_eq!(drawn().collect::<HashSet<_>>().len(), 1 << 16);
            assert_eq!(drawn().count(), 1 << 16, "from {start}");
        }
    }

    #[test]
    fn nonces_of_every_length_are_distinct_and_look_like_noise() {
        for len in 4..=18 {
            let nonces: Vec<_> = Nonces::new(&QuicLbKey([7; 16]), 3, len).take(4_000).collect();
            let distinct: HashSet<_> = nonces.iter().map(|nonce| nonce.bytes).collect();
            assert_eq!(distinct.len(), nonces.len());
            assert!(nonces.iter().all(|nonce| nonce.bytes[len..].iter().all(|byte| *byte == 0)));
            for bit in 0..8 * len {
                let ones = nonces.iter().filter(|nonce| nonce.bytes[bit / 8] >> (bit % 8) & 1 == 1).count();
                // Six standard deviations of 31.6.
                assert!(ones.abs_diff(2_000) < 190, "bit {bit} of {len} bytes: {ones} of 4,000");
            }
            let spare: HashSet<_> = nonces.iter().map(|nonce| nonce.spare).collect();
            assert_eq!((spare.len(), spare.iter().max()), (32, Some(&31)));
        }
    }
}
