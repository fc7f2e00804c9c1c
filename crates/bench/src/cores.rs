//! Which core is whose: what is measured has one, load and logic services share another.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The two cores of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cores {
    /// Of whatever is measured.
    pub(crate) server: usize,
    /// Of load and logic services.
    pub(crate) load: usize,
}

impl Cores {
    /// The first two that this process may use; none on a machine with one, where nothing is pinned.
    pub(crate) fn of_this_process() -> Option<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let mut cores = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false));
        let load = cores.next()?;
        Some(Self { server: cores.next()?, load })
    }
}

/// Runs `start` with this thread on one core: what it starts begins there and stays there.
pub(crate) fn on_core<T>(core: Option<usize>, start: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this);
    if let Some(core) = core {
        let mut only = CpuSet::new();
        // A core that cannot be had leaves the process where it may be: the report says what was pinned.
        let _unpinned = only.set(core).and_then(|()| sched_setaffinity(this, &only));
    }
    let started = start();
    if let Ok(before) = before {
        let _stays = sched_setaffinity(this, &before);
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_on_a_core_stays_there_and_this_thread_does_not() {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let Some(cores) = Cores::of_this_process() else { return };
        let status =
            on_core(Some(cores.server), || std::fs::read_to_string("/proc/thread-self/status").unwrap());
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(allowed.trim(), cores.server.to_string());
        assert_eq!(sched_getaffinity(Pid::from_raw(0)).unwrap(), before);
    }
}
