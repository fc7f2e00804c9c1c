//! Whether a client that goes on sending acknowledges what it is sent (row C9). quinn keeps what is not acknowledged and
//! tells nobody, so a client that takes part in everything but acknowledgements would hold it for good. Pure: time is
//! passed in.

use std::time::{Duration, Instant};

/// How often the clock begins anew after a silence of the client. One that comes out of a tunnel could not acknowledge,
/// and what it needs is sent again soon; one that is silent time and again is not in a tunnel.
const RESTARTS: u8 = 3;

/// The packets with data of streams and their acknowledgement, by packet number (RFC 9000 section 12.3).
#[derive(Debug)]
pub(super) struct Acks {
    /// The last packet with data of a stream.
    last_sent: Option<u64>,
    largest_acked: Option<u64>,
    /// Since when nothing was acknowledged although something could have been.
    since: Option<Instant>,
    last_opened: Instant,
    restarts: u8,
}

impl Acks {
    pub(super) const fn new(now: Instant) -> Self {
        Self { last_sent: None, largest_acked: None, since: None, last_opened: now, restarts: 0 }
    }

    /// A packet with data of a stream was made.
    pub(super) fn sent(&mut self, packet: u64, now: Instant) {
        self.last_sent = Some(packet);
        self.since.get_or_insert(now);
    }

    /// Returns `true` if something that was sent is not acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        self.last_sent > self.largest_acked
    }

    /// A packet came, with an acknowledgement up to `largest` or none. Returns `true` if the client has gone on sending
    /// for as long as `stall` and acknowledged nothing.
    pub(super) fn opened(&mut self, largest: Option<u64>, now: Instant, stall: Duration) -> bool {
        let silence = now.saturating_duration_since(self.last_opened);
        self.last_opened = now;
        if largest > self.largest_acked {
            self.largest_acked = largest;
            self.restarts = 0;
            self.since = self.is_waiting().then_some(now);
            return false;
        }
        let Some(since) = self.since else { return false };
        if silence >= stall && self.restarts < RESTARTS {
            self.restarts += 1;
            // It runs again from what is sent next.
            self.since = None;
            return false;
        }
        now.saturating_duration_since(since) >= stall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    struct Client {
        acks: Acks,
        now: Instant,
    }

    impl Client {
        fn new() -> Self {
            let now = Instant::now();
            Self { acks: Acks::new(now), now }
        }

        fn sent(&mut self, packet: u64) {
            self.acks.sent(packet, self.now);
        }

        fn after(&mut self, seconds: u64, largest: Option<u64>) -> bool {
            self.now += Duration::from_secs(seconds);
            self.acks.opened(largest, self.now, STALL)
        }
    }

    #[test]
    fn c9_one_that_goes_on_sending_and_acknowledges_nothing_is_stalled_after_its_time() {
        let mut client = Client::new();
        assert!(!client.after(5, None), "nothing was sent");
        client.sent(0);
        assert!(!client.after(9, None));
        client.sent(7);
        assert!(client.after(1, None), "what is sent later does not set the clock back");
    }

    #[test]
    fn c9_any_progress_begins_the_time_anew_and_none_is_needed_when_all_is_there() {
        let mut client = Client::new();
        client.sent(3);
        client.sent(9);
        assert!(!client.after(9, Some(3)));
        assert!(!client.after(9, Some(3)), "the same again is no progress, but its time is not over");
        assert!(!client.after(0, Some(9)) && !client.acks.is_waiting());
        assert!((0..100).all(|_| !client.after(1, None)));
        client.sent(10);
        assert!(!client.after(9, None));
        assert!(client.after(1, Some(9)));
    }

    #[test]
    fn c9_one_that_was_silent_is_given_its_time_again_but_not_for_ever() {
        let mut client = Client::new();
        client.sent(1);
        for silence in 0..RESTARTS {
            assert!(!client.after(60, None), "{silence}");
            assert!(
                (0..60).all(|_| !client.after(1, None)),
                "nothing was sent that it could have acknowledged"
            );
            client.sent(2 + u64::from(silence));
        }
        assert!(client.after(60, None));
    }

    #[test]
    fn c9_one_that_sends_nothing_is_not_judged_here() {
        let mut client = Client::new();
        client.sent(1);
        assert!(client.acks.is_waiting());
        assert!(!client.after(100, Some(1)), "it was away, and has it all");
    }
}
