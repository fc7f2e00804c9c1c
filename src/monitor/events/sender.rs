//! The thread that looks after events: it posts them, and watches what has no moment of its own. Load on the workers
//! cannot starve it, and nothing it waits for can hold them up.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Events;
use super::watch::Watch;
use super::webhook::WebhookClient;
use crate::monitor::readiness::Readiness;
use crate::owned_thread::OwnedThread;

/// What there is to look after.
#[derive(Debug)]
pub struct Duties {
    /// Where events come from.
    pub events: Events,
    /// Knows about the login service.
    pub readiness: Arc<Readiness>,
    /// Its name.
    pub login_service: String,
    /// When the certificate ends, seconds since 1970.
    pub certificate_ends: Option<i64>,
    /// Where events go, beside the log.
    pub webhook: Option<WebhookClient>,
}

/// No thread or event queue could be had: a fault of the machine.
#[derive(Debug, thiserror::Error)]
#[error("events: no thread of their own could be started: {0}")]
pub struct SenderStartError(#[from] io::Error);

/// Owns the thread. Dropping it ends the thread at once and waits for it.
/// It is told how long what is left may still be posted.
#[derive(Debug)]
pub struct WebhookSender(OwnedThread<Duration>);

impl WebhookSender {
    /// Begins. Events that were raised before are not posted.
    ///
    /// # Errors
    /// [`SenderStartError`].
    pub fn start(duties: Duties) -> Result<Self, SenderStartError> {
        if duties.webhook.is_some() {
            duties.events.keep();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = OwnedThread::start("events", move |stopped| {
            runtime.block_on(run(duties, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self(thread))
    }

    /// Posts what is left for at most `patience`, then ends. Blocks for so long.
    pub fn finish(self, patience: Duration) {
        self.0.finish(patience);
    }
}

async fn run(duties: Duties, stopped: oneshot::Receiver<Duration>) {
    let Duties { events, readiness, login_service, certificate_ends, webhook } = duties;
    let ending = CancellationToken::new();
    let mut delivering = pin!(async {
        match &webhook {
            Some(webhook) => webhook.deliver(events.outbox(), &ending).await,
            None => ending.cancelled().await,
        }
    });
    let watching = Watch::new(login_service, certificate_ends).run(&readiness, &events);
    let patience = tokio::select! {
        () = &mut delivering => return,
        () = watching => return,
        patience = stopped => patience.unwrap_or_default(),
    };
    ending.cancel();
    let _what_is_left_was_told_in_the_log = timeout(patience, delivering).await;
}
