//! Instances from Consul, and the gateway's own entry there. On a thread of its own: load on the workers cannot starve
//! it, and whatever Consul does cannot stall a worker.

mod client;
mod contact;
pub(crate) mod entries;
mod known;
mod publisher;
mod registration;
mod watcher;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::client::ConsulClient;
use self::contact::Contact;
use self::publisher::Publisher;
use self::registration::Registration;
use self::watcher::Watcher;
use crate::config::Consul;
use crate::discovery::source::{Discovery, DiscoveryContext, DiscoveryStartError};
use crate::http_client::EndpointError;
use crate::monitor::metrics::{DiscoveryError, DiscoveryMetrics};
use crate::owned_thread::OwnedThread;

/// Before a task that panicked is begun again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Starts to watch, and to register if that is configured.
pub(super) fn start(consul: &Consul, context: &DiscoveryContext) -> Result<Discovery, DiscoveryStartError> {
    let client = ConsulClient::new(consul, context.resolver.clone()).map_err(|error| bad_agent(&error))?;
    let metrics = context.metrics.discovery(context.config.services());
    let contact = Arc::new(Contact::new(Arc::clone(&metrics), context.metrics.events().clone()));
    let (publisher, feed) = Publisher::new(Arc::clone(&metrics));
    let publisher = Arc::new(publisher);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    let mut watching = JoinSet::new();
    for service in &consul.services {
        let watcher = Watcher::new(service, consul, &context.config, &client, &contact, &publisher);
        let run = move || watcher.clone().run();
        watching.spawn_on(again_and_again(run, PANIC_PAUSE, Arc::clone(&metrics)), runtime.handle());
    }
    let mut leave = context.drain.clone();
    if let Some(register) = &consul.register {
        leave = CancellationToken::new();
        let asker = contact.asker("registration");
        let registration = Registration::new(context, consul, register, client, asker);
        let registered = registered(registration, metrics, leave.clone(), context.drain.clone());
        watching.spawn_on(registered, runtime.handle());
    }
    let thread = OwnedThread::start("discovery", move |stopped| {
        let _owner_is_gone = runtime.block_on(stopped);
        drop(watching);
        runtime.shutdown_background();
    })?;
    Ok(Discovery { feed, leave, _thread: Some(thread) })
}

fn bad_agent(error: &EndpointError) -> DiscoveryStartError {
    let setting = match error {
        EndpointError::Host(_) => "address",
        EndpointError::Tls(_) => "ca_file",
    };
    DiscoveryStartError::Agent(format!("discovery.consul.{setting}: {error}"))
}

/// Runs what never ends, and begins it again if it panics.
async fn again_and_again<F>(run: impl Fn() -> F, pause: Duration, metrics: Arc<DiscoveryMetrics>)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut task = JoinSet::new();
        task.spawn(run());
        let _ended = task.join_next().await;
        metrics.error(DiscoveryError::TaskPanic);
        error!(
            event = "discovery_panic",
            "a task of discovery panicked and is begun again. Please report this"
        );
        sleep(pause).await;
    }
}

/// Keeps the gateway registered until it leaves, and lets it drain when it has left.
async fn registered(
    registration: Registration,
    metrics: Arc<DiscoveryMetrics>,
    leave: CancellationToken,
    drain: CancellationToken,
) {
    let keep = || registration.clone().keep();
    tokio::select! {
        () = leave.cancelled() => {}
        () = again_and_again(keep, PANIC_PAUSE, metrics) => {}
    }
    // Dropped on every way out: nothing that goes wrong here may keep the gateway from draining.
    let drain = drain.drop_guard();
    registration.leave().await;
    drop(drain);
    pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::monitor::metrics::Metrics;

    #[tokio::test]
    async fn f10_a_watcher_that_panics_is_begun_again() {
        let metrics = Metrics::new("gate01", 1, Vec::new()).discovery([]);
        let begun = Arc::new(AtomicUsize::new(0));
        let third = Arc::new(tokio::sync::Notify::new());
        let (count, reached) = (Arc::clone(&begun), Arc::clone(&third));
        let run = move || {
            let (count, reached) = (Arc::clone(&count), Arc::clone(&reached));
            async move {
                assert!(count.fetch_add(1, Relaxed) == 2, "meant to fail twice");
                reached.notify_one();
                pending().await
            }
        };
        let mut task = JoinSet::new();
        task.spawn(again_and_again(run, Duration::from_millis(1), Arc::clone(&metrics)));
        third.notified().await;
        assert_eq!((begun.load(Relaxed), metrics.errors(DiscoveryError::TaskPanic)), (3, 2));
    }
}
