//! Which accounts were signed in again while sign-outs of theirs were owed, by whichever worker (protocol §4.9).
//!
//! Each app and account for which a sign-out is owed has one [`Generation`]. A sign-out remembers the one it found when
//! its channel ended, and compares when it is placed. Every step costs the same however many sign-outs an account owes,
//! and accounts that owe none take no room.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::session::channel::Identity;
use crate::session::spare;

/// Parts of the table: workers seldom wait for each other, and none of them long for a table that grows.
const SHARDS: usize = 32;

/// One sign-in, in the upper half of a [`Generation`]; the lower half counts writes under way.
const BEGUN: u64 = 1 << 32;

/// How many sign-ins of one app and account have begun to be written while sign-outs of it were owed, and how many
/// writes are under way that may begin one: both in one number, so that they are read together.
#[derive(Debug, Default)]
struct Generation(AtomicU64);

/// Whether the account of an owed sign-out has been signed in since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relogin {
    /// Not with one byte.
    None,
    /// A worker is in the middle of a write that may begin a sign-in; known as soon as the kernel has answered.
    InDoubt,
    /// The first byte of a later sign-in may have been written.
    Forwarded,
}

/// What an owed sign-out remembers of its account.
#[derive(Debug)]
pub(crate) struct Owed {
    generation: Arc<Generation>,
    begun_before: u64,
}

impl Owed {
    /// What has happened since the channel ended.
    pub(crate) fn relogin(&self) -> Relogin {
        let generation = self.generation.0.load(Ordering::Acquire);
        if generation / BEGUN != self.begun_before {
            Relogin::Forwarded
        } else if generation & (BEGUN - 1) != 0 {
            Relogin::InDoubt
        } else {
            Relogin::None
        }
    }
}

/// A write is under way that may begin a sign-in; it is over when this is dropped.
#[derive(Debug)]
#[must_use = "the write is over when this is dropped"]
pub(crate) struct UnderWay {
    generation: Arc<Generation>,
    has_begun: bool,
}

impl UnderWay {
    /// The first byte of the sign-in may have been written.
    pub(crate) fn begin(&mut self) {
        self.has_begun = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let generation = &self.generation.0;
        // In one step: nobody finds the write over and its sign-in not counted.
        if self.has_begun {
            generation.fetch_add(BEGUN - 1, Ordering::AcqRel);
        } else {
            generation.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The accounts that owe sign-outs, over all workers. Touched at the end of a channel and at a sign-in, by no message.
#[derive(Debug, Default)]
pub(crate) struct SignOutsByIdentity {
    /// Sign-outs: a sign-in looks for its account only when there are any.
    owed: AtomicUsize,
    hasher: RandomState,
    shards: [Mutex<HashMap<Identity, OwedSignouts>>; SHARDS],
}

#[derive(Debug, Default)]
struct OwedSignouts {
    generation: Arc<Generation>,
    /// Sign-outs owed; it is forgotten with the last.
    owed: usize,
}

impl SignOutsByIdentity {
    /// A sign-out of this account is owed from now on.
    pub(crate) fn owe(&self, identity: &Identity) -> Owed {
        self.owed.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(identity);
        let generation = if let Some(account) = shard.get_mut(identity) {
            account.owed += 1;
            Arc::clone(&account.generation)
        } else {
            let account = OwedSignouts { owed: 1, ..OwedSignouts::default() };
            let generation = Arc::clone(&account.generation);
            shard.insert(identity.clone(), account);
            generation
        };
        let begun_before = generation.0.load(Ordering::Acquire) / BEGUN;
        Owed { generation, begun_before }
    }

    /// One of its sign-outs is no longer owed.
    pub(crate) fn discharge(&self, identity: &Identity, _owed: Owed) {
        let mut shard = self.shard(identity);
        if let Some(account) = shard.get_mut(identity) {
            account.owed -= 1;
            if account.owed == 0 {
                shard.remove(identity);
                spare::shrink_map(&mut shard);
            }
        }
        self.owed.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns `true` if anything is owed. One load: a link asks before every write.
    pub(crate) fn is_any_owed(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0
    }

    /// A write is about to be tried that may begin a sign-in of this account; nothing if it owes no sign-out.
    ///
    /// To be told before the write: the login service may answer, and another worker act on it, while the write returns.
    pub(crate) fn writing(&self, identity: &Identity) -> Option<UnderWay> {
        let generation = Arc::clone(&self.shard(identity).get(identity)?.generation);
        generation.0.fetch_add(1, Ordering::AcqRel);
        Some(UnderWay { generation, has_begun: false })
    }

    fn shard(&self, identity: &Identity) -> MutexGuard<'_, HashMap<Identity, OwedSignouts>> {
        let shard = self.hasher.hash_one(identity) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fixtures::identity;

    /// Accounts that are remembered.
    fn remembered(by_identity: &SignOutsByIdentity) -> usize {
        by_identity.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    /// The first byte of a sign-in is written.
    fn sign_in(by_identity: &SignOutsByIdentity, account: &str) {
        if let Some(mut write) = by_identity.writing(&identity(account)) {
            write.begin();
        }
    }

    #[test]
    fn a_sign_in_concerns_what_was_owed_before_it_for_its_account_and_nothing_else() {
        let by_identity = SignOutsByIdentity::default();
        let alice = identity("alice");
        let (before, other) = (by_identity.owe(&alice), by_identity.owe(&identity("bob")));
        let other_app = Identity { app: "other".to_owned(), account: "alice".to_owned() };
        let other_app = by_identity.owe(&other_app);
        sign_in(&by_identity, "alice");
        let after = by_identity.owe(&alice);
        assert_eq!(before.relogin(), Relogin::Forwarded);
        assert_eq!([after.relogin(), other.relogin(), other_app.relogin()], [Relogin::None; 3]);
        sign_in(&by_identity, "alice");
        assert_eq!(after.relogin(), Relogin::Forwarded);
    }

    #[test]
    fn h23_a_write_that_began_no_sign_in_leaves_no_trace() {
        let by_identity = SignOutsByIdentity::default();
        let owed = by_identity.owe(&identity("alice"));
        let write = by_identity.writing(&identity("alice")).unwrap();
        assert_eq!(owed.relogin(), Relogin::InDoubt);
        let mut second = by_identity.writing(&identity("alice")).unwrap();
        drop(write);
        assert_eq!(owed.relogin(), Relogin::InDoubt, "another worker's");
        second.begin();
        assert_eq!(owed.relogin(), Relogin::InDoubt);
        drop(second);
        assert_eq!(owed.relogin(), Relogin::Forwarded);
        let later = by_identity.owe(&identity("alice"));
        drop(by_identity.writing(&identity("alice")));
        assert_eq!(later.relogin(), Relogin::None);
    }

    #[test]
    fn g6_accounts_that_owe_nothing_take_no_room() {
        let by_identity = SignOutsByIdentity::default();
        assert!(!by_identity.is_any_owed());
        let owed: Vec<_> = (0..10_000)
            .map(|n| identity(&format!("u{}", n / 2)))
            .map(|who| (by_identity.owe(&who), who))
            .collect();
        assert_eq!(remembered(&by_identity), 5_000);
        assert!(by_identity.writing(&identity("someone")).is_none());
        for (owed, who) in owed {
            assert!(by_identity.is_any_owed());
            by_identity.discharge(&who, owed);
        }
        assert!(!by_identity.is_any_owed());
        assert_eq!(remembered(&by_identity), 0);
        let room: usize = by_identity.shards.iter().map(|shard| shard.lock().unwrap().capacity()).sum();
        assert!(room <= SHARDS * spare::KEPT * 2, "{room}");
        assert!(by_identity.writing(&identity("u0")).is_none());
    }

    #[test]
    fn a_write_that_outlasts_what_was_owed_does_no_harm() {
        let by_identity = SignOutsByIdentity::default();
        let alice = identity("alice");
        let owed = by_identity.owe(&alice);
        let mut write = by_identity.writing(&alice).unwrap();
        write.begin();
        by_identity.discharge(&alice, owed);
        let next = by_identity.owe(&alice);
        drop(write);
        assert_eq!(next.relogin(), Relogin::None, "it began while nothing was owed");
    }
}
