//! The thread that looks after events: it posts them, and watches what has no moment of its own. Load on the workers
//! cannot starve it, and nothing it waits for can hold them up.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Events;
use super::outbox::Outbox;
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
    /// What may change while it runs.
    pub targets: EventTargets,
}

/// What a reload may change.
#[derive(Debug, Clone, Default)]
pub struct EventTargets {
    /// When the certificate ends, seconds since 1970.
    pub certificate_ends: Option<i64>,
    /// Where events go, beside the log.
    pub webhook: Option<Arc<WebhookClient>>,
}

/// Changes the targets of a sender. Clones share it.
#[derive(Debug, Clone)]
pub struct Retarget(Arc<watch::Sender<EventTargets>>, Events);

impl Retarget {
    /// These from now on. An event that is just being posted is posted again, to the new webhook.
    pub fn to(&self, targets: EventTargets) {
        self.1.keep(targets.webhook.is_some());
        self.0.send_replace(targets);
    }
}

/// No thread or event queue could be had: a fault of the machine.
#[derive(Debug, thiserror::Error)]
#[error("events: no thread of their own could be started: {0}")]
pub struct SenderStartError(#[from] io::Error);

/// Owns the thread. Dropping it ends the thread at once and waits for it.
#[derive(Debug)]
pub struct WebhookSender {
    /// Told at its end how long what is left may still be posted.
    thread: OwnedThread<Duration>,
    targets: Retarget,
}

impl WebhookSender {
    /// Begins. Events that were raised before are not posted.
    ///
    /// # Errors
    /// [`SenderStartError`].
    pub fn start(duties: Duties) -> Result<Self, SenderStartError> {
        let (sender, targets) = watch::channel(EventTargets::default());
        let retarget = Retarget(Arc::new(sender), duties.events.clone());
        retarget.to(duties.targets.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = OwnedThread::start("events", move |stopped| {
            runtime.block_on(run(duties, targets, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self { thread, targets: retarget })
    }

    /// What changes its targets.
    pub fn retarget(&self) -> Retarget {
        self.targets.clone()
    }

    /// Posts what is left for at most `patience`, then ends. Blocks for so long.
    pub fn finish(self, patience: Duration) {
        self.thread.finish(patience);
    }
}

async fn run(duties: Duties, targets: watch::Receiver<EventTargets>, stopped: oneshot::Receiver<Duration>) {
    let Duties { events, readiness, login_service, targets: EventTargets { certificate_ends, .. } } = duties;
    let ending = CancellationToken::new();
    let mut delivering = pin!(deliver(targets.clone(), events.outbox(), &ending));
    let certificate = || targets.borrow().certificate_ends;
    let watching = Watch::new(login_service, certificate_ends).run(&readiness, &events, certificate);
    let patience = tokio::select! {
        () = &mut delivering => return,
        () = watching => return,
        patience = stopped => patience.unwrap_or_default(),
    };
    ending.cancel();
    let _what_is_left_was_told_in_the_log = timeout(patience, delivering).await;
}

/// Posts to whatever webhook there is. Ends like [`WebhookClient::deliver`]; where there is none, when it is to end.
async fn deliver(mut targets: watch::Receiver<EventTargets>, outbox: &Outbox, ending: &CancellationToken) {
    loop {
        let webhook = targets.borrow_and_update().webhook.clone();
        let posting = async {
            match &webhook {
                Some(webhook) => webhook.deliver(outbox, ending).await,
                None => ending.cancelled().await,
            }
        };
        tokio::select! {
            () = posting => return,
            Ok(()) = targets.changed() => {}
        }
    }
}
