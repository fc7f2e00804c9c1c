//! The thread that looks at the process ten times a second: queued bytes, resident memory, and whether the workers'
//! loops still turn. It needs none of them, so it sees those that are stuck (rows F11, F16).

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::level::{Fullness, Level, Occupancy, Overload, Reading};
use super::memory::{self, MemoryBudget};
use super::pressure::{Pressure, PressureSender, PressureState, pressure};
use crate::limits::{LAG_ALARM, LAG_LINE_EVERY, PRESSURE_LOOK, RESIDENT_LOOK};
use crate::monitor::events::event::{Event, Severity, Subject};
use crate::monitor::events::{PROCESS, STRANGERS};
use crate::monitor::labels::Reject;
use crate::monitor::metrics::{Memory, Metrics};
use crate::monitor::readiness::Readiness;

/// Owns the thread. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<SyncSender<()>>,
    bounds: WatchdogBounds,
    thread: Option<JoinHandle<()>>,
}

/// What a reload gives a watchdog to look for; it takes it with its next look. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct WatchdogBounds(Arc<Mutex<Option<(MemoryBudget, ConnectionCapacity)>>>);

impl WatchdogBounds {
    /// These from the next look on.
    pub fn change(&self, budget: MemoryBudget, capacity: ConnectionCapacity) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((budget, capacity));
    }

    fn take(&self) -> Option<(MemoryBudget, ConnectionCapacity)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Watchdog {
    /// Starts to look, and gives the handle through which workers learn of it.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn start(
        metrics: Metrics,
        budget: MemoryBudget,
        capacity: ConnectionCapacity,
    ) -> io::Result<(Self, Pressure)> {
        info!(event = "memory_budget", "{budget}");
        let (sender, pressure) = pressure();
        let mut watch = WatchdogTask::new(metrics, budget, capacity, sender);
        watch.look(Instant::now());
        // Nothing is ever sent: its end is what is said.
        let (stop, stopped) = sync_channel(0);
        let bounds = WatchdogBounds::default();
        let changed = bounds.clone();
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch.run(&stopped, &changed))?;
        Ok((Self { stop: Some(stop), bounds, thread: Some(thread) }, pressure))
    }

    /// What changes its bounds.
    pub fn bounds(&self) -> WatchdogBounds {
        self.bounds.clone()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook.
            let _ended = thread.join();
        }
    }
}

/// How many clients may be connected, and who wants to know that no more can.
#[derive(Debug)]
pub struct ConnectionCapacity {
    /// Of the process.
    pub max_connections: usize,
    /// Told when there are so many, and when there is room again.
    pub readiness: Option<Arc<Readiness>>,
}

/// Clients may not connect any more after so many percent of their number, and strangers have no room: neither is over
/// before less than that is taken.
const ROOMY: u64 = 95;

fn show_bounds(metrics: &Metrics, budget: MemoryBudget, capacity: &ConnectionCapacity) {
    metrics.memory(Memory::Limit, budget.budget.memory);
    metrics.memory(Memory::QueueLimit, budget.budget.queued);
    metrics.memory(Memory::BeforeLoginLimit, budget.before_login);
    metrics.max_connections(capacity.max_connections as u64);
}

struct WatchdogTask {
    metrics: Metrics,
    overload: Overload,
    budget: MemoryBudget,
    sender: PressureSender,
    told: PressureState,
    resident_at: Option<Instant>,
    alarms: Vec<LagAlarm>,
    capacity: ConnectionCapacity,
    full: Fullness,
    /// Of the memory of those who have not signed in.
    crowded: Fullness,
    /// Refused for want of a place, and for those who have not signed in, so far.
    refused: [u64; 2],
}

impl WatchdogTask {
    fn new(
        metrics: Metrics,
        budget: MemoryBudget,
        capacity: ConnectionCapacity,
        sender: PressureSender,
    ) -> Self {
        show_bounds(&metrics, budget, &capacity);
        let alarms = (0..metrics.workers()).map(|_| LagAlarm::default()).collect();
        Self {
            metrics,
            overload: Overload::new(budget.budget),
            budget,
            sender,
            told: PressureState::default(),
            resident_at: None,
            alarms,
            capacity,
            full: Fullness::default(),
            crowded: Fullness::default(),
            refused: [0; 2],
        }
    }

    fn run(&mut self, stopped: &Receiver<()>, changed: &WatchdogBounds) {
        while stopped.recv_timeout(PRESSURE_LOOK) == Err(RecvTimeoutError::Timeout) {
            if let Some((budget, capacity)) = changed.take() {
                self.follow(budget, capacity);
            }
            self.look(Instant::now());
        }
    }

    fn follow(&mut self, budget: MemoryBudget, capacity: ConnectionCapacity) {
        if self.budget != budget {
            info!(event = "memory_budget", "{budget}");
        }
        show_bounds(&self.metrics, budget, &capacity);
        self.overload.change(budget.budget);
        if let Some(readiness) = &self.capacity.readiness {
            readiness.full(false);
        }
        if let Some(readiness) = &capacity.readiness {
            readiness.full(self.full.is_full());
        }
        (self.budget, self.capacity) = (budget, capacity);
    }

    fn look(&mut self, now: Instant) {
        let due = self.resident_at.is_none_or(|at| now.saturating_duration_since(at) >= RESIDENT_LOOK);
        let mut resident = None;
        if due {
            self.resident_at = Some(now);
            memory::purge();
            resident = memory::resident();
        }
        if let Some(resident) = resident {
            self.metrics.memory(Memory::Resident, resident);
        }
        let (queued, partial) = (self.metrics.queued_bytes(), self.metrics.partial_bytes());
        let reading = Reading { queued, partial, resident };
        let demand = self.overload.observe(now, reading);
        self.metrics.overload(demand.level as u8);
        self.metrics.backends_paused(demand.pause_backends);
        let before = std::mem::replace(&mut self.told, PressureState { demand, held: reading.held() });
        self.sender.tell(self.told);
        if demand.purge {
            // The allocator was asked before this reading, and is asked before the next one, which judges.
            warn!(
                event = "memory_high",
                resident,
                limit = self.budget.budget.memory,
                "resident memory stays high"
            );
        }
        if before.demand.level != demand.level {
            self.announce_level(before.demand.level, reading);
        }
        if before.demand.pause_backends != demand.pause_backends {
            self.announce_pause(queued);
        }
        self.look_at_places(now);
        self.look_at_strangers(now);
        for (worker, alarm) in self.alarms.iter_mut().enumerate() {
            if let Some(late) = alarm.observe(now, self.metrics.worker(worker).take_lag(now)) {
                announce_lag(worker, late);
            }
        }
    }

    /// Returns `true` if the process is full of clients (row H20).
    fn look_at_places(&mut self, now: Instant) {
        let (open, max) = (self.metrics.connections(), self.capacity.max_connections as u64);
        let refused = self.metrics.rejected(Reject::Connections);
        let was_refused = std::mem::replace(&mut self.refused[0], refused) != refused;
        let found = match open {
            open if was_refused || open >= max => Occupancy::Full,
            open if open <= max / 100 * ROOMY + max % 100 * ROOMY / 100 => Occupancy::Roomy,
            _ => Occupancy::Nearly,
        };
        let Some(is_full) = self.full.observe(now, found) else { return };
        if let Some(readiness) = &self.capacity.readiness {
            readiness.full(is_full);
        }
        let events = self.metrics.events();
        match is_full {
            true => events.raise(PROCESS, Event::connections_full(format_args!("{open} of {max}"))),
            false => events.clear(PROCESS, &Subject::connections_full()),
        }
    }

    /// Returns `true` if those who have not signed in push each other out (row H11).
    fn look_at_strangers(&mut self, now: Instant) {
        let turned_away =
            [Reject::BeforeLogin, Reject::BeforeLoginClosed].map(|reason| self.metrics.rejected(reason));
        let refused = turned_away.iter().sum();
        let was_refused = std::mem::replace(&mut self.refused[1], refused) != refused;
        let found = if was_refused { Occupancy::Full } else { Occupancy::Roomy };
        let Some(is_full) = self.crowded.observe(now, found) else { return };
        let events = self.metrics.events();
        if !is_full {
            return events.clear(STRANGERS, &Subject::overload());
        }
        let (used, limit) = (self.metrics.before_login_bytes(), self.budget.before_login);
        let detail = format_args!(
            "clients that have not signed in use {used} bytes of {limit}: those that came first are closed, or new ones \
             refused"
        );
        events.raise(STRANGERS, Event::overload(Severity::Warning, detail));
    }

    /// The one place where a change of the level is said: whether there is overload, and how bad it is, by an event,
    /// each level by a line beside it.
    fn announce_level(&self, before: Level, reading: Reading) {
        let now = self.told.demand.level;
        let Reading { queued, partial, .. } = reading;
        let (level, was) = (now.label(), before.label());
        let (limit, memory) = (self.budget.budget.queued, self.budget.budget.memory);
        info!(event = "overload_level", level, was, queued, partial, limit, memory);
        let events = self.metrics.events();
        let severity = match now {
            Level::Normal => return events.clear(PROCESS, &Subject::overload()),
            Level::RefuseLogins => Severity::Warning,
            Level::Shed | Level::CloseNewest => Severity::Error,
        };
        let detail = format_args!(
            "level {level}: {queued} bytes are queued for clients, {partial} came as parts of frames, of {limit}"
        );
        events.raise(PROCESS, Event::overload(severity, detail));
    }

    fn announce_pause(&self, queued: u64) {
        let limit = self.budget.budget.queued;
        if self.told.demand.pause_backends {
            warn!(event = "backends_paused", queued, limit, "logic services push more than clients take");
        } else {
            info!(event = "backends_resumed", queued, limit);
        }
    }
}

/// The one place where a late loop is said.
fn announce_lag(worker: usize, late: Duration) {
    warn!(event = "loop_lag", worker, late_ms = late.as_millis(), "the worker's loop was held up");
}

/// When a late loop makes a line: at most one in [`LAG_LINE_EVERY`], with the worst that was seen meanwhile.
#[derive(Debug, Default)]
struct LagAlarm {
    last_line: Option<Instant>,
    worst: Duration,
}

impl LagAlarm {
    fn observe(&mut self, now: Instant, late: Duration) -> Option<Duration> {
        if late > LAG_ALARM {
            self.worst = self.worst.max(late);
        }
        let recently =
            self.last_line.is_some_and(|last| now.saturating_duration_since(last) < LAG_LINE_EVERY);
        if self.worst.is_zero() || recently {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.worst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::monitor::metrics::Transport;
    use crate::wire::close::CloseReason;

    fn watch(queued_bytes: usize) -> (WatchdogTask, Metrics, Pressure) {
        let metrics = Metrics::new("gate01", 2, Vec::new());
        let limits = Limits { queued_bytes, memory: usize::MAX, ..Limits::default() };
        let (sender, pressure) = pressure();
        let capacity =
            ConnectionCapacity { max_connections: 10, readiness: Some(Arc::new(Readiness::new(0, []))) };
        (WatchdogTask::new(metrics.clone(), MemoryBudget::of(&limits), capacity, sender), metrics, pressure)
    }

    fn shows(metrics: &Metrics, line: &str) -> bool {
        metrics.render().lines().any(|shown| shown == line)
    }

    #[test]
    fn f11_the_queued_bytes_of_all_workers_make_one_level_for_all() {
        let (mut watch, metrics, pressure) = watch(1_000);
        let now = Instant::now();
        metrics.worker(0).queued(1, 400);
        metrics.worker(1).queued(1, 499);
        watch.look(now);
        assert!(!pressure.refuses_logins());
        assert!(shows(&metrics, "gateway_overload_level 0"));
        assert!(shows(&metrics, "gateway_memory_bytes{kind=\"queue_limit\"} 1000"));
        metrics.worker(1).queued(1, 1);
        watch.look(now + PRESSURE_LOOK);
        assert!(pressure.refuses_logins());
        assert!(shows(&metrics, "gateway_overload_level 1"));
        metrics.worker(0).queued(0, 200);
        watch.look(now + PRESSURE_LOOK * 2);
        assert!(shows(&metrics, "gateway_overload_level 3"));
        assert!(!pressure.backends_paused() && shows(&metrics, "gateway_backends_paused 0"));
        watch.look(now + PRESSURE_LOOK * 3);
        assert!(pressure.backends_paused() && shows(&metrics, "gateway_backends_paused 1"));
        metrics.worker(0).queued(-1, -600);
        watch.look(now + PRESSURE_LOOK * 4);
        assert!(!pressure.backends_paused() && shows(&metrics, "gateway_backends_paused 0"));
        watch.look(now + PRESSURE_LOOK * 14);
        assert!(shows(&metrics, "gateway_overload_level 0"));
        assert!(!pressure.refuses_logins());
    }

    #[test]
    fn the_thread_looks_by_itself_and_ends_with_its_owner() {
        let metrics = Metrics::new("gate01", 1, Vec::new());
        let limits = Limits { queued_bytes: 100, ..Limits::default() };
        let (watchdog, mut pressure) = Watchdog::start(
            metrics.clone(),
            MemoryBudget::of(&limits),
            ConnectionCapacity { max_connections: 10, readiness: None },
        )
        .unwrap();
        metrics.worker(0).queued(1, 99);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = async { tokio::time::timeout(Duration::from_secs(10), pressure.next()).await };
        let told = runtime.block_on(next).unwrap().unwrap();
        assert_eq!((told.demand.level, told.demand.shed, told.held), (Level::CloseNewest, 5, 99));
        drop(watchdog);
        let ended = async {
            tokio::time::timeout(Duration::from_secs(10), async { while pressure.next().await.is_some() {} })
                .await
        };
        runtime.block_on(ended).unwrap();
    }

    fn active(metrics: &Metrics, event: &str) -> bool {
        shows(metrics, &format!("gateway_events_active{{event=\"{event}\"}} 1"))
    }

    #[test]
    fn h20_a_full_process_is_told_of_and_not_ready_until_it_has_had_room_for_a_second() {
        let (mut watch, metrics, _pressure) = watch(1_000);
        let readiness = Arc::clone(watch.capacity.readiness.as_ref().unwrap());
        let now = Instant::now();
        let (worker, full) = (metrics.worker(1), "connections_full");
        let mut look = |after: u64| {
            watch.look(now + Duration::from_millis(after));
            (active(&metrics, full), readiness.verdict(now).is_ready())
        };
        (0..9).for_each(|_| worker.connection_opened(Transport::Tcp));
        assert_eq!(look(0), (false, true));
        worker.connection_opened(Transport::Quic);
        assert_eq!(look(100), (true, false));
        worker.connection_closed(Transport::Tcp, CloseReason::Bye);
        assert_eq!(look(200), (true, false));
        worker.reject(Reject::Connections);
        assert_eq!(look(1_100), (true, false), "somebody was refused in between");
        assert_eq!((look(1_200), look(2_199)), ((true, false), (true, false)));
        assert_eq!(look(2_200), (false, true));
        assert!(shows(&metrics, "gateway_events_total{event=\"connections_full\"} 1"));
        assert!(shows(&metrics, "gateway_max_connections 10"));
    }

    #[test]
    fn h11_strangers_that_push_each_other_out_are_an_overload_of_their_own() {
        let (mut watch, metrics, _pressure) = watch(1_000);
        let now = Instant::now();
        let mut look = |after: u64| {
            watch.look(now + Duration::from_millis(after));
            (active(&metrics, "overload"), shows(&metrics, "gateway_overload_level 0"))
        };
        assert_eq!(look(0), (false, true));
        metrics.worker(0).reject(Reject::BeforeLoginClosed);
        assert_eq!(look(100), (true, true));
        metrics.worker(1).reject(Reject::BeforeLogin);
        assert_eq!((look(200), look(300), look(1_299)), ((true, true), (true, true), (true, true)));
        metrics.worker(0).queued(1, 990);
        assert_eq!(look(1_300), (true, false), "the level's own is another");
        metrics.worker(0).queued(-1, -990);
        assert_eq!((look(1_400), look(2_400)), ((true, false), (false, true)));
    }

    #[test]
    fn f16_late_loops_make_one_line_in_ten_seconds_with_the_worst() {
        let mut alarm = LagAlarm::default();
        let start = Instant::now();
        let mut at = |seconds: u64, late: u64| {
            alarm.observe(start + Duration::from_secs(seconds), Duration::from_millis(late))
        };
        assert_eq!(at(0, 200), None, "not above");
        assert_eq!(at(1, 201), Some(Duration::from_millis(201)));
        assert_eq!(at(2, 900), None);
        assert_eq!(at(3, 300), None);
        assert_eq!(at(10, 0), None);
        assert_eq!(at(11, 0), Some(Duration::from_millis(900)), "what was not said is said late");
        assert_eq!(at(60, 100), None);
    }
}
