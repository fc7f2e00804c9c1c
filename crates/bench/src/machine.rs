//! Where a run was made.

use std::fs;
use std::thread;

use crate::cores::Cores;
use crate::report::MachineFacts;

/// The facts of this machine.
pub(crate) fn facts(cores: Option<Cores>, gateway: &str) -> MachineFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    MachineFacts {
        processor: name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.trim().to_owned()),
        cores: thread::available_parallelism().map_or(1, Into::into),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        pinned: cores.map_or_else(
            || "nothing is pinned: there is one core".to_owned(),
            |Cores { server, load }| format!("server on core {server}, load and services on core {load}"),
        ),
        gateway: gateway.to_owned(),
    }
}
