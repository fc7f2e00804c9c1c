//! What a message costs between its read and its write, beside prost, by the clock and by callgrind's instructions.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::bench::BenchRun;
use crate::callgrind::{Profile, profile};
use crate::error::{BenchError, Trying as _};
use crate::peer;
use crate::report::{Bound, ContenderResult, MetricSeries, ScenarioResult, TargetVerdict, WorkResult};
use crate::role::micro::{self, Micro, MicroResult, Step};

/// How often a step is repeated by the clock, and how much more often in the second of two runs of callgrind, whose
/// difference is free of what happens once.
const TIMES: u32 = 300_000;
const FEW: u32 = 1000;
const MORE: u32 = 4000;

/// How long one run of callgrind may take: the program is some fifty times as slow under it.
const VALGRIND: Duration = Duration::from_secs(120);

const NS: &str = "ns";
const INSTRUCTIONS: &str = "instructions";
const ALLOCATIONS: &str = "allocations";

const STEPS: [(Step, &str); 3] = [
    (Step::Forward, "forward path"),
    (Step::DecodeEncode, "prost, decode and encode"),
    (Step::Token, "token check, HS256"),
];

pub(crate) fn run(bench: &BenchRun<'_>) -> Result<ScenarioResult, BenchError> {
    let mut notes = vec![NOTE.to_owned()];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); STEPS.len()];
    for round in 1..=bench.settings.rounds {
        for ((step, who), values) in STEPS.iter().zip(&mut times) {
            bench.tell(&format!("steps of a message, round {round}: {who}"));
            let argument = Micro { step: *step, times: TIMES };
            let (_process, MicroResult { ns }) = bench.role(micro::NAME, &argument, bench.server_core())?;
            values.push(ns);
        }
    }
    let mut contenders = Vec::new();
    for ((step, who), values) in STEPS.into_iter().zip(times) {
        let mut metrics = vec![MetricSeries::new(NS, values)];
        bench.tell(&format!("steps of a message: instructions of {who}"));
        if let Some(Profile { instructions, allocations }) = counted(bench, step)? {
            metrics.push(MetricSeries::new(INSTRUCTIONS, vec![instructions]));
            metrics.push(MetricSeries::new(ALLOCATIONS, vec![allocations]));
        }
        contenders.push(ContenderResult { who: who.to_owned(), metrics });
    }
    let mut work = WorkResult::new("a request of some 200 bytes", contenders);
    work.targets = targets(&work);
    if work.values(STEPS[0].1, INSTRUCTIONS).is_empty() {
        notes.push("valgrind is not installed; instructions and allocations are left out".to_owned());
    }
    let title = "steps of a message without sockets".to_owned();
    Ok(ScenarioResult { id: "B14".to_owned(), title, works: vec![work], notes })
}

const NOTE: &str = "the forward path: packet and header read, instance chosen, header written anew, frame put into a queue; \
                    without the books of a channel and a link";

fn targets(work: &WorkResult) -> Vec<TargetVerdict> {
    let [forward, prost, token] = STEPS.map(|(_, who)| who);
    let of = |who: &str, metric: &str| work.values(who, metric);
    let mut targets = vec![
        TargetVerdict::absolute("forward path", "ns", of(forward, NS), Bound::AtMost(150.0)).with_goal(80.0),
    ];
    let (ours, theirs) = (of(forward, INSTRUCTIONS), of(prost, INSTRUCTIONS));
    targets.push(TargetVerdict::ratio(
        "instructions, prost / forward path",
        theirs,
        ours,
        Bound::AtLeast(8.0),
    ));
    let allocations = of(forward, ALLOCATIONS);
    targets.push(TargetVerdict::absolute(
        "allocations of the forward path",
        "",
        allocations,
        Bound::AtMost(1.0),
    ));
    targets.push(TargetVerdict::absolute("token check", "ns", of(token, NS), Bound::AtMost(3000.0)));
    targets
}

/// Instructions and allocations of one, where valgrind is installed.
fn counted(bench: &BenchRun<'_>, step: Step) -> Result<Option<Profile>, BenchError> {
    let (Some(few), Some(more)) =
        (under_callgrind(bench, step, FEW)?, under_callgrind(bench, step, FEW + MORE)?)
    else {
        return Ok(None);
    };
    // The warm-up before, a tenth, grows as well.
    let repeated = f64::from(MORE) * 1.1;
    Ok(Some(Profile {
        instructions: (more.instructions - few.instructions) / repeated,
        allocations: (more.allocations - few.allocations) / repeated,
    }))
}

fn under_callgrind(bench: &BenchRun<'_>, step: Step, times: u32) -> Result<Option<Profile>, BenchError> {
    let Some(valgrind) = peer::find("valgrind") else { return Ok(None) };
    let out = bench.scratch().join("callgrind.out");
    let argument =
        serde_json::to_string(&Micro { step, times }).doing(|| "cannot write an argument".to_owned())?;
    let mut command = Command::new(valgrind);
    command
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(&bench.settings.program)
        .args(["bench", "role", micro::NAME, &argument]);
    bench.finish("valgrind", &command, VALGRIND)?;
    let text = fs::read_to_string(&out).doing(|| format!("cannot read {}", out.display()))?;
    profile(&text).map(Some).ok_or_else(|| BenchError::failed("callgrind counted nothing"))
}
