//! The list in the configuration: said at the start, and again when a reload changes it.

use std::sync::Arc;

use tokio::sync::watch;

use super::change::{Apply, SourceChange};
use super::source::{Discovery, DiscoveryContext, OwnEntry, Snapshot};
use crate::config::Config;
use crate::monitor::metrics::DiscoveryMetrics;

/// A feed of the listed instances.
pub(super) fn start(context: &DiscoveryContext) -> Discovery {
    let metrics = context.metrics.discovery(context.config.services());
    let feed = watch::Sender::new(snapshot(&context.config, &metrics));
    let receiver = feed.subscribe();
    let feed = Arc::new(feed);
    let change = SourceChange::new(move |config| {
        let (config, feed, metrics) = (Arc::clone(config), Arc::clone(&feed), Arc::clone(&metrics));
        let apply: Apply = Box::new(move || {
            let listed = snapshot(&config, &metrics);
            feed.send_if_modified(|known| {
                let is_news = *known != listed;
                *known = listed;
                is_news
            });
        });
        Ok(apply)
    });
    Discovery {
        feed: receiver,
        change,
        // Nobody was told of this gateway.
        leave: context.drain.clone(),
        own_entry: OwnEntry::new(),
        _thread: None,
    }
}

fn snapshot(config: &Config, metrics: &DiscoveryMetrics) -> Arc<Snapshot> {
    let services = config.services();
    metrics.services_are(&services);
    let mut instances = config.instances.clone();
    instances.sort_by(|one, other| (&one.service, &one.id).cmp(&(&other.service, &other.id)));
    for service in &services {
        metrics.updated(service, instances.iter().filter(|instance| instance.service == *service).count());
    }
    Arc::new(Snapshot { instances })
}
