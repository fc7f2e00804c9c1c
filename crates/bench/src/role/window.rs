//! One measurement of a load: it warms up, then counts for a while, with the CPU time of others at both ends.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cpu::cpu_ns;
use crate::error::BenchError;
use crate::role::latency::Latency;

/// What a run asks a load for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measure {
    /// Load before anything is counted, milliseconds.
    pub(crate) warm_ms: u64,
    /// How long is counted, milliseconds.
    pub(crate) measure_ms: u64,
    /// Whose CPU time is read.
    pub(crate) pids: Vec<u32>,
}

/// What a load counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Units of work that were done.
    pub(crate) units: u64,
    /// In this time.
    pub(crate) seconds: f64,
    /// CPU time of the processes that were asked for, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// CPU time of the load itself, nanoseconds.
    pub(crate) load_cpu_ns: u64,
    /// Datagrams that came meanwhile, over QUIC.
    pub(crate) datagrams: u64,
    /// How long they took, in an open loop.
    pub(crate) latency: Option<Latency>,
    /// Answers that were none: refusals, or another length than the first.
    pub(crate) wrong: u64,
}

impl Measured {
    /// CPU time per unit, microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.units.max(1) as f64
    }

    /// Units a second.
    pub(crate) fn rate(&self) -> f64 {
        self.units as f64 / self.seconds
    }
}

/// Where a measurement is.
#[derive(Debug)]
pub(crate) struct Window {
    measure: Measure,
    start: Instant,
    end: Instant,
    /// When counting began, units until then, and CPU time of the others and of the load.
    began: Option<(Instant, u64, u64, u64)>,
}

impl Window {
    /// Begins to warm up.
    pub(crate) fn new(measure: Measure, now: Instant) -> Self {
        let start = now + Duration::from_millis(measure.warm_ms);
        let end = start + Duration::from_millis(measure.measure_ms);
        Self { measure, start, end, began: None }
    }

    /// Told the time and the units so far after every turn of a loop; gives the result at the end.
    pub(crate) fn turn(&mut self, now: Instant, units: u64) -> Result<Option<Measured>, BenchError> {
        let Some((began, before, cpu, load_cpu)) = self.began else {
            if now >= self.start {
                let cpu = cpu_ns(&self.measure.pids)?;
                self.began = Some((Instant::now(), units, cpu, cpu_ns(&[std::process::id()])?));
            }
            return Ok(None);
        };
        if now < self.end {
            return Ok(None);
        }
        let cpu = cpu_ns(&self.measure.pids)?.checked_sub(cpu).ok_or_else(|| {
            BenchError::failed("CPU time went back: a process has ended, and another has its number")
        })?;
        let load_cpu_ns = cpu_ns(&[std::process::id()])? - load_cpu;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Some(Measured {
            units: units - before,
            seconds,
            cpu_ns: cpu,
            load_cpu_ns,
            datagrams: 0,
            latency: None,
            wrong: 0,
        }))
    }

    /// Whether counting has begun.
    pub(crate) const fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// The next time at which something is due.
    pub(crate) fn next(&self) -> Instant {
        if self.began.is_none() { self.start } else { self.end }
    }
}
