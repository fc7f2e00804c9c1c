//! What was measured, as a table.

use std::fmt;
use std::time::Duration;

/// The session of one stack.
#[derive(Debug, Default)]
pub(crate) struct StackMeasured {
    /// From the client's first packet until it says that it is connected.
    pub(crate) handshake: Duration,
    /// Heartbeats while the address stayed what it was: what the machine and the program take.
    pub(crate) unchanged: Vec<Duration>,
    /// From the first packet of a new address until the gateway's first one there.
    pub(crate) path: Vec<Duration>,
    /// From the first packet of a new address until the answer to the heartbeat.
    pub(crate) changed: Vec<Duration>,
    /// From the first packet of a new address until a push came that had been sent to the old one.
    pub(crate) push_first: Vec<Duration>,
    /// Pushes that came, each once and in order.
    pub(crate) pushes: usize,
}

/// All stacks.
#[derive(Debug, Default)]
pub(crate) struct StackTable {
    ran: Vec<(String, anyhow::Result<StackMeasured>)>,
    skipped: Vec<(String, String)>,
}

impl StackTable {
    pub(crate) fn ran(&mut self, name: &str, how: anyhow::Result<StackMeasured>) {
        self.ran.push((name.to_owned(), how));
    }

    pub(crate) fn skipped(&mut self, name: &str, why: &str) {
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    /// Fails when no stack ran, when a session ended, or when an answer on a new path took longer than this.
    pub(crate) fn assert_within(&self, limit: Duration) {
        assert!(!self.ran.is_empty(), "none of the stacks can be installed here");
        for (name, how) in &self.ran {
            let measured = how.as_ref().unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let slowest = max(&measured.changed);
            assert!(
                slowest <= limit,
                "{name}: an answer on a new path took {slowest:?}, {limit:?} are allowed"
            );
        }
    }
}

fn max(times: &[Duration]) -> Duration {
    times.iter().copied().max().unwrap_or_default()
}

/// Median and maximum, milliseconds.
fn both(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    format!("{:.1} / {:.1}", milliseconds(median), milliseconds(max(times)))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl fmt::Display for StackTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| stack | handshake ms | changes | same path | new path, first packet | answer | push sent to the old | pushes in order |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for (name, how) in &self.ran {
            match how {
                Ok(measured) => {
                    let StackMeasured { handshake, unchanged, path, changed, push_first, pushes } = measured;
                    write!(f, "| {name} | {:.1} | {} ", milliseconds(*handshake), changed.len())?;
                    for times in [unchanged, path, changed, push_first] {
                        write!(f, "| {} ", both(times))?;
                    }
                    writeln!(f, "| {pushes} |")?;
                }
                Err(error) => writeln!(f, "| {name} | failed: {error:#} |")?,
            }
        }
        writeln!(f, "(median / maximum, ms)")?;
        for (name, why) in &self.skipped {
            writeln!(f, "{name} is skipped, it cannot be had here:\n{why}")?;
        }
        write!(f, "{} of {} stacks ran", self.ran.len(), self.ran.len() + self.skipped.len())
    }
}
