//! Groups: who is in which, and who owns it. In memory and bounded, see [`GroupBounds`]; without a clock and a
//! lock of its own.
//!
//! Accounts of one app share groups. Who knows the id of a group may look at it and join it; ids cannot be guessed.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use crate::account::{AccountKey, MAX_ACCOUNT};
use gateway_net::limits::KIB;
use gateway_wire::pb::{self, Status};

/// How many groups there may be. Beyond it creating and joining are refused: a group is never forgotten while it
/// has a member.
#[derive(Debug, Clone, Copy)]
pub struct GroupBounds {
    /// Groups in all.
    pub groups: usize,
    /// Groups an account created that still exist. Not those it is in: others could use these up for it.
    pub groups_per_account: usize,
    /// Members of one group, its owner among them. Each costs an index entry per message.
    pub members_per_group: usize,
    /// Members of all groups together.
    pub members: usize,
}

impl Default for GroupBounds {
    fn default() -> Self {
        // Together some 50 MB at most with names as people have them.
        Self { groups: 10_000, groups_per_account: 100, members_per_group: 500, members: 200_000 }
    }
}

/// Longest name of a group, bytes: 64 characters of any script.
pub const MAX_NAME: usize = 256;

/// Longest avatar, bytes: the address of a picture, not the picture.
pub const MAX_AVATAR: usize = KIB;

/// Longest introduction, bytes.
pub const MAX_INTRODUCTION: usize = 4 * KIB;

/// Bits of an id that cannot be guessed: 12 hexadecimal digits. The rest is a count, which makes it unique.
const SECRET_BITS: u32 = 48;

/// What a group does not allow, or cannot do. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The caller's fault: there is none of this id in the caller's app.
    #[error("there is no such group")]
    Unknown,
    /// The caller's fault: only members talk.
    #[error("you are not in this group: join it first")]
    NotMember,
    /// The caller's fault: an account joins and quits for itself, unless the owner does it.
    #[error("only the owner of a group may add or remove another account")]
    NotOwner,
    /// The caller's fault: an account cannot create groups in the name of another.
    #[error("the owner of a new group is the account that creates it")]
    ForeignOwner,
    /// The caller's fault.
    #[error("the name, avatar or introduction of the group is too long")]
    TooLong,
    /// The caller's fault.
    #[error("an account is empty or too long")]
    BadAccount,
    /// The caller's fault: a new group would exceed [`GroupBounds::members_per_group`].
    #[error("a group cannot have so many members")]
    TooManyMembers,
    /// One more would exceed [`GroupBounds::members_per_group`], until somebody quits.
    #[error("the group has as many members as it may have")]
    GroupFull,
    /// One more would exceed [`GroupBounds::groups_per_account`], until one of them is no more.
    #[error("you have created as many groups as you may")]
    TooManyGroups,
    /// The service's fault: another of its bounds would be exceeded.
    #[error("the chat service is full")]
    ServiceFull,
}

impl GroupError {
    /// The status of the answer: 100 for what users are told, 101 for what developers are, 300 where the same
    /// request may succeed later.
    pub const fn status(self) -> Status {
        match self {
            Self::Unknown | Self::NotMember => Status::NoDestination,
            Self::NotOwner | Self::ForeignOwner | Self::TooLong | Self::BadAccount | Self::TooManyMembers => {
                Status::InvalidPacketBody
            }
            Self::GroupFull | Self::TooManyGroups | Self::ServiceFull => Status::SystemException,
        }
    }
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    by_id: HashMap<Arc<str>, Group>,
    /// How many groups of `by_id` each account created; none is 0.
    created: HashMap<AccountKey, usize>,
    /// Sum over all groups.
    members: usize,
    issued: u64,
    secret: RandomState,
    bounds: GroupBounds,
}

#[derive(Debug)]
struct Group {
    app: Arc<str>,
    name: String,
    avatar: String,
    introduction: String,
    creator: AccountKey,
    owner: Arc<str>,
    /// In the order in which they joined; never empty.
    members: Vec<Member>,
    /// The accounts of `members`, shared with the messages sent to them.
    roster: Arc<[AccountKey]>,
    created_at: i64,
}

#[derive(Debug)]
struct Member {
    who: AccountKey,
    join_time: i64,
}

/// The members of a group at one moment, in the order in which they joined.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    pub(super) group_id: Arc<str>,
    pub(super) members: Arc<[AccountKey]>,
}

/// Someone came or went.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) who: AccountKey,
    /// Everyone it concerns: the members, and whoever came or went.
    pub(super) concerns: Arc<[AccountKey]>,
}

impl Groups {
    pub(super) fn new(bounds: GroupBounds) -> Self {
        Self {
            by_id: HashMap::new(),
            created: HashMap::new(),
            members: 0,
            issued: 0,
            secret: RandomState::new(),
            bounds,
        }
    }

    /// Makes a group of its creator, who owns it, and the members asked for; each of them once.
    /// `now` is in seconds since 1970.
    pub(super) fn create(
        &mut self,
        by: &AccountKey,
        asked: pb::GroupCreateReq,
        now: i64,
    ) -> Result<Roster, GroupError> {
        let pb::GroupCreateReq { name, avatar, introduction, owner, members } = asked;
        if !owner.is_empty() && *owner != *by.account {
            return Err(GroupError::ForeignOwner);
        }
        if name.len() > MAX_NAME || avatar.len() > MAX_AVATAR || introduction.len() > MAX_INTRODUCTION {
            return Err(GroupError::TooLong);
        }
        let members = self.first_members(by, &members, now)?;
        let created = self.created.get(by).copied().unwrap_or(0);
        if created >= self.bounds.groups_per_account {
            return Err(GroupError::TooManyGroups);
        }
        if self.by_id.len() >= self.bounds.groups || self.members + members.len() > self.bounds.members {
            return Err(GroupError::ServiceFull);
        }
        self.created.insert(by.clone(), created + 1);
        self.members += members.len();
        let group_id = self.next_id();
        let group = Group {
            app: Arc::clone(&by.app),
            name,
            avatar,
            introduction,
            creator: by.clone(),
            owner: Arc::clone(&by.account),
            roster: roster(&members),
            members,
            created_at: now,
        };
        let roster = Roster { group_id: Arc::clone(&group_id), members: Arc::clone(&group.roster) };
        self.by_id.insert(group_id, group);
        Ok(roster)
    }

    /// The creator and then the others, each once.
    fn first_members(&self, by: &AccountKey, asked: &[String], now: i64) -> Result<Vec<Member>, GroupError> {
        let mut members = vec![Member { who: by.clone(), join_time: now }];
        for account in asked {
            let who = account_of(&by.app, account)?;
            if members.iter().all(|member| member.who != who) {
                members.push(Member { who, join_time: now });
            }
            // Here and not behind the loop, which would take long over a list of thousands.
            if members.len() > self.bounds.members_per_group {
                return Err(GroupError::TooManyMembers);
            }
        }
        Ok(members)
    }

    /// Puts an account into a group; an empty one is the caller. None if it is in already.
    pub(super) fn join(
        &mut self,
        by: &AccountKey,
        account: &str,
        id: &str,
        now: i64,
    ) -> Result<Option<Change>, GroupError> {
        let bounds = self.bounds;
        let is_room = self.members < bounds.members;
        let group = self.group_mut(by, id)?;
        let who = group.subject(by, account)?;
        if group.has(&who) {
            return Ok(None);
        }
        if group.members.len() >= bounds.members_per_group {
            return Err(GroupError::GroupFull);
        }
        if !is_room {
            return Err(GroupError::ServiceFull);
        }
        group.members.push(Member { who: who.clone(), join_time: now });
        group.roster = roster(&group.members);
        let concerns = Arc::clone(&group.roster);
        self.members += 1;
        Ok(Some(Change { who, concerns }))
    }

    /// Takes an account out of a group; an empty one is the caller. None if it is not in.
    ///
    /// When the owner goes, the longest member becomes the owner. When the last member goes, the group is no more.
    pub(super) fn quit(
        &mut self,
        by: &AccountKey,
        account: &str,
        id: &str,
    ) -> Result<Option<Change>, GroupError> {
        let group = self.group_mut(by, id)?;
        let who = group.subject(by, account)?;
        let Some(at) = group.members.iter().position(|member| member.who == who) else { return Ok(None) };
        let concerns = Arc::clone(&group.roster);
        group.members.remove(at);
        group.roster = roster(&group.members);
        match group.members.first() {
            Some(longest) if *group.owner == *who.account => group.owner = Arc::clone(&longest.who.account),
            Some(_) => {}
            None => self.dissolve(id),
        }
        self.members -= 1;
        Ok(Some(Change { who, concerns }))
    }

    fn dissolve(&mut self, id: &str) {
        let Some(group) = self.by_id.remove(id) else { return };
        if let Some(created) = self.created.get_mut(&group.creator) {
            *created -= 1;
            if *created == 0 {
                self.created.remove(&group.creator);
            }
        }
    }

    /// Whom a message of this account to this group is for, itself included.
    pub(super) fn roster(&self, by: &AccountKey, id: &str) -> Result<Roster, GroupError> {
        let (group_id, group) = self.by_id.get_key_value(id).ok_or(GroupError::Unknown)?;
        if group.app != by.app {
            return Err(GroupError::Unknown);
        }
        if !group.has(by) {
            return Err(GroupError::NotMember);
        }
        Ok(Roster { group_id: Arc::clone(group_id), members: Arc::clone(&group.roster) })
    }

    /// All about a group. The times of the answer are in seconds since 1970.
    pub(super) fn detail(&self, by: &AccountKey, id: &str) -> Result<pb::GroupGetResp, GroupError> {
        let group = self.by_id.get(id).filter(|group| group.app == by.app).ok_or(GroupError::Unknown)?;
        Ok(pb::GroupGetResp {
            id: id.to_owned(),
            name: group.name.clone(),
            avatar: group.avatar.clone(),
            introduction: group.introduction.clone(),
            owner: group.owner.to_string(),
            members: group.members.iter().map(Member::to_wire).collect(),
            created_at: group.created_at,
        })
    }

    fn group_mut(&mut self, by: &AccountKey, id: &str) -> Result<&mut Group, GroupError> {
        self.by_id.get_mut(id).filter(|group| group.app == by.app).ok_or(GroupError::Unknown)
    }

    fn next_id(&mut self) -> Arc<str> {
        self.issued += 1;
        let secret = self.secret.hash_one(self.issued) >> (u64::BITS - SECRET_BITS);
        format!("g{}-{secret:012x}", self.issued).into()
    }
}

impl Group {
    fn has(&self, who: &AccountKey) -> bool {
        self.roster.contains(who)
    }

    /// Whom a request to join or quit is about: the caller, or for the owner anyone.
    fn subject(&self, by: &AccountKey, account: &str) -> Result<AccountKey, GroupError> {
        if account.is_empty() || *account == *by.account {
            return Ok(by.clone());
        }
        if self.owner != by.account {
            return Err(GroupError::NotOwner);
        }
        account_of(&self.app, account)
    }
}

impl Member {
    fn to_wire(&self) -> pb::Member {
        pb::Member {
            account: self.who.account.to_string(),
            join_time: self.join_time,
            ..pb::Member::default()
        }
    }
}

fn roster(members: &[Member]) -> Arc<[AccountKey]> {
    members.iter().map(|member| member.who.clone()).collect()
}

fn account_of(app: &Arc<str>, account: &str) -> Result<AccountKey, GroupError> {
    if account.is_empty() || account.len() > MAX_ACCOUNT {
        return Err(GroupError::BadAccount);
    }
    Ok(AccountKey { app: Arc::clone(app), account: account.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(account: &str) -> AccountKey {
        AccountKey::new("x_im", account)
    }

    fn asked(members: &[&str]) -> pb::GroupCreateReq {
        let members = members.iter().map(|&member| member.to_owned()).collect();
        pb::GroupCreateReq { name: "fun".to_owned(), members, ..Default::default() }
    }

    fn create(groups: &mut Groups, by: &str, members: &[&str]) -> String {
        groups.create(&who(by), asked(members), 5).unwrap().group_id.to_string()
    }

    fn accounts(groups: &Groups, id: &str) -> Vec<String> {
        let detail = groups.detail(&who("anyone"), id).unwrap();
        detail.members.into_iter().map(|member| member.account).collect()
    }

    #[test]
    fn the_creator_owns_a_new_group_and_everyone_is_in_it_once() {
        let mut groups = Groups::new(GroupBounds::default());
        let members = ["bob", "alice", "bob", "carol"].map(str::to_owned).to_vec();
        let asked = pb::GroupCreateReq {
            name: "fun".to_owned(),
            avatar: "a.png".to_owned(),
            introduction: "for fun".to_owned(),
            owner: "alice".to_owned(),
            members,
        };
        let id = groups.create(&who("alice"), asked, 5).unwrap().group_id;
        groups.join(&who("dave"), "", &id, 7).unwrap().unwrap();
        let detail = groups.detail(&who("erin"), &id).unwrap();
        let member = |account: &str, join_time| pb::Member {
            account: account.to_owned(),
            join_time,
            ..Default::default()
        };
        let expected = pb::GroupGetResp {
            id: id.to_string(),
            name: "fun".to_owned(),
            avatar: "a.png".to_owned(),
            introduction: "for fun".to_owned(),
            owner: "alice".to_owned(),
            members: vec![member("alice", 5), member("bob", 5), member("carol", 5), member("dave", 7)],
            created_at: 5,
        };
        assert_eq!(detail, expected);
    }

    /// G7: nobody creates groups for others, and only an owner speaks for other accounts.
    #[test]
    fn g7_an_account_acts_for_itself_and_an_owner_for_the_group() {
        let mut groups = Groups::new(GroupBounds::default());
        let foreign = pb::GroupCreateReq { owner: "bob".to_owned(), ..asked(&[]) };
        assert_eq!(groups.create(&who("alice"), foreign, 5).unwrap_err(), GroupError::ForeignOwner);
        let id = create(&mut groups, "alice", &["bob"]);
        for by in ["bob", "mallory"] {
            assert_eq!(groups.join(&who(by), "carol", &id, 6).unwrap_err(), GroupError::NotOwner);
            assert_eq!(groups.quit(&who(by), "alice", &id).unwrap_err(), GroupError::NotOwner);
        }
        assert_eq!(accounts(&groups, &id), ["alice", "bob"]);
        let joined = groups.join(&who("alice"), "carol", &id, 6).unwrap().unwrap();
        assert_eq!((&joined.who, joined.concerns.len()), (&who("carol"), 3));
        // Whoever is taken out learns of it, too.
        let quit = groups.quit(&who("alice"), "carol", &id).unwrap().unwrap();
        assert_eq!((&quit.who, quit.concerns.len()), (&who("carol"), 3));
        assert_eq!(accounts(&groups, &id), ["alice", "bob"]);
    }

    #[test]
    fn what_is_so_already_changes_nothing() {
        let mut groups = Groups::new(GroupBounds::default());
        let id = create(&mut groups, "alice", &["bob"]);
        assert!(groups.join(&who("bob"), "bob", &id, 9).unwrap().is_none());
        assert!(groups.quit(&who("carol"), "", &id).unwrap().is_none());
        assert_eq!(groups.detail(&who("bob"), &id).unwrap().members[1].join_time, 5);
        assert_eq!(groups.members, 2);
    }

    #[test]
    fn an_owner_who_quits_is_followed_by_the_longest_member_and_the_last_ends_the_group() {
        let mut groups = Groups::new(GroupBounds { groups_per_account: 1, ..GroupBounds::default() });
        let id = create(&mut groups, "alice", &["bob", "carol"]);
        assert_eq!(groups.create(&who("alice"), asked(&[]), 5).unwrap_err(), GroupError::TooManyGroups);
        groups.quit(&who("alice"), "", &id).unwrap().unwrap();
        assert_eq!(groups.detail(&who("bob"), &id).unwrap().owner, "bob");
        // Whose group it now is does not count for bob, and still does for alice.
        create(&mut groups, "bob", &[]);
        assert_eq!(groups.create(&who("alice"), asked(&[]), 5).unwrap_err(), GroupError::TooManyGroups);
        groups.quit(&who("bob"), "carol", &id).unwrap().unwrap();
        assert_eq!(groups.roster(&who("carol"), &id).unwrap_err(), GroupError::NotMember);
        groups.quit(&who("bob"), "bob", &id).unwrap().unwrap();
        assert_eq!(groups.detail(&who("bob"), &id).unwrap_err(), GroupError::Unknown);
        assert_eq!(groups.quit(&who("bob"), "", &id).unwrap_err(), GroupError::Unknown);
        create(&mut groups, "alice", &[]);
        assert_eq!((groups.by_id.len(), groups.members, groups.created.len()), (2, 2, 2));
    }

    #[test]
    fn groups_of_other_apps_are_not_there() {
        let mut groups = Groups::new(GroupBounds::default());
        let id = create(&mut groups, "alice", &["bob"]);
        let bob = AccountKey::new("other", "bob");
        assert_eq!(groups.detail(&bob, &id).unwrap_err(), GroupError::Unknown);
        assert_eq!(groups.roster(&bob, &id).unwrap_err(), GroupError::Unknown);
        assert_eq!(groups.join(&bob, "", &id, 6).unwrap_err(), GroupError::Unknown);
        assert_eq!(groups.quit(&bob, "", &id).unwrap_err(), GroupError::Unknown);
    }

    #[test]
    fn g6_members_and_groups_are_bounded_and_room_comes_back() {
        let bounds = GroupBounds { groups: 2, groups_per_account: 9, members_per_group: 3, members: 5 };
        let mut groups = Groups::new(bounds);
        let too_many = groups.create(&who("alice"), asked(&["b", "c", "d"]), 5).unwrap_err();
        assert_eq!(too_many, GroupError::TooManyMembers);
        let first = create(&mut groups, "alice", &["b", "b", "c", "alice"]);
        assert_eq!(groups.join(&who("d"), "", &first, 6).unwrap_err(), GroupError::GroupFull);
        let no_room = groups.create(&who("alice"), asked(&["b", "c"]), 5).unwrap_err();
        assert_eq!(no_room, GroupError::ServiceFull);
        let second = create(&mut groups, "alice", &["b"]);
        assert_eq!(groups.join(&who("d"), "", &second, 6).unwrap_err(), GroupError::ServiceFull);
        assert_eq!(groups.create(&who("d"), asked(&[]), 5).unwrap_err(), GroupError::ServiceFull);
        groups.quit(&who("b"), "", &first).unwrap().unwrap();
        groups.join(&who("d"), "", &first, 6).unwrap().unwrap();
        // Two groups are as many as there may be, even with room for members.
        groups.quit(&who("b"), "", &second).unwrap().unwrap();
        assert_eq!(groups.create(&who("d"), asked(&[]), 5).unwrap_err(), GroupError::ServiceFull);
        assert_eq!((groups.by_id.len(), groups.members), (2, 4));
    }

    #[test]
    fn g6_what_a_group_says_of_itself_is_bounded() {
        let mut groups = Groups::new(GroupBounds::default());
        let long = |len: usize| "x".repeat(len);
        for (name, avatar, introduction, good) in [
            (MAX_NAME, MAX_AVATAR, MAX_INTRODUCTION, true),
            (MAX_NAME + 1, 0, 0, false),
            (0, MAX_AVATAR + 1, 0, false),
            (0, 0, MAX_INTRODUCTION + 1, false),
        ] {
            let asked = pb::GroupCreateReq {
                name: long(name),
                avatar: long(avatar),
                introduction: long(introduction),
                ..Default::default()
            };
            let created = groups.create(&who("alice"), asked, 5).map(|_| ());
            assert_eq!(created, if good { Ok(()) } else { Err(GroupError::TooLong) });
        }
        for account in ["", &long(MAX_ACCOUNT + 1)] {
            let bad = groups.create(&who("alice"), asked(&[account]), 5).unwrap_err();
            assert_eq!(bad, GroupError::BadAccount);
        }
        let id = create(&mut groups, "alice", &[&long(MAX_ACCOUNT)]);
        let bad = groups.join(&who("alice"), &long(MAX_ACCOUNT + 1), &id, 6).unwrap_err();
        assert_eq!(bad, GroupError::BadAccount);
    }

    #[test]
    fn ids_differ_and_cannot_be_guessed_from_the_last_one_or_from_another_process() {
        let mut groups = Groups::new(GroupBounds::default());
        let ids: Vec<_> = (0..50).map(|_| create(&mut groups, "alice", &[])).collect();
        let secrets: std::collections::HashSet<_> =
            ids.iter().map(|id| id.split_once('-').unwrap().1.to_owned()).collect();
        assert_eq!(secrets.len(), ids.len());
        assert!(secrets.iter().all(|secret| secret.len() == 12));
        assert_ne!(create(&mut Groups::new(GroupBounds::default()), "alice", &[]), ids[0]);
    }
}
