//! What `/metrics` shows after a flood that tries to make series (row F9), and under the names of the original system.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use gateway::wire::close::CloseReason;
use gateway::wire::dialect::Dialect;
use gateway::wire::frame::{self, FrameDecoder, HEAD_LEN, Opcode};
use gateway::wire::packet::{Packet, encode_message};
use gateway::wire::pb;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::fake_logic::{FakeLogic, push_header};
use crate::support::harness::{GATE, TestGateway, instance, route};
use crate::support::raw::Kind::{QuicMany, Tcp};
use crate::support::raw::request;
use crate::support::{identity, soon};

/// Accounts, each with a command of its own.
const FLOOD: usize = 10_000;

/// Of them at once.
const AT_ONCE: usize = 40;

/// Bytes and packets of one client, as it counted them itself.
#[derive(Debug, Default, PartialEq)]
struct MetricTally {
    signin_in: usize,
    signin_out: usize,
    other_in: usize,
    other_out: usize,
}

impl MetricTally {
    fn add(&mut self, more: &Self) {
        self.signin_in += more.signin_in;
        self.signin_out += more.signin_out;
        self.other_in += more.other_in;
        self.other_out += more.other_out;
    }
}

/// Reads frames until the next answer; its header, and the bytes of its frame.
async fn answer(stream: &mut TcpStream, decoder: &mut FrameDecoder) -> (pb::Header, usize) {
    let mut buffer = [0; 4096];
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            let Packet::Logic(packet) = Packet::decode(&frame.payload).unwrap() else {
                panic!("no LogicPkt: {frame:?}");
            };
            return (pb::Header::decode(packet.header).unwrap(), HEAD_LEN + frame.payload.len());
        }
        let len = soon("an answer", stream.read(&mut buffer)).await.unwrap();
        assert!(len > 0, "the gateway closed");
        decoder.push(Bytes::copy_from_slice(&buffer[..len]));
    }
}

/// Signs an account in, has one command answered, and says goodbye.
async fn visit(address: SocketAddr, account: &str, command: &str, status: i32) -> MetricTally {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut decoder = FrameDecoder::new(1 << 20);
    let mut tally = MetricTally::default();
    let login = pb::LoginReq { token: identity::token(account), ..Default::default() };
    let sent =
        encode_message(Dialect::XIm, &request("login.signin", 1, ""), login.encode_to_vec()).to_bytes();
    stream.write_all(&sent).await.unwrap();
    tally.signin_in = sent.len();
    let (header, bytes) = answer(&mut stream, &mut decoder).await;
    assert_eq!((header.status, header.command.as_str()), (0, "login.signin"), "{account}");
    tally.signin_out = bytes;
    let sent = encode_message(Dialect::XIm, &request(command, 2, ""), account.as_bytes().to_vec()).to_bytes();
    stream.write_all(&sent).await.unwrap();
    tally.other_in = sent.len();
    let (header, bytes) = answer(&mut stream, &mut decoder).await;
    assert_eq!((header.status, header.sequence), (status, 2), "{command}");
    tally.other_out = bytes;
    let bye = frame::encode(Opcode::Close, &CloseReason::Bye.payload());
    stream.write_all(&bye).await.unwrap();
    let mut rest = Vec::new();
    let _reset_or_end = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
    tally
}

/// Well-formed for the service, for a service that nobody knows, and malformed; with the status of its answer.
fn command_of(n: usize) -> (String, i32) {
    let invalid = pb::Status::InvalidCommand as i32;
    match n % 4 {
        0 | 1 => (format!("chat.flood.n{n}"), 0),
        2 => (format!("service{n}.flood"), invalid),
        _ => (format!("chat.Flood\"}} {n}\n"), invalid),
    }
}

/// Every series of a scrape, without its value.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let names: Vec<_> = samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect();
    let set: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "no series twice");
    set
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_ten_thousand_commands_and_accounts_make_no_series_and_all_are_counted() {
    // The rate limits of a channel are off in every bench.
    let harness = TestGateway::with_limits(|limits| limits.connections_per_second = 0).await;
    let before = series(&harness.get("/metrics").await.1);
    assert!(before.len() > 200, "{}", before.len());
    let address = harness.target.tcp;
    let mut visitors = JoinSet::new();
    for first in 0..AT_ONCE {
        visitors.spawn(async move {
            let mut sum = MetricTally::default();
            for n in (first..FLOOD).step_by(AT_ONCE) {
                let (command, status) = command_of(n);
                sum.add(&visit(address, &format!("flood{n}"), &command, status).await);
            }
            sum
        });
    }
    let mut sum = MetricTally::default();
    while let Some(part) = visitors.join_next().await {
        sum.add(&part.unwrap());
    }
    harness.metric_is("gateway_signouts_total", &["written"], FLOOD as f64).await;
    assert_eq!(harness.login.packets("login.signin").len(), FLOOD);

    let after = series(&harness.get("/metrics").await.1);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), [""; 0], "new");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), [""; 0], "gone");
    let [gate, service] = [&*format!("serviceId=\"{GATE}\""), "serviceName=\"tgateway\""];
    for (command, bytes_in, bytes_out) in
        [("login.signin", sum.signin_in, sum.signin_out), ("other", sum.other_in, sum.other_out)]
    {
        let command = &*format!("command=\"{command}\"");
        let of = async |name, labels: &[&str]| harness.metric(name, labels).await;
        assert_eq!(of("x_im_message_in_total", &[gate, service, command]).await, FLOOD as f64);
        assert_eq!(of("x_im_message_in_flow_bytes", &[gate, service, command]).await, bytes_in as f64);
        assert_eq!(of("x_im_message_out_flow_bytes", &[command]).await, bytes_out as f64);
    }
    assert_eq!(harness.metric("x_im_message_in_total", &[]).await, 2.0 * FLOOD as f64, "and nothing else");
    assert_eq!(harness.metric("x_im_no_server_found_error_total", &[]).await, 0.0);
}

#[tokio::test]
async fn the_original_metrics_count_pushes_per_client_and_known_commands_by_name() {
    let harness = TestGateway::start().await;
    let (mut alice, first) = harness.client(Tcp, "alice").await;
    let (mut bob, second) = harness.client(QuicMany, "bob").await;
    let out = async || harness.metric("x_im_message_out_flow_bytes", &["chat.group.talk"]).await;
    assert_eq!(out().await, 0.0);
    let header = push_header("chat.group.talk", 9);
    let frame = harness.chat.push_frame(GATE, &[&first, &second], header.clone(), b"to both");
    harness.chat.send(frame);
    for client in [&mut alice, &mut bob] {
        assert_eq!(client.push().await.body, "to both");
    }
    let delivered = encode_message(Dialect::XIm, &header, b"to both".to_vec()).to_bytes().len();
    assert_eq!(out().await, 2.0 * delivered as f64);

    for n in 1..=3 {
        let sequence = alice.request("chat.talk.ack", "", b"x").await;
        alice.response(sequence).await;
        let seen = harness.metric("x_im_message_in_total", &["command=\"chat.talk.ack\""]).await;
        assert_eq!(seen, f64::from(n));
    }
}

#[tokio::test]
async fn e13_e14_no_server_found_is_counted_for_the_zone_of_the_account() {
    let mut far = FakeLogic::start(Dialect::XIm);
    let address = far.address;
    let mut harness = TestGateway::with(|config| {
        config.route = std::sync::Arc::new(route(&["zone_a", "zone_b", "zone_c"]));
        let mut other = instance("chat", "chat02", address, Dialect::XIm);
        other.zone = "zone_b".into();
        config.instances.push(other);
    })
    .await;
    async fn zones(harness: &TestGateway, name: &str) -> [f64; 3] {
        let of = async |zone| harness.metric(name, &[zone]).await;
        [of("zone_a").await, of("zone_b").await, of("zone_c").await]
    }
    let (no_server, fallback) = ("x_im_no_server_found_error_total", "gateway_zone_fallback_total");
    assert_eq!(zones(&harness, no_server).await, [0.0; 3]);
    // By crc32 of the account modulo 3; the only login instance is in zone_a, chat has none in zone_c.
    let (mut of_a, _) = harness.client(Tcp, "erin").await;
    let (mut of_b, _) = harness.client(Tcp, "mallory").await;
    let (mut of_c, _) = harness.client(Tcp, "alice").await;
    assert_eq!(zones(&harness, no_server).await, [0.0, 1.0, 1.0]);
    for client in [&mut of_a, &mut of_b, &mut of_c] {
        let sequence = client.talk("somebody", "x").await;
        assert_eq!(client.response(sequence).await.header.status, 0);
    }
    assert_eq!(zones(&harness, no_server).await, [0.0, 1.0, 2.0]);

    harness.chat.stop().await;
    far.stop().await;
    for id in ["chat01", "chat02"] {
        harness.metric_is("gateway_link_state", &[id, "state=\"broken\""], 1.0).await;
    }
    for client in [&mut of_a, &mut of_b, &mut of_c] {
        let sequence = client.talk("somebody", "x").await;
        assert_eq!(client.response(sequence).await.header.status, pb::Status::SystemException as i32);
    }
    assert_eq!(zones(&harness, no_server).await, [1.0, 2.0, 3.0], "no zone has one");
    assert_eq!(zones(&harness, fallback).await, [0.0, 1.0, 2.0], "which is no fallback");
}

#[tokio::test]
async fn f9_users_are_counted_when_they_go_and_no_label_names_them() {
    let harness = TestGateway::start().await;
    for (visit, (kind, account, requests)) in
        [(Tcp, "alice", 3), (QuicMany, "bob", 1), (QuicMany, "alice", 2)].into_iter().enumerate()
    {
        let (mut client, _) = harness.client(kind, account).await;
        for _ in 0..requests {
            let sequence = client.talk("somebody", "x").await;
            assert_eq!(client.response(sequence).await.header.status, 0);
        }
        drop(client);
        harness.metric_is("gateway_session_seconds_count", &[], visit as f64 + 1.0).await;
    }
    assert_eq!(harness.metric("gateway_auto_logins_total", &[]).await, 0.0);
    for (period, accounts) in [("this_hour", 2.0), ("today", 2.0), ("yesterday", 0.0)] {
        let period = format!("period=\"{period}\"");
        assert_eq!(harness.metric("gateway_active_accounts", &[&period]).await, accounts, "{period}");
    }
    let activity = harness.activity();
    let busiest: Vec<_> =
        activity.busiest.iter().map(|busy| (&*busy.account, busy.messages, busy.at_least)).collect();
    assert_eq!(busiest, [("alice", 5, 5), ("bob", 1, 1)]);
    let apps: Vec<_> = activity.apps.iter().map(|app| app.active.today).collect();
    assert_eq!((apps, activity.active.this_hour), (vec![2], 2));
    assert!(!harness.get("/metrics").await.1.contains("alice"));
}
