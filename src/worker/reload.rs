//! What a worker does with what was put into effect while it runs: it swaps its own copies, between two of its tasks.

use std::rc::Rc;
use std::sync::Arc;

use quinn::Endpoint;

use crate::config::Tracing;
use crate::dispatch::Dispatch;
use crate::live::Live;
use crate::server::connection::ConnectionContext;
use crate::server::path::Paths;
use crate::server::quic;
use crate::server::websocket::LivePolicy;
use crate::spans::TracerPolicy;

/// What is recorded for a collector.
pub(super) fn tracer_policy(config: &Tracing) -> TracerPolicy {
    let (ratio, accounts, trusts_clients) =
        (config.ratio, Arc::clone(&config.accounts), config.trust_clients);
    TracerPolicy { ratio, accounts, trusts_clients }
}

/// Everything of a worker that a reload reaches.
pub(super) struct Reloadable {
    pub(super) dispatch: Rc<Dispatch>,
    pub(super) shared: Rc<ConnectionContext>,
    pub(super) quic: Vec<(Endpoint, Arc<Paths>)>,
    /// None: nothing listens for WebSocket.
    pub(super) upgrade: Option<Rc<LivePolicy>>,
}

impl Reloadable {
    /// Takes all of it, without an await: no task of this worker sees a half.
    pub(super) fn take(&self, live: &Live) {
        let (config, settings) = (&live.config, &self.dispatch.settings);
        self.shared.handler.verify_with(Arc::clone(&live.verifier));
        self.dispatch.reroute(&config.route, config.services(), config.bounded_load);
        self.dispatch.channels.tracer.follow(tracer_policy(&config.tracing));
        settings.signout_after_kick.set(config.signout_after_kick);
        let were = settings.limits.now();
        if *were != config.limits {
            settings.limits.replace(config.limits.clone());
            self.dispatch.follow_limits(self.shared.admission.max());
            self.shared.entrance.follow_limits(&config.limits);
        }
        if let (Some(policy), Some(websocket)) = (&self.upgrade, &config.websocket) {
            policy.replace(&websocket.upgrade);
        }
        for (endpoint, paths) in &self.quic {
            quic::follow(endpoint, paths, config);
        }
    }
}
