//! Whether a client that goes on sending acknowledges what it is sent (row C9). quinn keeps what is not acknowledged and
//! tells nobody, so a client that takes part in everything but acknowledgements would hold it for good. Pure: time is
//! passed in.
//!
//! A client that cannot hear must not be taken for one that does not answer: after an outage quinn's next probe may be
//! as far away as the outage was long. So a packet counts only if the client was heard shortly before it and shortly
//! after it, and any acknowledgement of one begins the count anew. A client that sends less often than that is not
//! judged here; what it holds stays within `limits.quic_send_window`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long before and after a packet the client must have been heard for the packet to count. In an outage of less
/// than this quinn's probes are so close to each other that one is answered before any stall is over.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// Packets that must have counted, because any of them may have been lost.
const ENOUGH: u32 = 3;

/// Ranges of unacknowledged packets that are told apart; beyond that what stands between two is taken for one of them.
const RANGES: usize = 32;

/// The packets with data of streams and their acknowledgement, by packet number (RFC 9000 section 12.3).
#[derive(Debug)]
pub(super) struct Acks {
    /// First and last of each range, oldest first.
    unacked: VecDeque<(u64, u64)>,
    /// The largest packet number of the client. A copy of an earlier packet is no sign of life.
    largest_heard: Option<u64>,
    heard: Instant,
    /// Sent since then, the first of them at the time beside it.
    sent_since: Option<(Instant, u32)>,
    /// When the first packet that counts was sent, and how many do.
    counted: Option<(Instant, u32)>,
}

impl Acks {
    pub(super) const fn new(now: Instant) -> Self {
        Self { unacked: VecDeque::new(), largest_heard: None, heard: now, sent_since: None, counted: None }
    }

    /// A packet with data of a stream was made.
    pub(super) fn sent(&mut self, packet: u64, now: Instant) {
        let is_full = self.unacked.len() == RANGES;
        match self.unacked.back_mut() {
            Some((_, last)) if is_full || packet == *last + 1 => *last = packet,
            _ => self.unacked.push_back((packet, packet)),
        }
        if now.saturating_duration_since(self.heard) <= HEARD_WITHIN {
            let (first, count) = self.sent_since.unwrap_or((now, 0));
            self.sent_since = Some((first, count + 1));
        }
    }

    /// Returns `true` if something that was sent is not acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        !self.unacked.is_empty()
    }

    /// The packets from `first` to `last` are acknowledged.
    pub(super) fn acknowledged(&mut self, first: u64, last: u64) {
        let is_news = self.unacked.iter().any(|(from, to)| *from <= last && first <= *to);
        if !is_news {
            return;
        }
        // What is older is acknowledged as well, or lost, and then it is sent again under another number.
        self.unacked.retain_mut(|(from, to)| {
            *from = (*from).max(last + 1);
            from <= to
        });
        (self.sent_since, self.counted) = (None, None);
    }

    /// Packet number `packet` of the client came; what it acknowledges was told before. Returns `true` if the client
    /// has acknowledged nothing for as long as `stall`, although it could have.
    pub(super) fn heard(&mut self, packet: u64, now: Instant, stall: Duration) -> bool {
        if self.largest_heard.is_some_and(|largest| packet <= largest) {
            return false;
        }
        self.largest_heard = Some(packet);
        self.heard = now;
        if let Some((first, count)) = self.sent_since.take()
            && now.saturating_duration_since(first) <= HEARD_WITHIN
        {
            let (since, before) = self.counted.unwrap_or((first, 0));
            self.counted = Some((since, before.saturating_add(count)));
        }
        self.counted
            .is_some_and(|(since, count)| count >= ENOUGH && now.saturating_duration_since(since) >= stall)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    /// A connection at one moment of an injected time.
    struct Client {
        acks: Acks,
        now: Instant,
        sent: u64,
        heard: u64,
        /// The data of streams that reached the client.
        arrived: Option<u64>,
    }

    impl Client {
        fn new() -> Self {
            let now = Instant::now();
            Self { acks: Acks::new(now), now, sent: 0, heard: 0, arrived: None }
        }

        /// The gateway sends data of a stream; every other packet number is of something else.
        fn send(&mut self) -> u64 {
            self.sent += 2;
            self.acks.sent(self.sent, self.now);
            self.sent
        }

        fn hear(&mut self) -> bool {
            self.heard += 1;
            self.acks.heard(self.heard, self.now, STALL)
        }

        /// Data is sent at the beginning of an outage, and probes at growing distances, as quinn does. Outside the outage
        /// the client sends a packet in every `every` milliseconds and does `answer`. When it is stalled, in milliseconds;
        /// none within two minutes.
        fn stalled_after(
            mut self,
            every: u32,
            outage: Range<u32>,
            answer: impl Fn(&mut Self),
        ) -> Option<u32> {
            let mut probe = 0;
            for time in (0..120_000).step_by(100) {
                let is_through = !outage.contains(&time);
                if time >= probe && (time == 0 || self.acks.is_waiting()) {
                    probe = 2 * probe + 100;
                    let packet = self.send();
                    self.arrived = self.arrived.max(is_through.then_some(packet));
                }
                if time % every == 0 && is_through {
                    answer(&mut self);
                    if self.hear() {
                        return Some(time);
                    }
                }
                self.now += Duration::from_millis(100);
            }
            None
        }
    }

    fn acknowledges_what_arrived(client: &mut Client) {
        if let Some(packet) = client.arrived {
            client.acks.acknowledged(packet, packet);
        }
    }

    #[test]
    fn c9_one_that_goes_on_sending_and_acknowledges_nothing_is_stalled_after_its_time() {
        for every in [100, 500, 1_000, 2_000] {
            let after = Client::new().stalled_after(every, 0..0, |_| ()).unwrap_or(u32::MAX);
            assert!((10_000..=14_000).contains(&after), "{after} ms, one packet in {every} ms");
        }
    }

    #[test]
    fn c9_to_acknowledge_everything_but_data_of_streams_is_no_progress() {
        let other_packets = |client: &mut Client| client.acks.acknowledged(client.sent + 1, client.sent + 1);
        let after = Client::new().stalled_after(500, 0..0, other_packets);
        assert!(after.is_some_and(|after| after <= 14_000), "{after:?}");
    }

    #[test]
    fn c9_one_that_comes_back_from_an_outage_is_not_stalled_however_long_that_was() {
        for tenths in 0..600 {
            for every in [100, 1_000, 5_000] {
                let outage = 0..tenths * 100;
                let after = Client::new().stalled_after(every, outage, acknowledges_what_arrived);
                assert_eq!(after, None, "an outage of {tenths} tenths of a second, one packet in {every} ms");
            }
        }
    }

    #[test]
    fn c9_any_progress_begins_the_time_anew_and_none_is_needed_when_all_is_there() {
        let mut client = Client::new();
        for _ in 0..20 {
            let sent: Vec<_> = (0..5).map(|_| client.send()).collect();
            for _ in 0..9 {
                assert!(!client.hear());
                client.now += Duration::from_secs(1);
            }
            client.acks.acknowledged(sent[1], sent[1]);
            assert!(!client.hear() && client.acks.is_waiting());
        }
        client.acks.acknowledged(0, client.sent);
        assert!(!client.hear() && !client.acks.is_waiting());
    }

    #[test]
    fn c9_a_copy_of_an_earlier_packet_is_no_sign_of_life() {
        let mut client = Client::new();
        assert!(!client.hear());
        for _ in 0..1_000 {
            client.send();
            client.now += Duration::from_millis(100);
            assert!(!client.acks.heard(1, client.now, STALL));
        }
    }

    #[test]
    fn c9_what_is_remembered_is_bounded_and_no_acknowledgement_is_missed() {
        let mut client = Client::new();
        let sent: Vec<_> = (0..10_000).map(|_| client.send()).collect();
        assert_eq!(client.acks.unacked.len(), RANGES);
        for packet in sent {
            client.acks.counted = Some((client.now, 1));
            client.acks.acknowledged(packet, packet);
            assert_eq!(client.acks.counted, None, "{packet}");
        }
        assert!(!client.acks.is_waiting());
    }
}
