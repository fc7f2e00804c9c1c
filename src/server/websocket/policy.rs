//! What an upgrade must be at a worker, which a reload may change.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::UpgradePolicy;

/// What upgrades must be now. It is looked at when a request is about to be read; who is upgraded stays.
#[derive(Debug)]
pub(crate) struct LivePolicy(RefCell<Arc<UpgradePolicy>>);

impl LivePolicy {
    /// This one at first.
    pub(crate) fn new(policy: &Arc<UpgradePolicy>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Arc::clone(policy))))
    }

    /// That of now.
    pub(crate) fn now(&self) -> Arc<UpgradePolicy> {
        Arc::clone(&self.0.borrow())
    }

    /// This one from now on.
    pub(crate) fn replace(&self, policy: &Arc<UpgradePolicy>) {
        self.0.replace(Arc::clone(policy));
    }
}
