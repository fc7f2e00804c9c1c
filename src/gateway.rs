//! The composition root: from a [`Config`] to bound sockets, workers and the monitor. Used by the program and by
//! tests.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::auth::Verifier;
use crate::config::{Config, TlsIdentity};
use crate::limits::{MIN_CONNECTIONS, RESERVED_FILES};
use crate::monitor::http::MonitorServer;
use crate::monitor::metrics::Metrics;
use crate::monitor::readiness::Readiness;
use crate::server::admission::Admission;
use crate::worker::{self, Plan};

mod sockets;

/// Where a running gateway can be reached; with port 0 in the configuration, the ports that were chosen.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// UDP.
    pub quic: Vec<SocketAddr>,
    /// Plain TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS on TCP.
    pub tls: Vec<SocketAddr>,
    /// HTTP: `/health`, `/ready`, `/metrics`.
    pub monitor: Option<SocketAddr>,
}

/// The gateway could not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{setting}: cannot listen on {address}: {reason}")]
    Bind {
        /// The key of the configuration.
        setting: &'static str,
        /// The address it holds.
        address: SocketAddr,
        /// Why, and what to do.
        reason: String,
    },
    /// The machine gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The monitor could not start.
    #[error(transparent)]
    Monitor(#[from] crate::monitor::http::StartError),
}

/// A running gateway. Dropping it ends it at once; [`Gateway::drain`] ends it orderly.
pub struct Gateway {
    addresses: Addresses,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    drain: CancellationToken,
    stop: CancellationToken,
    ended: CancellationToken,
    failed: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    // After the workers: health is served for as long as they run.
    _monitor: Option<MonitorServer>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds every listener, then starts the workers and the monitor. When it returns, clients can connect.
    ///
    /// # Errors
    /// [`StartError`] names the setting.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let max_connections = config.limits.max_connections.min(open_file_limit());
        let config = Arc::new(config);
        let quic = config.quic.as_ref().map_or(&[][..], |quic| &quic.listen);
        let udp: Vec<UdpSocket> = sockets::bind_all("quic.listen", quic, sockets::udp)?;
        let tcp: Vec<TcpListener> = sockets::bind_all("tcp.listen", &config.tcp, sockets::tcp)?;
        let tls = config.tls.as_ref().map_or(&[][..], |tls| &tls.listen);
        let tls: Vec<TcpListener> = sockets::bind_all("tcp.tls_listen", tls, sockets::tcp)?;
        let monitor = config.monitor.as_slice();
        let monitor: Vec<TcpListener> = sockets::bind_all("monitor.listen", monitor, sockets::tcp)?;
        let addresses = Addresses {
            quic: udp.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
            tcp: tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
            tls: tls.iter().filter_map(|listener| listener.local_addr().ok()).collect(),
            monitor: monitor.first().and_then(|listener| listener.local_addr().ok()),
        };
        let zones = config.route.zones().iter().map(|zone| zone.id.clone()).collect();
        let metrics = Metrics::new(config.workers, zones);
        if let Some(end) = certificate(&config).and_then(TlsIdentity::not_after) {
            metrics.certificate_ends(end);
        }
        let services = config.instances.iter().map(|instance| instance.service.clone());
        let readiness =
            Arc::new(Readiness::new(services.chain(std::iter::once(config.login_service.clone()))));
        let monitor = monitor
            .into_iter()
            .next()
            .map(|listener| MonitorServer::start(listener, metrics.clone(), Arc::clone(&readiness)))
            .transpose()?;
        let mut gateway = Self {
            addresses,
            readiness: Arc::clone(&readiness),
            metrics: metrics.clone(),
            drain: CancellationToken::new(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
            failed: Arc::default(),
            workers: Vec::new(),
            _monitor: monitor,
        };
        let identity = worker::Identity { index: 0, gate_id: config.id.clone() };
        gateway.spawn_worker(Plan {
            identity,
            verifier: Arc::new(Verifier::new(&config.auth, &config.expected_claims)),
            metrics,
            readiness,
            admission: Arc::new(Admission::new(max_connections)),
            tcp,
            tls,
            udp,
            drain: gateway.drain.clone(),
            stop: gateway.stop.clone(),
            config,
        })?;
        Ok(gateway)
    }

    fn spawn_worker(&mut self, plan: Plan) -> Result<(), StartError> {
        let name = format!("worker-{}", plan.identity.index);
        let (ended, failed) = (self.ended.clone(), Arc::clone(&self.failed));
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || {
                // Set on every way out, a panic included: a gateway without its worker must not look alive.
                let _ended = ended.drop_guard();
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(plan)));
                match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        failed.store(true, Ordering::Release);
                        error!(event = "worker_failed", %error);
                    }
                    Err(_panic) => {
                        failed.store(true, Ordering::Release);
                        error!(
                            event = "worker_failed",
                            "a worker panicked; the gateway ends. Please report this"
                        );
                    }
                }
            })
            .map_err(StartError::Thread)?;
        self.workers.push(thread);
        Ok(())
    }

    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether traffic may be sent to it; what `/ready` answers.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Begins the drain: not ready, nothing new is accepted, channels end with code 3000 after their last answers,
    /// sign-outs are written. Returns at once; [`Gateway::ended`] or [`Gateway::wait`] tell when it is done.
    pub fn drain(&self) {
        self.readiness.draining();
        if !self.drain.is_cancelled() {
            info!(event = "drain", "draining: channels are closed with 3000, sign-outs are written");
        }
        self.drain.cancel();
    }

    /// Resolves when the workers have ended, by a drain or by a fault. Cancel safe.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Blocks until the workers have ended; true if they ended orderly.
    pub fn wait(mut self) -> bool {
        self.join()
    }

    fn join(&mut self) -> bool {
        for thread in self.workers.drain(..) {
            if thread.join().is_err() {
                self.failed.store(true, Ordering::Release);
            }
        }
        !self.failed.load(Ordering::Acquire)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
        self.join();
    }
}

/// What encrypted listeners show their clients.
fn certificate(config: &Config) -> Option<&TlsIdentity> {
    let quic = config.quic.as_ref().map(|quic| &quic.identity);
    quic.or(config.tls.as_ref().map(|tls| &tls.identity)).map(|identity| &**identity)
}

/// Files the process may open for connections; the soft limit is raised to the hard one first.
fn open_file_limit() -> usize {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            // Some systems refuse their own hard limit; the soft one stands then.
            let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
            let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(hard, |(soft, _)| soft);
            let usable = if raised { hard } else { soft };
            let spare = usable.saturating_sub(RESERVED_FILES);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::http;

    #[test]
    fn a_monitor_that_cannot_start_is_reported_once() {
        let cause = http::StartError::Listener(io::Error::other("no such luck"));
        let text = format!("{:#}", anyhow::Error::from(StartError::from(cause)));
        assert_eq!(text, "monitor.listen: the socket cannot be used: no such luck");
    }
}
