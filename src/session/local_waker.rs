//! Wakes one task of the same thread from anywhere in the worker.

use std::cell::RefCell;
use std::task::{Context, Waker};

/// Holds the waker of the one task that waits; waking before it waits is not lost, because that task looks at the
/// state it waits for on every poll, after it has registered.
#[derive(Debug, Default)]
pub(crate) struct LocalWaker(RefCell<Option<Waker>>);

impl LocalWaker {
    /// The task of `cx` is the one to wake from now on.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut slot = self.0.borrow_mut();
        if slot.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
    }

    /// Has that task polled soon.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.0.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}
