//! Room that a crowd has left behind: what grew with it shrinks when it has gone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Room for so many is always kept.
pub(crate) const KEPT: usize = 64;

/// Four times more room than is used is too much. Twice of it stays, so that this costs little on average.
const fn is_too_much(room: usize, used: usize) -> bool {
    room > KEPT && room / 4 >= used
}

/// To be called after something was taken out.
pub(crate) fn shrink_queue<T>(queue: &mut VecDeque<T>) {
    if is_too_much(queue.capacity(), queue.len()) {
        queue.shrink_to((queue.len() * 2).max(KEPT));
    }
}

/// To be called after something was taken out.
pub(crate) fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    // Its capacity is 7/8 of its places, and the next smaller one is half of it.
    if is_too_much(map.capacity(), map.len()) {
        map.shrink_to((map.len() * 2).max(KEPT / 2));
    }
}

/// To be called after something was taken out.
pub(crate) fn shrink_set<T: Eq + Hash, S: BuildHasher>(set: &mut HashSet<T, S>) {
    if is_too_much(set.capacity(), set.len()) {
        set.shrink_to((set.len() * 2).max(KEPT / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g6_the_room_of_a_crowd_is_given_back_and_seldom_asked_for_again() {
        let mut queue: VecDeque<_> = (0..100_000).collect();
        let mut map: HashMap<_, _> = (0..100_000).map(|n| (n, n)).collect();
        let mut moves = 0;
        for n in 0..100_000 {
            let before = queue.capacity();
            queue.pop_front();
            shrink_queue(&mut queue);
            map.remove(&n);
            shrink_map(&mut map);
            moves += usize::from(queue.capacity() != before);
            assert!(queue.capacity() <= (queue.len() * 4).max(KEPT) + 4, "{n}");
        }
        assert!((1..=12).contains(&moves), "{moves}");
        assert!(map.capacity() <= KEPT * 2, "{}", map.capacity());
    }

    #[test]
    fn what_is_small_or_full_stays_as_it_is() {
        let mut queue = VecDeque::with_capacity(KEPT);
        shrink_queue(&mut queue);
        assert_eq!(queue.capacity(), KEPT);
        queue.extend(0..1_000);
        let room = queue.capacity();
        shrink_queue(&mut queue);
        assert_eq!(queue.capacity(), room);
    }
}
