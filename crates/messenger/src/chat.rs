//! The chat service: messages between two accounts, acknowledgements, and what was missed. Groups are in
//! `group_chat`.

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;

use crate::account::{AccountKey, MAX_ACCOUNT};
use crate::directory::Directory;
use crate::message;
use gateway_service::links::Target;
use gateway_service::request::Request;
use gateway_service::server::LogicServer;
use gateway_wire::command::{
    CHAT_GROUP_CREATE, CHAT_GROUP_DETAIL, CHAT_GROUP_JOIN, CHAT_GROUP_MEMBERS, CHAT_GROUP_QUIT,
    CHAT_GROUP_TALK, CHAT_OFFLINE_CONTENT, CHAT_OFFLINE_INDEX, CHAT_TALK_ACK, CHAT_USER_TALK,
};
use gateway_wire::pb::{self, Status};

/// Indexes in one answer to `chat.offline.index` (protocol §3).
pub const MAX_INDEXES: usize = 2000;

/// Ids in one `chat.offline.content` (protocol §3).
pub const MAX_CONTENTS: usize = 200;

/// Gives a server the handlers of `chat.*` over a directory.
#[must_use]
pub fn serve_chat(server: LogicServer, directory: &Arc<Directory>) -> LogicServer {
    let chat = Arc::new(Chat { directory: Arc::clone(directory), order: Mutex::new(()) });
    let bind = |handler: fn(&Chat, AccountKey, Request)| {
        let chat = Arc::clone(&chat);
        move |request: Request| {
            chat.of_a_session(request, handler);
            ready(())
        }
    };
    server
        .handle(CHAT_USER_TALK, bind(Chat::talk))
        .handle(CHAT_TALK_ACK, bind(Chat::acknowledge))
        .handle(CHAT_OFFLINE_INDEX, bind(Chat::index))
        .handle(CHAT_OFFLINE_CONTENT, bind(Chat::contents))
        .handle(CHAT_GROUP_TALK, bind(Chat::talk_to_group))
        .handle(CHAT_GROUP_CREATE, bind(Chat::create_group))
        .handle(CHAT_GROUP_JOIN, bind(Chat::join_group))
        .handle(CHAT_GROUP_QUIT, bind(Chat::quit_group))
        .handle(CHAT_GROUP_DETAIL, bind(Chat::group_detail))
        .handle(CHAT_GROUP_MEMBERS, bind(Chat::group_members))
}

pub(super) struct Chat {
    pub(super) directory: Arc<Directory>,
    /// Held from storing a message to queueing its push. Two links are served by two tasks; without this, one
    /// could store first and push last, and a receiver who acknowledged the later id would seem to have both.
    /// Changes of groups hold it as well, so that who was told that he is out is pushed nothing more by this
    /// instance. Taken before any lock of the directory.
    order: Mutex<()>,
}

impl Chat {
    /// A request of a channel that is not signed in, or no longer, is answered 404, as the Go services do:
    /// its client closes and signs in again.
    fn of_a_session(&self, request: Request, handler: fn(&Self, AccountKey, Request)) {
        match self.directory.identify(request.channel_id()) {
            Some(sender) => handler(self, sender, request),
            None => request.fail(Status::SessionNotFound, "this channel has no session"),
        }
    }

    pub(super) fn in_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stored, answered, then pushed: a message that was answered is never lost by a failing push.
    fn talk(&self, sender: AccountKey, request: Request) {
        let Ok(message) = request.decode::<pb::MessageReq>() else {
            return request.fail(Status::InvalidPacketBody, "the body is no MessageReq");
        };
        if request.dest().is_empty() || request.dest().len() > MAX_ACCOUNT {
            return request.fail(Status::NoDestination, "dest names no account");
        }
        let _in_order = self.in_order();
        let Ok(receipt) = self.directory.store(&sender, request.dest(), message.clone()) else {
            return request.fail(Status::SystemException, "the chat service is full");
        };
        let stored = pb::MessageResp { message_id: receipt.message_id, send_time: receipt.send_time };
        let links = request.links().clone();
        let push = request.as_push(message::pushed(message, &sender, &stored).encode_to_vec());
        request.succeed(&stored);
        if let Some(receiver) = receipt.receiver {
            links.push(&push, &[Target { gateway: &receiver.gate_id, channel: &receiver.channel_id }]);
        }
    }

    fn acknowledge(&self, who: AccountKey, request: Request) {
        match request.decode::<pb::MessageAckReq>() {
            Ok(ack) => {
                self.directory.acknowledge(&who, ack.message_id);
                request.reply(Status::Success, Vec::new());
            }
            Err(_) => request.fail(Status::InvalidPacketBody, "the body is no MessageAckReq"),
        }
    }

    fn index(&self, who: AccountKey, request: Request) {
        match request.decode::<pb::MessageIndexReq>() {
            Ok(asked) => {
                let indexes = self.directory.index(&who, asked.message_id, MAX_INDEXES);
                request.succeed(&pb::MessageIndexResp { indexes });
            }
            Err(_) => request.fail(Status::InvalidPacketBody, "the body is no MessageIndexReq"),
        }
    }

    fn contents(&self, who: AccountKey, request: Request) {
        match request.decode::<pb::MessageContentReq>() {
            Ok(asked) if asked.message_i_ds.len() <= MAX_CONTENTS => {
                let contents = self.directory.contents(&who, &asked.message_i_ds);
                request.succeed(&pb::MessageContentResp { contents });
            }
            Ok(_) => request.fail(Status::InvalidPacketBody, "more than 200 messageIDs"),
            Err(_) => request.fail(Status::InvalidPacketBody, "the body is no MessageContentReq"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::embedded_server;
    use gateway_service::testing::{TestGateway, meta_of, start};
    use gateway_wire::dialect::Dialect;

    fn text(body: &str) -> pb::MessageReq {
        pb::MessageReq { r#type: 1, body: body.to_owned(), extra: "x".to_owned() }
    }

    /// A server, its directory, and a gateway linked to it with these accounts signed in.
    async fn linked(
        accounts: &[&str],
    ) -> (TestGateway, Arc<Directory>, tokio_util::task::AbortOnDropHandle<()>) {
        let directory = Arc::new(Directory::default());
        let (address, task) = start(embedded_server("chat", Dialect::XIm, &directory)).await;
        let mut gateway = TestGateway::link(address, "gate01", Dialect::XIm).await;
        for account in accounts {
            gateway.sign_in(account).await;
        }
        (gateway, directory, task)
    }

    #[tokio::test]
    async fn talk_is_stored_then_answered_then_pushed() {
        let (mut gateway, directory, _task) = linked(&["alice", "bob"]).await;
        gateway.request("alice", CHAT_USER_TALK, 42, "bob", &text("hello 世界")).await;
        let (header, answer) = gateway.message::<pb::MessageResp>().await;
        assert_eq!((header.flag, header.status, header.sequence), (pb::Flag::Response as i32, 0, 42));
        assert_eq!(meta_of(&header, "dest.channels"), Some("gate01_alice_1"));
        assert!(answer.message_id > 0 && answer.send_time > 1_600_000_000_000_000_000);

        let (header, push) = gateway.message::<pb::MessagePush>().await;
        assert_eq!((header.command.as_str(), header.flag), (CHAT_USER_TALK, pb::Flag::Push as i32));
        assert_eq!(meta_of(&header, "dest.channels"), Some("gate01_bob_1"));
        assert_eq!((header.dest.as_str(), header.channel_id.as_str()), ("bob", "gate01_alice_1"));
        let expected = pb::MessagePush {
            message_id: answer.message_id,
            r#type: 1,
            body: "hello 世界".to_owned(),
            extra: "x".to_owned(),
            sender: "alice".to_owned(),
            send_time: answer.send_time,
        };
        assert_eq!(push, expected);
        assert_eq!(directory.messages(), 1);
    }

    /// G7: whoever the metas and the channel say, the session of the channel is the sender; and who has none
    /// is told so.
    #[tokio::test]
    async fn talk_is_refused_without_session_receiver_or_body() {
        let (mut gateway, directory, _task) = linked(&["alice"]).await;
        gateway.request("mallory", CHAT_USER_TALK, 1, "bob", &text("hi")).await;
        gateway.expect_status(Status::SessionNotFound).await;
        gateway.request("alice", CHAT_USER_TALK, 2, "", &text("hi")).await;
        gateway.expect_status(Status::NoDestination).await;
        let channel = gateway.channel("alice");
        gateway.request_of(&channel, "alice", CHAT_USER_TALK, 3, "bob", vec![0xff; 3]).await;
        gateway.expect_status(Status::InvalidPacketBody).await;
        gateway.request("alice", "chat.nothing", 4, "bob", &text("hi")).await;
        gateway.expect_status(Status::NotImplemented).await;
        assert_eq!(directory.messages(), 0);
    }

    #[tokio::test]
    async fn a_kicked_channel_has_no_session_any_more() {
        let (mut gateway, _directory, _task) = linked(&["alice"]).await;
        gateway.sign_in_on("gate01_alice_2", "alice", "x_im").await;
        gateway.packet().await;
        gateway.packet().await;
        gateway.request("alice", CHAT_USER_TALK, 1, "bob", &text("hi")).await;
        gateway.expect_status(Status::SessionNotFound).await;
    }

    #[tokio::test]
    async fn what_an_unknown_account_missed_waits_for_it_until_it_acknowledges() {
        let (mut gateway, _directory, _task) = linked(&["alice"]).await;
        let mut ids = Vec::new();
        for sequence in 1..=3 {
            gateway.request("alice", CHAT_USER_TALK, sequence, "bob", &text(&format!("m{sequence}"))).await;
            ids.push(gateway.message::<pb::MessageResp>().await.1.message_id);
        }
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        // Nothing was pushed: the next thing that comes is the answer to bob's sign-in.
        gateway.sign_in("bob").await;

        let missed = index(&mut gateway, "bob", 0).await;
        assert_eq!(missed.iter().map(|entry| entry.message_id).collect::<Vec<_>>(), ids);
        assert!(missed.iter().all(|entry| entry.direction == 0 && entry.account_b == "alice"));
        let sent = index(&mut gateway, "alice", 0).await;
        assert!(sent.len() == 3 && sent.iter().all(|entry| entry.direction == 1 && entry.account_b == "bob"));

        let asked = pb::MessageContentReq { message_i_ds: vec![ids[2], 17, ids[0]] };
        gateway.request("bob", CHAT_OFFLINE_CONTENT, 1, "", &asked).await;
        let (_, found) = gateway.message::<pb::MessageContentResp>().await;
        let bodies: Vec<_> = found.contents.iter().map(|content| content.body.as_str()).collect();
        assert_eq!(bodies, ["m3", "m1"]);

        gateway.request("bob", CHAT_TALK_ACK, 1, "", &pb::MessageAckReq { message_id: ids[1] }).await;
        let (header, body) = gateway.packet().await;
        assert_eq!((header.status, body.len()), (0, 0));
        assert_eq!(index(&mut gateway, "bob", 0).await.len(), 1);
        assert_eq!(index(&mut gateway, "bob", ids[0]).await.len(), 2);
        assert_eq!(index(&mut gateway, "bob", ids[2]).await.len(), 0);
    }

    async fn index(gateway: &mut TestGateway, account: &str, after: i64) -> Vec<pb::MessageIndex> {
        gateway.request(account, CHAT_OFFLINE_INDEX, 9, "", &pb::MessageIndexReq { message_id: after }).await;
        gateway.message::<pb::MessageIndexResp>().await.1.indexes
    }

    #[tokio::test]
    async fn contents_are_for_sender_and_receiver_only_and_for_200_ids() {
        let (mut gateway, _directory, _task) = linked(&["alice", "eve"]).await;
        gateway.request("alice", CHAT_USER_TALK, 1, "bob", &text("secret")).await;
        let id = gateway.message::<pb::MessageResp>().await.1.message_id;
        for (account, expected) in [("alice", 1), ("eve", 0)] {
            let asked = pb::MessageContentReq { message_i_ds: vec![id] };
            gateway.request(account, CHAT_OFFLINE_CONTENT, 1, "", &asked).await;
            let (header, found) = gateway.message::<pb::MessageContentResp>().await;
            assert_eq!((header.status, found.contents.len()), (0, expected));
        }
        for (count, status) in [(200, Status::Success), (201, Status::InvalidPacketBody)] {
            let asked = pb::MessageContentReq { message_i_ds: vec![id; count] };
            gateway.request("alice", CHAT_OFFLINE_CONTENT, 1, "", &asked).await;
            gateway.expect_status(status).await;
        }
    }

    #[tokio::test]
    async fn an_index_holds_at_most_2000_and_the_next_one_goes_on_behind_it() {
        let (mut gateway, directory, _task) = linked(&["bob"]).await;
        let alice = AccountKey::new("x_im", "alice");
        for _ in 0..=MAX_INDEXES {
            directory.store(&alice, "bob", text("m")).unwrap();
        }
        let first = index(&mut gateway, "bob", 0).await;
        assert_eq!(first.len(), MAX_INDEXES);
        assert_eq!(index(&mut gateway, "bob", first[MAX_INDEXES - 1].message_id).await.len(), 1);
    }

    /// G3: what one instance sends to one channel arrives in the order in which it was stored, whichever links
    /// the senders came by.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn g3_pushes_of_senders_on_two_links_arrive_in_the_order_of_their_ids() {
        const EACH: u32 = 300;
        let directory = Arc::new(Directory::default());
        let (address, _task) = start(embedded_server("chat", Dialect::XIm, &directory)).await;
        let mut bobs = TestGateway::link(address, "gate02", Dialect::XIm).await;
        bobs.sign_in("bob").await;
        let mut senders = tokio::task::JoinSet::new();
        for id in ["gate01-0", "gate01-1"] {
            let mut link = TestGateway::link(address, id, Dialect::XIm).await;
            let account = format!("of_{id}");
            link.sign_in(&account).await;
            senders.spawn(async move {
                for sequence in 1..=EACH {
                    link.request(&account, CHAT_USER_TALK, sequence, "bob", &text("m")).await;
                }
                link
            });
        }
        let mut ids = Vec::new();
        for _ in 0..2 * EACH {
            ids.push(bobs.message::<pb::MessagePush>().await.1.message_id);
        }
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        senders.join_all().await;
    }
}
