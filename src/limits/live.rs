//! The limits of a worker, which a reload may change.

use std::cell::RefCell;
use std::rc::Rc;

use super::Limits;

/// What limits a worker now. Replaced whole, so that whoever takes them sees those of one configuration.
#[derive(Debug)]
pub(crate) struct LiveLimits(RefCell<Rc<Limits>>);

impl LiveLimits {
    /// These at first.
    pub(crate) fn new(limits: Limits) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Rc::new(limits))))
    }

    /// Those of now. Whoever keeps them keeps them as they are.
    pub(crate) fn now(&self) -> Rc<Limits> {
        Rc::clone(&self.0.borrow())
    }

    /// Returns `true` if these are those of now.
    pub(crate) fn are(&self, limits: &Rc<Limits>) -> bool {
        Rc::ptr_eq(&self.0.borrow(), limits)
    }

    /// These from now on.
    pub(crate) fn replace(&self, limits: Limits) {
        self.0.replace(Rc::new(limits));
    }
}
