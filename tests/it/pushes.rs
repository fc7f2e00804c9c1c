//! Pushes: to whom, in which shape, in which order; and kicks.

use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{Opcode, encode};
use gateway::wire::packet::encode_message;
use gateway::wire::pb;
use prost::Message as _;
use rstest::rstest;

use crate::support::fake_logic::{meta, push_header};
use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Options;

#[rstest]
#[tokio::test]
async fn g2_g3_a_thousand_small_pushes_in_one_write_reach_one_idle_client_in_order(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    const COUNT: u32 = 1000;
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let frames: Vec<_> = (0..COUNT)
        .map(|n| {
            let header = push_header("chat.user.talk", n);
            harness.chat.push_frame(GATE, &[&channel], header, format!("push {n}").as_bytes())
        })
        .collect();
    harness.chat.send(frames.concat());
    for n in 0..COUNT {
        let push = alice.push().await;
        assert_eq!((push.header.sequence, push.body), (n, format!("push {n}").into()));
    }
    harness.metric_is("gateway_pushes_delivered_total", &[], f64::from(COUNT)).await;
    assert!(harness.login.packets("login.signout").is_empty());
}

#[rstest]
#[tokio::test]
async fn g2_g3_e5_a_burst_to_a_crowd_reaches_everyone_in_order(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    /// Some more than a link wakes in one turn.
    const CROWD: usize = 40;
    const BURST: u32 = 64;
    let harness = TestGateway::start().await;
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(harness.client(kind, &format!("user{n}")).await);
    }
    let channels: Vec<_> = crowd.iter().map(|(_, channel)| channel.as_str()).collect();
    let push = |n| harness.chat.push_frame(GATE, &channels, push_header("chat.user.talk", n), b"to all");
    let burst: Vec<_> = (0..BURST).map(push).collect();
    harness.chat.send(burst.concat());
    for (client, _) in &mut crowd {
        for n in 0..BURST {
            assert_eq!(client.push().await.header.sequence, n);
        }
    }
    let sequence = crowd[0].0.talk("bob", "still there?").await;
    let request = harness.chat.packet("chat.user.talk", 0).await;
    assert_eq!(request.header.sequence, sequence);
    let delivered = f64::from(BURST) * CROWD as f64;
    harness.metric_is("gateway_pushes_delivered_total", &[], delivered).await;
}

#[rstest]
#[tokio::test]
async fn pushes_are_translated_for_clients_of_either_dialect(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
) {
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let mut clients = Vec::new();
    for (account, dialect) in [("alice", Dialect::XIm), ("bob", Dialect::Kim), ("carol", Dialect::XIm)] {
        let mut client = harness.connect_with(kind, Options { dialect, ..Options::default() }).await;
        let channel = client.login(account).await;
        clients.push((client, channel, dialect));
    }
    let channels: Vec<_> = clients.iter().map(|(_, channel, _)| channel.as_str()).collect();
    let header = pb::Header {
        channel_id: "gate01_dave_1".into(),
        status: 7,
        dest: "group".into(),
        meta: vec![meta("trace", "t1"), meta("dest.zone", "x"), meta("account", "dave")],
        ..push_header("chat.group.talk", 4_000_000_000)
    };
    harness.chat.send(harness.chat.push_frame(GATE, &channels, header.clone(), b"to all"));
    let delivered = pb::Header { meta: vec![meta("trace", "t1"), meta("account", "dave")], ..header };
    for (client, _, dialect) in &mut clients {
        let push = client.push().await;
        assert_eq!(push.dialect, *dialect);
        assert_eq!(push.header, delivered, "only dest.* is gone");
        assert_eq!(push.body, "to all");
    }
}

#[rstest]
#[tokio::test]
async fn two_clients_of_different_dialects_talk(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, alice_channel) = harness.client(kind, "alice").await;
    let mut bob = harness.connect_with(kind, Options { dialect: Dialect::Kim, ..Options::default() }).await;
    let bob_channel = bob.login("bob").await;

    let sequence = alice.talk("bob", "hello bob").await;
    let request = harness.chat.packet("chat.user.talk", 0).await;
    harness.chat.push(&[&bob_channel], request.header.sequence, &request.body).await;
    assert_eq!(pb::MessageReq::decode(bob.push().await.body).unwrap().body, "hello bob");
    assert_eq!(alice.response(sequence).await.header.status, 0);

    let sequence = bob.talk("alice", "hello alice").await;
    let request = harness.chat.packet("chat.user.talk", 1).await;
    assert_eq!(request.meta("account"), "bob");
    harness.chat.push(&[&alice_channel], request.header.sequence, &request.body).await;
    assert_eq!(pb::MessageReq::decode(alice.push().await.body).unwrap().body, "hello alice");
    assert_eq!(bob.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn e6_unknown_channels_in_a_push_harm_nobody(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let list = ["gate01_nobody_1", "", channel.as_str(), "gate01_nobody_2", &"x".repeat(5000)];
    harness.chat.push(&list, 1, b"one of four").await;
    harness.chat.push(&["gate01_nobody_3"], 2, b"nobody").await;
    harness.chat.push(&[&channel], 3, b"alone").await;
    assert_eq!(alice.push().await.body, "one of four");
    assert_eq!(alice.push().await.body, "alone");
    assert!(harness.metric("gateway_push_drops_total", &["no_channel"]).await >= 4.0);
}

#[rstest]
#[tokio::test]
async fn e4_e5_pushes_for_another_gateway_or_without_destination_are_dropped(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let header = push_header("chat.user.talk", 1);
    let with = |metas: &[(&str, &str)]| {
        let metas = metas.iter().map(|(key, value)| meta(key, value)).collect();
        let header = pb::Header { meta: metas, ..header.clone() };
        encode_message(Dialect::XIm, &header, b"stray".to_vec()).to_bytes()
    };
    let list = channel.as_str();
    for stray in [
        with(&[("dest.logic", "gate02"), ("dest.channels", list)]),
        with(&[("dest.server", GATE), ("dest.channels", list)]),
        with(&[("dest.channels", list)]),
        with(&[("dest.logic", GATE)]),
        with(&[("dest.logic", GATE), ("dest.channels", "")]),
        with(&[("dest.logic", GATE), ("dest.channels", list), ("dest.logic", "gate02")]),
        with(&[("dest.logic", GATE), ("dest.channels", list), ("dest.channels", "gate01_x_1")]),
        // Whole frames that hold no packet.
        encode(Opcode::Binary, b"bad magic at all"),
        encode(Opcode::Binary, b"1234"),
        encode(Opcode::Binary, b""),
        encode(Opcode::Text, b"ignored"),
    ] {
        harness.chat.send(stray);
    }
    // Of doubled metas the last counts, here to the good.
    harness.chat.send(with(&[
        ("dest.logic", "gate02"),
        ("dest.channels", "stale"),
        ("dest.logic", GATE),
        ("dest.channels", list),
    ]));
    let push = alice.push().await;
    assert_eq!((push.header.meta.len(), push.body.as_ref()), (0, b"stray".as_ref()));
    harness.chat.push(&[&channel], 2, b"last").await;
    assert_eq!(alice.push().await.body, "last");
    assert_eq!(harness.chat.handshake(0).await, GATE);
    assert!(harness.chat.packets("chat.user.talk").is_empty());
}

#[rstest]
#[tokio::test]
async fn a_push_with_flag_request_is_delivered_like_a_push(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let header = pb::Header { flag: pb::Flag::Request as i32, ..push_header("chat.notice", 8) };
    harness.chat.send(harness.chat.push_frame(GATE, &[&channel], header.clone(), b"as it is"));
    let push = alice.push().await;
    assert_eq!((push.header, push.body.as_ref()), (header, b"as it is".as_ref()));
}

#[rstest]
#[tokio::test]
async fn a_channel_named_twice_gets_a_push_at_least_once_and_others_are_not_forgotten(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, one) = harness.client(kind, "alice").await;
    let (mut bob, two) = harness.client(kind, "bob").await;
    harness.chat.push(&[&one, &one, &two], 1, b"twice").await;
    assert_eq!(alice.push().await.body, "twice");
    assert_eq!(bob.push().await.body, "twice");
}

#[rstest]
#[tokio::test]
async fn a_push_of_a_large_body_arrives_whole(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    // Above the whole queue of a channel: an empty queue takes one packet of any size.
    let body: Vec<u8> = (0..600_000usize).map(|n| (n % 251) as u8).collect();
    harness.chat.push(&[&channel], 1, &body).await;
    assert!(alice.push().await.body == body);
}

#[rstest]
#[tokio::test]
async fn a_kick_is_delivered_then_closed_3501_and_not_signed_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    for n in 0..3 {
        harness.login.push(&[&channel], n, b"before the kick").await;
    }
    harness.login.kick(&channel).await;
    harness.login.push(&[&channel], 3, b"after the kick").await;
    let farewell = alice.closed_with(3501).await;
    let [_, _, _, kick] = farewell.messages.as_slice() else { panic!("three and the kick: {farewell:?}") };
    assert_eq!((kick.header.command.as_str(), kick.header.flag), ("login.signin", pb::Flag::Push as i32));
    assert_eq!(pb::KickOutNotify::decode(kick.body.clone()).unwrap().channel_id, channel);

    // Whatever was due for alice would be ahead of what is due for bob.
    let (mut bob, bob_channel) = harness.client(kind, "bob").await;
    bob.bye().await;
    harness.login.signout(&bob_channel).await;
    assert_eq!(harness.login.packets("login.signout").len(), 1, "bob's alone");
}

#[rstest]
#[tokio::test]
async fn a_kick_is_signed_out_where_that_is_configured(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with(|config| config.signout_after_kick = true).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.login.kick(&channel).await;
    alice.closed_with(3501).await;
    assert_eq!(harness.login.signout(&channel).await.meta("reason"), "kicked");
}

#[rstest]
#[tokio::test]
async fn a_kick_that_names_another_channel_is_only_a_push(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let body = pb::KickOutNotify { channel_id: "gate01_alice_1".into() }.encode_to_vec();
    harness.login.send(harness.login.push_frame(GATE, &[&channel], push_header("login.signin", 0), &body));
    let notice = pb::KickOutNotify { channel_id: channel.clone() }.encode_to_vec();
    harness.login.send(harness.login.push_frame(GATE, &[&channel], push_header("chat.other", 0), &notice));
    assert_eq!(alice.push().await.body, body);
    assert_eq!(alice.push().await.body, notice);
    let sequence = alice.talk("bob", "still here").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn e5_a_push_to_more_channels_than_allowed_is_dropped_whole(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::with_limits(|limits| limits.backend_max_channels = 10).await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    let list = |len: usize| {
        let mut list = vec!["gate01_nobody_1"; len - 1];
        list.push(&channel);
        list
    };
    harness.chat.push(&list(11), 1, b"one too many").await;
    harness.chat.push(&list(10), 2, b"just enough").await;
    assert_eq!(alice.push().await.body, "just enough");
    harness.metric_is("gateway_push_drops_total", &["too_many"], 1.0).await;
}

#[rstest]
#[tokio::test]
async fn e5_a_push_to_very_many_channels_reaches_all_that_exist(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, one) = harness.client(kind, "alice").await;
    let (mut bob, two) = harness.client(kind, "bob").await;
    let mut list: Vec<String> = (0..50_000).map(|n| format!("gate01_nobody_{n}")).collect();
    list.insert(0, one);
    list.push(two);
    let list: Vec<_> = list.iter().map(String::as_str).collect();
    harness.chat.push(&list, 1, b"to all").await;
    assert_eq!(alice.push().await.body, "to all");
    assert_eq!(bob.push().await.body, "to all");
    harness.metric_is("gateway_push_drops_total", &["no_channel"], 50_000.0).await;
}

#[rstest]
#[tokio::test]
async fn d10_what_a_service_sends_byte_by_byte_arrives(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let (mut alice, channel) = harness.client(kind, "alice").await;
    harness.chat.hold("chat.user.talk");
    let sequence = alice.talk("bob", "x").await;
    let request = harness.chat.packet("chat.user.talk", 0).await;
    let header = push_header("chat.user.talk", 9);
    for byte in harness.chat.push_frame(GATE, &[&channel], header, b"dripped").iter() {
        harness.chat.send(vec![*byte]);
        tokio::task::yield_now().await;
    }
    harness.chat.answer_default(&request);
    assert_eq!(alice.push().await.body, "dripped");
    assert_eq!(alice.response(sequence).await.header.status, 0);
}

#[rstest]
#[tokio::test]
async fn g3_pushes_and_requests_of_many_clients_keep_their_order_and_never_cross(
    #[values(Dialect::XIm, Dialect::Kim)] service: Dialect,
) {
    const EACH: usize = 40;
    let harness = TestGateway::of_dialect(service, |_| {}).await;
    let mut clients = Vec::new();
    for n in 0..12 {
        // Every kind has both dialects.
        let dialect = if n / Kind::ALL.len() == n % 2 { Dialect::XIm } else { Dialect::Kim };
        let kind = Kind::ALL[n % Kind::ALL.len()];
        let mut client = harness.connect_with(kind, Options { dialect, ..Options::default() }).await;
        let channel = client.login(&format!("user{n}")).await;
        clients.push((client, channel));
    }
    let channels: Vec<_> = clients.iter().map(|(_, channel)| channel.clone()).collect();
    // Everybody talks to the neighbour; the service hands it on.
    let mut handed_on = 0;
    for round in 0..EACH {
        for (client, _) in &mut clients {
            client.talk("the neighbour", &format!("message {round}")).await;
        }
        while handed_on < (round + 1) * channels.len() {
            let packet = harness.chat.packet("chat.user.talk", handed_on).await;
            let sender = channels.iter().position(|id| *id == packet.header.channel_id).unwrap();
            let receiver = &channels[(sender + 1) % channels.len()];
            let text = pb::MessageReq::decode(packet.body).unwrap().body;
            harness
                .chat
                .push(&[receiver], packet.header.sequence, format!("{sender} {text}").as_bytes())
                .await;
            handed_on += 1;
        }
    }
    for (n, (client, _)) in clients.iter_mut().enumerate() {
        let sender = (n + channels.len() - 1) % channels.len();
        for round in 0..EACH {
            assert_eq!(client.push().await.body, format!("{sender} message {round}"));
        }
        for sequence in 2..EACH as u32 + 2 {
            assert_eq!(client.response(sequence).await.header.status, 0);
        }
        client.heartbeat(false).await;
        assert!(client.leftovers().is_empty(), "nothing beside what was asked for");
    }
}
