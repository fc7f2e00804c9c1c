//! A drain that an operator asks for: as at the end of the process, but the worker stays, and may be told to take clients again.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::info;

use super::drain::close_spread_out;
use crate::admin::mailbox::DrainPlan;
use crate::dispatch::Dispatch;

/// What a worker was told last.
pub(super) struct OperatorDrain {
    dispatch: Rc<Dispatch>,
    plan: RefCell<Option<Arc<DrainPlan>>>,
    changed: Notify,
}

impl OperatorDrain {
    pub(super) fn new(dispatch: Rc<Dispatch>) -> Rc<Self> {
        Rc::new(Self { dispatch, plan: RefCell::default(), changed: Notify::new() })
    }

    /// From this moment on whoever comes is closed 3000; who is here is told to go and closed within the window. A plan that
    /// was being carried out is given up for it. Returns how many connections there are.
    pub(super) fn begin(&self, plan: Arc<DrainPlan>) -> usize {
        self.set_plan(Some(plan))
    }

    /// From this moment on whoever comes is let in, and who is here stays. Returns how many connections those are.
    pub(super) fn end(&self) -> usize {
        self.set_plan(None)
    }

    fn set_plan(&self, plan: Option<Arc<DrainPlan>>) -> usize {
        self.dispatch.channels.turn_away(plan.is_some());
        *self.plan.borrow_mut() = plan;
        self.changed.notify_one();
        self.dispatch.channels.connections()
    }

    /// Does what it was told last, for as long as it is polled.
    pub(super) async fn follow(self: Rc<Self>) {
        loop {
            let plan = self.plan.borrow().clone();
            let carrying_out = async {
                if let Some(plan) = plan {
                    self.carry_out(&plan).await;
                }
                pending().await
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = carrying_out => {}
            }
        }
    }

    async fn carry_out(&self, plan: &DrainPlan) {
        let begun = Instant::now();
        let channels = self.dispatch.channels.close_strangers().await;
        let told = channels.len();
        close_spread_out(&self.dispatch, channels, begun, plan.window, plan.to.as_deref()).await;
        let worker = self.dispatch.settings.worker;
        info!(
            event = "operator_drained",
            worker,
            channels = told,
            "an operator's drain has closed every channel; undrain ends it"
        );
    }
}
