//! CPU time of a process.

use std::fs;

use crate::error::{BenchError, Trying as _};

/// Clock ticks of `/proc/PID/stat` in a second: Linux shows it so on every machine.
const TICK_NS: u64 = 10_000_000;

/// User and system time of some processes so far, nanoseconds: what the scheduler counted for each of their threads, or
/// the ticks of `stat` where it does not count.
///
/// # Errors
/// A process that is gone.
pub(crate) fn cpu_ns(pids: &[u32]) -> Result<u64, BenchError> {
    pids.iter().map(|pid| of_threads(*pid).map_or_else(|| of_stat(*pid), Ok)).sum()
}

/// The threads of the programs that are measured live as long as they do, so none is missing from the sum.
fn of_threads(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        sum += text.split(' ').next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then_some(sum)
}

fn of_stat(pid: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).doing(|| format!("cannot read {path}"))?;
    ticks(&text)
        .map(|ticks| ticks * TICK_NS)
        .ok_or_else(|| BenchError::failed(format!("{path} is not as expected")))
}

/// utime + stime: the 14th and 15th field; the second, in parentheses, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticks_of_a_process_stand_behind_its_name() {
        let stat = "42 (a) b 1 2) S 1 42 42 0 -1 4194560 1 0 0 0 250 30 0 0 20 0 1 0 12 3 4";
        assert_eq!(ticks(stat), Some(280));
        assert_eq!(ticks("42"), None);
    }

    #[test]
    fn work_is_counted_and_a_process_that_is_gone_is_an_error() {
        let this = std::process::id();
        let before = cpu_ns(&[this]).unwrap();
        let mut sum = 0u64;
        while cpu_ns(&[this]).unwrap() < before + 2_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_ns(&[u32::MAX - 1]).is_err());
    }
}
