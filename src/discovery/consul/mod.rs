//! Instances from Consul, and the gateway's own entry there. On a thread of its own: load on the workers cannot starve
//! it, and whatever Consul does cannot stall a worker.

mod client;
mod contact;
pub(crate) mod entries;
mod known;
mod publisher;
mod registration;
mod watcher;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::client::ConsulClient;
use self::contact::Contact;
use self::publisher::Publisher;
use self::registration::Registration;
use self::watcher::Watcher;
use crate::config::{Config, Consul, HttpTarget, Register};
use crate::discovery::change::{Apply, SourceChange};
use crate::discovery::source::{Discovery, DiscoveryContext, OwnEntry};
use crate::discovery::start_error::DiscoveryStartError;
use crate::http_client::EndpointError;
use crate::monitor::metrics::{DiscoveryError, DiscoveryMetrics};
use crate::owned_thread::OwnedThread;
use crate::resolve::Resolver;

/// Before a task that panicked is begun again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Starts to watch, and to register if that is configured.
pub(super) fn start(consul: &Consul, context: &DiscoveryContext) -> Result<Discovery, DiscoveryStartError> {
    let client = ConsulClient::new(consul, context.resolver.clone()).map_err(|error| bad_agent(&error))?;
    let metrics = context.metrics.discovery(context.config.services());
    let contact = Arc::new(Contact::new(Arc::clone(&metrics), context.metrics.events().clone()));
    let (publisher, feed) = Publisher::new(Arc::clone(&metrics));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let leave = CancellationToken::new();
    let source = ConsulSource { context: context.clone(), contact, publisher: Arc::new(publisher), metrics };
    let (changes, changed) = watch::channel(ConsulSettings { config: Arc::clone(&context.config), client });
    let (left, own_entry) = (leave.clone(), OwnEntry::new());
    let listed = own_entry.follow();
    let thread = OwnedThread::start("discovery", move |stopped| {
        runtime.block_on(async {
            tokio::select! {
                _owner_is_gone = stopped => {}
                () = source.run(changed, listed, left) => {}
            }
        });
        runtime.shutdown_background();
    })?;
    let change = change(changes, context.resolver.clone());
    Ok(Discovery { feed, change, leave, own_entry, _thread: Some(thread) })
}

/// What a source works by.
#[derive(Clone)]
struct ConsulSettings {
    config: Arc<Config>,
    client: ConsulClient,
}

fn change(changes: watch::Sender<ConsulSettings>, resolver: Resolver) -> SourceChange {
    let changes = Arc::new(changes);
    SourceChange::new(move |config| {
        let consul = config
            .consul
            .as_ref()
            .ok_or_else(|| DiscoveryStartError::Agent("discovery.kind: needs a restart".to_owned()))?;
        let client = ConsulClient::new(consul, resolver.clone()).map_err(|error| bad_agent(&error))?;
        let settings = ConsulSettings { config: Arc::clone(config), client };
        let changes = Arc::clone(&changes);
        let apply: Apply = Box::new(move || {
            changes.send_replace(settings);
        });
        Ok(apply)
    })
}

/// What stays when the settings change: what is known, and who is told.
struct ConsulSource {
    context: DiscoveryContext,
    contact: Arc<Contact>,
    publisher: Arc<Publisher>,
    metrics: Arc<DiscoveryMetrics>,
}

impl ConsulSource {
    /// Never ends by itself.
    async fn run(
        self,
        mut changed: watch::Receiver<ConsulSettings>,
        listed: watch::Receiver<bool>,
        leave: CancellationToken,
    ) {
        let mut settings = changed.borrow_and_update().clone();
        let (register, registrations) = watch::channel(self.registration(&settings));
        let mut tasks = JoinSet::new();
        let (metrics, drain) = (Arc::clone(&self.metrics), self.context.drain.clone());
        tasks.spawn(registered(registrations, listed, metrics, leave, drain));
        let mut watching = self.watch(&settings);
        while changed.changed().await.is_ok() {
            let next = changed.borrow_and_update().clone();
            let is_watching_otherwise = watched(&settings.config) != watched(&next.config);
            let is_registered_otherwise = entry(&settings.config) != entry(&next.config);
            settings = next;
            if is_watching_otherwise {
                watching.shutdown().await;
                self.forget(&settings.config.services());
                watching = self.watch(&settings);
            }
            if is_registered_otherwise {
                register.send_replace(self.registration(&settings));
            }
        }
        pending().await
    }

    fn watch(&self, settings: &ConsulSettings) -> JoinSet<()> {
        let mut watching = JoinSet::new();
        let Some(consul) = &settings.config.consul else { return watching };
        for service in &consul.services {
            let (contact, publisher) = (&self.contact, &self.publisher);
            let watcher =
                Watcher::new(service, consul, &settings.config, &settings.client, contact, publisher);
            let run = move || watcher.clone().run();
            watching.spawn(again_and_again(run, PANIC_PAUSE, Arc::clone(&self.metrics)));
        }
        watching
    }

    /// What is known of services that are watched no more is nothing.
    fn forget(&self, services: &BTreeSet<String>) {
        self.metrics.services_are(services);
        self.publisher.keep(services);
        self.contact.keep(|name| name == REGISTRATION || services.contains(name));
    }

    fn registration(&self, settings: &ConsulSettings) -> Option<Registration> {
        let consul = settings.config.consul.as_ref()?;
        let register = consul.register.as_ref()?;
        let context = DiscoveryContext { config: Arc::clone(&settings.config), ..self.context.clone() };
        let asker = self.contact.asker(REGISTRATION);
        Some(Registration::new(&context, consul, register, settings.client.clone(), asker))
    }
}

/// Who asks for the gateway's own entry.
const REGISTRATION: &str = "registration";

/// What watchers depend on.
fn watched(config: &Config) -> (Option<Consul>, Vec<&str>) {
    let consul = config.consul.clone().map(|consul| Consul { register: None, ..consul });
    (consul, config.route.zones().iter().map(|zone| zone.id.as_str()).collect())
}

/// What the gateway's own entry depends on.
fn entry(config: &Config) -> Option<(&HttpTarget, &Option<Register>, Duration)> {
    config.consul.as_ref().map(|consul| (&consul.agent, &consul.register, config.drain_hard_stop))
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

/// Keeps the gateway registered while it is `listed`, as the last of `registrations` says, until it leaves, and lets it drain when
/// it has left.
async fn registered(
    mut registrations: watch::Receiver<Option<Registration>>,
    mut listed: watch::Receiver<bool>,
    metrics: Arc<DiscoveryMetrics>,
    leave: CancellationToken,
    drain: CancellationToken,
) {
    let mut current = registrations.borrow_and_update().clone();
    loop {
        let keeping = async {
            match &current {
                Some(current) => {
                    again_and_again(|| current.clone().keep(), PANIC_PAUSE, Arc::clone(&metrics)).await
                }
                None => pending().await,
            }
        };
        tokio::select! {
            () = leave.cancelled() => break,
            () = keeping => {}
            changed = registrations.changed() => if changed.is_err() {
                break;
            },
            changed = listed.changed() => if changed.is_err() {
                break;
            }
        }
        let is_listed = *listed.borrow_and_update();
        let next = registrations.borrow_and_update().clone().filter(|_| is_listed);
        if let Some(last) = &current
            && next.as_ref().is_none_or(|next| !next.replaces(last))
        {
            last.leave().await;
        }
        current = next;
    }
    // Dropped on every way out: nothing that goes wrong here may keep the gateway from draining.
    let drain = drain.drop_guard();
    if let Some(current) = current {
        current.leave().await;
    }
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
