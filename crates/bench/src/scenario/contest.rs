//! Contenders that do the same work in turn.

use std::time::Duration;

use crate::bench::{BenchRun, ContenderPart};
use crate::error::BenchError;
use crate::process::RoleProcess;
use crate::report::{ContenderResult, MetricSeries, WorkResult};
use crate::role::window::{Measure, Measured};

/// CPU time of one unit of work: what decides, because cores are shared.
pub(crate) const CPU: &str = "CPU µs";

/// Units a second.
pub(crate) const RATE: &str = "per second";

/// How much of its core the server used.
const BUSY: &str = "core busy %";

/// Load before anything is counted.
pub(crate) const WARM: Duration = Duration::from_millis(300);

/// How long a load may take beyond the time it counts.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who does the work, and the load that makes them.
pub(crate) struct Contender {
    pub(crate) who: String,
    /// Whose CPU time counts.
    pub(crate) pids: Vec<u32>,
    pub(crate) load: RoleProcess,
    /// What runs as long as it does.
    pub(crate) _parts: Vec<ContenderPart>,
}

impl Contender {
    /// A gateway that runs on its own.
    pub(crate) fn gateway(who: &str, pid: u32, load: RoleProcess) -> Self {
        Self { who: who.to_owned(), pids: vec![pid], load, _parts: Vec::new() }
    }

    /// Something that is measured only here.
    pub(crate) fn with_parts(who: &str, pid: u32, load: RoleProcess, parts: Vec<ContenderPart>) -> Self {
        Self { who: who.to_owned(), pids: vec![pid], load, _parts: parts }
    }

    /// Measures it once.
    ///
    /// # Errors
    /// A load that failed, or got answers that were none.
    pub(crate) fn measure(&mut self, window: Duration) -> Result<Measured, BenchError> {
        self.measure_after(WARM, window)
    }

    /// The same after a longer time.
    pub(crate) fn measure_after(&mut self, warm: Duration, window: Duration) -> Result<Measured, BenchError> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let question = Measure {
            warm_ms: milliseconds(warm),
            measure_ms: milliseconds(window),
            pids: self.pids.clone(),
        };
        let measured: Measured = self.load.ask(&question, window + warm + PATIENCE)?;
        if measured.wrong > 0 || measured.units == 0 {
            let Measured { units, wrong, .. } = measured;
            return Err(BenchError::failed(format!("{}: of {units} answers {wrong} were wrong", self.who)));
        }
        Ok(measured)
    }
}

/// Measures each contender in each round, one after the other, and gives what was counted by contender.
///
/// # Errors
/// A load that failed, or got answers that were none.
pub(crate) fn rounds(
    bench: &BenchRun<'_>,
    work: &str,
    contenders: &mut [Contender],
) -> Result<Vec<Vec<Measured>>, BenchError> {
    let mut counted: Vec<Vec<Measured>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=bench.settings.rounds {
        for (contender, counted) in contenders.iter_mut().zip(&mut counted) {
            bench.tell(&format!("{work}, round {round} of {}: {}", bench.settings.rounds, contender.who));
            counted.push(contender.measure(bench.settings.window)?);
        }
    }
    Ok(counted)
}

/// The numbers of one contender.
pub(crate) fn result(who: &str, counted: &[Measured]) -> ContenderResult {
    let series = |name: &str, value: fn(&Measured) -> f64| {
        MetricSeries::new(name, counted.iter().map(value).collect())
    };
    ContenderResult {
        who: who.to_owned(),
        metrics: vec![
            series(CPU, Measured::cpu_us),
            series(RATE, Measured::rate),
            series(BUSY, |measured| measured.cpu_ns as f64 / 1e7 / measured.seconds),
        ],
    }
}

/// The contest as a whole, without targets.
pub(crate) fn contest(
    bench: &BenchRun<'_>,
    title: &str,
    contenders: &mut [Contender],
) -> Result<WorkResult, BenchError> {
    let counted = rounds(bench, title, contenders)?;
    let results = contenders.iter().zip(&counted).map(|(one, counted)| result(&one.who, counted)).collect();
    Ok(WorkResult::new(title, results))
}
