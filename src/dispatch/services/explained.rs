//! A choice with its reasons, for the administrator.

use std::collections::BTreeSet;

use super::Services;
use crate::dispatch::selector::Explanation;

impl Services {
    /// The services that are known, in the order of their names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.by_name.borrow().keys().cloned().collect()
    }

    /// Ids of the instances of a service that an operator has ejected.
    pub(crate) fn ids_set_aside(&self, service: &str) -> Vec<String> {
        self.links.ids_set_aside(service)
    }

    /// Shows where an account goes and why, among the instances that may be chosen now; nothing for a service that is not
    /// known. What channels keep and what is overloaded does not count here.
    pub(crate) fn explain<R>(
        &self,
        service: &str,
        app: &str,
        account: &str,
        show: impl FnOnce(&Explanation<'_>) -> R,
    ) -> Option<R> {
        let service = self.service(service)?;
        let (selector, candidates) = (self.selector(), service.candidates.borrow());
        Some(show(&selector.explain(app, account, &candidates)))
    }
}
