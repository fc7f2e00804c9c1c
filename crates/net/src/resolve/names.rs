//! What is known of names, and which look-ups are due. Pure, with the time passed in.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::limits::{LOOKUP_FAILURE_KEPT, LOOKUP_KEPT, RESOLVED_ADDRESSES, RESOLVED_NAMES};

/// Why a look-up failed, in the resolver's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure(Arc<str>);

impl Failure {
    pub(super) fn new(reason: String) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What came of asking for a name.
#[derive(Debug)]
pub(super) enum Asked {
    /// Nothing has to be waited for.
    Known(Result<Vec<SocketAddr>, Failure>),
    /// A look-up is under way.
    UnderWay {
        /// Closed at its end.
        ended: watch::Receiver<()>,
        /// For whoever does not want to wait longer.
        last_good: Option<Vec<SocketAddr>>,
    },
}

/// What the end of a look-up means to the operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// From now on an old answer is used.
    Stale(Failure),
    /// No longer.
    Back,
    /// Nothing new, or whoever asked will tell.
    Untold,
}

/// All names of a process, at most [`RESOLVED_NAMES`].
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Arc<str>, Name>,
    /// Names whose look-up waits for a thread.
    waiting: VecDeque<Arc<str>>,
    /// Threads that run.
    threads: usize,
}

#[derive(Debug)]
struct Name {
    /// When somebody last asked.
    asked: Instant,
    /// What the last look-up said that was well.
    good: Option<Vec<SocketAddr>>,
    /// When the last look-up ended, and why if it failed.
    last: Option<(Instant, Option<Failure>)>,
    /// Dropped at the end of the look-up that is under way.
    under_way: Option<watch::Sender<()>>,
    /// Tried last.
    avoided: Option<IpAddr>,
}

impl Name {
    const fn new(asked: Instant) -> Self {
        Self { asked, good: None, last: None, under_way: None, avoided: None }
    }

    fn good(&self) -> Option<Vec<SocketAddr>> {
        let mut addresses = self.good.clone()?;
        addresses.sort_by_key(|address| Some(address.ip()) == self.avoided);
        Some(addresses)
    }

    /// What the last look-up said, if that is not too long ago; in place of a failure the last good answer.
    fn fresh(&self, now: Instant) -> Option<Result<Vec<SocketAddr>, Failure>> {
        let (ended, failure) = self.last.as_ref()?;
        let kept = if failure.is_some() { LOOKUP_FAILURE_KEPT } else { LOOKUP_KEPT };
        if now.saturating_duration_since(*ended) >= kept {
            return None;
        }
        match (self.good(), failure) {
            (Some(good), _) => Some(Ok(good)),
            (None, Some(failure)) => Some(Err(failure.clone())),
            (None, None) => None,
        }
    }
}

impl Names {
    /// Answers, or sees to it that a look-up is under way; none when there is no room for another name.
    pub(super) fn ask(&mut self, host: &str, now: Instant) -> Option<Asked> {
        let host = match self.known.get_key_value(host) {
            Some((host, _)) => Arc::clone(host),
            None => {
                self.make_room()?;
                host.into()
            }
        };
        let name = self.known.entry(Arc::clone(&host)).or_insert_with(|| Name::new(now));
        name.asked = now;
        if let Some(answer) = name.fresh(now) {
            return Some(Asked::Known(answer));
        }
        let ended = match &name.under_way {
            Some(under_way) => under_way.subscribe(),
            None => {
                let (told, ended) = watch::channel(());
                name.under_way = Some(told);
                self.waiting.push_back(host);
                ended
            }
        };
        Some(Asked::UnderWay { ended, last_good: name.good() })
    }

    /// Forgets the name nobody asked for the longest time, if there are too many.
    fn make_room(&mut self) -> Option<()> {
        if self.known.len() < RESOLVED_NAMES {
            return Some(());
        }
        let idle = self.known.iter().filter(|(_, name)| name.under_way.is_none());
        let oldest = idle.min_by_key(|(_, name)| name.asked).map(|(host, _)| Arc::clone(host))?;
        self.known.remove(&oldest).map(drop)
    }

    /// Returns `true` if there is work for one more thread. If so it counts as running.
    pub(super) fn wants_thread(&mut self, most: usize) -> bool {
        let wants = !self.waiting.is_empty() && self.threads < most;
        self.threads += usize::from(wants);
        wants
    }

    /// The next name to look up; none ends the thread that asks.
    pub(super) fn next(&mut self) -> Option<Arc<str>> {
        let next = self.waiting.pop_front();
        self.threads -= usize::from(next.is_none());
        next
    }

    /// The thread could not be started. Without any other, what waits has failed; says how many that were.
    pub(super) fn no_thread(&mut self, failure: &Failure, now: Instant) -> u64 {
        self.threads -= 1;
        let mut failed = 0;
        if self.threads == 0 {
            for host in std::mem::take(&mut self.waiting) {
                self.ended(&host, Err(failure.clone()), now);
                failed += 1;
            }
        }
        failed
    }

    /// A look-up has ended; whoever waits for it is woken.
    pub(super) fn ended(
        &mut self,
        host: &str,
        answer: Result<Vec<SocketAddr>, Failure>,
        now: Instant,
    ) -> Ended {
        // What is under way is not forgotten, so it is there.
        let Some(name) = self.known.get_mut(host) else { return Ended::Untold };
        name.under_way = None;
        let was_failing = name.last.as_ref().is_some_and(|(_, failure)| failure.is_some());
        let was_known = name.good.is_some();
        match answer {
            Ok(addresses) => {
                name.good = Some(interleaved(&addresses));
                name.last = Some((now, None));
                if was_failing && was_known { Ended::Back } else { Ended::Untold }
            }
            Err(failure) => {
                name.last = Some((now, Some(failure.clone())));
                if was_known && !was_failing { Ended::Stale(failure) } else { Ended::Untold }
            }
        }
    }

    /// See [`Resolver::avoid`](super::Resolver::avoid).
    pub(super) fn avoid(&mut self, host: &str, address: IpAddr) {
        if let Some(name) = self.known.get_mut(host) {
            name.avoided = Some(address);
        }
    }

    /// Look-ups that run or wait for a thread.
    pub(super) fn under_way(&self) -> usize {
        self.known.values().filter(|name| name.under_way.is_some()).count()
    }
}

/// The families take turns, the first one's first: one that leads nowhere holds up every second attempt and not all.
/// Each address once, at most [`RESOLVED_ADDRESSES`].
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::new();
    loop {
        let round = [first.next(), second.next()];
        if round == [None; 2] {
            return mixed;
        }
        for address in round.into_iter().flatten() {
            if mixed.len() < RESOLVED_ADDRESSES && !mixed.contains(&address) {
                mixed.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
    }

    fn bad() -> Failure {
        Failure::new("no such luck".to_owned())
    }

    fn known(names: &mut Names, now: Instant) -> Option<Result<Vec<SocketAddr>, Failure>> {
        match names.ask("a", now).unwrap() {
            Asked::Known(answer) => Some(answer),
            Asked::UnderWay { .. } => None,
        }
    }

    #[test]
    fn h14_of_a_name_one_look_up_is_under_way_and_threads_are_bounded() {
        let (mut names, now) = (Names::default(), Instant::now());
        for host in ["a", "a", "b", "a", "c", "b"] {
            assert!(matches!(names.ask(host, now), Some(Asked::UnderWay { .. })));
        }
        assert_eq!(names.under_way(), 3);
        assert!(names.wants_thread(2) && names.wants_thread(2) && !names.wants_thread(2));
        let taken: Vec<_> = std::iter::from_fn(|| names.next()).collect();
        assert_eq!(taken.iter().map(|host| &**host).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(names.next(), None);
        assert_eq!(names.threads, 0, "both have ended");
        assert!(matches!(names.ask("a", now), Some(Asked::UnderWay { .. })), "taken, not ended");
        assert!(names.waiting.is_empty());
    }

    #[test]
    fn e10_answers_and_failures_are_kept_for_a_moment_and_the_last_good_answer_for_good() {
        let (mut names, start) = (Names::default(), Instant::now());
        assert_eq!(known(&mut names, start), None);
        names.ended("a", Err(bad()), start);
        assert_eq!(known(&mut names, start + LOOKUP_FAILURE_KEPT - SECOND / 100), Some(Err(bad())));
        let now = start + LOOKUP_FAILURE_KEPT;
        assert_eq!(known(&mut names, now), None);
        assert_eq!(
            names.ended("a", Ok(at(&["10.0.0.1"])), now),
            Ended::Untold,
            "its askers told of the failure"
        );
        assert_eq!(known(&mut names, now + LOOKUP_KEPT - SECOND / 100), Some(Ok(at(&["10.0.0.1"]))));
        let now = now + LOOKUP_KEPT;
        let asked = names.ask("a", now).unwrap();
        let Asked::UnderWay { last_good, .. } = asked else { panic!("{asked:?}") };
        assert_eq!(last_good, Some(at(&["10.0.0.1"])));
        assert_eq!(names.ended("a", Err(bad()), now), Ended::Stale(bad()));
        assert_eq!(known(&mut names, now), Some(Ok(at(&["10.0.0.1"]))), "in place of the failure");
        let years = now + SECOND * 3600 * 24 * 365;
        assert_eq!(known(&mut names, years), None);
        assert_eq!(names.ended("a", Err(bad()), years), Ended::Untold, "told once");
        assert_eq!(known(&mut names, years), Some(Ok(at(&["10.0.0.1"]))));
        let now = years + LOOKUP_FAILURE_KEPT;
        assert_eq!(known(&mut names, now), None);
        assert_eq!(names.ended("a", Ok(at(&["10.0.0.2"])), now), Ended::Back);
        assert_eq!(known(&mut names, now), Some(Ok(at(&["10.0.0.2"]))));
    }

    #[test]
    fn the_name_nobody_asked_for_makes_room_but_none_that_is_being_looked_up() {
        let (mut names, start) = (Names::default(), Instant::now());
        let moment = |n: usize| start + Duration::from_millis(n as u64);
        for n in 0..RESOLVED_NAMES {
            assert!(names.ask(&n.to_string(), moment(n)).is_some());
        }
        assert!(names.ask("one more", moment(RESOLVED_NAMES)).is_none());
        for n in ["7", "3", "5"] {
            names.ended(n, Ok(at(&["10.0.0.1"])), start);
        }
        assert!(names.ask("one more", moment(RESOLVED_NAMES)).is_some());
        let left = |host: &str| names.known.contains_key(host);
        assert!(!left("3") && left("5") && left("7") && left("0"));
    }

    #[test]
    fn without_a_thread_what_waits_has_failed_unless_another_thread_runs() {
        let (mut names, now) = (Names::default(), Instant::now());
        names.ask("a", now);
        assert!(names.wants_thread(4));
        names.ask("b", now);
        assert!(names.wants_thread(4));
        assert_eq!(names.no_thread(&bad(), now), 0);
        assert_eq!(names.no_thread(&bad(), now), 2);
        assert_eq!(known(&mut names, now), Some(Err(bad())));
    }

    #[test]
    fn h14_families_take_turns_and_what_disappointed_is_tried_last() {
        let many = at(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2", "::1"]);
        let mixed = at(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(interleaved(&many), mixed);
        let (mut names, now) = (Names::default(), Instant::now());
        names.ask("a", now);
        names.ended("a", Ok(many), now);
        names.avoid("a", "::1".parse().unwrap());
        names.avoid("unknown", "::1".parse().unwrap());
        assert_eq!(known(&mut names, now), Some(Ok([&mixed[1..], &mixed[..1]].concat())));
        let crowd: Vec<_> = (0..=255).map(|n| SocketAddr::from(([10, 0, 0, n], 0))).collect();
        assert_eq!(interleaved(&crowd), crowd[..RESOLVED_ADDRESSES]);
    }
}
