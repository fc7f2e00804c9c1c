//! How many files the process may open, and how many of them are left for clients.

use tracing::warn;

use crate::config::Config;
use crate::limits::{
    DISCOVERED_INSTANCES, FEW_CONNECTIONS, MIN_RESERVED_FILES, RESERVED_FILES, WORKER_FILES,
};

/// Files the workers need for themselves. Each has a link to every instance.
fn workers_files(config: &Config) -> u64 {
    let listeners = config.tcp.len()
        + config.tls.as_ref().map_or(0, |tls| tls.listen.len())
        + config.websocket.as_ref().map_or(0, |websocket| {
            websocket.listen.len() + websocket.tls.as_ref().map_or(0, |tls| tls.listen.len())
        })
        + config.quic.as_ref().map_or(0, |quic| quic.listen.len());
    let instances = if config.consul.is_some() { DISCOVERED_INSTANCES } else { config.instances.len() };
    let of_worker = WORKER_FILES + (listeners + instances) as u64;
    config.workers as u64 * of_worker
}

/// Files that are left for clients, one at least. What the process needs itself is kept back however few there are:
/// who asks for its health must get an answer.
fn left_for_clients(limit: u64, workers: u64) -> u64 {
    let reserve = (limit / 4).clamp(MIN_RESERVED_FILES, RESERVED_FILES);
    limit.saturating_sub(workers + reserve).max(1)
}

/// Files the process may open for clients; the soft limit is raised to the hard one first.
pub(super) fn open_file_limit(config: &Config) -> usize {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            // Some systems refuse their own hard limit; the soft one stands then.
            let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
            let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(hard, |(soft, _)| soft);
            let usable = if raised { hard } else { soft };
            let clients = left_for_clients(usable, workers_files(config));
            if clients < FEW_CONNECTIONS {
                warn!(
                    event = "few_files",
                    limit = usable,
                    clients,
                    "the open-file limit leaves little room for clients; raise it"
                );
            }
            return usize::try_from(clients).unwrap_or(usize::MAX);
        }
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h21_the_reserve_is_kept_however_small_the_limit_is() {
        for (limit, workers, clients) in [
            (1_048_576, 20, 1_048_576 - 20 - 512),
            (4_096, 20, 4_096 - 20 - 512),
            (1_024, 20, 1_024 - 20 - 256),
            (256, 20, 256 - 20 - 64),
            (80, 13, 80 - 13 - 48),
            (80, 60, 1),
            (20, 13, 1),
            (u64::MAX, 13, u64::MAX - 13 - 512),
        ] {
            assert_eq!(left_for_clients(limit, workers), clients, "{clients} of {limit}");
        }
    }
}
