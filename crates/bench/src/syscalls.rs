//! System calls of a process, counted by perf.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::peer;

/// AnswerCounts for a while, beside what is measured.
pub(crate) struct SyscallCounter {
    perf: Child,
    seconds: f64,
}

/// The kernel's event of every system call.
const EVENT: &str = "raw_syscalls:sys_enter";

impl SyscallCounter {
    /// Begins to count, for the given time; none where perf is not installed.
    pub(crate) fn start(pid: u32, window: Duration) -> Option<Self> {
        let mut perf = Command::new(peer::find("perf")?);
        let seconds = window.as_secs_f64();
        perf.args([
            "stat",
            "-x",
            ",",
            "-e",
            EVENT,
            "-p",
            &pid.to_string(),
            "--",
            "sleep",
            &seconds.to_string(),
        ]);
        let perf = perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        Some(Self { perf, seconds })
    }

    /// Calls a second; none where perf may not count them.
    pub(crate) fn per_second(self) -> Option<f64> {
        let output = self.perf.wait_with_output().ok()?;
        count(&String::from_utf8_lossy(&output.stderr)).map(|calls| calls / self.seconds)
    }
}

/// The first field of the line of the event.
fn count(text: &str) -> Option<f64> {
    text.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_first_on_the_line_of_the_event() {
        let text = "\n1234,,raw_syscalls:sys_enter,2000000,100.00,,\n";
        assert_eq!(count(text), Some(1234.0));
        assert_eq!(count("<not supported>,,raw_syscalls:sys_enter,0,0.00,,"), None);
    }
}
