//! Keys of tokens that an identity service publishes (`auth.jwks_url`), fetched on a thread of its own: no worker waits for
//! it, and whatever the source does, the last good keys stay in effect.

mod fetcher;
mod freshness;
mod key_refresh;
mod schedule;

use std::io;

use gateway_net::rng::Rng;
use tokio::time::Instant;

use self::fetcher::Fetcher;
use self::key_refresh::refresh_channel;
use self::schedule::RefreshSchedule;
use crate::config::{JwksUrl, TokenKey};
use crate::http_client::{Endpoint, EndpointError};
use crate::monitor::metrics::Metrics;
use crate::owned_thread::OwnedThread;
use crate::resolve::Resolver;

pub(crate) use self::key_refresh::{FetchEnd, KeyRefresh};

/// Fetching could not start.
#[derive(Debug, thiserror::Error)]
pub enum JwksStartError {
    /// The settings name a host that cannot be asked.
    #[error("auth.jwks_url: {0}")]
    Endpoint(#[from] EndpointError),
    /// No thread or event queue could be had.
    #[error("jwks: no thread of its own could be started: {0}")]
    Thread(#[from] io::Error),
}

/// Owns the thread. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct JwksThread {
    _thread: OwnedThread,
}

impl JwksThread {
    /// Starts to fetch. `publish` is given every other set of keys on that thread, and puts it into effect before it
    /// returns.
    ///
    /// # Errors
    /// [`JwksStartError`].
    pub(crate) fn start(
        url: &JwksUrl,
        metrics: &Metrics,
        resolver: Resolver,
        publish: impl FnMut(&[TokenKey]) + Send + 'static,
    ) -> Result<(Self, KeyRefresh), JwksStartError> {
        let target = &url.target;
        let endpoint = Endpoint::new(&target.host, target.port, target.tls_roots(), resolver)?;
        let (wishes, refresh) = refresh_channel();
        let fetcher = Fetcher {
            endpoint,
            path: url.path.clone(),
            wishes,
            metrics: metrics.jwks(),
            events: metrics.events().clone(),
            publish,
            schedule: RefreshSchedule::new(Instant::now(), Rng::default()),
            last: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = OwnedThread::start("jwks", move |stopped| {
            runtime.block_on(async {
                tokio::select! {
                    () = fetcher.run() => {}
                    _owner_is_gone = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok((Self { _thread: thread }, refresh))
    }
}
