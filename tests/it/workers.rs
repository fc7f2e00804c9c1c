//! Several workers in one process: each is a gateway of its own to the logic services, and clients notice nothing.
//! Only Linux steers packets, so only there several run.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::net::UdpSocket;

use gateway::gateway::Gateway;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway_client::{Client, Pushes, Requests as _};
use rstest::rstest;

use crate::embedded::Town;
use crate::support::harness::{self, TestGateway};
use crate::support::identity::token;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::Raw;
use crate::support::soon;

/// The gateway ids of two workers.
const GATES: [&str; 2] = ["gate01-0", "gate01-1"];

/// Clients tried until one lands on a certain worker; each lands there with one half.
const TRIES: usize = 64;

async fn two_workers() -> TestGateway {
    TestGateway::with(|config| config.workers = 2).await
}

/// The gateway id a channel id begins with.
fn gate_of(channel: &str) -> &str {
    channel.split('_').next().unwrap()
}

/// A client on the worker of this gateway id; those that landed elsewhere are left signed in.
async fn client_on(
    harness: &TestGateway,
    kind: Kind,
    gate: &str,
    name: &str,
    others: &mut Vec<Raw>,
) -> (Raw, String) {
    for n in 0..TRIES {
        let (raw, channel) = harness.client(kind, &format!("{name}{n}")).await;
        if gate_of(&channel) == gate {
            return (raw, channel);
        }
        others.push(raw);
    }
    panic!("no client landed on {gate} in {TRIES} tries");
}

/// The same with the client library and one account, whose earlier sessions are closed.
async fn town_client_on(town: &Town, kind: Kind, gate: &str, account: &str) -> (Client, Pushes) {
    for _ in 0..TRIES {
        let (client, pushes) = town.client(kind, account).await;
        let channel = client.session().unwrap().channel_id.clone();
        if gate_of(&channel) == gate {
            return (client, pushes);
        }
        client.close().await;
    }
    panic!("no client landed on {gate} in {TRIES} tries");
}

#[tokio::test]
async fn c15_two_hundred_quic_clients_that_change_port_keep_their_sessions() {
    const CLIENTS: usize = 200;
    let harness = two_workers().await;
    let mut clients = Vec::new();
    let mut per_worker: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..CLIENTS {
        let kind = if n % 2 == 0 { QuicOne } else { QuicMany };
        let (raw, channel) = harness.client(kind, &format!("user{n}")).await;
        *per_worker.entry(gate_of(&channel).to_owned()).or_default() += 1;
        clients.push((raw, channel));
    }
    assert_eq!(per_worker.keys().collect::<Vec<_>>(), GATES, "both workers serve: {per_worker:?}");

    for (raw, channel) in &mut clients {
        let (endpoint, _) = raw.quic();
        let before = endpoint.local_addr().unwrap();
        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        assert_ne!(endpoint.local_addr().unwrap(), before);
        let sequence = raw.talk("bob", "from elsewhere").await;
        assert_eq!(raw.response(sequence).await.header.status, 0);
        // Pushes find the new address, too.
        let gate = gate_of(channel).to_owned();
        harness.chat.push_to(&gate, &[channel], 7, b"found you");
        assert_eq!(raw.push().await.header.sequence, 7);
    }

    assert_eq!(harness.login.packets("login.signin").len(), CLIENTS, "nobody signed in twice");
    assert_eq!(harness.login.packets("login.signout").len(), 0, "nobody was lost");
    assert_eq!(harness.metric("gateway_reject_total", &["\"quic_misdirected\""]).await, 0.0);
    assert_eq!(harness.metric("gateway_connections", &["\"quic\""]).await, CLIENTS as f64);
    println!("{CLIENTS} clients changed port: {per_worker:?}, 0 second logins, 0 misdirected");
}

#[rstest]
#[tokio::test]
async fn g7_every_worker_shakes_hands_under_its_own_id_and_gets_its_own_answers(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = two_workers().await;
    let mut hands = [harness.chat.handshake(0).await, harness.chat.handshake(1).await];
    hands.sort();
    assert_eq!(hands, GATES);
    let mut others = Vec::new();
    for gate in GATES {
        let (mut raw, channel) = client_on(&harness, kind, gate, gate, &mut others).await;
        let sequence = raw.talk("bob", gate).await;
        assert_eq!(raw.response(sequence).await.header.status, 0);
        let signin =
            harness.login.packets("login.signin").into_iter().find(|p| p.header.channel_id == channel);
        let signin = signin.expect("the sign-in of this channel");
        assert_eq!((signin.session().gate_id.as_str(), signin.meta("dest.logic")), (gate, gate));
    }
}

#[rstest]
#[tokio::test]
async fn talk_and_kick_go_across_workers(#[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind) {
    let town = Town::with_workers(Dialect::XIm, 2).await;
    let (alice, mut to_alice) = town_client_on(&town, kind, GATES[0], "alice").await;
    let (bob, mut to_bob) = town_client_on(&town, kind, GATES[1], "bob").await;
    alice.talk("bob", "across").await.unwrap();
    let push = soon("alice's message", to_bob.recv()).await.unwrap().message().unwrap();
    assert_eq!((push.sender.as_str(), push.body.as_str()), ("alice", "across"));
    bob.talk("alice", "and back").await.unwrap();
    let push = soon("bob's message", to_alice.recv()).await.unwrap().message().unwrap();
    assert_eq!((push.sender.as_str(), push.body.as_str()), ("bob", "and back"));

    // Alice signs in on the other worker: her first session ends, wherever it was, and the second lives.
    let (_newer, mut to_newer) = town_client_on(&town, kind, GATES[1], "alice").await;
    assert_eq!(soon("the kick", alice.closed()).await, CloseReason::Kicked);
    bob.talk("alice", "still there").await.unwrap();
    let push = soon("the message", to_newer.recv()).await.unwrap().message().unwrap();
    assert_eq!(push.body, "still there");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_port_is_refused_with_a_clear_line() {
    let harness = two_workers().await;
    for (workers, setting) in [(1, "quic.listen"), (2, "quic.listen"), (1, "tcp.listen"), (2, "tcp.listen")] {
        let mut config = harness::config();
        config.workers = workers;
        let taken = if setting == "quic.listen" {
            config.quic.as_mut().unwrap().listen = vec![harness.target.quic];
            harness.target.quic
        } else {
            config.tcp = vec![harness.target.tcp];
            harness.target.tcp
        };
        let error = Gateway::start(config).expect_err("the port is taken").to_string();
        assert_eq!(
            error,
            format!(
                "{setting}: cannot listen on {taken}: the address is in use by another process; stop it, or choose \
                 another port"
            )
        );
    }
}

#[rstest]
#[tokio::test]
async fn f1_every_worker_drains_and_its_clients_are_signed_out(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut harness = two_workers().await;
    let mut others = Vec::new();
    let mut clients = Vec::new();
    for gate in GATES {
        clients.push(client_on(&harness, kind, gate, gate, &mut others).await);
    }
    harness.drain();
    for (raw, channel) in &mut clients {
        raw.closed_with(3000).await;
        assert_eq!(harness.login.signout(channel).await.meta("reason"), "draining");
    }
    let signed_in = clients.len() + others.len();
    harness.ended().await;
    assert_eq!(harness.login.packets("login.signout").len(), signed_in, "one each");
}

#[tokio::test]
async fn f1_a_client_that_changes_port_while_its_worker_drains_gets_its_last_answer() {
    let mut harness = two_workers().await;
    let mut others = Vec::new();
    let (_first, _) = client_on(&harness, QuicMany, GATES[0], "first", &mut others).await;
    let (mut second, _) = client_on(&harness, QuicMany, GATES[1], "second", &mut others).await;
    harness.chat.hold("chat.user.talk");
    let sequence = second.talk("bob", "slow").await;
    let request = harness.chat.packet("chat.user.talk", 0).await;
    harness.drain();
    for raw in &mut others {
        raw.farewell().await;
    }
    // Worker 0 has nothing left to do.
    let (endpoint, _) = second.quic();
    endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    harness.chat.answer_default(&request);
    let farewell = second.closed_with(3000).await;
    assert_eq!(farewell.response(sequence).header.status, 0);
    harness.ended().await;
}

#[rstest]
#[tokio::test]
async fn a_signout_that_had_to_wait_is_dropped_when_the_account_signed_in_again_on_another_worker(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = two_workers().await;
    harness.login.hold("login.signin");
    for n in 0..TRIES {
        let account = format!("alice{n}");
        let mut first = harness.connect(kind).await;
        first.signin(&token(&account)).await;
        let old = harness.login.packet("login.signin", 2 * n).await;
        first.bye().await;
        drop(first);
        // The end was seen when the connection is no longer counted.
        harness.metric_is("gateway_connections", &[], 0.0).await;

        let superseded = harness.metric("gateway_signouts_total", &["superseded"]).await;
        let mut second = harness.connect(kind).await;
        let sequence = second.signin(&token(&account)).await;
        let new = harness.login.packet("login.signin", 2 * n + 1).await;
        harness.login.answer_default(&old);
        harness.login.answer_default(&new);
        second.response(sequence).await;
        second.bye().await;
        harness.login.signout(&new.header.channel_id).await;
        harness.metric_is("gateway_connections", &[], 0.0).await;
        harness.metric_is("gateway_signouts_total", &["superseded"], superseded + 1.0).await;
        let signouts = harness.login.packets("login.signout");
        assert!(signouts.iter().all(|signout| signout.header.channel_id != old.header.channel_id));
        if gate_of(&new.header.channel_id) != gate_of(&old.header.channel_id) {
            return;
        }
    }
    panic!("no account came back on another worker in {TRIES} tries");
}
