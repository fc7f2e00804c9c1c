//! Who sends most, in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi 2005) over accounts.

use std::collections::HashMap;

/// Accounts that are remembered. Whoever sent more than this part of everything is among them.
pub(super) const CAPACITY: usize = 1_000;

/// Counts of accounts. When the places are taken a new account takes that of the one with the fewest messages, and its count:
/// a count is never too low, and too high by its error at most.
#[derive(Debug, Default)]
pub(super) struct TopAccounts {
    places: Vec<Counted>,
    /// Places by the hash of their account. Two accounts with one hash of 64 random bits would be one here.
    by_hash: HashMap<u64, usize>,
    /// Places, that with the fewest messages first: a binary heap.
    heap: Vec<usize>,
}

/// What is known of one account.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) app: Box<str>,
    pub(super) account: Box<str>,
    /// Messages, at most.
    pub(super) count: u64,
    /// How many of these may be somebody else's.
    pub(super) error: u64,
    hash: u64,
    /// Where it stands in the heap.
    at: usize,
}

impl TopAccounts {
    /// An account sent so many messages more.
    pub(super) fn add(&mut self, hash: u64, app: &str, account: &str, messages: u64) {
        let place = match self.by_hash.get(&hash) {
            Some(place) => *place,
            None => self.place_for(hash, app, account),
        };
        self.places[place].count += messages;
        self.sink(self.places[place].at);
    }

    /// Those that are remembered, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Counted)> {
        self.places.iter().map(|counted| (counted.hash, counted))
    }

    /// The most that an account which is not remembered may have sent.
    pub(super) fn floor(&self) -> u64 {
        let least = self.heap.first().filter(|_| self.places.len() == CAPACITY);
        least.map_or(0, |place| self.places[*place].count)
    }

    fn place_for(&mut self, hash: u64, app: &str, account: &str) -> usize {
        let (app, account) = (app.into(), account.into());
        let floor = self.floor();
        let place = if self.places.len() < CAPACITY {
            let place = self.places.len();
            self.places.push(Counted { app, account, count: 0, error: 0, hash, at: place });
            self.heap.push(place);
            // A count of 0 is below everything.
            self.rise(place);
            place
        } else {
            let place = self.heap[0];
            let out = &mut self.places[place];
            self.by_hash.remove(&out.hash);
            *out = Counted { app, account, count: floor, error: floor, hash, at: out.at };
            place
        };
        self.by_hash.insert(hash, place);
        place
    }

    fn count_at(&self, at: usize) -> u64 {
        self.places[self.heap[at]].count
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for at in [one, other] {
            self.places[self.heap[at]].at = at;
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.count_at(at) < self.count_at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let children = [2 * at + 1, 2 * at + 2].into_iter().filter(|child| *child < self.heap.len());
            let Some(least) = children.min_by_key(|child| self.count_at(*child)) else { return };
            if self.count_at(at) <= self.count_at(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic, and like a crowd: few send much, many little.
    fn crowd(accounts: u64) -> Vec<(u64, u64)> {
        (1..=accounts).map(|rank| (rank, 100_000 / rank)).collect()
    }

    #[test]
    fn counts_are_exact_while_there_is_room() {
        let mut top = TopAccounts::default();
        for (rank, messages) in crowd(CAPACITY as u64) {
            top.add(rank, "app", &format!("account {rank}"), messages);
        }
        assert!(top.iter().all(|(rank, counted)| counted.count == 100_000 / rank && counted.error == 0));
        assert_eq!(top.iter().count(), CAPACITY);
    }

    #[test]
    fn a_large_crowd_keeps_its_top_and_counts_stay_within_their_errors() {
        let mut top = TopAccounts::default();
        // In ten rounds, as minutes are; the small ones in between drive each other out.
        for _ in 0..10 {
            for (rank, messages) in crowd(20_000) {
                top.add(rank, "app", &rank.to_string(), messages / 10);
            }
        }
        let sent = |rank: u64| 10 * (100_000 / rank / 10);
        let all: u64 = (1..=20_000).map(sent).sum();
        let found: HashMap<u64, &Counted> = top.iter().collect();
        assert_eq!(found.len(), CAPACITY);
        for (rank, counted) in &found {
            assert_eq!(&*counted.account, rank.to_string());
            let range = counted.count - counted.error..=counted.count;
            assert!(range.contains(&sent(*rank)), "{rank}: {range:?} {}", sent(*rank));
        }
        let above = (1..=20_000).filter(|rank| sent(*rank) > all / CAPACITY as u64);
        assert!(above.clone().count() > 50);
        assert!(above.clone().all(|rank| found.contains_key(&rank)));
        assert!(top.floor() <= all / CAPACITY as u64, "{} {all}", top.floor());
    }

    #[test]
    fn the_fewest_messages_are_first_whatever_comes() {
        let mut top = TopAccounts::default();
        let mut random = 1_u64;
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            top.add(random >> 52, "app", "account", random >> 60);
        }
        let least = top.iter().map(|(_, counted)| counted.count).min();
        assert_eq!(least, Some(top.floor()));
        assert!((0..top.heap.len()).all(|at| top.places[top.heap[at]].at == at));
    }
}
