//! What the workers are told about overload: one level to look at, and demands to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use tokio::sync::watch;

use super::level::{Demand, Level};

/// What one look at the process came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct PressureState {
    /// What is demanded of all workers together.
    pub demand: Demand,
    /// Bytes that waited to be written to clients, or came from them as parts of frames, of all workers.
    pub held: u64,
}

#[derive(Debug, Default)]
struct Published {
    level: AtomicU8,
    paused: AtomicBool,
}

/// The side of the workers. Looking costs one relaxed load.
#[derive(Debug, Clone)]
pub struct Pressure {
    published: Arc<Published>,
    told: watch::Receiver<PressureState>,
}

/// The side of whoever looks at the process.
#[derive(Debug)]
pub(super) struct PressureSender {
    published: Arc<Published>,
    told: watch::Sender<PressureState>,
}

/// Both sides.
pub(super) fn pressure() -> (PressureSender, Pressure) {
    let (sender, told) = watch::channel(PressureState::default());
    let published = Arc::<Published>::default();
    (PressureSender { published: Arc::clone(&published), told: sender }, Pressure { published, told })
}

impl PressureSender {
    /// Publishes the level; the workers are woken only when there is something to do.
    pub(super) fn tell(&self, told: PressureState) {
        let Demand { level, shed, close_newest, pause_backends, .. } = told.demand;
        self.published.level.store(level as u8, Relaxed);
        let was_paused = self.published.paused.swap(pause_backends, Relaxed);
        let worth_it = shed > 0 || close_newest || was_paused != pause_backends;
        self.told.send_if_modified(|last| {
            *last = told;
            worth_it
        });
    }
}

impl Pressure {
    /// Of a process that nobody looks at: never any.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn none() -> Self {
        pressure().1
    }

    /// Puts a level there; nobody is woken for it.
    #[cfg(test)]
    pub(crate) fn set_level(&self, level: Level) {
        self.published.level.store(level as u8, Relaxed);
    }

    /// Returns `true` if logins must be answered 300 and closed 3003 (row F11).
    pub fn refuses_logins(&self) -> bool {
        self.published.level.load(Relaxed) >= Level::RefuseLogins as u8
    }

    /// Returns `true` if nothing more may be read of large frames that have begun, because others are closed for want
    /// of room (row A15).
    pub fn frames_wait(&self) -> bool {
        self.published.level.load(Relaxed) >= Level::Shed as u8
    }

    /// Returns `true` if nothing may be read from logic services, because more is queued than clients may have queued
    /// (row E19).
    pub fn backends_paused(&self) -> bool {
        self.published.paused.load(Relaxed)
    }

    /// Resolves once logic services may be read, at once if they may now, and when nobody looks any more. Cancel safe.
    pub async fn backends_resumed(&self) {
        let mut told = self.told.clone();
        let _nobody_looks = told.wait_for(|told| !told.demand.pause_backends).await;
    }

    /// Resolves with the next demand; none when nobody looks any more. Demands that were not taken in time are
    /// replaced by the newest. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<PressureState> {
        self.told.changed().await.ok()?;
        Some(*self.told.borrow_and_update())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn told(shed: u64, pause_backends: bool) -> PressureState {
        let demand = Demand { level: Level::Shed, shed, pause_backends, ..Demand::default() };
        PressureState { demand, held: 7 }
    }

    #[test]
    fn e19_whoever_waits_for_the_backends_goes_on_when_they_are_resumed() {
        let (sender, pressure) = pressure();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(pressure.backends_resumed()).poll(&mut cx).is_ready());
        sender.tell(told(0, true));
        assert!(pressure.backends_paused());
        let mut waiting = pin!(pressure.backends_resumed());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        sender.tell(told(5, true));
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        sender.tell(told(0, false));
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
        assert!(!pressure.backends_paused());
        sender.tell(told(0, true));
        let mut waiting = pin!(pressure.backends_resumed());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(sender);
        assert!(waiting.as_mut().poll(&mut cx).is_ready(), "nobody would ever say so");
    }

    #[test]
    fn f11_workers_are_woken_for_work_only_and_get_the_newest() {
        let (sender, mut pressure) = pressure();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!pressure.refuses_logins());
        sender.tell(told(0, false));
        assert!(pressure.refuses_logins(), "the level shows without a wake");
        assert!(pin!(pressure.next()).poll(&mut cx).is_pending());
        sender.tell(told(3, false));
        sender.tell(told(4, false));
        let Poll::Ready(Some(newest)) = pin!(pressure.next()).poll(&mut cx) else {
            panic!("something to do")
        };
        assert_eq!((newest.demand.shed, newest.held), (4, 7));
        assert!(pin!(pressure.next()).poll(&mut cx).is_pending());
        drop(sender);
        assert!(matches!(pin!(pressure.next()).poll(&mut cx), Poll::Ready(None)));
    }
}
