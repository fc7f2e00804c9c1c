//! Which server is next.

use std::time::Duration;

use tokio::time::Instant;

use gateway_net::rng::Rng;

/// A gateway that goes away is passed over for so long, while there are others.
pub(super) const AVOIDED: Duration = Duration::from_secs(60);

/// Servers by their numbers, and until when each is passed over.
#[derive(Debug)]
pub(super) struct Servers(Vec<Option<Instant>>);

impl Servers {
    /// At least one.
    pub(super) fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// Another server than this one, which goes away.
    pub(super) fn elsewhere(&mut self, now: Instant, server: usize, rng: &mut Rng) -> usize {
        self.0[server] = Some(now + AVOIDED);
        self.other(now, server, rng)
    }

    /// Any server but this one, and rather one that does not go away; this one when there is no other.
    pub(super) fn other(&self, now: Instant, except: usize, rng: &mut Rng) -> usize {
        let is_avoided = |server: &usize| self.0[*server].is_some_and(|until| now < until);
        let others = || (0..self.0.len()).filter(|server| *server != except);
        let mut choice: Vec<usize> = others().filter(|server| !is_avoided(server)).collect();
        if choice.is_empty() {
            choice = others().collect();
        }
        match choice.len() {
            0 => except,
            len => choice[rng.index(len)],
        }
    }
}
