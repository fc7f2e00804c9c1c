//! [`LogicServer`]: one instance of a logic service.

use std::future::Future;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::link::{self, LinkContext, LinkLimits};
use crate::links::{KnownGateway, Links};
use crate::request::Request;
use crate::routes::Routes;
use gateway_net::accept_pause::AcceptPause;
use gateway_net::limits::ACCEPT_PAUSE;
use gateway_wire::dialect::Dialect;

/// Connections of one server, in the handshake or linked: far more gateways than any installation has.
const MAX_LINKS: usize = 1024;

/// One instance of a logic service: it accepts gateways and gives each request to the handler of its command.
///
/// Requests of one channel on one link are handled one after another, in the order in which they came, even
/// where a handler waits; requests of different channels do not wait for each other. A handler that waits is a
/// task, so it may take its time; it must not block its thread.
pub struct LogicServer {
    service: String,
    known: KnownGateway,
    limits: LinkLimits,
    links: Links,
    routes: Routes,
}

impl LogicServer {
    /// A service of this name (the part of its commands before the first dot), dialect `x_im`.
    pub fn new(service: impl Into<String>) -> Self {
        Self::speaking(service, Dialect::default())
    }

    /// A service that speaks the given dialect; it must be the one the gateway has for this instance.
    pub fn speaking(service: impl Into<String>, dialect: Dialect) -> Self {
        Self {
            service: service.into(),
            known: KnownGateway::default(),
            limits: LinkLimits::default(),
            links: Links::new(dialect),
            routes: Routes::default(),
        }
    }

    /// What to do with a gateway that is linked already; the default is [`KnownGateway::Replace`].
    #[must_use]
    pub fn known_gateway(mut self, known: KnownGateway) -> Self {
        self.known = known;
        self
    }

    /// Other bounds than [`LinkLimits::default`].
    #[must_use]
    pub fn limits(mut self, limits: LinkLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the handler of one command; an earlier one is replaced.
    #[must_use]
    pub fn handle<H, W>(mut self, command: &str, handler: H) -> Self
    where
        H: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.routes.insert(command, handler);
        self
    }

    /// Sets the handler of all commands that have none. Without it they are answered 301 `NotImplemented`.
    #[must_use]
    pub fn fallback<H, W>(mut self, handler: H) -> Self
    where
        H: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.routes.set_fallback(handler);
        self
    }

    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Its links, for pushes from outside a handler and for its counters. They stay valid while it serves.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Accepts gateways until `shutdown` is ready, then lets handlers end and queued packets leave for at most
    /// [`LinkLimits::shutdown`], and closes every link with a close frame.
    ///
    /// Dropping the future ends everything at once.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let service = Arc::new(LinkContext {
            name: self.service,
            known: self.known,
            limits: self.limits,
            links: self.links,
            routes: Arc::new(self.routes),
            stopping: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = accept_all(&listener, &service, &mut tasks) => {}
            () = shutdown => {}
        }
        drop(listener);
        service.stopping.cancel();
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        // Each link keeps to the bound itself; this one is for links that hang.
        if timeout(2 * service.limits.shutdown, all_ended).await.is_err() {
            warn!(service = ?service.name, "links to gateways had to be aborted");
        }
    }
}

impl std::fmt::Debug for LogicServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogicServer").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Accepts for ever. What a gateway does or does not do delays no other: each has its task.
async fn accept_all(listener: &TcpListener, service: &Arc<LinkContext>, tasks: &mut JoinSet<()>) {
    let mut pause = AcceptPause::new(ACCEPT_PAUSE);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
        };
        match accepted {
            Ok((stream, _)) => {
                pause.reset();
                admit(stream, service, tasks);
            }
            Err(error) => {
                if let Some(pause) = pause.after(&error) {
                    error!(service = ?service.name, %error, "cannot accept gateways, trying again");
                    sleep(pause).await;
                }
            }
        }
    }
}

fn admit(stream: TcpStream, service: &Arc<LinkContext>, tasks: &mut JoinSet<()>) {
    if tasks.len() >= MAX_LINKS {
        warn!(service = ?service.name, "a gateway was turned away: too many connections");
        return;
    }
    tasks.spawn(link::run(stream, Arc::clone(service)));
}

fn report(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a link task panicked; its gateway will dial again");
    }
}
