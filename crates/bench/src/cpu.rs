//! CPU time of a process.

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::error::{BenchError, Trying as _};

/// User and system time of some processes so far, nanoseconds. The kernel's clock of a process counts its threads that have
/// ended as well, so it never goes back.
///
/// # Errors
/// A process that is gone.
pub(crate) fn cpu_ns(pids: &[u32]) -> Result<u64, BenchError> {
    pids.iter().map(|pid| of_process(*pid)).sum()
}

fn of_process(pid: u32) -> Result<u64, BenchError> {
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed())).and_then(clock_gettime);
    let time = time.doing(|| format!("cannot read the CPU time of process {pid}"))?;
    Ok(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_a_process_that_is_gone_is_an_error() {
        let this = std::process::id();
        work_until(cpu_ns(&[this]).unwrap() + 2_000_000);
        // The kernel counts processes below this one.
        assert!(cpu_ns(&[1 << 22]).is_err());
    }

    #[test]
    fn what_a_thread_did_counts_when_it_has_ended() {
        let this = std::process::id();
        let before = cpu_ns(&[this]).unwrap();
        std::thread::spawn(move || work_until(before + 20_000_000)).join().unwrap();
        assert!(cpu_ns(&[this]).unwrap() >= before + 20_000_000);
    }

    fn work_until(cpu: u64) {
        let mut sum = 0u64;
        while cpu_ns(&[std::process::id()]).unwrap() < cpu {
            sum = std::hint::black_box(sum + 1);
        }
    }
}
