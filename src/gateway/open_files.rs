//! How many files the process may open, and how many of them are left for clients.

use tracing::warn;

use crate::config::Config;
use crate::limits::{DISCOVERED_INSTANCES, MIN_CONNECTIONS, RESERVED_FILES, WORKER_FILES};

/// Files the process needs for itself. Each worker has a link to every instance.
pub(super) fn own_files(config: &Config) -> u64 {
    let listeners = config.tcp.len()
        + config.tls.as_ref().map_or(0, |tls| tls.listen.len())
        + config.quic.as_ref().map_or(0, |quic| quic.listen.len());
    let instances = if config.consul.is_some() { DISCOVERED_INSTANCES } else { config.instances.len() };
    let of_worker = WORKER_FILES + (listeners + instances) as u64;
    RESERVED_FILES + config.workers as u64 * of_worker
}

/// Files the process may open for connections beside its `own`; the soft limit is raised to the hard one first.
pub(super) fn open_file_limit(own: u64) -> usize {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            // Some systems refuse their own hard limit; the soft one stands then.
            let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
            let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(hard, |(soft, _)| soft);
            let usable = if raised { hard } else { soft };
            let spare = usable.saturating_sub(own);
            if spare < MIN_CONNECTIONS {
                warn!(
                    event = "few_files",
                    limit = usable,
                    "the open-file limit leaves no room for clients; raise it"
                );
            }
            return usize::try_from(spare.max(MIN_CONNECTIONS)).unwrap_or(usize::MAX);
        }
    }
    usize::MAX
}
