//! The thread that looks at the process ten times a second: queued bytes, resident memory, and whether the workers'
//! loops still turn. It needs none of them, so it sees those that are stuck (rows F11, F16).

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::events::PROCESS;
use super::events::event::{Event, Severity, Subject};
use super::memory::{self, MemoryBudget};
use super::metrics::{Memory, Metrics};
use super::overload::{Level, Overload, Reading};
use super::pressure::{Pressure, Teller, Told, pressure};
use crate::limits::{LAG_ALARM, LAG_LINE_EVERY, PRESSURE_LOOK, RESIDENT_LOOK};

/// Owns the thread. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts to look, and gives the handle through which workers learn of it.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn start(metrics: Metrics, budget: MemoryBudget) -> io::Result<(Self, Pressure)> {
        info!(event = "memory_budget", "{budget}");
        let (teller, pressure) = pressure();
        let mut watch = Watch::new(metrics, budget, teller);
        watch.look(Instant::now());
        // Nothing is ever sent: its end is what is said.
        let (stop, stopped) = sync_channel(0);
        let thread =
            std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch.run(&stopped))?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, pressure))
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

struct Watch {
    metrics: Metrics,
    overload: Overload,
    budget: MemoryBudget,
    teller: Teller,
    told: Told,
    resident_at: Option<Instant>,
    alarms: Vec<LagAlarm>,
}

impl Watch {
    fn new(metrics: Metrics, budget: MemoryBudget, teller: Teller) -> Self {
        metrics.memory(Memory::Limit, budget.budget.memory);
        metrics.memory(Memory::QueueLimit, budget.budget.queued);
        let alarms = (0..metrics.workers()).map(|_| LagAlarm::default()).collect();
        Self {
            metrics,
            overload: Overload::new(budget.budget),
            budget,
            teller,
            told: Told::default(),
            resident_at: None,
            alarms,
        }
    }

    fn run(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(PRESSURE_LOOK) == Err(RecvTimeoutError::Timeout) {
            self.look(Instant::now());
        }
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
        self.metrics.overload(demand.level);
        self.metrics.backends_paused(demand.pause_backends);
        let before = std::mem::replace(&mut self.told, Told { demand, held: reading.held() });
        self.teller.tell(self.told);
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
        for (worker, alarm) in self.alarms.iter_mut().enumerate() {
            if let Some(late) = alarm.observe(now, self.metrics.worker(worker).take_lag(now)) {
                announce_lag(worker, late);
            }
        }
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

    fn watch(queued_bytes: usize) -> (Watch, Metrics, Pressure) {
        let metrics = Metrics::new("gate01", 2, Vec::new());
        let limits = Limits { queued_bytes, memory: usize::MAX, ..Limits::default() };
        let (teller, pressure) = pressure();
        (Watch::new(metrics.clone(), MemoryBudget::of(&limits), teller), metrics, pressure)
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
        let (watchdog, mut pressure) = Watchdog::start(metrics.clone(), MemoryBudget::of(&limits)).unwrap();
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
