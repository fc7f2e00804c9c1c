//! The chat service's part for groups: who is in them, and messages to their members.
//!
//! Notices go with the command of the request that caused them, flag Push, to everyone they concern who is signed
//! in, except the channel that asked: it has its answer.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::account::AccountKey;
use crate::chat::Chat;
use crate::directory::Location;
use crate::groups::{Change, GroupError};
use crate::message;
use gateway_service::links::{Links, Push, Target};
use gateway_service::request::Request;
use gateway_wire::pb::{self, Status};

impl Chat {
    /// As with one receiver: stored once, answered, then pushed to the members who are signed in.
    pub(super) fn talk_to_group(&self, sender: AccountKey, request: Request) {
        let Ok(message) = request.decode::<pb::MessageReq>() else {
            return request.fail(Status::InvalidPacketBody, "the body is no MessageReq");
        };
        let _in_order = self.in_order();
        let receipt = match self.directory.store_for_group(&sender, request.dest(), message.clone()) {
            Ok(receipt) => receipt,
            Err(error) => return refuse(request, error),
        };
        let stored = pb::MessageResp { message_id: receipt.message_id, send_time: receipt.send_time };
        let links = request.links().clone();
        let push = request.as_push(message::pushed(message, &sender, &stored).encode_to_vec());
        request.succeed(&stored);
        push_to(&links, &push, &receipt.receivers);
    }

    pub(super) fn create_group(&self, creator: AccountKey, request: Request) {
        let Ok(asked) = request.decode::<pb::GroupCreateReq>() else {
            return request.fail(Status::InvalidPacketBody, "the body is no GroupCreateReq");
        };
        let _in_order = self.in_order();
        let created = self.directory.groups().create(&creator, asked, now());
        let group = match created {
            Ok(group) => group,
            Err(error) => return refuse(request, error),
        };
        let group_id = group.group_id.to_string();
        let members = group.members.iter().map(|who| who.account.to_string()).collect();
        let notice = pb::GroupCreateNotify { group_id: group_id.clone(), members }.encode_to_vec();
        let (links, push) = (request.links().clone(), request.as_push(notice));
        request.succeed(&pb::GroupCreateResp { group_id });
        push_to(&links, &push, &self.directory.locate_others(&creator, &group.members));
    }

    pub(super) fn join_group(&self, by: AccountKey, request: Request) {
        let Ok(pb::GroupJoinReq { account, group_id }) = request.decode() else {
            return request.fail(Status::InvalidPacketBody, "the body is no GroupJoinReq");
        };
        let _in_order = self.in_order();
        let joined = self.directory.groups().join(&by, &account, &group_id, now());
        let notice = |account| pb::GroupJoinNotify { group_id, account }.encode_to_vec();
        self.answer_change(&by, request, joined, notice);
    }

    pub(super) fn quit_group(&self, by: AccountKey, request: Request) {
        let Ok(pb::GroupQuitReq { account, group_id }) = request.decode() else {
            return request.fail(Status::InvalidPacketBody, "the body is no GroupQuitReq");
        };
        let _in_order = self.in_order();
        let quit = self.directory.groups().quit(&by, &account, &group_id);
        let notice = |account| pb::GroupQuitNotify { group_id, account }.encode_to_vec();
        self.answer_change(&by, request, quit, notice);
    }

    /// What is already so succeeds as well, so that a request without an answer may be repeated; nobody is told.
    fn answer_change(
        &self,
        by: &AccountKey,
        request: Request,
        change: Result<Option<Change>, GroupError>,
        notice: impl FnOnce(String) -> Vec<u8>,
    ) {
        match change {
            Ok(Some(Change { who, concerns })) => {
                let (links, push) =
                    (request.links().clone(), request.as_push(notice(who.account.to_string())));
                request.reply(Status::Success, Vec::new());
                push_to(&links, &push, &self.directory.locate_others(by, &concerns));
            }
            Ok(None) => request.reply(Status::Success, Vec::new()),
            Err(error) => refuse(request, error),
        }
    }

    pub(super) fn group_detail(&self, who: AccountKey, request: Request) {
        self.answer_group(&who, request, |group| group);
    }

    pub(super) fn group_members(&self, who: AccountKey, request: Request) {
        self.answer_group(&who, request, |group| pb::GroupGetResp {
            members: group.members,
            ..pb::GroupGetResp::default()
        });
    }

    fn answer_group(
        &self,
        who: &AccountKey,
        request: Request,
        part: impl FnOnce(pb::GroupGetResp) -> pb::GroupGetResp,
    ) {
        let Ok(pb::GroupGetReq { group_id }) = request.decode() else {
            return request.fail(Status::InvalidPacketBody, "the body is no GroupGetReq");
        };
        let detail = self.directory.groups().detail(who, &group_id);
        match detail {
            Ok(group) => request.succeed(&part(group)),
            Err(error) => refuse(request, error),
        }
    }
}

fn refuse(request: Request, error: GroupError) {
    request.reply(error.status(), pb::ErrorResp { message: error.to_string() }.encode_to_vec());
}

fn push_to(links: &Links, push: &Push, locations: &[Location]) {
    let targets: Vec<_> =
        locations.iter().map(|at| Target { gateway: &at.gate_id, channel: &at.channel_id }).collect();
    links.push(push, &targets);
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::directory::Directory;
    use crate::embedded::embedded_server;
    use gateway_service::testing::{TestGateway, meta_of, start};
    use gateway_wire::command::{
        CHAT_GROUP_CREATE, CHAT_GROUP_DETAIL, CHAT_GROUP_JOIN, CHAT_GROUP_MEMBERS, CHAT_GROUP_QUIT,
        CHAT_GROUP_TALK, CHAT_OFFLINE_CONTENT, CHAT_OFFLINE_INDEX,
    };
    use gateway_wire::dialect::Dialect;

    /// Two gateways on one chat service: alice and bob are on the first, carol and dave on the second.
    struct GroupTown {
        first: TestGateway,
        second: TestGateway,
        directory: Arc<Directory>,
        _task: tokio_util::task::AbortOnDropHandle<()>,
    }

    impl GroupTown {
        async fn start() -> Self {
            let directory = Arc::new(Directory::default());
            let (address, task) = start(embedded_server("chat", Dialect::XIm, &directory)).await;
            let mut first = TestGateway::link(address, "gate01", Dialect::XIm).await;
            let mut second = TestGateway::link(address, "gate02", Dialect::XIm).await;
            for account in ["alice", "bob"] {
                first.sign_in(account).await;
            }
            for account in ["carol", "dave"] {
                second.sign_in(account).await;
            }
            Self { first, second, directory, _task: task }
        }

        /// Alice's group, with its notices taken.
        async fn group(&mut self, members: &[&str]) -> String {
            let asked = pb::GroupCreateReq { members: owned(members), ..Default::default() };
            self.first.request("alice", CHAT_GROUP_CREATE, 1, "", &asked).await;
            let id = self.first.message::<pb::GroupCreateResp>().await.1.group_id;
            if members.contains(&"bob") {
                self.first.packet().await;
            }
            if members.contains(&"carol") || members.contains(&"dave") {
                self.second.packet().await;
            }
            id
        }
    }

    fn owned(accounts: &[&str]) -> Vec<String> {
        accounts.iter().map(|&account| account.to_owned()).collect()
    }

    fn text(body: &str) -> pb::MessageReq {
        pb::MessageReq { r#type: 1, body: body.to_owned(), extra: "x".to_owned() }
    }

    fn join(account: &str, group_id: &str) -> pb::GroupJoinReq {
        pb::GroupJoinReq { account: account.to_owned(), group_id: group_id.to_owned() }
    }

    fn quit(account: &str, group_id: &str) -> pb::GroupQuitReq {
        pb::GroupQuitReq { account: account.to_owned(), group_id: group_id.to_owned() }
    }

    fn get(group_id: &str) -> pb::GroupGetReq {
        pb::GroupGetReq { group_id: group_id.to_owned() }
    }

    fn is_push(header: &pb::Header, command: &str, channels: &str) {
        assert_eq!((header.command.as_str(), header.flag), (command, pb::Flag::Push as i32));
        assert_eq!(meta_of(header, "dest.channels"), Some(channels));
    }

    #[tokio::test]
    async fn a_message_goes_to_the_members_online_in_one_packet_per_gateway_with_one_id() {
        let mut town = GroupTown::start().await;
        let id = town.group(&["bob", "carol", "dave", "erin"]).await;
        town.first.request("alice", CHAT_GROUP_TALK, 42, &id, &text("hello 世界")).await;
        let (header, answer) = town.first.message::<pb::MessageResp>().await;
        assert_eq!((header.flag, header.status, header.sequence), (pb::Flag::Response as i32, 0, 42));
        assert_eq!(meta_of(&header, "dest.channels"), Some("gate01_alice_1"));
        let expected = pb::MessagePush {
            message_id: answer.message_id,
            r#type: 1,
            body: "hello 世界".to_owned(),
            extra: "x".to_owned(),
            sender: "alice".to_owned(),
            send_time: answer.send_time,
        };
        for (link, channels) in
            [(&mut town.first, "gate01_bob_1"), (&mut town.second, "gate02_carol_1,gate02_dave_1")]
        {
            let (header, push) = link.message::<pb::MessagePush>().await;
            is_push(&header, CHAT_GROUP_TALK, channels);
            assert_eq!((header.dest.as_str(), &push), (id.as_str(), &expected));
            link.ping().await;
        }
        assert_eq!(town.directory.messages(), 1);

        // Erin was away.
        town.second.sign_in("erin").await;
        town.second.request("erin", CHAT_OFFLINE_INDEX, 1, "", &pb::MessageIndexReq::default()).await;
        let missed = town.second.message::<pb::MessageIndexResp>().await.1.indexes;
        let index = pb::MessageIndex {
            message_id: answer.message_id,
            direction: 0,
            send_time: answer.send_time,
            account_b: "alice".to_owned(),
            group: id,
        };
        assert_eq!(missed, [index]);
        let asked = pb::MessageContentReq { message_i_ds: vec![answer.message_id] };
        town.second.request("erin", CHAT_OFFLINE_CONTENT, 2, "", &asked).await;
        let found = town.second.message::<pb::MessageContentResp>().await.1.contents;
        assert_eq!((found.len(), found[0].body.as_str()), (1, "hello 世界"));
    }

    #[tokio::test]
    async fn a_new_group_is_answered_with_its_id_and_noticed_by_the_other_members() {
        let mut town = GroupTown::start().await;
        let asked = pb::GroupCreateReq {
            name: "fun".to_owned(),
            owner: "alice".to_owned(),
            members: owned(&["bob", "alice", "carol", "bob"]),
            ..Default::default()
        };
        town.first.request("alice", CHAT_GROUP_CREATE, 7, "", &asked).await;
        let (header, created) = town.first.message::<pb::GroupCreateResp>().await;
        assert_eq!((header.flag, header.status, header.sequence), (pb::Flag::Response as i32, 0, 7));
        for (link, channels) in [(&mut town.first, "gate01_bob_1"), (&mut town.second, "gate02_carol_1")] {
            let (header, notice) = link.message::<pb::GroupCreateNotify>().await;
            is_push(&header, CHAT_GROUP_CREATE, channels);
            assert_eq!(notice.group_id, created.group_id);
            assert_eq!(notice.members, ["alice", "bob", "carol"]);
            link.ping().await;
        }

        town.first.request("bob", CHAT_GROUP_DETAIL, 1, "", &get(&created.group_id)).await;
        let (_, detail) = town.first.message::<pb::GroupGetResp>().await;
        assert_eq!(
            (detail.id, detail.name, detail.owner),
            (created.group_id.clone(), asked.name, asked.owner)
        );
        assert!(detail.created_at > 1_600_000_000 && detail.created_at < 100_000_000_000, "seconds");
        town.first.request("bob", CHAT_GROUP_MEMBERS, 1, "", &get(&created.group_id)).await;
        let (_, members) = town.first.message::<pb::GroupGetResp>().await;
        assert_eq!(members.members, detail.members);
        assert_eq!(members, pb::GroupGetResp { members: detail.members, ..Default::default() });
    }

    #[tokio::test]
    async fn who_joins_and_quits_is_noticed_by_all_it_concerns_once() {
        let mut town = GroupTown::start().await;
        let id = town.group(&["bob"]).await;
        for account in ["dave", ""] {
            town.second.request("dave", CHAT_GROUP_JOIN, 1, "", &join(account, &id)).await;
            let (header, body) = town.second.packet().await;
            assert_eq!((header.flag, header.status, body.len()), (pb::Flag::Response as i32, 0, 0));
            town.second.ping().await;
        }
        let (header, notice) = town.first.message::<pb::GroupJoinNotify>().await;
        is_push(&header, CHAT_GROUP_JOIN, "gate01_alice_1,gate01_bob_1");
        assert_eq!((notice.group_id.as_str(), notice.account.as_str()), (id.as_str(), "dave"));
        town.first.ping().await;

        // The owner takes dave out: he is told, and is pushed nothing more.
        town.first.request("alice", CHAT_GROUP_QUIT, 1, "", &quit("dave", &id)).await;
        town.first.expect_status(Status::Success).await;
        let (header, notice) = town.first.message::<pb::GroupQuitNotify>().await;
        is_push(&header, CHAT_GROUP_QUIT, "gate01_bob_1");
        assert_eq!((notice.group_id.as_str(), notice.account.as_str()), (id.as_str(), "dave"));
        let (header, notice) = town.second.message::<pb::GroupQuitNotify>().await;
        is_push(&header, CHAT_GROUP_QUIT, "gate02_dave_1");
        assert_eq!(notice.account, "dave");
        town.first.request("alice", CHAT_GROUP_TALK, 2, &id, &text("hi")).await;
        town.first.expect_status(Status::Success).await;
        is_push(&town.first.packet().await.0, CHAT_GROUP_TALK, "gate01_bob_1");
        town.second.request("dave", CHAT_GROUP_QUIT, 2, "", &quit("dave", &id)).await;
        town.second.expect_status(Status::Success).await;
        town.first.ping().await;
        town.second.ping().await;
    }

    /// G7, and what protocol §3 says of statuses: 100 is for users, 101 for developers.
    #[tokio::test]
    async fn g7_who_may_not_is_refused_with_a_status_and_a_reason() {
        let mut town = GroupTown::start().await;
        let id = town.group(&["bob"]).await;
        let (no_group, no_body) = (Status::NoDestination, Status::InvalidPacketBody);
        let refused = [
            (CHAT_GROUP_TALK, id.as_str(), text("hi").encode_to_vec(), no_group, "not in this group"),
            (CHAT_GROUP_TALK, "g9", text("hi").encode_to_vec(), no_group, "no such group"),
            (CHAT_GROUP_TALK, "", text("hi").encode_to_vec(), no_group, "no such group"),
            (CHAT_GROUP_JOIN, "", join("dave", "g9").encode_to_vec(), no_group, "no such group"),
            (CHAT_GROUP_JOIN, "", join("carol", &id).encode_to_vec(), no_body, "only the owner"),
            (CHAT_GROUP_QUIT, "", quit("bob", &id).encode_to_vec(), no_body, "only the owner"),
            (CHAT_GROUP_DETAIL, "", get("").encode_to_vec(), no_group, "no such group"),
            (CHAT_GROUP_MEMBERS, "", get("g9").encode_to_vec(), no_group, "no such group"),
        ];
        let unreadable = [
            CHAT_GROUP_TALK,
            CHAT_GROUP_CREATE,
            CHAT_GROUP_JOIN,
            CHAT_GROUP_QUIT,
            CHAT_GROUP_DETAIL,
            CHAT_GROUP_MEMBERS,
        ]
        .map(|command| (command, id.as_str(), vec![0xff; 3], no_body, "the body is no "));
        let channel = town.second.channel("dave");
        for (command, dest, body, status, says) in refused.into_iter().chain(unreadable) {
            town.second.request_of(&channel, "dave", command, 3, dest, body).await;
            let (header, error) = town.second.message::<pb::ErrorResp>().await;
            assert_eq!((header.command.as_str(), header.status), (command, status as i32));
            assert!(error.message.contains(says), "{command}: {}", error.message);
        }
        town.second.request("mallory", CHAT_GROUP_JOIN, 1, "", &join("alice", &id)).await;
        town.second.expect_status(Status::SessionNotFound).await;
        town.first.ping().await;
        assert_eq!(town.directory.messages(), 0);
    }

    /// G3, and one acknowledgement for all: ids of groups and of single accounts grow together.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn g3_group_and_other_messages_arrive_in_the_order_of_their_ids() {
        const EACH: u32 = 200;
        let mut town = GroupTown::start().await;
        let id = town.group(&["bob", "carol"]).await;
        let mut senders = tokio::task::JoinSet::new();
        let GroupTown { mut first, mut second, .. } = town;
        senders.spawn(async move {
            for sequence in 0..EACH {
                first.request("bob", CHAT_GROUP_TALK, sequence, &id, &text("g")).await;
                first.request("alice", "chat.user.talk", sequence, "carol", &text("u")).await;
            }
            first
        });
        let mut ids = Vec::new();
        for _ in 0..2 * EACH {
            second.request("dave", "chat.user.talk", 1, "carol", &text("d")).await;
        }
        while ids.len() < 4 * EACH as usize {
            let (header, body) = second.packet().await;
            if header.flag == pb::Flag::Push as i32 {
                ids.push(pb::MessagePush::decode(body).unwrap().message_id);
            }
        }
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        senders.join_all().await;
    }
}
