//! Whose sign-out waits anywhere in this process, so that a sign-in on one worker supersedes those that wait on another
//! (protocol §4.9).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::session::channel::Identity;

/// A sign-out's mark that a later sign-in was forwarded.
pub(crate) type Mark = Arc<AtomicBool>;

/// The sign-outs that are owed, of all workers. Touched at the end of a channel and at a sign-in, by no message.
#[derive(Debug, Default)]
pub(crate) struct Relogins {
    /// How many are owed: a sign-in takes the lock only when there are any.
    owed: AtomicUsize,
    marks: Mutex<HashMap<Identity, Vec<Mark>>>,
}

impl Relogins {
    /// A sign-out is owed from now on.
    pub(crate) fn owe(&self, identity: &Identity, mark: &Mark) {
        self.with(|marks| marks.entry(identity.clone()).or_default().push(Arc::clone(mark)));
        self.owed.fetch_add(1, Ordering::Release);
    }

    /// It is no longer.
    pub(crate) fn settle(&self, identity: &Identity, mark: &Mark) {
        let was_owed = self.with(|marks| {
            let Some(of_account) = marks.get_mut(identity) else { return false };
            let before = of_account.len();
            of_account.retain(|other| !Arc::ptr_eq(other, mark));
            let after = of_account.len();
            if after == 0 {
                marks.remove(identity);
            }
            after < before
        });
        if was_owed {
            self.owed.fetch_sub(1, Ordering::Release);
        }
    }

    /// Is anything owed at all? One load: what a link asks before every write.
    pub(crate) fn is_any_owed(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    /// A sign-in of this app and account is forwarded: what is owed for it must not be written behind it. Returns the
    /// marks that were made, to be taken back if nothing of it was written after all.
    pub(crate) fn supersede(&self, identity: &Identity) -> Vec<Mark> {
        if !self.is_any_owed() {
            return Vec::new();
        }
        self.with(|marks| {
            let of_account = marks.get(identity).into_iter().flatten();
            of_account.filter(|mark| !mark.swap(true, Ordering::AcqRel)).cloned().collect()
        })
    }

    fn with<R>(&self, act: impl FnOnce(&mut HashMap<Identity, Vec<Mark>>) -> R) -> R {
        act(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::identity;

    #[test]
    fn a_signin_marks_what_is_owed_for_its_account_and_nothing_else() {
        let relogins = Relogins::default();
        let (first, second, other) = (Mark::default(), Mark::default(), Mark::default());
        relogins.owe(&identity("alice"), &first);
        relogins.owe(&identity("alice"), &second);
        relogins.owe(&identity("bob"), &other);
        relogins.settle(&identity("alice"), &second);
        relogins.settle(&identity("alice"), &second);
        assert_eq!(relogins.supersede(&identity("alice")).len(), 1);
        assert_eq!(relogins.supersede(&identity("alice")).len(), 0, "it was marked before");
        let marked = |mark: &Mark| mark.load(Ordering::Relaxed);
        assert_eq!((marked(&first), marked(&second), marked(&other)), (true, false, false));
        relogins.settle(&identity("alice"), &first);
        relogins.settle(&identity("bob"), &other);
        assert_eq!(relogins.owed.load(Ordering::Relaxed), 0);
        assert!(relogins.marks.lock().unwrap().is_empty(), "nothing is kept for accounts that owe nothing");
    }
}
