//! Where QUIC did not get through: what [`Auto`](crate::Auto) remembers of each server.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::options::Transport;

/// How long TLS is used without a look at whether QUIC works by now: a network is seldom changed more often, and a
/// person who was in a hotel shall not be without QUIC for the rest of the day.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Servers remembered; far more than a program connects to. The oldest makes room.
const MAX_SERVERS: usize = 256;

/// The servers to which TLS won. Clones share it. It lives in this process: a program that starts anew tries QUIC
/// first again.
///
/// That QUIC won needs no memory, because it is what is tried first anyway; plain TCP is never remembered, so that one
/// bad moment is not ten minutes in clear.
#[derive(Clone)]
pub struct TransportCache(Arc<TransportCacheInner>);

struct TransportCacheInner {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    servers: Mutex<HashMap<String, CachedTransport>>,
}

/// A server to which TLS won.
struct CachedTransport {
    /// When QUIC was last tried in vain.
    since: Instant,
    /// Owns the task that tries QUIC in the background.
    _probe: Option<AbortOnDropHandle<()>>,
}

impl Default for TransportCache {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl fmt::Debug for TransportCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.servers().keys()).finish()
    }
}

impl TransportCacheInner {
    fn servers(&self) -> MutexGuard<'_, HashMap<String, CachedTransport>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransportCache {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty memory that lives by this clock: for tests.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(TransportCacheInner { clock: Box::new(clock), servers: Mutex::default() }))
    }

    /// The transport that is tried first with this server (`host:port` as it was given) because it won; `None` when
    /// nothing is remembered, and QUIC is first.
    pub fn remembered(&self, server: &str) -> Option<Transport> {
        self.0.servers().contains_key(server).then_some(Transport::Tls)
    }

    /// TLS won a race that QUIC had begun.
    pub(super) fn tls_won(&self, server: &str) {
        let since = (self.0.clock)();
        let mut servers = self.0.servers();
        if servers.len() >= MAX_SERVERS && !servers.contains_key(server) {
            let oldest = servers.iter().min_by_key(|(_, entry)| entry.since);
            if let Some(oldest) = oldest.map(|(server, _)| server.clone()) {
                servers.remove(&oldest);
            }
        }
        servers.insert(server.to_owned(), CachedTransport { since, _probe: None });
    }

    /// QUIC got through.
    pub(super) fn quic_won(&self, server: &str) {
        self.0.servers().remove(server);
    }

    /// Tries QUIC in the background if that is due: ten minutes after it was last tried in vain. `true` from `quic`
    /// puts it first again, anything else leaves it for another ten minutes. The memory owns the task.
    pub(super) fn probe<F, Q>(&self, server: &str, quic: F)
    where
        F: FnOnce() -> Q,
        Q: Future<Output = bool> + Send + 'static,
    {
        let now = (self.0.clock)();
        let mut servers = self.0.servers();
        let Some(entry) = servers.get_mut(server) else { return };
        if now.saturating_duration_since(entry.since) < KEPT {
            return;
        }
        let (memory, server, quic) = (Arc::downgrade(&self.0), server.to_owned(), quic());
        let task = tokio::spawn(async move {
            if quic.await
                && let Some(memory) = memory.upgrade()
            {
                memory.servers().remove(&server);
            }
        });
        // From now on, so that connections made meanwhile begin none of their own.
        *entry = CachedTransport { since: now, _probe: Some(AbortOnDropHandle::new(task)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const SERVER: &str = "gate.example.org:8000";
    const MINUTE: Duration = Duration::from_secs(60);
    const MS: Duration = Duration::from_millis(1);

    /// A memory in which TLS won, and its clock.
    fn memory() -> (TransportCache, Arc<Mutex<Instant>>) {
        let clock = Arc::new(Mutex::new(Instant::now()));
        let memory = TransportCache::with_clock({
            let clock = Arc::clone(&clock);
            move || *clock.lock().unwrap()
        });
        memory.tls_won(SERVER);
        (memory, clock)
    }

    fn pass(clock: &Mutex<Instant>, time: Duration) {
        *clock.lock().unwrap() += time;
    }

    /// Returns `true` if a probe was begun.
    fn begins(memory: &TransportCache, quic: impl Future<Output = bool> + Send + 'static) -> bool {
        let mut begun = false;
        memory.probe(SERVER, || {
            begun = true;
            quic
        });
        begun
    }

    #[tokio::test]
    async fn quic_is_tried_again_after_ten_minutes_and_once_at_a_time() {
        let (memory, clock) = memory();
        assert_eq!(memory.remembered(SERVER), Some(Transport::Tls));
        pass(&clock, 10 * MINUTE - MS);
        assert!(!begins(&memory, async { true }));
        pass(&clock, MS);
        let (fails, failed) = oneshot::channel::<bool>();
        assert!(begins(&memory, async { failed.await.unwrap() }));
        assert!(!begins(&memory, async { true }), "one is under way");
        fails.send(false).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(memory.remembered(SERVER), Some(Transport::Tls));
        pass(&clock, 10 * MINUTE - MS);
        assert!(!begins(&memory, async { true }), "it failed: another ten minutes");
        pass(&clock, MS);
        assert!(begins(&memory, async { true }));
        tokio::task::yield_now().await;
        assert_eq!(memory.remembered(SERVER), None, "it works: QUIC is first again");
        pass(&clock, 10 * MINUTE);
        assert!(!begins(&memory, async { true }), "and needs no probe");
    }

    #[tokio::test]
    async fn a_probe_ends_with_the_memory() {
        let (memory, clock) = memory();
        pass(&clock, 10 * MINUTE);
        let (held, dropped) = oneshot::channel::<()>();
        assert!(begins(&memory, async move {
            let _held = held;
            std::future::pending().await
        }));
        drop(memory);
        assert!(dropped.await.is_err());
    }

    #[test]
    fn it_is_bounded_and_the_oldest_makes_room() {
        let (memory, clock) = memory();
        for n in 0..MAX_SERVERS {
            pass(&clock, MS);
            memory.tls_won(&format!("gate{n}:8000"));
        }
        assert_eq!(memory.0.servers().len(), MAX_SERVERS);
        assert_eq!(memory.remembered(SERVER), None);
        assert_eq!(memory.remembered("gate0:8000"), Some(Transport::Tls));
        memory.tls_won("gate0:8000");
        assert_eq!(memory.0.servers().len(), MAX_SERVERS, "one that is known needs no room");
        assert_eq!(memory.remembered("gate1:8000"), Some(Transport::Tls));
        memory.quic_won("gate1:8000");
        assert_eq!(memory.remembered("gate1:8000"), None);
    }
}
