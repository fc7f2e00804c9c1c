//! Who is signed in where, and who has which messages: the memory that the embedded services of a process share.
//!
//! It is gone when the process ends. Everything in it is bounded, see [`DirectoryBounds`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::groups::{GroupBounds, GroupError, Groups};
use crate::message::{IndexEntry, Message, Readers};
use crate::message_id::MessageIds;
use gateway_wire::pb;

pub use crate::account::AccountKey;
pub use crate::message::{MEMBER_OVERHEAD, MESSAGE_OVERHEAD, RECEIVED, SENT};

/// How much a directory remembers.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryBounds {
    /// Accounts, signed in or with messages. For a new one an account that is signed out is forgotten.
    pub accounts: usize,
    /// Index entries per account, sent and received; the oldest are forgotten first.
    pub messages_per_account: usize,
    /// All messages, bytes, with [`MESSAGE_OVERHEAD`] for each and [`MEMBER_OVERHEAD`] for each member of a group
    /// it went to; the oldest are forgotten first.
    pub message_bytes: usize,
    /// Groups and their members.
    pub groups: GroupBounds,
}

/// Accounts looked at in search of one that may be forgotten. More would make a sign-in slow.
const FORGET_TRIES: usize = 64;

impl Default for DirectoryBounds {
    fn default() -> Self {
        Self {
            // As many as a gateway has connections.
            accounts: 100_000,
            // Five answers to `chat.offline.index`.
            messages_per_account: 10_000,
            // Half a million short messages; little enough for a developer's machine.
            message_bytes: 256 * 1024 * 1024,
            groups: GroupBounds::default(),
        }
    }
}

/// Where an account is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its channel.
    pub channel_id: Arc<str>,
    /// The gateway that holds the channel.
    pub gate_id: Arc<str>,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Larger than that of every message stored before.
    pub message_id: i64,
    /// Nanoseconds since 1970.
    pub send_time: i64,
    /// Where the receiver was when it was stored. One who signs in later finds the message in the index.
    pub receiver: Option<Location>,
}

/// A message stored for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupReceipt {
    /// Larger than that of every message stored before.
    pub message_id: i64,
    /// Nanoseconds since 1970.
    pub send_time: i64,
    /// Where the members other than the sender were when it was stored, those who were signed in.
    pub receivers: Vec<Location>,
}

/// The directory holds as many accounts as it may and most are signed in. This service's fault: answer 300.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the directory is full: raise DirectoryBounds::accounts, or sign accounts out")]
pub struct DirectoryFull;

impl From<DirectoryFull> for GroupError {
    fn from(_: DirectoryFull) -> Self {
        Self::ServiceFull
    }
}

/// The shared memory of the embedded services. Every method is one short section under a lock.
#[derive(Debug)]
pub struct Directory {
    /// Taken before `state` where both are.
    groups: Mutex<Groups>,
    state: Mutex<DirectoryState>,
    bounds: DirectoryBounds,
}

#[derive(Debug, Default)]
struct DirectoryState {
    accounts: HashMap<AccountKey, Account>,
    /// The keys of `accounts`; the first is the next that may be forgotten.
    forget_next: VecDeque<AccountKey>,
    /// Whose each live channel is. A key here is the channel of exactly one account's location.
    channels: HashMap<Arc<str>, AccountKey>,
    messages: BTreeMap<i64, Message>,
    message_bytes: usize,
    ids: MessageIds,
}

#[derive(Debug, Default)]
struct Account {
    location: Option<Location>,
    /// In the order of their ids.
    index: VecDeque<IndexEntry>,
    acknowledged: i64,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new(DirectoryBounds::default())
    }
}

impl Directory {
    /// An empty directory.
    pub fn new(bounds: DirectoryBounds) -> Self {
        Self { groups: Mutex::new(Groups::new(bounds.groups)), state: Mutex::default(), bounds }
    }

    /// Signs an account in on a channel. Returns where it was signed in until now, if on another channel.
    ///
    /// # Errors
    /// [`DirectoryFull`]; nothing has changed then.
    pub fn sign_in(&self, session: &pb::Session) -> Result<Option<Location>, DirectoryFull> {
        let who = AccountKey::new(&session.app, &session.account);
        let channel_id: Arc<str> = session.channel_id.as_str().into();
        let location =
            Location { channel_id: Arc::clone(&channel_id), gate_id: session.gate_id.as_str().into() };
        let mut state = self.state();
        let account = state.account(&who, &self.bounds)?;
        let old = account.location.replace(location);
        if let Some(old) = &old {
            state.channels.remove(&old.channel_id);
        }
        if let Some(other) = state.channels.insert(Arc::clone(&channel_id), who) {
            // Gateways never use a channel id twice; should one do, the channel belongs to the newer account.
            state.leave(&other);
        }
        Ok(old.filter(|old| old.channel_id != channel_id))
    }

    /// Signs out whoever is signed in on this channel. Returns whether anyone was: a channel whose account has
    /// since signed in elsewhere signs nobody out.
    pub fn sign_out(&self, channel_id: &str) -> bool {
        let mut state = self.state();
        let Some(who) = state.channels.remove(channel_id) else { return false };
        state.leave(&who);
        true
    }

    /// Whose channel this is; none after its sign-out, or after a sign-in elsewhere.
    pub fn identify(&self, channel_id: &str) -> Option<AccountKey> {
        self.state().channels.get(channel_id).cloned()
    }

    /// Where an account is signed in.
    pub fn locate(&self, who: &AccountKey) -> Option<Location> {
        self.state().accounts.get(who)?.location.clone()
    }

    /// Where these are signed in, of those who are, without one.
    pub(super) fn locate_others(&self, one: &AccountKey, whom: &[AccountKey]) -> Vec<Location> {
        let state = self.state();
        let location = |who: &AccountKey| state.accounts.get(who)?.location.clone();
        whom.iter().filter(|who| *who != one).filter_map(location).collect()
    }

    /// Stores a message of `sender` to the account `receiver` of the same app, whether or not that account was
    /// ever seen.
    ///
    /// # Errors
    /// [`DirectoryFull`]; nothing is stored then.
    pub fn store(
        &self,
        sender: &AccountKey,
        receiver: &str,
        content: pb::MessageReq,
    ) -> Result<Receipt, DirectoryFull> {
        let receiver = AccountKey { app: Arc::clone(&sender.app), account: receiver.into() };
        let mut state = self.state();
        let location = state.account(&receiver, &self.bounds)?.location.clone();
        let (message_id, send_time) = state.ids.next(SystemTime::now());
        let entry = |direction, other: &AccountKey| IndexEntry {
            message_id,
            direction,
            send_time,
            other: Arc::clone(&other.account),
            group: None,
        };
        state.file(sender, entry(SENT, &receiver), &self.bounds);
        state.file(&receiver, entry(RECEIVED, sender), &self.bounds);
        let readers = Readers::Two([sender.clone(), receiver]);
        state.keep(message_id, Message { readers, content }, &self.bounds);
        Ok(Receipt { message_id, send_time, receiver: location })
    }

    /// Stores a message of `sender` to a group, once, with an index entry for each member: of this moment, so that
    /// who joins later does not have it, and who quits keeps it.
    ///
    /// # Errors
    /// [`GroupError`]: there is no such group, the sender is not in it, or there is no room for the accounts of its
    /// members. Nothing is stored then.
    pub fn store_for_group(
        &self,
        sender: &AccountKey,
        group_id: &str,
        content: pb::MessageReq,
    ) -> Result<GroupReceipt, GroupError> {
        // Held to the end: who quits meanwhile, quits after this message.
        let groups = self.groups();
        let group = groups.roster(sender, group_id)?;
        let mut state = self.state();
        let mut receivers = Vec::new();
        for member in group.members.iter() {
            let location = state.account(member, &self.bounds)?.location.clone();
            receivers.extend(location.filter(|_| member != sender));
        }
        // The last may have taken the place of the first.
        if !group.members.iter().all(|member| state.accounts.contains_key(member)) {
            return Err(GroupError::ServiceFull);
        }
        let (message_id, send_time) = state.ids.next(SystemTime::now());
        for member in group.members.iter() {
            let entry = IndexEntry {
                message_id,
                direction: if member == sender { SENT } else { RECEIVED },
                send_time,
                other: Arc::clone(&sender.account),
                group: Some(Arc::clone(&group.group_id)),
            };
            state.file(member, entry, &self.bounds);
        }
        let readers = Readers::Group(group.members);
        state.keep(message_id, Message { readers, content }, &self.bounds);
        Ok(GroupReceipt { message_id, send_time, receivers })
    }

    /// Notes that an account has all messages up to this id. An older id changes nothing.
    pub fn acknowledge(&self, who: &AccountKey, message_id: i64) {
        let mut state = self.state();
        // An id from the future would hide messages that do not exist yet.
        let message_id = message_id.min(state.ids.last());
        if let Some(account) = state.accounts.get_mut(who) {
            account.acknowledged = account.acknowledged.max(message_id);
        }
    }

    /// The messages an account sent and received after the one with this id (0: after the last acknowledged),
    /// oldest first, at most `max`.
    pub fn index(&self, who: &AccountKey, after: i64, max: usize) -> Vec<pb::MessageIndex> {
        let state = self.state();
        let Some(account) = state.accounts.get(who) else { return Vec::new() };
        let after = if after == 0 { account.acknowledged } else { after };
        let first = account.index.partition_point(|entry| entry.message_id <= after);
        let entries = account.index.range(first..).take(max);
        entries.map(IndexEntry::to_wire).collect()
    }

    /// The contents of those of these messages that this account sent or received, in the order asked for.
    pub fn contents(&self, who: &AccountKey, message_ids: &[i64]) -> Vec<pb::MessageContent> {
        let state = self.state();
        let of_id = |id: &i64| state.messages.get(id)?.for_reader(who, *id);
        message_ids.iter().filter_map(of_id).collect()
    }

    /// How many accounts are signed in.
    pub fn signed_in(&self) -> usize {
        self.state().channels.len()
    }

    /// How many messages are remembered.
    pub fn messages(&self) -> usize {
        self.state().messages.len()
    }

    pub(super) fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, DirectoryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectoryState {
    /// The account, made if it was not there.
    fn account(&mut self, who: &AccountKey, bounds: &DirectoryBounds) -> Result<&mut Account, DirectoryFull> {
        if !self.accounts.contains_key(who) {
            if self.accounts.len() >= bounds.accounts {
                self.forget_account()?;
            }
            self.forget_next.push_back(who.clone());
        }
        Ok(self.accounts.entry(who.clone()).or_default())
    }

    /// Forgets an account that is signed out, the longest known first; those signed in get another round.
    fn forget_account(&mut self) -> Result<(), DirectoryFull> {
        for _ in 0..FORGET_TRIES {
            let who = self.forget_next.pop_front().ok_or(DirectoryFull)?;
            if self.accounts.get(&who).is_none_or(|account| account.location.is_none()) {
                self.accounts.remove(&who);
                return Ok(());
            }
            self.forget_next.push_back(who);
        }
        Err(DirectoryFull)
    }

    fn leave(&mut self, who: &AccountKey) {
        if let Some(account) = self.accounts.get_mut(who) {
            account.location = None;
        }
    }

    fn file(&mut self, who: &AccountKey, entry: IndexEntry, bounds: &DirectoryBounds) {
        // A sender who signed out a moment ago may have been forgotten; its copy then is not missed.
        let Some(account) = self.accounts.get_mut(who) else { return };
        account.index.push_back(entry);
        while account.index.len() > bounds.messages_per_account {
            account.index.pop_front();
        }
    }

    fn keep(&mut self, message_id: i64, message: Message, bounds: &DirectoryBounds) {
        self.message_bytes += message.bytes();
        self.messages.insert(message_id, message);
        while self.message_bytes > bounds.message_bytes {
            self.forget_oldest_message();
        }
    }

    /// Ids grow, so the oldest message stands first in every index that still has it.
    fn forget_oldest_message(&mut self) {
        let Some((id, message)) = self.messages.pop_first() else { return };
        self.message_bytes -= message.bytes();
        for who in message.readers.all() {
            let Some(account) = self.accounts.get_mut(who) else { continue };
            while account.index.front().is_some_and(|entry| entry.message_id <= id) {
                account.index.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(account: &str, channel: &str) -> pb::Session {
        pb::Session {
            channel_id: channel.to_owned(),
            gate_id: "gate01".to_owned(),
            account: account.to_owned(),
            app: "x_im".to_owned(),
            ..Default::default()
        }
    }

    fn text(body: &str) -> pb::MessageReq {
        pb::MessageReq { body: body.to_owned(), ..Default::default() }
    }

    fn who(account: &str) -> AccountKey {
        AccountKey::new("x_im", account)
    }

    #[test]
    fn g6_the_oldest_index_entries_of_an_account_are_forgotten_first() {
        let directory =
            Directory::new(DirectoryBounds { messages_per_account: 3, ..DirectoryBounds::default() });
        directory.sign_in(&session("alice", "c1")).unwrap();
        let ids: Vec<_> =
            (0..5).map(|_| directory.store(&who("alice"), "bob", text("m")).unwrap().message_id).collect();
        let kept = directory.index(&who("bob"), 0, 10);
        assert_eq!(kept.iter().map(|entry| entry.message_id).collect::<Vec<_>>(), ids[2..]);
    }

    #[test]
    fn g6_the_oldest_messages_are_forgotten_with_their_index_entries() {
        let bounds =
            DirectoryBounds { message_bytes: 2 * (MESSAGE_OVERHEAD + 10), ..DirectoryBounds::default() };
        let directory = Directory::new(bounds);
        directory.sign_in(&session("alice", "c1")).unwrap();
        let ids: Vec<_> = (0..5)
            .map(|_| directory.store(&who("alice"), "bob", text("0123456789")).unwrap().message_id)
            .collect();
        assert_eq!(directory.messages(), 2);
        for account in ["alice", "bob"] {
            let kept = directory.index(&who(account), 0, 10);
            assert_eq!(kept.iter().map(|entry| entry.message_id).collect::<Vec<_>>(), ids[3..]);
            assert_eq!(directory.contents(&who(account), &ids).len(), 2);
        }
    }

    #[test]
    fn g6_an_account_that_is_signed_out_makes_room_and_one_signed_in_does_not() {
        let directory = Directory::new(DirectoryBounds { accounts: 2, ..DirectoryBounds::default() });
        directory.sign_in(&session("alice", "c1")).unwrap();
        directory.store(&who("alice"), "bob", text("m")).unwrap();
        directory.sign_in(&session("carol", "c2")).unwrap();
        assert_eq!(directory.index(&who("bob"), 0, 10).len(), 0);
        assert_eq!(directory.index(&who("alice"), 0, 10).len(), 1);
        assert_eq!(directory.sign_in(&session("dave", "c3")), Err(DirectoryFull));
        assert_eq!(directory.store(&who("alice"), "erin", text("m")), Err(DirectoryFull));
        assert!(directory.sign_out("c2"));
        directory.sign_in(&session("dave", "c3")).unwrap();
        assert_eq!(directory.signed_in(), 2);
    }

    #[test]
    fn an_acknowledgement_never_goes_back_nor_ahead_of_what_exists() {
        let directory = Directory::default();
        directory.sign_in(&session("alice", "c1")).unwrap();
        let first = directory.store(&who("alice"), "bob", text("m")).unwrap().message_id;
        directory.acknowledge(&who("bob"), i64::MAX);
        directory.acknowledge(&who("bob"), -1);
        directory.acknowledge(&who("bob"), first - 1);
        assert_eq!(directory.index(&who("bob"), 0, 10).len(), 0);
        let second = directory.store(&who("alice"), "bob", text("m")).unwrap().message_id;
        assert_eq!(directory.index(&who("bob"), 0, 10)[0].message_id, second);
        // One who asks by id gets what was acknowledged, too.
        assert_eq!(directory.index(&who("bob"), first - 1, 10).len(), 2);
    }

    #[test]
    fn apps_are_separate_worlds() {
        let directory = Directory::default();
        directory.sign_in(&session("bob", "c1")).unwrap();
        let elsewhere = AccountKey::new("other", "alice");
        let receipt = directory.store(&elsewhere, "bob", text("m")).unwrap();
        assert_eq!(receipt.receiver, None);
        assert_eq!(directory.index(&who("bob"), 0, 10).len(), 0);
        assert_eq!(directory.contents(&who("alice"), &[receipt.message_id]).len(), 0);
        assert_eq!(directory.index(&AccountKey::new("other", "bob"), 0, 10).len(), 1);
    }

    #[test]
    fn a_channel_that_comes_twice_belongs_to_the_newer_account() {
        let directory = Directory::default();
        directory.sign_in(&session("alice", "c1")).unwrap();
        assert_eq!(directory.sign_in(&session("bob", "c1")), Ok(None));
        assert_eq!(directory.identify("c1"), Some(who("bob")));
        assert_eq!(directory.locate(&who("alice")), None);
    }

    #[test]
    fn ids_are_unique_over_threads_and_grow_in_every_index() {
        let directory = Directory::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let directory = &directory;
                scope.spawn(move || {
                    for _ in 0..500 {
                        directory.store(&who(&format!("sender{thread}")), "bob", text("m")).unwrap();
                    }
                });
            }
        });
        let index = directory.index(&who("bob"), 0, usize::MAX);
        assert_eq!(index.len(), 2000);
        assert!(index.is_sorted_by(|earlier, later| earlier.message_id < later.message_id));
    }

    fn group(directory: &Directory, members: &[&str]) -> String {
        let members = members.iter().map(|&member| member.to_owned()).collect();
        let asked = pb::GroupCreateReq { members, ..Default::default() };
        directory.groups().create(&who("alice"), asked, 0).unwrap().group_id.to_string()
    }

    #[test]
    fn a_message_to_a_group_is_stored_once_and_listed_for_each_member_of_that_moment() {
        let directory = Directory::default();
        for (account, channel) in [("alice", "c1"), ("bob", "c2")] {
            directory.sign_in(&session(account, channel)).unwrap();
        }
        let id = group(&directory, &["bob", "carol"]);
        let receipt = directory.store_for_group(&who("alice"), &id, text("m")).unwrap();
        assert_eq!(receipt.receivers, [directory.locate(&who("bob")).unwrap()]);
        assert_eq!(directory.messages(), 1);
        for (account, direction) in [("alice", SENT), ("bob", RECEIVED), ("carol", RECEIVED)] {
            let listed = directory.index(&who(account), 0, 10);
            let expected = pb::MessageIndex {
                message_id: receipt.message_id,
                direction,
                send_time: receipt.send_time,
                account_b: "alice".to_owned(),
                group: id.clone(),
            };
            assert_eq!(listed, [expected]);
            assert_eq!(directory.contents(&who(account), &[receipt.message_id]).len(), 1);
        }
        directory.groups().quit(&who("carol"), "", &id).unwrap().unwrap();
        directory.groups().join(&who("dave"), "", &id, 0).unwrap().unwrap();
        let later = directory.store_for_group(&who("alice"), &id, text("m")).unwrap().message_id;
        let ids = [receipt.message_id, later];
        for (account, has) in [("bob", 2), ("carol", 1), ("dave", 1)] {
            assert_eq!(directory.index(&who(account), 0, 10).len(), has);
            assert_eq!(directory.contents(&who(account), &ids).len(), has);
        }
    }

    #[test]
    fn g6_messages_to_groups_count_for_each_member_and_are_forgotten_for_all() {
        let each = MESSAGE_OVERHEAD + 3 * MEMBER_OVERHEAD + 1;
        let directory =
            Directory::new(DirectoryBounds { message_bytes: 2 * each, ..DirectoryBounds::default() });
        let id = group(&directory, &["bob", "carol"]);
        let send = || directory.store_for_group(&who("alice"), &id, text("m")).unwrap().message_id;
        let ids = [send(), send(), send()];
        assert_eq!(directory.messages(), 2);
        for account in ["alice", "bob", "carol"] {
            let listed = directory.index(&who(account), 0, 10);
            assert_eq!(listed.iter().map(|entry| entry.message_id).collect::<Vec<_>>(), ids[1..]);
        }
    }

    /// Stored for some members only, it would be lost for the others though it was answered.
    #[test]
    fn g6_a_message_to_a_group_is_for_all_members_or_refused() {
        let directory = Directory::new(DirectoryBounds { accounts: 3, ..DirectoryBounds::default() });
        directory.sign_in(&session("alice", "c1")).unwrap();
        let small = group(&directory, &["bob", "carol"]);
        let large = group(&directory, &["bob", "carol", "dave"]);
        directory.store_for_group(&who("alice"), &small, text("m")).unwrap();
        let full = directory.store_for_group(&who("alice"), &large, text("m"));
        assert_eq!(full, Err(GroupError::ServiceFull));
        assert_eq!(directory.messages(), 1);
    }
}
