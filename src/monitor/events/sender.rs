//! The thread that looks after events: it posts them, and watches what has no moment of its own. Load on the workers
//! cannot starve it, and nothing it waits for can hold them up.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Events;
use super::outbox::Outbox;
use super::watch::Watch;
use super::webhook::WebhookClient;
use crate::monitor::readiness::Readiness;

/// Between two looks at what has no moment of its own: how late such an event may be.
const LOOK: Duration = Duration::from_secs(1);

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
    /// How long what is left may still be posted.
    stop: Option<oneshot::Sender<Duration>>,
    targets: Retarget,
    thread: Option<JoinHandle<()>>,
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
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            runtime.block_on(run(duties, targets, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), targets: retarget, thread: Some(thread) })
    }

    /// What changes its targets.
    pub fn retarget(&self) -> Retarget {
        self.targets.clone()
    }

    /// Posts what is left for at most `patience`, then ends. Blocks for so long.
    pub fn finish(mut self, patience: Duration) {
        if let Some(stop) = self.stop.take() {
            let _a_thread_that_panicked_needs_no_word = stop.send(patience);
        }
    }
}

impl Drop for WebhookSender {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been reported by the panic hook; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

async fn run(duties: Duties, targets: watch::Receiver<EventTargets>, stopped: oneshot::Receiver<Duration>) {
    let Duties { events, readiness, login_service, targets: EventTargets { certificate_ends, .. } } = duties;
    let hurry = Notify::new();
    let outbox = events.outbox();
    let mut delivering = pin!(deliver(targets.clone(), outbox, &hurry));
    let watching = async {
        let mut watch = Watch::new(login_service, certificate_ends);
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            watch.certificate_is(targets.borrow().certificate_ends);
            watch.look(&readiness, &events, Instant::now(), SystemTime::now());
        }
    };
    let patience = tokio::select! {
        () = &mut delivering => return,
        () = watching => return,
        patience = stopped => patience.unwrap_or_default(),
    };
    if targets.borrow().webhook.is_none() || patience.is_zero() {
        return;
    }
    hurry.notify_one();
    let _what_is_left_was_told_in_the_log = timeout(patience, async {
        tokio::select! {
            () = delivering => {}
            () = outbox.empty() => {}
        }
    })
    .await;
}

/// Posts to whatever webhook there is. Never ends.
async fn deliver(mut targets: watch::Receiver<EventTargets>, outbox: &Outbox, hurry: &Notify) {
    loop {
        let webhook = targets.borrow_and_update().webhook.clone();
        let posting = async {
            match &webhook {
                Some(webhook) => webhook.deliver(outbox, hurry).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = posting => {}
            changed = targets.changed() => if changed.is_err() {
                // Its owner is gone, and the thread is about to end.
                std::future::pending().await
            }
        }
    }
}
