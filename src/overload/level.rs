//! How overloaded the process is: a pure state machine over queued bytes and resident memory (row F11).
//!
//! Queued bytes count at once, and so do the parts of frames whose end has not come (row A15). Resident memory follows late what is freed, so it counts only when it has been high for
//! a while, and after the allocator had one more chance to give memory back.

use std::time::{Duration, Instant};

use crate::limits::{LEVEL_HOLD, PAUSE_AFTER, RESIDENT_HIGH_FOR};

/// What is demanded; each level includes those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    #[default]
    Normal,
    /// Logins are answered 300 and closed 3003.
    RefuseLogins,
    /// Each worker closes the clients with the largest queues, 3002.
    Shed,
    /// Each worker closes its newest connections, 3003.
    CloseNewest,
}

impl Level {
    /// From lowest to highest.
    pub const ALL: [Self; 4] = [Self::Normal, Self::RefuseLogins, Self::Shed, Self::CloseNewest];

    /// For the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::RefuseLogins => "refuse_logins",
            Self::Shed => "shed",
            Self::CloseNewest => "close_newest",
        }
    }

    /// The highest level whose share of the budget is reached.
    fn of(used: u64, budget: u64) -> Self {
        let reached = |(_, percent): &&(Self, u64)| used >= share(budget, *percent);
        MARKS.iter().rev().find(reached).map_or(Self::Normal, |(level, _)| *level)
    }
}

/// Where each level begins, percent of its budget (ARCHITECTURE §5).
const MARKS: [(Level, u64); 3] =
    [(Level::RefuseLogins, 90), (Level::Shed, SHED_AT), (Level::CloseNewest, 98)];

/// Shedding stops below it, percent.
const SHED_AT: u64 = 95;

/// Resident memory begins to count above it, percent of the budget.
const RESIDENT_HIGH: u64 = 90;

/// And stops to count below it, percent.
const RESIDENT_LOW: u64 = 80;

const fn share(budget: u64, percent: u64) -> u64 {
    // Divided first: a budget may be near the end of the numbers.
    budget / 100 * percent + budget % 100 * percent / 100
}

/// What may be used, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// By the process.
    pub memory: u64,
    /// By what waits to be written to clients, and by the frames of theirs whose end has not come.
    pub queued: u64,
}

/// What is used, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// By what waits to be written to clients.
    pub queued: u64,
    /// By frames of clients whose end has not come.
    pub partial: u64,
    /// By the process, where that was read this time; queued bytes are read more often.
    pub resident: Option<u64>,
}

impl Reading {
    /// By what closing clients makes free at once.
    pub const fn held(&self) -> u64 {
        self.queued.saturating_add(self.partial)
    }
}

/// What follows from a reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// To be told. It falls only after [`LEVEL_HOLD`], so [`shed`](Self::shed) may be 0 at a level that sheds.
    pub level: Level,
    /// Bytes to be shed by all workers together, now.
    pub shed: u64,
    /// The newest connections are to be closed, now.
    pub close_newest: bool,
    /// Nothing is to be read from logic services (row E19).
    pub pause_backends: bool,
    /// Once before resident memory raises the level: the allocator should give back what it can.
    pub purge: bool,
}

/// How far resident memory has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resident {
    /// It does not count.
    Low,
    /// It is high since then.
    High(Instant),
    /// It was high long enough; if the next reading is high as well, it counts.
    Purged,
    /// It counts, until it is low: the last reading.
    Counts(u64),
}

/// The state machine. Time and readings are passed in.
#[derive(Debug)]
pub struct Overload {
    budget: Budget,
    resident: Resident,
    level: Level,
    /// Since when the readings ask for less than `level`, and the most they have asked for since.
    falling: Option<(Instant, Level)>,
    over_budget: Option<Instant>,
    paused: bool,
}

impl Overload {
    /// At rest.
    pub const fn new(budget: Budget) -> Self {
        Self {
            budget,
            resident: Resident::Low,
            level: Level::Normal,
            falling: None,
            over_budget: None,
            paused: false,
        }
    }

    /// This budget from now on.
    pub const fn change(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Takes a reading in.
    pub fn observe(&mut self, now: Instant, reading: Reading) -> Demand {
        let purge = reading.resident.is_some_and(|resident| self.observe_resident(now, resident));
        let by_queues = Level::of(reading.held(), self.budget.queued);
        let by_memory = match self.resident {
            Resident::Counts(resident) => Level::of(resident, self.budget.memory).max(Level::RefuseLogins),
            _ => Level::Normal,
        };
        let asked = by_queues.max(by_memory);
        self.follow(now, asked);
        Demand {
            level: self.level,
            shed: self.to_shed(reading, by_queues, by_memory),
            // Memory is asked again only after it could have changed.
            close_newest: by_queues == Level::CloseNewest
                || (by_memory == Level::CloseNewest && reading.resident.is_some()),
            pause_backends: self.pause(now, reading.queued),
            purge,
        }
    }

    /// Follows resident memory; true when the allocator is to be purged.
    fn observe_resident(&mut self, now: Instant, resident: u64) -> bool {
        let is_high = resident > share(self.budget.memory, RESIDENT_HIGH);
        let counted = matches!(self.resident, Resident::Counts(_));
        let was = self.resident;
        self.resident = match was {
            Resident::Low if is_high => Resident::High(now),
            Resident::High(since) if is_high => {
                let long = now.saturating_duration_since(since) >= RESIDENT_HIGH_FOR;
                if long { Resident::Purged } else { Resident::High(since) }
            }
            Resident::Purged if is_high => Resident::Counts(resident),
            Resident::Counts(_) if resident >= share(self.budget.memory, RESIDENT_LOW) => {
                Resident::Counts(resident)
            }
            _ => Resident::Low,
        };
        !counted && was != Resident::Purged && self.resident == Resident::Purged
    }

    /// Rises at once and falls late.
    fn follow(&mut self, now: Instant, asked: Level) {
        if asked >= self.level {
            self.level = asked;
            self.falling = None;
            return;
        }
        let (since, most) = self.falling.unwrap_or((now, asked));
        self.falling = Some((since, most.max(asked)));
        if held(now, since, LEVEL_HOLD) {
            self.level = most.max(asked);
            self.falling = None;
        }
    }

    /// What is above the mark of shedding. Memory can be made free only by what is held.
    fn to_shed(&self, reading: Reading, by_queues: Level, by_memory: Level) -> u64 {
        let above = |used: u64, budget: u64| (used + 1).saturating_sub(share(budget, SHED_AT));
        let queues = if by_queues >= Level::Shed { above(reading.held(), self.budget.queued) } else { 0 };
        let memory = match reading.resident {
            Some(resident) if by_memory >= Level::Shed => above(resident, self.budget.memory),
            _ => 0,
        };
        queues.max(memory).min(reading.held())
    }

    fn pause(&mut self, now: Instant, queued: u64) -> bool {
        if queued > self.budget.queued {
            let since = *self.over_budget.get_or_insert(now);
            self.paused |= held(now, since, PAUSE_AFTER);
        } else {
            self.over_budget = None;
            // Not at the budget itself, or it would start and stop with every look.
            self.paused &= queued >= share(self.budget.queued, SHED_AT);
        }
        self.paused
    }
}

/// Whether something is full. Begins at once and ends when there was room for a while, so that no client that comes and goes
/// makes it flap (row H20).
#[derive(Debug, Default)]
pub(super) struct Fullness {
    is_full: bool,
    roomy_since: Option<Instant>,
}

/// How it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// There is no more, or somebody was refused since the last look.
    Full,
    /// Neither this nor that.
    Nearly,
    /// There is room.
    Roomy,
}

impl Fullness {
    /// How it was told last.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// What changed: it is full now, or it is no longer.
    pub(super) fn observe(&mut self, now: Instant, found: Occupancy) -> Option<bool> {
        if found != Occupancy::Roomy {
            self.roomy_since = None;
            return (found == Occupancy::Full && !std::mem::replace(&mut self.is_full, true)).then_some(true);
        }
        let since = *self.roomy_since.get_or_insert(now);
        let ends = self.is_full && now.saturating_duration_since(since) >= LEVEL_HOLD;
        self.is_full &= !ends;
        ends.then_some(false)
    }
}

fn held(now: Instant, since: Instant, long: Duration) -> bool {
    now.saturating_duration_since(since) >= long
}

#[cfg(test)]
mod tests {
    use super::Level::{CloseNewest, Normal, RefuseLogins, Shed};
    use super::Occupancy::{Full, Nearly, Roomy};
    use super::*;

    const BUDGET: Budget = Budget { memory: 1_000, queued: 1_000 };

    struct TestOverload {
        start: Instant,
        overload: Overload,
    }

    impl TestOverload {
        fn new() -> Self {
            Self { start: Instant::now(), overload: Overload::new(BUDGET) }
        }

        /// At this many milliseconds.
        fn queued(&mut self, at: u64, queued: u64) -> Demand {
            let now = self.start + Duration::from_millis(at);
            self.overload.observe(now, Reading { queued, ..Reading::default() })
        }

        /// At this second, with so much queued.
        fn resident(&mut self, at: u64, resident: u64, queued: u64) -> Demand {
            let now = self.start + Duration::from_secs(at);
            self.overload.observe(now, Reading { queued, resident: Some(resident), ..Reading::default() })
        }
    }

    #[test]
    fn f11_each_level_begins_at_its_share_of_the_queued_bytes() {
        for (queued, level, shed, close_newest) in [
            (0, Normal, 0, false),
            (899, Normal, 0, false),
            (900, RefuseLogins, 0, false),
            (949, RefuseLogins, 0, false),
            (950, Shed, 1, false),
            (979, Shed, 30, false),
            (980, CloseNewest, 31, true),
            (5_000, CloseNewest, 4_051, true),
        ] {
            let demand = TestOverload::new().queued(0, queued);
            let expected = Demand { level, shed, close_newest, ..Demand::default() };
            assert_eq!(demand, expected, "{queued}");
        }
    }

    #[test]
    fn f11_a15_parts_of_frames_count_as_what_is_queued_but_are_not_the_fault_of_the_services() {
        let mut bench = TestOverload::new();
        let mut at = |at, queued, partial| {
            let now = bench.start + Duration::from_millis(at);
            bench.overload.observe(now, Reading { queued, partial, resident: None })
        };
        assert_eq!(at(0, 449, 450).level, Normal);
        assert_eq!(at(1, 450, 450).level, RefuseLogins);
        let worst = at(2, 0, 5_000);
        assert_eq!((worst.level, worst.shed, worst.close_newest), (CloseNewest, 4_051, true));
        assert!(!at(500, 1_000, 5_000).pause_backends);
    }

    #[test]
    fn f11_a_level_rises_at_once_and_falls_when_it_was_lower_for_a_while() {
        let mut bench = TestOverload::new();
        for (at, queued, level) in [
            (0, 0, Normal),
            (100, 990, CloseNewest),
            (200, 960, CloseNewest),
            (300, 0, CloseNewest),
            (1_199, 0, CloseNewest),
            // The most that was asked for meanwhile.
            (1_200, 0, Shed),
            (1_300, 0, Shed),
            (2_200, 0, Shed),
            (2_300, 0, Normal),
            (2_400, 900, RefuseLogins),
            (2_500, 0, RefuseLogins),
            (3_400, 900, RefuseLogins),
            // It begins anew.
            (3_500, 0, RefuseLogins),
            (4_400, 0, RefuseLogins),
            (4_500, 0, Normal),
        ] {
            assert_eq!(bench.queued(at, queued).level, level, "at {at} ms");
        }
    }

    #[test]
    fn f11_what_is_shed_is_never_more_than_what_is_above_the_mark_now() {
        let mut bench = TestOverload::new();
        assert_eq!(bench.queued(0, 970).shed, 21);
        let after = bench.queued(100, 949);
        assert_eq!((after.level, after.shed), (Shed, 0), "the level is held, and nothing more is closed");
        let newest = bench.queued(200, 990);
        assert!(newest.close_newest);
        let after = bench.queued(300, 979);
        assert_eq!((after.level, after.close_newest), (CloseNewest, false));
    }

    #[test]
    fn f11_memory_counts_when_it_was_high_for_five_seconds_and_after_one_purge() {
        let mut bench = TestOverload::new();
        for (at, resident, level, purge) in [
            (0, 900, Normal, false),
            (1, 901, Normal, false),
            (5, 990, Normal, false),
            (6, 901, Normal, true),
            (7, 901, RefuseLogins, false),
            (8, 955, Shed, false),
            (9, 985, CloseNewest, false),
            // It has come down from the marks, but is not low.
            (10, 850, CloseNewest, false),
            (11, 800, RefuseLogins, false),
            (12, 799, RefuseLogins, false),
            (13, 799, Normal, false),
        ] {
            let demand = bench.resident(at, resident, 0);
            assert_eq!((demand.level, demand.purge), (level, purge), "at {at} s");
        }
    }

    #[test]
    fn f11_memory_that_falls_in_between_or_by_the_purge_raises_nothing() {
        let mut bench = TestOverload::new();
        for (at, resident) in [(0, 950), (4, 950), (5, 900), (6, 950), (10, 950)] {
            assert_eq!(bench.resident(at, resident, 0), Demand::default(), "at {at} s");
        }
        assert!(bench.resident(11, 950, 0).purge);
        assert_eq!(bench.resident(12, 880, 0), Demand::default(), "the purge was enough");
        assert_eq!(bench.resident(13, 999, 0), Demand::default(), "and the five seconds begin anew");
        assert!(bench.resident(18, 999, 0).purge, "with a purge of its own");
    }

    #[test]
    fn f11_memory_sheds_no_more_than_is_queued_and_once_per_reading_of_it() {
        let mut bench = TestOverload::new();
        for at in [0, 5, 6] {
            bench.resident(at, 970, 10);
        }
        assert_eq!(bench.resident(7, 970, 10).shed, 10);
        assert_eq!(bench.resident(8, 970, 800).shed, 21);
        let between = bench.queued(8_100, 800);
        assert_eq!((between.level, between.shed), (Shed, 0), "it could not have changed yet");
        assert!(bench.resident(9, 990, 0).close_newest);
        assert!(!bench.queued(9_100, 0).close_newest);
    }

    #[test]
    fn e19_backends_pause_when_the_budget_is_exceeded_for_more_than_a_tenth_of_a_second() {
        let mut bench = TestOverload::new();
        for (at, queued, paused) in [
            (0, 1_001, false),
            (50, 1_001, false),
            (60, 1_000, false),
            (70, 1_001, false),
            (169, 1_001, false),
            (170, 1_001, true),
            (200, 1_000, true),
            (210, 950, true),
            (220, 949, false),
            (230, 1_001, false),
        ] {
            assert_eq!(bench.queued(at, queued).pause_backends, paused, "at {at} ms");
        }
    }

    #[test]
    fn f7_a_clock_that_seems_to_go_back_changes_nothing() {
        let mut bench = TestOverload::new();
        bench.queued(1_000, 990);
        assert_eq!(bench.queued(0, 0).level, CloseNewest);
    }

    #[test]
    fn budgets_near_the_end_of_the_numbers_have_shares() {
        assert_eq!(share(u64::MAX, 100), u64::MAX);
        assert_eq!((share(10, 95), share(199, 90)), (9, 179));
        assert_eq!(Level::of(u64::MAX, u64::MAX), CloseNewest);
    }

    #[test]
    fn h20_it_begins_at_once_and_ends_when_there_was_room_for_a_second() {
        let start = Instant::now();
        let mut fullness = Fullness::default();
        for (at, found, changed) in [
            (0, Roomy, None),
            (100, Nearly, None),
            (200, Full, Some(true)),
            (300, Full, None),
            (400, Nearly, None),
            (500, Roomy, None),
            (1_400, Roomy, None),
            (1_450, Nearly, None),
            (1_500, Roomy, None),
            (2_499, Roomy, None),
            (2_500, Roomy, Some(false)),
            (9_000, Roomy, None),
            (9_100, Full, Some(true)),
        ] {
            assert_eq!(fullness.observe(start + Duration::from_millis(at), found), changed, "at {at} ms");
        }
    }
}
