//! The names of channels: unique over all gateways and over restarts (protocol §4.2, row H19).

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;

/// A number has so many bits below the milliseconds: more than a million sign-ins in each, which is beyond any process.
/// So a later life begins above all numbers of the one before, as long as the clock goes forward.
const COUNTER_BITS: u32 = 20;

/// The counter begins at a random number of so many bits. Where the clock was set back, and the same milliseconds come
/// again, an account that signs in once in each life gets the same number with a probability of at most 2^-30, whatever
/// the clocks say. It moves the begin of a life by a second at most: two lives that begin further apart than that cannot
/// meet.
const RANDOM_BITS: u32 = 30;

/// So many numbers of a life are set aside where that is remembered: 131 s of milliseconds, 2,500 sign-ins a second for
/// twenty months.
const RESERVED: u64 = 1 << 37;

/// The numbers of one life of a gateway, over all its workers: each has an id of its own in front of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The first.
    pub(crate) first: u64,
    /// All below may have been given out; what the next life begins with, if it remembers.
    pub(crate) taken_below: u64,
}

impl Numbers {
    /// A life that begins so many milliseconds (below 2^43) after 2020. `taken_below` is what the last life left, if that
    /// is known: then no number comes twice, wherever the clock went.
    pub(crate) fn new(millis: u64, random: u64, taken_below: Option<u64>) -> Self {
        let first = (millis << COUNTER_BITS) + (random & ((1 << RANDOM_BITS) - 1));
        let first = first.max(taken_below.unwrap_or(0));
        Self { first, taken_below: first.saturating_add(RESERVED) }
    }
}

/// Channel ids of one worker: `{gate}_{account}_{n}` (protocol §4.2).
#[derive(Debug)]
pub(crate) struct ChannelIds {
    /// The gateway id, escaped, and an underscore.
    head: String,
    next: Cell<u64>,
}

impl ChannelIds {
    /// Numbers begin at `first`.
    pub(crate) fn new(gate_id: &str, first: u64) -> Self {
        let mut head = String::new();
        push_escaped(&mut head, gate_id);
        head.push('_');
        Self { head, next: Cell::new(first) }
    }

    /// The next id. Whatever gateway id and account hold, it has no comma, and two underscores.
    pub(crate) fn generate_channel_id(&self, account: &str) -> Rc<str> {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let mut id = String::with_capacity(self.head.len() + account.len() + 24);
        id.push_str(&self.head);
        push_escaped(&mut id, account);
        write!(id, "_{number}").expect("a String takes everything");
        id.into()
    }
}

/// As gateway ids and accounts stand in a channel id.
fn push_escaped(id: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => id.push(char::from(byte)),
            other => write!(id, "%{other:02X}").expect("a String takes everything"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b17_channel_ids_never_hold_what_the_account_holds() {
        let ids = ChannelIds::new("gate01", 3_145_728);
        assert_eq!(&*ids.generate_channel_id("alice"), "gate01_alice_3145728");
        assert_eq!(&*ids.generate_channel_id("a,b_c\u{7528}"), "gate01_a%2Cb%5Fc%E7%94%A8_3145729");
        // kim makes its gateway ids so, of the address of the machine.
        let ids = ChannelIds::new("gate_1721604-1", 3_145_728);
        assert_eq!(&*ids.generate_channel_id("al_ice"), "gate%5F1721604-1_al%5Fice_3145728");
    }

    /// `n` is the milliseconds at the start × 2^20 and a counter (protocol §4.2).
    #[test]
    fn h19_a_number_tells_when_its_gateway_started_to_a_second() {
        for random in [0, 1 << 29, u64::MAX] {
            let Numbers { first, .. } = Numbers::new(200_000_000_000, random, None);
            assert!((200_000_000_000..200_000_001_024).contains(&(first >> 20)), "{random}");
        }
        let latest = Numbers::new((1 << 43) - 1, u64::MAX, None);
        assert!(latest.taken_below < 1 << 63 | 1 << 40, "no clock leads to an overflow");
    }

    #[test]
    fn h19_lives_of_a_clock_that_goes_forward_never_meet() {
        let first = Numbers::new(1_000_000, u64::MAX, None);
        let second = Numbers::new(1_001_025, 0, None);
        assert!(second.first > first.first, "a second later, in the worst case of both random");
    }

    #[test]
    fn h19_the_same_millisecond_again_does_not_give_the_same_numbers() {
        let firsts: std::collections::HashSet<_> =
            (0..1000u64).map(|random| Numbers::new(7, random << 20, None).first).collect();
        assert_eq!(firsts.len(), 1000, "every bit of the random counts");
    }

    #[test]
    fn h19_what_is_remembered_is_never_given_again_wherever_the_clock_goes() {
        let mut last = Numbers::new(5_000_000, 77, None);
        for millis in [4_000_000, 5_000_000, 5_000_001, 0, 9_000_000, 8_999_999] {
            let next = Numbers::new(millis, 12, Some(last.taken_below));
            assert!(next.first >= last.taken_below, "{millis}");
            last = next;
        }
        assert!(last.first >> 20 < 9_000_000 + 3 * 131_073, "it runs ahead no further than it must");
    }
}
