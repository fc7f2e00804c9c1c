//! Sign-outs whose sign-in is not answered: found by channel when the answer comes, by age when it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use crate::session::signout::SignOut;

/// See the module. No step is longer because many wait, and what a crowd took is given back when it goes.
#[derive(Debug, Default)]
pub(super) struct Held {
    unanswered: BTreeMap<Rc<str>, Rc<SignOut>>,
    /// Those of `unanswered` that wait for nothing else.
    by_age: BTreeSet<(Instant, Rc<str>)>,
}

impl Held {
    /// The answer to its sign-in may still come, if that is handed over.
    pub(super) fn expect(&mut self, signout: &Rc<SignOut>) {
        self.unanswered.insert(Rc::clone(&signout.channel_id), Rc::clone(signout));
    }

    /// It waits for that answer from now on.
    pub(super) fn hold(&mut self, signout: &SignOut) {
        self.by_age.insert((signout.since, Rc::clone(&signout.channel_id)));
    }

    /// Since when the oldest that is held is owed.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// Takes out the oldest that is held.
    pub(super) fn take_oldest(&mut self) -> Option<Rc<SignOut>> {
        let (_, id) = self.by_age.pop_first()?;
        self.unanswered.remove(&id)
    }

    /// Takes out that of a channel, and tells whether it was held.
    pub(super) fn take(&mut self, channel_id: &str) -> Option<(Rc<SignOut>, bool)> {
        let signout = self.unanswered.remove(channel_id)?;
        let was_held = self.by_age.remove(&(signout.since, Rc::clone(&signout.channel_id)));
        Some((signout, was_held))
    }
}
