//! Where QUIC did not get through: what [`Auto`](crate::Auto) remembers of each server.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::options::Transport;

/// How long what won instead of QUIC is used without a look at whether QUIC works by now: a network is seldom changed more
/// often, and a person who was in a hotel shall not be without QUIC for the rest of the day.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Servers remembered; far more than a program connects to. The oldest makes room.
const MAX_SERVERS: usize = 256;

/// The servers to which TLS, or WebSocket over TLS, won. Clones share it. It lives in this process: a program that starts
/// anew tries QUIC first again.
///
/// That QUIC won needs no memory, because it is what is tried first anyway; plain TCP is never remembered, so that one
/// bad moment is not ten minutes in clear.
#[derive(Clone)]
pub struct TransportCache(Arc<TransportCacheInner>);

struct TransportCacheInner {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    servers: Mutex<HashMap<String, CachedTransport>>,
}

/// A server to which something else than QUIC won.
struct CachedTransport {
    won: Transport,
    /// When what comes before it was last tried in vain.
    since: Instant,
    /// Owns the task that tries it in the background.
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

    /// A probe got through over this one. Its task may end with the entry: this is the last it does.
    fn improve(&self, server: &str, better: Transport) {
        let mut servers = self.servers();
        match better {
            Transport::Quic => drop(servers.remove(server)),
            _ => {
                if let Some(entry) = servers.get_mut(server) {
                    entry.won = better;
                }
            }
        }
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
        self.0.servers().get(server).map(|entry| entry.won)
    }

    /// This one won a race that another one had begun.
    pub(super) fn won(&self, server: &str, won: Transport) {
        let since = (self.0.clock)();
        let mut servers = self.0.servers();
        if servers.len() >= MAX_SERVERS && !servers.contains_key(server) {
            let oldest = servers.iter().min_by_key(|(_, entry)| entry.since);
            if let Some(oldest) = oldest.map(|(server, _)| server.clone()) {
                servers.remove(&oldest);
            }
        }
        servers.insert(server.to_owned(), CachedTransport { won, since, _probe: None });
    }

    /// QUIC got through.
    pub(super) fn quic_won(&self, server: &str) {
        self.0.servers().remove(server);
    }

    /// Tries what comes before the transport that won in the background if that is due: ten minutes after it was last
    /// tried in vain. What `better` gives is first from then on, and nothing leaves it as it is for another ten minutes.
    /// The memory owns the task.
    pub(super) fn probe<F, B>(&self, server: &str, better: F)
    where
        F: FnOnce() -> B,
        B: Future<Output = Option<Transport>> + Send + 'static,
    {
        let now = (self.0.clock)();
        let mut servers = self.0.servers();
        let Some(entry) = servers.get_mut(server) else { return };
        if now.saturating_duration_since(entry.since) < KEPT {
            return;
        }
        let (memory, server, better) = (Arc::downgrade(&self.0), server.to_owned(), better());
        let task = tokio::spawn(async move {
            if let Some(better) = better.await
                && let Some(memory) = memory.upgrade()
            {
                memory.improve(&server, better);
            }
        });
        // From now on, so that connections made meanwhile begin none of their own.
        (entry.since, entry._probe) = (now, Some(AbortOnDropHandle::new(task)));
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
        memory.won(SERVER, Transport::Tls);
        (memory, clock)
    }

    fn pass(clock: &Mutex<Instant>, time: Duration) {
        *clock.lock().unwrap() += time;
    }

    /// Returns `true` if a probe was begun.
    fn begins(
        memory: &TransportCache,
        better: impl Future<Output = Option<Transport>> + Send + 'static,
    ) -> bool {
        let mut begun = false;
        memory.probe(SERVER, || {
            begun = true;
            better
        });
        begun
    }

    #[tokio::test]
    async fn quic_is_tried_again_after_ten_minutes_and_once_at_a_time() {
        let (memory, clock) = memory();
        assert_eq!(memory.remembered(SERVER), Some(Transport::Tls));
        pass(&clock, 10 * MINUTE - MS);
        assert!(!begins(&memory, async { Some(Transport::Quic) }));
        pass(&clock, MS);
        let (fails, failed) = oneshot::channel::<Option<Transport>>();
        assert!(begins(&memory, async { failed.await.unwrap() }));
        assert!(!begins(&memory, async { Some(Transport::Quic) }), "one is under way");
        fails.send(None).unwrap();
        tokio::task::yield_now().await;
        assert_eq!(memory.remembered(SERVER), Some(Transport::Tls));
        pass(&clock, 10 * MINUTE - MS);
        assert!(!begins(&memory, async { Some(Transport::Quic) }), "it failed: another ten minutes");
        pass(&clock, MS);
        assert!(begins(&memory, async { Some(Transport::Quic) }));
        tokio::task::yield_now().await;
        assert_eq!(memory.remembered(SERVER), None, "it works: QUIC is first again");
        pass(&clock, 10 * MINUTE);
        assert!(!begins(&memory, async { Some(Transport::Quic) }), "and needs no probe");
    }

    #[tokio::test]
    async fn tls_that_works_again_takes_the_place_of_websocket_and_quic_that_of_both() {
        let (memory, clock) = memory();
        memory.won(SERVER, Transport::Wss);
        for (better, first) in [(None, Transport::Wss), (Some(Transport::Tls), Transport::Tls)] {
            pass(&clock, 10 * MINUTE);
            assert!(begins(&memory, async move { better }));
            tokio::task::yield_now().await;
            assert_eq!(memory.remembered(SERVER), Some(first));
        }
        pass(&clock, 10 * MINUTE);
        assert!(begins(&memory, async { Some(Transport::Quic) }));
        tokio::task::yield_now().await;
        assert_eq!(memory.remembered(SERVER), None);
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
            memory.won(&format!("gate{n}:8000"), Transport::Tls);
        }
        assert_eq!(memory.0.servers().len(), MAX_SERVERS);
        assert_eq!(memory.remembered(SERVER), None);
        assert_eq!(memory.remembered("gate0:8000"), Some(Transport::Tls));
        memory.won("gate0:8000", Transport::Tls);
        assert_eq!(memory.0.servers().len(), MAX_SERVERS, "one that is known needs no room");
        assert_eq!(memory.remembered("gate1:8000"), Some(Transport::Tls));
        memory.quic_won("gate1:8000");
        assert_eq!(memory.remembered("gate1:8000"), None);
    }
}
