//! Follows one service in Consul with blocking queries.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::client::{ConsulClient, ConsulError, HealthyEntries};
use super::contact::{Asker, Contact};
use super::entries::EntryReader;
use super::known::{InstancesUpdate, KnownInstances};
use super::publisher::Publisher;
use crate::config::{Config, Consul};
use crate::monitor::metrics::DiscoveryError;

/// Between two questions that are answered with news: more often a change of every millisecond is not followed.
const NEWS_PAUSE: Duration = Duration::from_millis(100);

/// Between two questions if Consul does not keep them open although there is no news.
const NO_NEWS_PAUSE: Duration = Duration::from_secs(1);

/// Follows one service for ever.
#[derive(Clone)]
pub(super) struct Watcher {
    service: String,
    client: ConsulClient,
    contact: Arc<Contact>,
    asker: Asker,
    reader: EntryReader,
    known: KnownInstances,
    publisher: Arc<Publisher>,
    index: u64,
    /// The last word about the list was that it is empty.
    told_empty: bool,
}

impl Watcher {
    /// A watcher that knows nothing yet.
    pub(super) fn new(
        service: &str,
        consul: &Consul,
        config: &Config,
        client: &ConsulClient,
        contact: &Arc<Contact>,
        publisher: &Arc<Publisher>,
    ) -> Self {
        let zones = config.route.zones().iter().map(|zone| zone.id.clone()).collect();
        Self {
            service: service.to_owned(),
            client: client.clone(),
            contact: Arc::clone(contact),
            asker: contact.asker(service),
            reader: EntryReader::new(service, zones, consul.last_resort, consul.dialect),
            known: KnownInstances::new(consul.shrink_hold),
            publisher: Arc::clone(publisher),
            index: 0,
            told_empty: false,
        }
    }

    /// Runs until it is dropped. Nothing that Consul does ends it.
    pub(super) async fn run(mut self) {
        loop {
            let asked = Instant::now();
            match self.ask().await {
                Ok(health) => {
                    let news = health.index != self.index;
                    let steady = self.go_on_from(health.index);
                    self.listed(health);
                    if !steady {
                        self.asker.pause().await;
                        continue;
                    }
                    let pause = if news { NEWS_PAUSE } else { NO_NEWS_PAUSE };
                    self.wait_until(asked + pause).await;
                }
                // What the index means to a Consul that was away is not known; the next answer comes at once.
                Err(_told) => {
                    self.index = 0;
                    self.asker.pause().await;
                }
            }
        }
    }

    /// Asks for what is newer than the index. While Consul keeps the question open, a smaller set may become due.
    async fn ask(&mut self) -> Result<HealthyEntries, ConsulError> {
        let (client, service, index) = (self.client.clone(), self.service.clone(), self.index);
        let question = async move { client.health(&service, index).await };
        let Self { asker, known, publisher, service, .. } = self;
        let mut answer = pin!(asker.ask(question));
        loop {
            // Only an index says that the last answer was good: after a failure nobody knows what still stands.
            let due = known.due().filter(|_| index > 0);
            tokio::select! {
                answer = &mut answer => return answer,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    believe(known, publisher, service);
                }
            }
        }
    }

    /// Pauses, and lets a smaller set become due meanwhile.
    async fn wait_until(&mut self, until: Instant) {
        while let Some(due) = self.known.due().filter(|due| *due <= until) {
            sleep_until(due).await;
            believe(&mut self.known, &self.publisher, &self.service);
        }
        sleep_until(until).await;
    }

    /// Consul's rule: an index that goes backwards is forgotten, and one of 0 must not be asked with. False if so.
    fn go_on_from(&mut self, index: u64) -> bool {
        let steady = index > 0 && index >= self.index;
        if steady {
            self.index = index;
        } else {
            self.index = 0;
            self.asker.error(DiscoveryError::IndexReset);
            info!(event = "consul_index_reset", service = self.service, "asking anew from the beginning");
        }
        steady
    }

    fn listed(&mut self, health: HealthyEntries) {
        let instances = self.reader.read(health.entries, self.contact.metrics());
        let listed = instances.len();
        let update = self.known.listed(instances, Instant::now());
        let was_empty = std::mem::replace(&mut self.told_empty, update == InstancesUpdate::Empty);
        match update {
            InstancesUpdate::Changed(instances) => self.publisher.publish(&self.service, instances),
            InstancesUpdate::Unchanged | InstancesUpdate::StillHeld => {}
            InstancesUpdate::Held => {
                self.asker.error(DiscoveryError::Shrunk);
                warn!(
                    event = "discovery_shrunk",
                    service = self.service,
                    known = self.known.len(),
                    listed,
                    "more than half of the instances are gone at once; if that stands, it is believed soon"
                );
            }
            InstancesUpdate::Empty if was_empty => {}
            InstancesUpdate::Empty => {
                self.asker.error(DiscoveryError::Empty);
                warn!(
                    event = "discovery_empty",
                    service = self.service,
                    known = self.known.len(),
                    "Consul lists no usable instance; those known last stay in use"
                );
            }
        }
    }
}

fn believe(known: &mut KnownInstances, publisher: &Publisher, service: &str) {
    if let InstancesUpdate::Changed(instances) = known.stands() {
        publisher.publish(service, instances);
    }
}
