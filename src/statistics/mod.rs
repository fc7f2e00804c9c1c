//! Who is active and how much, in bounded memory: a few MiB for each worker, however many accounts there are.
//!
//! Nothing is done for a message but to count it in its channel. Once a minute, and at the end of a channel, its worker gives
//! what was counted to [`WorkerStatistics`]; whoever shows it merges those of all workers.

mod active;
mod hyper_log_log;
mod report;
mod top_accounts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use self::active::Active;
pub use self::report::{ActiveAccounts, ActivityReport, AppActivity, BusyAccount};
use self::top_accounts::TopAccounts;

/// Apps that are counted by themselves. Whoever signs tokens names them, and 16 KiB are kept of each.
const MAX_APPS: usize = 32;

/// The window in which messages are counted by account: so many panes of so many seconds, of which the oldest goes as a whole.
const PANES: usize = 6;
const PANE_SECONDS: u64 = 10 * 60;

/// What one worker saw. Its lock is shared with nobody but those who ask for a report.
#[derive(Debug)]
pub struct WorkerStatistics {
    /// The same for all workers of a process, or their sets could not be merged; random, so that nobody can choose names
    /// that are counted wrongly.
    hasher: RandomState,
    seen: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    /// Seconds since 1970.
    now: u64,
    all: Active,
    apps: BTreeMap<Box<str>, Active>,
    apps_left_out: bool,
    /// Oldest first.
    panes: VecDeque<TopAccounts>,
    /// The number of the newest pane, counted from 1970.
    pane: u64,
}

impl WorkerStatistics {
    /// Nothing yet. Workers of one process have clones of one `hasher`.
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { hasher, seen: Mutex::default() }
    }

    /// What is told from now on is of this time, in seconds since 1970.
    pub(crate) fn turn_to(&self, now: u64) {
        let mut seen = self.lock();
        seen.now = now;
        seen.turn_panes();
    }

    /// Tells of several accounts at once: `tell` is given what takes app, account, and the requests that were not told of yet.
    pub(crate) fn see_all(&self, tell: impl FnOnce(&mut dyn FnMut(&str, &str, u32))) {
        let mut seen = self.lock();
        tell(&mut |app, account, messages| {
            seen.account(self.hasher.hash_one((app, account)), app, account, messages);
        });
    }

    /// An account is connected, and sent so many requests that were not told of yet.
    pub(crate) fn see(&self, app: &str, account: &str, messages: u32) {
        self.see_all(|see| see(app, account, messages));
    }

    /// What these workers saw together.
    pub(crate) fn report<'a>(workers: impl Iterator<Item = &'a Self> + Clone) -> ActivityReport {
        let (mut all, mut apps) = (Active::default(), BTreeMap::<String, Active>::new());
        let mut apps_left_out = false;
        // The lock of each is held once.
        let mut busiest = Busiest::default();
        let now = workers.clone().map(|worker| worker.lock().now).max().unwrap_or_default();
        for worker in workers {
            let mut seen = worker.lock();
            all.merge(&seen.all, now);
            for (app, active) in &seen.apps {
                apps.entry(app.to_string()).or_default().merge(active, now);
            }
            apps_left_out |= seen.apps_left_out;
            seen.now = now;
            seen.turn_panes();
            seen.panes.iter().for_each(|pane| busiest.add(pane));
        }
        let apps = apps.into_iter().map(|(app, active)| AppActivity { app, active: active.report() });
        ActivityReport {
            active: all.report(),
            apps: apps.collect(),
            apps_left_out,
            busiest: busiest.report(),
            window_seconds: PANES as u64 * PANE_SECONDS,
        }
    }

    /// The accounts of [`Self::report`] alone, which cost less.
    pub(crate) fn active<'a>(workers: impl Iterator<Item = &'a Self> + Clone) -> ActiveAccounts {
        let now = workers.clone().map(|worker| worker.lock().now).max().unwrap_or_default();
        let mut all = Active::default();
        workers.for_each(|worker| all.merge(&worker.lock().all, now));
        all.report()
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observed {
    fn account(&mut self, hash: u64, app: &str, account: &str, messages: u32) {
        self.all.insert(hash, self.now);
        let has_room = self.apps.len() < MAX_APPS;
        match self.apps.get_mut(app) {
            Some(active) => active.insert(hash, self.now),
            None if has_room => self.apps.entry(app.into()).or_default().insert(hash, self.now),
            None => self.apps_left_out = true,
        }
        if messages > 0 {
            if self.panes.is_empty() {
                self.panes.push_back(TopAccounts::default());
            }
            if let Some(pane) = self.panes.back_mut() {
                pane.add(hash, app, account, messages.into());
            }
        }
    }

    /// Begins a new pane if it is time, and lets go of those that have left the window. A clock that was set back changes
    /// nothing.
    fn turn_panes(&mut self) {
        let pane = self.now / PANE_SECONDS;
        if pane <= self.pane {
            return;
        }
        let passed = usize::try_from(pane - self.pane).unwrap_or(PANES).min(PANES);
        self.pane = pane;
        self.panes.extend((0..passed).map(|_| TopAccounts::default()));
        let gone = self.panes.len().saturating_sub(PANES);
        self.panes.drain(..gone);
    }
}

/// Several counts of accounts as one.
#[derive(Debug, Default)]
struct Busiest {
    /// By hash.
    accounts: HashMap<u64, BusyAccount>,
    /// What an account may have sent that none of them remembers.
    floors: u64,
}

impl Busiest {
    fn add(&mut self, top: &TopAccounts) {
        let floor = top.floor();
        for (hash, counted) in top.iter() {
            let account = self.accounts.entry(hash).or_insert_with(|| BusyAccount {
                app: counted.app.to_string(),
                account: counted.account.to_string(),
                messages: 0,
                at_least: 0,
            });
            // Less the floor, which is added to all.
            account.messages += counted.count - floor;
            account.at_least += counted.count - counted.error;
        }
        self.floors += floor;
    }

    fn report(self) -> Vec<BusyAccount> {
        let mut accounts: Vec<BusyAccount> = self.accounts.into_values().collect();
        accounts.iter_mut().for_each(|account| account.messages += self.floors);
        accounts.sort_by(|one, other| {
            other
                .messages
                .cmp(&one.messages)
                .then_with(|| (&one.app, &one.account).cmp(&(&other.app, &other.account)))
        });
        accounts.truncate(top_accounts::CAPACITY);
        accounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_900_000_000;

    fn workers() -> [WorkerStatistics; 2] {
        let hasher = RandomState::new();
        [hasher.clone(), hasher].map(|hasher| {
            let worker = WorkerStatistics::new(hasher);
            worker.turn_to(NOW);
            worker
        })
    }

    fn busiest(workers: &[WorkerStatistics]) -> Vec<(String, u64, u64)> {
        let report = WorkerStatistics::report(workers.iter());
        report.busiest.into_iter().map(|busy| (busy.account, busy.messages, busy.at_least)).collect()
    }

    #[test]
    fn workers_are_merged_and_an_account_on_two_of_them_is_one() {
        let workers = workers();
        workers[0].see("x_im", "alice", 3);
        workers[1].see("x_im", "alice", 4);
        workers[1].see("x_im", "bob", 0);
        workers[1].see("kim", "alice", 1);
        let report = WorkerStatistics::report(workers.iter());
        assert_eq!((report.active.this_hour, report.active.today, report.active.yesterday), (3, 3, 0));
        let apps: Vec<_> = report.apps.iter().map(|app| (app.app.as_str(), app.active.today)).collect();
        assert_eq!(apps, [("kim", 1), ("x_im", 2)]);
        assert!(!report.apps_left_out);
        assert_eq!(report.window_seconds, 3_600);
        let found: Vec<_> =
            report.busiest.iter().map(|busy| (&*busy.app, &*busy.account, busy.messages)).collect();
        assert_eq!(found, [("x_im", "alice", 7), ("kim", "alice", 1)]);
        assert_eq!(WorkerStatistics::active(workers.iter()), report.active);
    }

    #[test]
    fn messages_leave_the_window_after_an_hour() {
        let workers = workers();
        workers[0].see("x_im", "alice", 3);
        for later in [0, PANE_SECONDS, 5 * PANE_SECONDS] {
            workers[0].turn_to(NOW + later);
            assert_eq!(busiest(&workers), [("alice".to_owned(), 3, 3)], "{later}");
        }
        workers[0].see("x_im", "bob", 1);
        // The clock is set back, and on again.
        workers[0].turn_to(NOW);
        workers[0].turn_to(NOW + 6 * PANE_SECONDS);
        assert_eq!(busiest(&workers), [("bob".to_owned(), 1, 1)]);
        workers[0].turn_to(NOW + 100 * PANE_SECONDS);
        assert!(busiest(&workers).is_empty());
    }

    #[test]
    fn more_accounts_and_apps_than_there_is_room_for_are_bounded_and_said() {
        let workers = workers();
        for number in 0..5_000_u32 {
            workers[number as usize % 2].see(
                &format!("app {}", number % 100),
                &number.to_string(),
                1 + number / 4_990 * 1_000,
            );
        }
        let report = WorkerStatistics::report(workers.iter());
        assert!(report.apps_left_out);
        assert!(report.apps.len() <= 2 * MAX_APPS);
        assert!(report.active.today.abs_diff(5_000) <= 250, "{:?}", report.active);
        assert_eq!(report.busiest.len(), top_accounts::CAPACITY);
        for busy in &report.busiest[..10] {
            assert!(busy.account.parse::<u32>().unwrap() >= 4_990, "{busy:?}");
            assert!((busy.at_least..=busy.messages).contains(&1_001), "{busy:?}");
        }
    }
}
