//! What a reload changes for the dispatcher of a worker.

use std::collections::BTreeSet;

use crate::dispatch::Dispatch;
use crate::dispatch::health::Rule;
use crate::dispatch::queue::QueueBounds;
use crate::dispatch::selector::RouteSelector;
use crate::route::Route;
use crate::session::signouts::SignOutBounds;

impl Dispatch {
    /// Chooses by this route and among these services from now on; see [`Services::reroute`](crate::dispatch::services::Services::reroute).
    pub(crate) fn reroute(&self, route: &Route, services: BTreeSet<String>, is_bounded: bool) {
        self.services.reroute(RouteSelector::new(route), services, is_bounded);
        self.rerouted.notify_one();
    }

    /// The services may be other ones than before. For one task; cancel safe.
    pub(crate) async fn rerouted(&self) {
        self.rerouted.notified().await;
    }

    /// What follows from the limits of now, after they changed.
    pub(crate) fn follow_limits(&self, max_channels: usize) {
        let limits = self.settings.limits.now();
        self.rule.set(Rule::of(&limits));
        self.services.links.set_bounds(QueueBounds::of(&limits));
        self.signouts.set_bounds(SignOutBounds::of(max_channels, &limits));
    }
}
