//! TLS tickets: a client that comes back shows one in place of a whole handshake, to whichever gateway has the keys.
//!
//! A ticket is the name of its key, a nonce, and under AES-256-GCM the time of its making and what TLS wants to remember.
//! Whoever shows one is no better known than before: its token is checked as ever.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use rustls::server::ProducesTickets;

use crate::config::{NoRandomness, TicketKeys};
use crate::limits::{TICKET_CLOCK_SKEW, TICKET_LIFETIME, TICKET_ROTATION};

/// Bytes by which a ticket names its key.
const NAME: usize = 16;

/// Bytes of the time of its making, seconds since 1970.
const TIME: usize = 8;

/// One key, and the name by which tickets know it. All gateways derive the same name from it.
struct TicketKey {
    name: [u8; NAME],
    key: RandomizedNonceKey,
}

impl TicketKey {
    fn new(secret: &[u8; 32]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"name of a ticket key");
        let key = RandomizedNonceKey::new(&AES_256_GCM, secret).expect("a key of AES-256 has 32 bytes");
        Self { name: *tag.as_ref().first_chunk().expect("a tag of SHA-256 has 32 bytes"), key }
    }

    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let mut sealed = [&now.to_be_bytes(), plain].concat();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(self.name), &mut sealed).ok()?;
        Some([&self.name[..], nonce.as_ref(), &sealed].concat())
    }
}

/// Seals and opens the tickets of a process: one for all its workers and transports, and for all its certificates.
pub(crate) struct Tickets {
    sealed_with: RwLock<Arc<[TicketKey]>>,
    /// The keys of this process alone, with the time of the last rotation; none where a file has them.
    own: RwLock<Option<(TicketKeys, Instant)>>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// With the keys of the file; without any, with keys of its own that are rotated as time goes by.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn new(keys: Option<&TicketKeys>, now: Instant) -> Result<Self, NoRandomness> {
        let tickets = Self { sealed_with: RwLock::new(Arc::new([])), own: RwLock::new(None) };
        tickets.use_keys(keys, now)?;
        Ok(tickets)
    }

    /// The same keys from now on. Tickets under keys that are gone are no longer taken; their clients shake hands in full.
    ///
    /// # Errors
    /// [`NoRandomness`]; then the keys are those of before.
    pub(crate) fn use_keys(&self, keys: Option<&TicketKeys>, now: Instant) -> Result<(), NoRandomness> {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        *own = match keys {
            Some(keys) => {
                self.install(keys);
                None
            }
            // It had none of a file before either.
            None if own.is_some() => return Ok(()),
            None => {
                let keys = TicketKeys::generate()?;
                self.install(&keys);
                Some((keys, now))
            }
        };
        Ok(())
    }

    fn install(&self, keys: &TicketKeys) {
        let keys = keys.iter().map(TicketKey::new).collect();
        *self.sealed_with.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn keys(&self) -> Arc<[TicketKey]> {
        Arc::clone(&self.sealed_with.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a new key ahead of those of the process, if it is time.
    fn rotate(&self, now: Instant) {
        let is_due = |own: &Option<(TicketKeys, Instant)>| {
            own.as_ref().is_some_and(|(_, since)| now.saturating_duration_since(*since) >= TICKET_ROTATION)
        };
        if !is_due(&self.own.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        if is_due(&own)
            && let Some((keys, since)) = &mut *own
            && let Ok(rotated) = keys.rotated()
        {
            self.install(&rotated);
            (*keys, *since) = (rotated, now);
        }
    }

    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        self.keys().first()?.seal(plain, now)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let opened = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(*name), &mut sealed)
            .ok()?;
        let (made, plain) = opened.split_first_chunk::<TIME>()?;
        is_valid(u64::from_be_bytes(*made), now).then(|| plain.to_vec())
    }
}

/// A ticket may come from a gateway whose clock is ahead of ours.
fn is_valid(made: u64, now: u64) -> bool {
    made <= now.saturating_add(TICKET_CLOCK_SKEW.as_secs())
        && now.saturating_sub(made) <= TICKET_LIFETIME.as_secs()
}

fn seconds() -> u64 {
    // Before 1970 no ticket is valid for long, and none is needed.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFETIME.as_secs().try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.rotate(Instant::now());
        self.seal(plain, seconds())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn with(keys: &TicketKeys) -> Tickets {
        Tickets::new(Some(keys), Instant::now()).unwrap()
    }

    #[test]
    fn c28_a_ticket_is_opened_by_whoever_has_its_key_among_the_newest_three() {
        let mut keys = TicketKeys::generate().unwrap();
        let ticket = with(&keys).seal(b"session", NOW).unwrap();
        assert_ne!(with(&keys).seal(b"session", NOW).unwrap(), ticket, "each has a nonce of its own");
        for _ in 0..3 {
            assert_eq!(with(&keys).open(&ticket, NOW).as_deref(), Some(b"session".as_slice()));
            keys = keys.rotated().unwrap();
        }
        assert_eq!(with(&keys).open(&ticket, NOW), None, "three rotations");
        assert_eq!(with(&TicketKeys::generate().unwrap()).open(&ticket, NOW), None, "somebody else");
    }

    #[test]
    fn c28_what_is_not_whole_is_opened_by_nobody() {
        let tickets = with(&TicketKeys::generate().unwrap());
        let ticket = tickets.seal(b"session", NOW).unwrap();
        for end in 0..ticket.len() {
            assert_eq!(tickets.open(&ticket[..end], NOW), None, "{end} bytes");
        }
        for bit in 0..ticket.len() * 8 {
            let mut changed = ticket.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tickets.open(&changed, NOW), None, "bit {bit}");
        }
        assert_eq!(tickets.open(&[ticket, vec![0]].concat(), NOW), None);
    }

    #[test]
    fn c28_a_ticket_ends_with_its_lifetime_and_clocks_may_differ() {
        let tickets = with(&TicketKeys::generate().unwrap());
        let ticket = tickets.seal(b"", NOW).unwrap();
        let opens = |now| tickets.open(&ticket, now).is_some();
        let (life, skew) = (TICKET_LIFETIME.as_secs(), TICKET_CLOCK_SKEW.as_secs());
        assert!(opens(NOW) && opens(NOW + life) && opens(NOW - skew));
        assert!(!opens(NOW + life + 1) && !opens(NOW - skew - 1) && !opens(0));
    }

    #[test]
    fn c28_keys_of_the_process_are_rotated_so_that_each_ticket_has_its_lifetime() {
        let start = Instant::now();
        let tickets = Tickets::new(None, start).unwrap();
        let first = tickets.seal(b"", NOW).unwrap();
        tickets.rotate(start + TICKET_ROTATION - Duration::from_secs(1));
        assert_eq!(tickets.keys().len(), 1);
        let mut at = start;
        for count in [2, 3, 3] {
            at += TICKET_ROTATION;
            assert!(at - start > TICKET_LIFETIME || tickets.open(&first, NOW).is_some());
            tickets.rotate(at);
            tickets.rotate(at);
            assert_eq!(tickets.keys().len(), count);
        }
        assert!(tickets.open(&first, NOW).is_none());
    }

    #[test]
    fn c28_a_file_of_keys_that_changes_takes_effect_and_none_changes_nothing() {
        let (keys, now) = (TicketKeys::generate().unwrap(), Instant::now());
        let tickets = Tickets::new(None, now).unwrap();
        let own = tickets.seal(b"", NOW).unwrap();
        tickets.use_keys(None, now).unwrap();
        assert!(tickets.open(&own, NOW).is_some());
        tickets.use_keys(Some(&keys), now).unwrap();
        assert!(tickets.open(&own, NOW).is_none());
        let shared = tickets.seal(b"", NOW).unwrap();
        tickets.use_keys(Some(&keys.rotated().unwrap()), now).unwrap();
        assert!(tickets.open(&shared, NOW).is_some());
        tickets.rotate(now + TICKET_ROTATION);
        assert_eq!(tickets.keys().len(), 2, "a file is rotated by its owner");
    }
}
