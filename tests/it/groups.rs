//! Groups of the embedded chat service, from client library to client library through a real gateway.

use gateway::wire::dialect::Dialect;
use gateway::wire::pb::{self, Status};
use gateway_client::{CallError, Client, GroupNotice, Push, Pushes, Requests as _};
use rstest::rstest;

use crate::embedded::Town;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::soon;

async fn push(pushes: &mut Pushes, what: &str) -> Push {
    soon(what, pushes.recv()).await.unwrap()
}

async fn message(pushes: &mut Pushes, group: &str) -> pb::MessagePush {
    let push = push(pushes, "a message to the group").await;
    let message = push.message().unwrap_or_else(|| panic!("no message: {push:?}"));
    assert_eq!((push.header.command.as_str(), push.header.dest.as_str()), ("chat.group.talk", group));
    message
}

async fn notice(pushes: &mut Pushes) -> GroupNotice {
    let push = push(pushes, "a notice").await;
    push.group_notice().unwrap_or_else(|| panic!("no notice: {push:?}"))
}

fn joined(group: &str, account: &str) -> GroupNotice {
    GroupNotice::Joined(pb::GroupJoinNotify { group_id: group.to_owned(), account: account.to_owned() })
}

fn quit(group: &str, account: &str) -> GroupNotice {
    GroupNotice::Quit(pb::GroupQuitNotify { group_id: group.to_owned(), account: account.to_owned() })
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, CallError>, expected: Status, says: &str) {
    match result {
        Err(CallError::Refused { status, message }) => {
            assert_eq!(status, expected as i32, "{message}");
            assert!(message.contains(says), "{message}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

async fn accounts(client: &Client, group: &str) -> Vec<String> {
    let members = client.group_members(group).await.unwrap();
    members.into_iter().map(|member| member.account).collect()
}

#[rstest]
#[tokio::test]
async fn g3_a_group_talks_and_who_is_away_misses_nothing(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] services: Dialect,
) {
    let town = Town::start(services).await;
    let (alice, mut to_alice) = town.client(kind, "alice").await;
    let (bob, mut to_bob) = town.client(kind, "bob").await;

    // Carol is away. Alice is in the list once, and so is bob.
    let group = alice.create_group("fun", &["bob", "carol", "bob"]).await.unwrap();
    let created = pb::GroupCreateNotify {
        group_id: group.clone(),
        members: ["alice", "bob", "carol"].map(str::to_owned).to_vec(),
    };
    assert_eq!(notice(&mut to_bob).await, GroupNotice::Created(created));
    let detail = bob.group_detail(&group).await.unwrap();
    assert_eq!((detail.id.as_str(), detail.name.as_str(), detail.owner.as_str()), (&*group, "fun", "alice"));
    assert_eq!(detail.members, alice.group_members(&group).await.unwrap());
    assert_eq!(accounts(&alice, &group).await, ["alice", "bob", "carol"]);

    let before = town.services.directory().messages();
    let mut sent = Vec::new();
    for n in 0..5 {
        let (talk, hears, from) =
            if n % 2 == 0 { (&alice, &mut to_bob, "alice") } else { (&bob, &mut to_alice, "bob") };
        let stored = talk.talk_group(&group, &format!("m{n}")).await.unwrap();
        let expected = pb::MessagePush {
            message_id: stored.message_id,
            r#type: 1,
            body: format!("m{n}"),
            extra: String::new(),
            sender: from.to_owned(),
            send_time: stored.send_time,
        };
        assert_eq!(message(hears, &group).await, expected);
        sent.push((stored.message_id, from));
    }
    assert_eq!(town.services.directory().messages() - before, sent.len(), "each was stored once");

    // Carol comes: she has the ids the others have, and after an acknowledgement only what follows it.
    let (carol, mut to_carol) = town.client(kind, "carol").await;
    let missed = carol.offline_index(0).await.unwrap();
    let listed: Vec<_> = missed.iter().map(|index| (index.message_id, index.account_b.as_str())).collect();
    assert_eq!(listed, sent);
    assert!(missed.iter().all(|index| index.group == group && index.direction == 0), "{missed:?}");
    let ids: Vec<i64> = sent.iter().map(|(id, _)| *id).collect();
    let texts = carol.offline_content(ids.clone()).await.unwrap();
    let bodies: Vec<_> = texts.iter().map(|text| text.body.as_str()).collect();
    assert_eq!(bodies, ["m0", "m1", "m2", "m3", "m4"]);
    carol.ack(ids[3]).await.unwrap();
    assert_eq!(carol.offline_index(0).await.unwrap().len(), 1);
    // The senders have theirs as sent.
    let own = alice.offline_index(0).await.unwrap();
    let directions: Vec<_> = own.iter().map(|index| index.direction).collect();
    assert_eq!(directions, [1, 0, 1, 0, 1]);

    // Many in a row reach both in order, with the same ids.
    let mut answers = Vec::new();
    for n in 0..50 {
        answers.push(alice.send_talk_group(&group, &format!("n{n}")).await.unwrap());
    }
    let mut ids = Vec::new();
    for answer in answers {
        ids.push(answer.await.unwrap().decode::<pb::MessageResp>().unwrap().message_id);
    }
    for (n, id) in ids.into_iter().enumerate() {
        for pushes in [&mut to_bob, &mut to_carol] {
            let message = message(pushes, &group).await;
            assert_eq!((message.message_id, message.body), (id, format!("n{n}")));
        }
    }
}

#[rstest]
#[tokio::test]
async fn who_is_not_in_a_group_neither_talks_nor_hears_and_may_come_back(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let town = Town::start(Dialect::XIm).await;
    let (alice, mut to_alice) = town.client(kind, "alice").await;
    let (bob, mut to_bob) = town.client(kind, "bob").await;
    let (carol, mut to_carol) = town.client(kind, "carol").await;
    let group = alice.create_group("fun", &["bob"]).await.unwrap();
    notice(&mut to_bob).await;

    assert_refused(carol.talk_group(&group, "let me in").await, Status::NoDestination, "not in this group");
    assert_refused(carol.talk_group("g0", "anyone?").await, Status::NoDestination, "no such group");
    assert_refused(carol.group_detail("g0").await, Status::NoDestination, "no such group");
    assert_refused(bob.add_to_group(&group, "carol").await, Status::InvalidPacketBody, "only the owner");
    assert_refused(bob.remove_from_group(&group, "alice").await, Status::InvalidPacketBody, "only the owner");

    // Twice is as good as once, and is noticed once.
    carol.join_group(&group).await.unwrap();
    carol.join_group(&group).await.unwrap();
    for pushes in [&mut to_alice, &mut to_bob] {
        assert_eq!(notice(pushes).await, joined(&group, "carol"));
    }
    carol.talk_group(&group, "hello").await.unwrap();
    assert_eq!(message(&mut to_alice, &group).await.sender, "carol");
    assert_eq!(message(&mut to_bob, &group).await.sender, "carol");

    bob.quit_group(&group).await.unwrap();
    bob.quit_group(&group).await.unwrap();
    assert_eq!(notice(&mut to_alice).await, quit(&group, "bob"));
    assert_eq!(notice(&mut to_carol).await, quit(&group, "bob"));
    alice.talk_group(&group, "without bob").await.unwrap();
    assert_eq!(message(&mut to_carol, &group).await.body, "without bob");
    assert_refused(bob.talk_group(&group, "hm").await, Status::NoDestination, "not in this group");
    assert_eq!(accounts(&alice, &group).await, ["alice", "carol"]);

    // The next thing bob hears is what is said when he is back; it was not stored for him either.
    alice.add_to_group(&group, "bob").await.unwrap();
    assert_eq!(notice(&mut to_bob).await, joined(&group, "bob"));
    let back = alice.talk_group(&group, "with bob").await.unwrap().message_id;
    assert_eq!(message(&mut to_bob, &group).await.message_id, back);
    let listed = bob.offline_index(0).await.unwrap();
    assert_eq!(listed.len(), 2, "one message from each time in the group: {listed:?}");

    // Alice goes, and carol, the longest member, owns the group.
    alice.quit_group(&group).await.unwrap();
    assert_eq!(notice(&mut to_bob).await, quit(&group, "alice"));
    assert_eq!(carol.group_detail(&group).await.unwrap().owner, "carol");
    carol.remove_from_group(&group, "bob").await.unwrap();
    assert_eq!(notice(&mut to_bob).await, quit(&group, "bob"));
}
