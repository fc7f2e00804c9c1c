//! Whether an operator has the gateway drain, and since when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::admin::mailbox::DrainPlan;
use crate::admin::model::OperatorDrainStatus;
use crate::discovery::OwnEntry;

/// What was ordered last.
#[derive(Debug)]
pub(super) struct DrainControl {
    pub(super) own_entry: OwnEntry,
    turn: Mutex<()>,
    ordered: Mutex<Option<(Instant, Arc<DrainPlan>)>>,
}

impl DrainControl {
    pub(super) const fn new(own_entry: OwnEntry) -> Self {
        Self { own_entry, turn: Mutex::new(()), ordered: Mutex::new(None) }
    }

    /// None while no operator has the gateway drain. So many connections are served, without those that are turned away.
    pub(super) fn status(&self, now: Instant, served: u64) -> Option<OperatorDrainStatus> {
        let (since, plan) = self.ordered().clone()?;
        let since = now.saturating_duration_since(since);
        Some(OperatorDrainStatus {
            since_seconds: since.as_secs_f64(),
            window_seconds: plan.window.as_secs_f64(),
            to: plan.to.clone(),
            drained: served == 0,
        })
    }

    /// Held while an order is carried out, so that one follows the other.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when, and how; none while no operator has it drain.
    pub(super) fn ordered(&self) -> MutexGuard<'_, Option<(Instant, Arc<DrainPlan>)>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
