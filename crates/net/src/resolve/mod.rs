//! From a name to a connection, for everything that connects to somewhere: links to logic services, Consul, the
//! webhook, and the client library.
//!
//! The system's resolver blocks for as long as it likes. It is asked on a few threads of its own, which nobody waits for:
//! however long it hangs, it holds no runtime and not the end of the process. Of each name at most one look-up is under way,
//! its end is remembered for a moment, failures included, and the last good answer stays in use while look-ups fail or
//! hang (row E10). An IP address is no name and touches none of this.
//!
//! Several addresses are tried side by side, each a little later than the one before ([`first_of`], RFC 8305): one that
//! swallows packets costs a quarter of a second and not the whole deadline (row H14).

mod names;
mod race;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use self::names::{Asked, Ended, Failure, Names};
pub use self::race::{attempt_delay, first_of};
use crate::limits::{LOOKUP_PATIENCE, LOOKUP_SHARE, LOOKUP_THREADS};

/// Asks for the addresses of a host. Called on a thread that may block for as long as it likes.
pub trait Lookup: Send + Sync {
    /// The addresses of the host in the order in which they are to be tried; their ports are not looked at.
    ///
    /// # Errors
    /// The resolver's. No address at all is an error to whoever asked.
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

impl<F: Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync> Lookup for F {
    fn look_up(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self(host)
    }
}

/// A name has no address, or none is known in time. The fault of the resolver, the network or whoever wrote the name.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// The resolver said so, a moment ago at most.
    #[error("the name {host:?} cannot be resolved: {reason}")]
    Failed {
        /// As it was given.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// The resolver says nothing, and never said anything before.
    #[error("the name {host:?} is not resolved in time: the resolver does not answer")]
    Late {
        /// As it was given.
        host: String,
    },
    /// [`RESOLVED_NAMES`](crate::limits::RESOLVED_NAMES) other names are being looked up.
    #[error("the name {host:?} is not looked up: too many others are")]
    Full {
        /// As it was given.
        host: String,
    },
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub enum TcpConnectError {
    /// There is no address to connect to.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Every address refused; what the last one said.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No address answered before the deadline.
    #[error("no connection in time")]
    Timeout,
}

/// What went wrong since the start, and what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolverCounts {
    /// Look-ups that failed.
    pub failed: u64,
    /// Askers who went on without an answer: with the last good one, or with none.
    pub late: u64,
    /// Names not looked up because of [`RESOLVED_NAMES`](crate::limits::RESOLVED_NAMES).
    pub full: u64,
    /// Look-ups under way now, those that wait for a thread included.
    pub under_way: usize,
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Resolver(Arc<SharedResolver>);

struct SharedResolver {
    lookup: Box<dyn Lookup>,
    names: Mutex<Names>,
    failed: AtomicU64,
    late: AtomicU64,
    full: AtomicU64,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Default for Resolver {
    /// The system's, shared by the whole process.
    fn default() -> Self {
        static SYSTEM: LazyLock<Resolver> =
            LazyLock::new(|| Resolver::new(|host: &str| (host, 0).to_socket_addrs().map(Iterator::collect)));
        SYSTEM.clone()
    }
}

impl Resolver {
    /// One that asks this instead of the system.
    pub fn new(lookup: impl Lookup + 'static) -> Self {
        Self(Arc::new(SharedResolver {
            lookup: Box::new(lookup),
            names: Mutex::default(),
            failed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }))
    }

    /// The addresses of a host with this port, in the order in which they are to be tried; at least one.
    ///
    /// Waits for a look-up until the deadline; where there is a last good answer, a share of the time left and at most
    /// [`LOOKUP_PATIENCE`]. Cancel safe: the look-up goes on, for whoever asks next.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let mut addresses = self.addresses(host, deadline).await?;
        addresses.iter_mut().for_each(|address| address.set_port(port));
        Ok(addresses)
    }

    async fn addresses(&self, host: &str, deadline: Instant) -> Result<Vec<SocketAddr>, ResolveError> {
        let began = Instant::now();
        let share = deadline.saturating_duration_since(began) / LOOKUP_SHARE;
        let patience = began + share.min(LOOKUP_PATIENCE);
        loop {
            let (mut ended, last_good) = match self.ask(host)? {
                Asked::Known(answer) => return answer.map_err(|failure| failed(host, &failure)),
                Asked::UnderWay { ended, last_good } => (ended, last_good),
            };
            let until = if last_good.is_some() { patience } else { deadline };
            // Nothing is ever sent: its end is the end of the look-up.
            if timeout_at(until, ended.changed()).await.is_err() {
                self.0.late.fetch_add(1, Relaxed);
                return last_good.ok_or_else(|| ResolveError::Late { host: host.to_owned() });
            }
        }
    }

    /// Connects to the first address of the host that takes the connection.
    ///
    /// Cancel safe: a connection that was not returned is closed. Nothing is written on any.
    ///
    /// # Errors
    /// [`TcpConnectError`].
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, TcpConnectError> {
        let addresses = self.resolve(host, port, deadline).await?;
        let delay = attempt_delay(addresses.len(), deadline.saturating_duration_since(Instant::now()));
        let attempts = addresses.into_iter().map(TcpStream::connect);
        let connected = timeout_at(deadline, first_of(attempts, || sleep(delay))).await;
        let connected = connected.map_err(|_| TcpConnectError::Timeout)?;
        connected.map_err(|mut errors| {
            TcpConnectError::Io(errors.pop().unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
        })
    }

    /// This address of the host took a connection and was of no use on it: until another one disappoints, it is tried
    /// last. Without an effect for an IP address.
    pub fn avoid(&self, host: &str, address: SocketAddr) {
        self.names().avoid(host, address.ip());
    }

    /// What went wrong, and what is under way.
    pub fn counts(&self) -> ResolverCounts {
        let SharedResolver { failed, late, full, .. } = &*self.0;
        let under_way = self.names().under_way();
        ResolverCounts {
            failed: failed.load(Relaxed),
            late: late.load(Relaxed),
            full: full.load(Relaxed),
            under_way,
        }
    }

    fn ask(&self, host: &str) -> Result<Asked, ResolveError> {
        let mut names = self.names();
        let Some(asked) = names.ask(host, std::time::Instant::now()) else {
            self.0.full.fetch_add(1, Relaxed);
            return Err(ResolveError::Full { host: host.to_owned() });
        };
        let starts = names.wants_thread(LOOKUP_THREADS);
        drop(names);
        if starts {
            self.start_thread();
        }
        Ok(asked)
    }

    /// A thread that works as long as there is work. It is not joined: it may hang.
    fn start_thread(&self) {
        let resolver = self.clone();
        let thread = std::thread::Builder::new().name("resolve".to_owned());
        if let Err(error) = thread.spawn(move || while resolver.look_up_next() {}) {
            let failure = Failure::new(format!("no thread can be started: {error}"));
            let failed = self.names().no_thread(&failure, std::time::Instant::now());
            self.0.failed.fetch_add(failed, Relaxed);
        }
    }

    /// Does one look-up that waits; false if there is none, and then this thread must end.
    fn look_up_next(&self) -> bool {
        let Some(host) = self.names().next() else { return false };
        let answer = catch_unwind(AssertUnwindSafe(|| self.0.lookup.look_up(&host)));
        let answer = match answer {
            Ok(Ok(addresses)) if addresses.is_empty() => Err(Failure::new("it has no address".to_owned())),
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(Failure::new(error.to_string())),
            Err(_panic) => Err(Failure::new("the look-up panicked".to_owned())),
        };
        if answer.is_err() {
            self.0.failed.fetch_add(1, Relaxed);
        }
        match self.names().ended(&host, answer, std::time::Instant::now()) {
            Ended::Stale(reason) => warn!(
                event = "dns_failing", %host, %reason,
                "the name cannot be resolved; the last good answer stays in use"
            ),
            Ended::Back => info!(event = "dns_back", %host),
            Ended::Untold => {}
        }
        true
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(host: &str, failure: &Failure) -> ResolveError {
    ResolveError::Failed { host: host.to_owned(), reason: failure.to_string() }
}

/// Host and port of `host:port`; an IPv6 address stands in brackets, which are taken off.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`]: it is not written so.
pub fn host_and_port(address: &str) -> io::Result<(&str, u16)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is no HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { Err(invalid()) } else { Ok((host, port)) }
}

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
