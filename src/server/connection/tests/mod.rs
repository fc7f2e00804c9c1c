//! The driver against a client without sockets and services answered by hand.

mod fake;

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message as _;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinError, JoinSet, yield_now};

use self::fake::{Client, Event, Step};
use super::*;
use crate::auth::KeySet;
use crate::auth::{Verifier, mint};
use crate::config::{ExpectedClaims, Secret, VerifyingKey};
use crate::dispatch::fixtures::{GATE, TestDispatch, harness};
use crate::handler::{ChannelIds, Gate, Handler};
use crate::monitor::metrics::{PushDrop, Reject, Signout, Transport as TransportLabel};
use crate::overload::level::Level;
use crate::overload::pressure::Pressure;
use crate::rate_limit::RateLimiter;
use crate::server::admission::NewcomerStage;
use crate::server::reaper::reap;
use crate::server::transport::Flushed;
use crate::session::fixtures::{header, logic_packet, meta, millis, packet};
use crate::wire::dialect::Dialect;
use crate::wire::frame::{self, Opcode};
use crate::wire::packet::{GoAway, LogicPacket};
use crate::wire::pb;

const SECRET: &[u8] = b"a secret of the tests, 32 bytes!";
const SIGNIN: &str = "login.signin";
const TALK: &str = "chat.user.talk";
const LOGIN: StreamId = StreamId::LOGIN;
const STREAM: StreamId = StreamId(4);

/// A worker: one login instance, one chat instance, and connections in tasks of their own.
struct Worker {
    harness: TestDispatch,
    shared: Rc<ConnectionContext>,
    pressure: Pressure,
    tasks: JoinSet<()>,
}

/// A client that has signed in.
struct SignedIn {
    client: Client,
    channel: String,
}

fn no_rates() -> Limits {
    Limits { frames_per_second: 0, bytes_per_second: 0, ..Limits::default() }
}

thread_local! {
    /// Seconds by which the wall clock of this test is wrong.
    static WRONG_BY: Cell<i64> = const { Cell::new(0) };
}

fn wall_clock() -> SystemTime {
    let wrong_by = WRONG_BY.get();
    let distance = Duration::from_secs(wrong_by.unsigned_abs());
    if wrong_by < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}

/// Runs a test on a runtime as a worker's is.
fn run<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(Worker) -> F) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        let instances = [("login", "l1", Dialect::XIm), ("chat", "c1", Dialect::XIm)];
        let harness = harness(limits.clone(), false, &instances);
        harness.up(&["l1", "c1"]);
        let verifier = Arc::new(Verifier::new(
            KeySet::new(&[VerifyingKey::Hs256(Secret(SECRET.to_vec())).into()]),
            &ExpectedClaims::default(),
        ));
        let ids = ChannelIds::new(GATE, 1 << 57);
        let pressure = Pressure::none();
        let gate = Gate {
            pressure: pressure.clone(),
            accounts: Arc::new(RateLimiter::new(0, 1)),
            key_refresh: None,
        };
        let dispatch = Rc::clone(&harness.dispatch);
        let admission = Arc::new(Admission::new(100, u64::MAX, &limits, Instant::now()));
        let shared = Rc::new(ConnectionContext {
            channels: Rc::clone(&dispatch.channels),
            entrance: admission.entrance(&limits, Instant::now(), &dispatch.metrics),
            admission,
            metrics: Arc::clone(&dispatch.metrics),
            log: AccessLog::new(),
            handler: Handler::new(dispatch, verifier, gate, ids, Instant::now()),
            limits: LiveLimits::new(limits),
            wall_clock,
        });
        test(Worker { harness, shared, pressure, tasks: JoinSet::new() }).await;
    });
}

impl Worker {
    fn connect(&mut self) -> Client {
        let (client, transport) = Client::connect();
        let (peer, at) = ([127, 0, 0, 1].into(), Instant::now());
        let admitted = self.shared.admission.admit(TransportLabel::Quic, peer, at, &self.shared.metrics);
        let newcomer =
            self.shared.entrance.newcomers.arrive(NewcomerStage::Login(TransportLabel::Quic)).unwrap();
        let accepted = Accepted { admitted: admitted.unwrap(), newcomer, peer, at };
        self.tasks.spawn_local(Connection::new(transport, Rc::clone(&self.shared), accepted).run());
        client
    }

    /// Lets every task run until nothing happens by itself.
    async fn quiet(&self) {
        for _ in 0..200 {
            yield_now().await;
        }
    }

    /// Sends a login and waits until the login service has it; returns the channel id in it.
    async fn knock(&mut self, client: &Client, account: &str) -> String {
        self.knock_with(client, account, &[]).await
    }

    /// The same with tags.
    async fn knock_with(&mut self, client: &Client, account: &str, tags: &[&str]) -> String {
        let token = mint(SECRET, account, "x_im", Duration::from_secs(60));
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let login = pb::LoginReq { token, tags, ..pb::LoginReq::default() };
        client.send(LOGIN, frame_of(&packet(SIGNIN, 1, login.encode_to_vec())));
        self.quiet().await;
        let packets = self.harness.take_all("l1");
        assert_eq!(packets.len(), 1, "the sign-in of {account}");
        header(&packets[0]).channel_id
    }

    async fn sign_in(&mut self, account: &str) -> SignedIn {
        let client = self.connect();
        let channel = self.knock(&client, account).await;
        self.harness.answer("l1", &channel, SIGNIN, 1, 0);
        client.until("the login response", |client| client.packets(LOGIN).len() == 1).await;
        self.quiet().await;
        SignedIn { client, channel }
    }

    /// Waits for the end of a connection's task.
    async fn ended(&mut self) -> Result<(), JoinError> {
        self.tasks.join_next().await.expect("a connection")
    }

    /// The reasons of the sign-outs that are owed now.
    fn signouts(&self) -> Vec<Option<String>> {
        self.harness.place_signouts();
        let packets = self.harness.take_all("l1");
        packets.iter().map(|packet| meta(&header(packet), "reason")).collect()
    }

    /// Nothing is left of any connection.
    fn assert_baseline(&self) {
        let test_metrics = &self.harness.test_metrics;
        assert_eq!(test_metrics.pending(), 0);
        assert_eq!(test_metrics.queued(), (0, 0));
        assert_eq!(test_metrics.value("gateway_partial_bytes"), 0);
        assert_eq!(test_metrics.signouts_waiting(), 0);
        assert_eq!(test_metrics.value("gateway_connections{transport=\"quic\"}"), 0);
        assert_eq!(self.shared.channels.opening(), 0);
        self.shared.channels.for_each(|channel| panic!("{} is still registered", channel.id));
    }
}

fn frame_of(packet: &LogicPacket) -> Bytes {
    let view = crate::wire::packet::encode_message(packet.dialect, &header(packet), packet.body.clone());
    assert_eq!(logic_packet(&view).body, packet.body);
    view.to_bytes()
}

fn talk(sequence: u32) -> Bytes {
    frame_of(&packet(TALK, sequence, "hello"))
}

fn ping(payload: &[u8]) -> Bytes {
    frame::encode(Opcode::Ping, payload)
}

fn pings(count: usize) -> Bytes {
    ping(b"").repeat(count).into()
}

/// Sequence and status of each packet that came on a stream.
fn answers(client: &Client, stream: StreamId) -> Vec<(u32, i32)> {
    let headers = client.packets(stream).into_iter().map(|packet| header(&packet));
    headers.map(|header| (header.sequence, header.status)).collect()
}

#[test]
fn a3_at_most_32_frames_are_read_before_what_is_queued_is_written() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let before = alice.client.events().len();
        alice.client.send(LOGIN, pings(100));
        alice.client.until("every pong", |client| client.pongs(LOGIN).len() == 100).await;
        assert_eq!(alice.client.writes(LOGIN, before), [32, 32, 32, 4]);
    });
}

#[test]
fn g8_a_flood_on_one_stream_delays_no_other() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let before = alice.client.events().len();
        alice.client.open(STREAM);
        alice.client.send(LOGIN, pings(1000));
        alice.client.send(STREAM, ping(b"me too"));
        alice.client.until("the pong", |client| !client.pongs(STREAM).is_empty()).await;
        let events = alice.client.events();
        let ahead = events[before..].iter().position(|event| *event == Event::Wrote(STREAM, 1)).unwrap();
        assert!(ahead <= 2, "more than two turns of the flood came first: {:?}", &events[before..]);
        alice.client.until("the others", |client| client.pongs(LOGIN).len() == 1000).await;
    });
}

#[test]
fn f10_a_panic_ends_one_connection_and_nothing_of_it_is_left() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.send(LOGIN, [talk(7), talk(8)].concat());
        worker.quiet().await;
        worker.harness.write("c1", 1);
        alice.client.set_room(LOGIN, 0);
        worker.harness.push("c1", &alice.channel, "a push that is not taken");
        worker.quiet().await;
        assert_eq!((worker.harness.test_metrics.pending(), worker.harness.test_metrics.queued().0), (2, 1));

        alice.client.step(LOGIN, Step::Panic);
        let ended = worker.ended().await;
        assert!(ended.as_ref().is_err_and(JoinError::is_panic));
        reap(ended, &worker.shared.metrics);
        assert_eq!(worker.signouts(), [Some("internal_error".to_owned())]);
        worker.assert_baseline();
        let test_metrics = &worker.harness.test_metrics;
        assert_eq!(test_metrics.rejects(Reject::TaskPanic), 1);
        assert_eq!(test_metrics.push_drops(PushDrop::Closing), 1);
        assert_eq!(
            test_metrics.value("gateway_closes_total{reason=\"internal_error\",transport=\"quic\"}"),
            1
        );
        assert_eq!(test_metrics.signouts(Signout::Written), 1);

        // What was accepted is still forwarded, and the worker goes on.
        assert_eq!(worker.harness.link("c1").queue().frames().count(), 2);
        worker.harness.write("c1", usize::MAX);
        let bob = worker.sign_in("bob").await;
        bob.client.send(LOGIN, talk(9));
        worker.quiet().await;
        assert_eq!(worker.harness.take_all("c1").len(), 1);
        worker.harness.answer("c1", &bob.channel, TALK, 9, 0);
        bob.client.until("the answer", |client| answers(client, LOGIN).contains(&(9, 0))).await;
    });
}

#[test]
fn f10_a_panic_before_and_within_the_login() {
    run(no_rates(), async |mut worker| {
        let stranger = worker.connect();
        stranger.step(LOGIN, Step::Panic);
        assert!(worker.ended().await.is_err());
        assert_eq!(worker.signouts(), []);

        let opening = worker.connect();
        let channel = worker.knock(&opening, "alice").await;
        assert_eq!(worker.shared.channels.opening(), 1);
        opening.step(LOGIN, Step::Panic);
        assert!(worker.ended().await.is_err());
        assert_eq!(worker.signouts(), [], "it is held back until the answer");
        worker.harness.answer("l1", &channel, SIGNIN, 1, 0);
        assert_eq!(worker.signouts(), [Some("internal_error".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn a4_a_slow_frame_resets_its_stream_and_no_other() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.open(StreamId(8));
        let begun = Instant::now();
        alice.client.send(STREAM, Bytes::from_static(&[2, 0]));
        alice.client.send(StreamId(8), ping(b"whole"));
        alice.client.until("the reset", |c| c.events().iter().any(|e| matches!(e, Event::Reset(..)))).await;
        assert!(begun.elapsed() >= millis(60), "{:?}", begun.elapsed());
        assert!(alice.client.events().contains(&Event::Reset(STREAM, CloseReason::ReadTimeout)));
        assert_eq!(worker.harness.test_metrics.rejects(Reject::SlowFrame), 1);
        alice.client.send(LOGIN, ping(b"1"));
        alice.client.send(StreamId(8), ping(b"2"));
        alice.client.until("both pongs", |c| c.pongs(LOGIN).len() + c.pongs(StreamId(8)).len() == 3).await;
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn a4_a_slow_frame_on_stream_0_ends_the_connection() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.send(LOGIN, Bytes::from_static(&[2]));
        assert_eq!(alice.client.until_closed().await, (CloseReason::ReadTimeout, true));
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("read_timeout".to_owned())]);
        worker.assert_baseline();
    });
}

/// The bytes of a large frame, all but its last.
fn large(limits: &Limits) -> Vec<u8> {
    let mut frame = ping(&vec![0; limits.max_frame]).to_vec();
    frame.pop();
    frame
}

#[test]
fn a15_a_large_frame_that_has_begun_waits_for_room_and_small_ones_do_not() {
    let limits = no_rates();
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        let (begin, rest) = (limits.max_frame_before_login, &large(&limits)[..]);
        worker.pressure.set_level(Level::Shed);
        alice.client.send(STREAM, rest[..begin].to_vec());
        alice.client.send(STREAM, rest[begin..=begin].to_vec());
        alice.client.send(STREAM, rest[begin + 1..].to_vec());
        alice.client.send(STREAM, vec![0]);
        alice.client.send(LOGIN, ping(b"a small one"));
        alice.client.until("the small one", |client| client.pongs(LOGIN).len() == 1).await;
        worker.quiet().await;
        let partial = || worker.harness.test_metrics.value("gateway_partial_bytes");
        let held = i64::try_from(begin).unwrap();
        assert!((held..held * 2 + 2).contains(&partial()), "{} bytes", partial());
        worker.pressure.set_level(Level::RefuseLogins);
        alice.client.until("the large one", |client| client.pongs(STREAM).len() == 1).await;
        worker.quiet().await;
        assert_eq!(partial(), 0);
    });
}

#[test]
fn a15_the_clock_of_a_frame_that_waits_for_room_runs_and_its_end_counts_it_off() {
    let limits = Limits { frame_deadline: millis(60), ..no_rates() };
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, large(&limits));
        worker.quiet().await;
        assert!(
            worker.harness.test_metrics.value("gateway_partial_bytes")
                >= i64::try_from(limits.max_frame).unwrap()
        );
        worker.pressure.set_level(Level::CloseNewest);
        alice.client.until("the reset", |c| c.events().iter().any(|e| matches!(e, Event::Reset(..)))).await;
        worker.quiet().await;
        assert_eq!(worker.harness.test_metrics.value("gateway_partial_bytes"), 0);
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn a15_a_client_that_goes_while_its_frame_waits_for_room_is_seen_to_go() {
    let limits = no_rates();
    run(limits.clone(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.send(LOGIN, large(&limits));
        worker.quiet().await;
        worker.pressure.set_level(Level::CloseNewest);
        alice.client.vanish(CloseReason::PeerClosed);
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("peer_closed".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn a5_a_stream_finished_within_a_frame_still_gets_the_answers_it_is_owed() {
    let limits = Limits { frame_deadline: millis(50), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, [talk(7), Bytes::from_static(&[2, 0, 0])].concat());
        alice.client.step(STREAM, Step::Finish);
        worker.quiet().await;
        worker.harness.take_all("c1");
        tokio::time::sleep(millis(120)).await;
        assert_eq!(worker.harness.test_metrics.rejects(Reject::Truncated), 1);
        assert_eq!(
            worker.harness.test_metrics.rejects(Reject::SlowFrame),
            0,
            "its end is not awaited any more"
        );
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        alice.client.until("the end", |c| c.events().contains(&Event::Finished(STREAM))).await;
        assert_eq!(answers(&alice.client, STREAM), [(7, 0)]);
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn c8_a_client_that_takes_nothing_is_closed_after_the_stall() {
    let limits = Limits { write_stall: millis(80), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let bob = worker.sign_in("bob").await;
        alice.client.set_room(LOGIN, 3);
        let begun = Instant::now();
        worker.harness.push("c1", &alice.channel, "one");
        worker.harness.push("c1", &alice.channel, "two");
        worker.harness.push("c1", &bob.channel, "one");
        bob.client.until("his push", |client| client.packets(LOGIN).len() == 2).await;
        assert_eq!(alice.client.until_closed().await, (CloseReason::SlowConsumer, false));
        assert!(begun.elapsed() >= millis(80), "{:?}", begun.elapsed());
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("slow_consumer".to_owned())]);
        assert_eq!(worker.harness.test_metrics.push_drops(PushDrop::SlowConsumer), 2);
        assert_eq!(worker.harness.test_metrics.queued(), (0, 0));
        assert_eq!(bob.client.closed(), None);
    });
}

#[test]
fn c8_a_client_that_takes_a_little_now_and_then_is_not_stalled() {
    let limits = Limits { write_stall: millis(300), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        worker.harness.push("c1", &alice.channel, vec![b'x'; 100]);
        for _ in 0..10 {
            tokio::time::sleep(millis(50)).await;
            alice.client.set_room(LOGIN, 1);
        }
        assert_eq!(alice.client.closed(), None, "500 ms, and never 300 without a byte");
        alice.client.set_room(LOGIN, usize::MAX);
        alice.client.until("the push", |client| client.packets(LOGIN).len() == 2).await;
    });
}

#[test]
fn c8_a_client_that_takes_nothing_of_what_the_transport_holds_back_is_stalled() {
    let limits = Limits { write_stall: millis(80), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_flushed(Flushed::Nothing);
        let begun = Instant::now();
        worker.harness.push("c1", &alice.channel, "one");
        alice.client.until("it to be taken", |client| client.packets(LOGIN).len() == 2).await;
        assert_eq!(
            worker.harness.test_metrics.queued(),
            (0, 0),
            "nothing is queued, and yet it did not go out"
        );
        assert_eq!(alice.client.until_closed().await, (CloseReason::SlowConsumer, false));
        assert!(begun.elapsed() >= millis(80), "{:?}", begun.elapsed());
    });
}

#[test]
fn c8_a_client_that_takes_a_part_of_what_the_transport_holds_back_is_not_stalled() {
    let limits = Limits { write_stall: millis(300), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        for _ in 0..10 {
            alice.client.set_flushed(Flushed::Nothing);
            tokio::time::sleep(millis(50)).await;
            alice.client.set_flushed(Flushed::Part);
            worker.quiet().await;
        }
        assert_eq!(alice.client.closed(), None, "500 ms, and never 300 without a byte");
        alice.client.set_flushed(Flushed::All);
        tokio::time::sleep(millis(400)).await;
        assert_eq!(alice.client.closed(), None, "nothing is left to wait for");
    });
}

#[test]
fn d9_the_end_waits_for_what_the_transport_holds_back() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_flushed(Flushed::Nothing);
        worker.shared.channels.close_all(CloseReason::Draining).await;
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None, "its last answer would be lost");
        alice.client.set_flushed(Flushed::All);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
    });
}

#[test]
fn g6_reading_stops_while_the_answers_are_not_taken_and_goes_on_afterwards() {
    let limits = Limits { max_queued_messages: 40, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(1000));
        worker.quiet().await;
        let read =
            |worker: &Worker| worker.harness.test_metrics.value("gateway_heartbeats_total{kind=\"frame\"}");
        assert_eq!(read(&worker), 40);
        alice.client.set_room(LOGIN, 10 * frame::HEAD_LEN);
        worker.quiet().await;
        assert_eq!(read(&worker), 50, "as many as were taken");
        alice.client.set_room(LOGIN, usize::MAX);
        alice.client.until("every pong", |client| client.pongs(LOGIN).len() == 1000).await;
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn g6_reading_goes_on_by_itself_once_everything_was_taken() {
    let limits = Limits { max_queued_messages: 40, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(100));
        worker.quiet().await;
        alice.client.set_room(LOGIN, usize::MAX);
        // Nothing else happens that could have the connection look again, and no deadline is near.
        worker.quiet().await;
        assert_eq!(alice.client.pongs(LOGIN).len(), 100);
    });
}

#[test]
fn g6_the_end_of_a_client_is_seen_while_it_is_not_read() {
    let limits = Limits { max_queued_messages: 4, ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.set_room(LOGIN, 0);
        alice.client.send(LOGIN, pings(10));
        worker.quiet().await;
        alice.client.vanish(CloseReason::PeerLost);
        assert_eq!(alice.client.until_closed().await, (CloseReason::PeerLost, false));
        assert!(worker.ended().await.is_ok());
        assert_eq!(worker.signouts(), [Some("peer_lost".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn g1_g4_a_request_still_queued_at_its_deadline_is_taken_back_and_answered_300() {
    let limits = Limits { request_deadline: millis(150), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let arrived = Instant::now();
        alice.client.send(LOGIN, talk(7));
        alice.client.until("the answer", |client| client.packets(LOGIN).len() == 2).await;
        assert!(arrived.elapsed() >= millis(100), "{:?}", arrived.elapsed());
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (7, pb::Status::SystemException as i32)]);
        assert!(worker.harness.link("c1").queue().is_empty(), "it was taken out first");
        assert_eq!(worker.harness.test_metrics.pending(), 0);
        assert_eq!(worker.harness.test_metrics.requests(), (2, 1, 1));
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn g1_g4_a_request_that_was_sent_is_answered_210_at_its_deadline_and_its_late_answer_dropped() {
    let limits = Limits { request_deadline: millis(150), ..no_rates() };
    run(limits, async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, talk(7));
        worker.quiet().await;
        worker.harness.write("c1", 1);
        alice.client.until("the answer", |client| client.packets(STREAM).len() == 1).await;
        assert_eq!(answers(&alice.client, STREAM), [(7, pb::Status::OutcomeUnknown as i32)]);
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.quiet().await;
        assert_eq!(client_answers(&alice.client), [(1, 0), (7, 210)], "exactly one answer");
        assert_eq!(worker.harness.test_metrics.rejects(Reject::ResponseUnmatched), 1);
        assert_eq!(worker.harness.test_metrics.pending(), 0);
    });
}

/// Sequence and status of everything answered on both streams.
fn client_answers(client: &Client) -> Vec<(u32, i32)> {
    [answers(client, LOGIN), answers(client, STREAM)].concat()
}

#[test]
fn g1_no_answer_of_the_gateways_is_due_later_than_the_deadline() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let (handler, deadline) = (&worker.shared.handler, worker.shared.limits.now().request_deadline);
        let channel = worker.shared.channels.get(&alice.channel).unwrap();
        assert_eq!(handler.answer_due(&channel), None);
        for offset in 0..200 {
            let arrived = Instant::now() + Duration::from_micros(offset * 731);
            let ticket = crate::session::fixtures::ticket_of(&channel, &packet(TALK, 1, ""), LOGIN, arrived);
            channel.pending.borrow_mut().push(ticket);
            let due = handler.answer_due(&channel).unwrap();
            assert!(due <= arrived + deadline, "offset {offset}");
            assert!(
                due + millis(crate::limits::DEADLINE_TICK_MS + 1) > arrived + deadline,
                "offset {offset}"
            );
            channel.pending.borrow_mut().take_oldest();
        }
    });
}

#[test]
fn a_login_that_is_not_answered_in_time_ends_with_210_or_300() {
    for (handed_over, status, signouts) in
        [(true, pb::Status::OutcomeUnknown, 1), (false, pb::Status::SystemException, 0)]
    {
        let limits = Limits { login_answer: millis(150), ..no_rates() };
        run(limits, async move |mut worker| {
            let client = worker.connect();
            let login = pb::LoginReq {
                token: mint(SECRET, "alice", "x_im", Duration::from_secs(60)),
                ..pb::LoginReq::default()
            };
            client.send(LOGIN, frame_of(&packet(SIGNIN, 1, login.encode_to_vec())));
            worker.quiet().await;
            if handed_over {
                worker.harness.take_all("l1");
            }
            assert_eq!(client.until_closed().await, (CloseReason::LoginUnavailable, true));
            assert_eq!(answers(&client, LOGIN), [(1, status as i32)]);
            assert!(worker.ended().await.is_ok());
            assert_eq!(worker.signouts().len(), signouts, "handed over: {handed_over}");
            worker.assert_baseline();
        });
    }
}

#[test]
fn b8_a_client_that_does_not_sign_in_is_closed_at_the_login_deadline() {
    let limits = Limits { login_deadline: millis(80), frame_deadline: millis(10), ..no_rates() };
    run(limits, async |mut worker| {
        let client = worker.connect();
        let begun = Instant::now();
        client.send(LOGIN, ping(b"hello?"));
        client.send(LOGIN, Bytes::from_static(&[2, 0, 0]));
        assert_eq!(client.until_closed().await, (CloseReason::LoginTimeout, true));
        assert!(begun.elapsed() >= millis(60), "{:?}", begun.elapsed());
        assert_eq!(client.pongs(LOGIN).len(), 1);
        assert!(worker.ended().await.is_ok());
        worker.assert_baseline();
    });
}

#[test]
fn c6_answers_of_other_streams_are_written_although_one_was_stopped() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        for (id, sequence) in [(4, 4), (8, 8), (12, 12)] {
            alice.client.open(StreamId(id));
            alice.client.send(StreamId(id), talk(sequence));
        }
        worker.quiet().await;
        assert_eq!(worker.harness.take_all("c1").len(), 3);
        alice.client.stop(STREAM);
        worker.quiet().await;
        for sequence in [4, 8, 12] {
            worker.harness.answer("c1", &alice.channel, TALK, sequence, 0);
        }
        worker.quiet().await;
        assert_eq!(answers(&alice.client, StreamId(8)), [(8, 0)]);
        assert_eq!(answers(&alice.client, StreamId(12)), [(12, 0)]);
        assert!(alice.client.events().contains(&Event::Reset(STREAM, CloseReason::Bye)));
        assert_eq!(worker.harness.test_metrics.queued(), (0, 0));
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn c7_answers_to_a_stream_that_was_reset_are_dropped_and_counted() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        alice.client.send(STREAM, talk(7));
        worker.quiet().await;
        worker.harness.take_all("c1");
        alice.client.step(STREAM, Step::Reset);
        worker.quiet().await;
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.quiet().await;
        assert_eq!(worker.harness.test_metrics.rejects(Reject::StreamReset), 1);
        assert_eq!(
            (worker.harness.test_metrics.pending(), worker.harness.test_metrics.queued()),
            (0, (0, 0))
        );
        assert_eq!(alice.client.closed(), None);
    });
}

#[test]
fn b22_pushes_wait_behind_the_login_response_and_take_their_own_stream_if_granted() {
    for granted in [true, false] {
        run(no_rates(), async move |mut worker| {
            let client = worker.connect();
            if granted {
                client.grant_push_stream();
            }
            let channel = worker.knock(&client, "alice").await;
            worker.harness.push("c1", &channel, "early");
            worker.quiet().await;
            assert!(client.events().is_empty(), "nothing is written before the answer");
            worker.harness.answer("l1", &channel, SIGNIN, 1, 0);
            worker.harness.push("c1", &channel, "late");
            let stream = if granted { StreamId::PUSH } else { LOGIN };
            let expected = if granted { 2 } else { 3 };
            client.until("both pushes", |client| client.packets(stream).len() == expected).await;
            let bodies: Vec<_> = client.packets(stream).into_iter().map(|packet| packet.body).collect();
            assert_eq!(bodies[expected - 2..], [Bytes::from("early"), Bytes::from("late")]);
            assert!(matches!(client.events()[0], Event::Wrote(LOGIN, _)), "{:?}", client.events());
        });
    }
}

#[test]
fn f1_a_draining_channel_gets_its_last_answers_and_no_more_pushes() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let idle = worker.sign_in("bob").await;
        alice.client.send(LOGIN, talk(7));
        worker.quiet().await;
        worker.harness.take_all("c1");
        worker.shared.channels.close_all(CloseReason::Draining).await;
        assert_eq!(idle.client.until_closed().await, (CloseReason::Draining, true));
        alice.client.send(LOGIN, talk(8));
        worker.harness.push("c1", &alice.channel, "too late");
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None, "one answer is owed");
        assert!(worker.harness.take_all("c1").is_empty(), "what comes after is not handed over");
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (8, 300), (7, 0)]);
        assert_eq!(worker.harness.test_metrics.push_drops(PushDrop::Closing), 1);
        assert_eq!(worker.harness.test_metrics.rejects(Reject::ChannelClosing), 1);
        assert!(worker.ended().await.is_ok() && worker.ended().await.is_ok());
        assert_eq!(worker.signouts().len(), 2);
        worker.assert_baseline();
    });
}

/// What is in the socket when the close begins is answered: its client need not guess whether it was handed over.
#[test]
fn f1_g1_what_has_come_when_the_close_begins_is_answered_300_and_never_handed_over() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        alice.client.open(STREAM);
        worker.quiet().await;
        worker.shared.channels.close_all(CloseReason::Draining).await;
        alice.client.send(LOGIN, talk(7));
        alice.client.send(STREAM, talk(8));
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN), [(1, 0), (7, 300)]);
        assert_eq!(answers(&alice.client, STREAM), [(8, 300)]);
        assert!(worker.harness.take_all("c1").is_empty());
        assert!(worker.ended().await.is_ok());
        let (received, forwarded, rejected) = worker.harness.test_metrics.requests();
        assert_eq!((received, forwarded, rejected), (3, 1, 2), "G9");
        assert_eq!(worker.signouts(), [Some("draining".to_owned())]);
        worker.assert_baseline();
    });
}

#[test]
fn f1_channels_are_served_until_their_own_close_and_connections_without_one_end_at_once() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let stranger = worker.connect();
        worker.quiet().await;
        let channels = worker.shared.channels.begin_drain().await;
        let ids: Vec<_> = channels.iter().map(|channel| channel.id.to_string()).collect();
        assert_eq!(ids, [alice.channel.as_str()]);
        assert_eq!(stranger.until_closed().await, (CloseReason::Draining, true));
        // A request, its answer and a push, all of them after the drain began.
        alice.client.send(LOGIN, talk(7));
        worker.quiet().await;
        assert_eq!(worker.harness.take_all("c1").len(), 1, "handed over as ever");
        worker.harness.answer("c1", &alice.channel, TALK, 7, 0);
        worker.harness.push("c1", &alice.channel, "in time");
        worker.quiet().await;
        assert_eq!(alice.client.closed(), None);
        let late = worker.connect();
        assert_eq!(late.until_closed().await, (CloseReason::Draining, true));

        worker.shared.channels.close(&alice.channel, CloseReason::Draining);
        worker.shared.channels.close("gone", CloseReason::Draining);
        assert_eq!(alice.client.until_closed().await, (CloseReason::Draining, true));
        assert_eq!(answers(&alice.client, LOGIN)[..2], [(1, 0), (7, 0)]);
        assert_eq!(alice.client.packets(LOGIN).len(), 3, "two answers and the push");
        drop(channels);
        for _ in 0..3 {
            assert!(worker.ended().await.is_ok());
        }
        assert_eq!(worker.signouts().len(), 1);
        worker.assert_baseline();
    });
}

#[test]
fn f1_near_the_hard_stop_nobody_waits_for_an_answer() {
    run(no_rates(), async |mut worker| {
        let waiting = worker.sign_in("alice").await;
        waiting.client.send(LOGIN, talk(7));
        let opening = worker.connect();
        worker.knock(&opening, "bob").await;
        let idle = worker.sign_in("carol").await;
        let channels = worker.shared.channels.begin_drain().await;
        assert_eq!(channels.len(), 3);
        drop(channels);
        worker.shared.channels.close(&waiting.channel, CloseReason::Draining);
        worker.quiet().await;
        assert_eq!((waiting.client.closed(), idle.client.closed(), opening.closed()), (None, None, None));
        worker.shared.channels.cut_short().await;
        for client in [&waiting.client, &idle.client, &opening] {
            assert_eq!(client.until_closed().await, (CloseReason::Draining, true));
            assert!(worker.ended().await.is_ok());
        }
        assert_eq!(worker.shared.channels.connections(), 0);
    });
}

/// protocol §2: to QUIC clients, and to others that asked for it; where pushes go, and not before the channel is open.
#[test]
fn f1_go_away_reaches_those_who_know_it_and_nobody_else() {
    for (kind, tags, told) in [
        (TransportLabel::Quic, &[][..], true),
        (TransportLabel::Tcp, &[], false),
        (TransportLabel::Tls, &["other", "Goaway"], false),
        (TransportLabel::Tcp, &["other", "goaway"], true),
    ] {
        run(no_rates(), async |mut worker| {
            let go_away = GoAway { seconds: 12, code: 3000 };
            let expected = Bytes::from_static(b"2345\0\x03\0\x04\0\x0c\x0b\xb8");
            let basics = |client: &Client, stream| -> Vec<Bytes> {
                let payloads = client.frames(stream).into_iter().map(|frame| frame.payload);
                payloads.filter(|payload| payload.starts_with(b"2345")).collect()
            };
            let client = worker.connect();
            client.be(kind);
            client.grant_push_stream();
            let channel = worker.knock_with(&client, "alice", tags).await;
            let channels = worker.shared.channels.begin_drain().await;
            worker.shared.channels.get(&channel).unwrap().announce_close(go_away);
            worker.quiet().await;
            assert!(client.frames(LOGIN).is_empty(), "nothing before the login response");
            worker.harness.answer("l1", &channel, SIGNIN, 1, 0);
            client.until("the login response", |client| client.packets(LOGIN).len() == 1).await;
            worker.harness.push("c1", &channel, "behind it");
            worker.quiet().await;
            let expected = if told { vec![expected.clone()] } else { Vec::new() };
            assert_eq!(basics(&client, StreamId::PUSH), expected, "{kind:?} {tags:?}");
            assert!(basics(&client, LOGIN).is_empty());
            assert_eq!(client.packets(StreamId::PUSH).len(), 1, "the push comes all the same");
            drop(channels);
            worker.shared.channels.close(&channel, CloseReason::Draining);
            assert_eq!(client.until_closed().await, (CloseReason::Draining, true));
            assert!(worker.ended().await.is_ok());
        });
    }
}

#[test]
fn f7_a_wall_clock_that_jumps_changes_nothing_but_who_may_sign_in() {
    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * 24 * HOUR;
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let mut ids = vec![alice.channel.clone()];
        let expired = Some((CloseReason::Unauthenticated, 105));
        // Row H19: by a clock that says 1966, every token that ever ran out would be good.
        let unknown = Some((CloseReason::Overloaded, 300));
        for (sequence, (wrong_by, refused)) in
            [(HOUR, expired), (-HOUR, None), (-60 * YEAR, unknown), (60 * YEAR, expired), (0, None)]
                .into_iter()
                .enumerate()
        {
            WRONG_BY.set(wrong_by);
            let sequence = 10 + sequence as u32;
            alice.client.send(LOGIN, talk(sequence));
            worker.quiet().await;
            assert_eq!(worker.harness.take_all("c1").len(), 1, "{wrong_by}");
            worker.harness.answer("c1", &alice.channel, TALK, sequence, 0);
            worker.quiet().await;
            assert_eq!(answers(&alice.client, LOGIN).last(), Some(&(sequence, 0)), "{wrong_by}");
            assert_eq!(alice.client.closed(), None, "{wrong_by}");

            // Tokens are good for a minute from the time they were made.
            let client = worker.connect();
            let token = mint(SECRET, "bob", "x_im", Duration::from_secs(60));
            let login = pb::LoginReq { token, ..pb::LoginReq::default() };
            client.send(LOGIN, frame_of(&packet(SIGNIN, 1, login.encode_to_vec())));
            if let Some((reason, status)) = refused {
                assert_eq!(client.until_closed().await.0, reason, "{wrong_by}");
                assert_eq!(answers(&client, LOGIN), [(1, status)], "{wrong_by}");
            } else {
                worker.quiet().await;
                let signin = worker.harness.take_all("l1").remove(0);
                ids.push(header(&signin).channel_id);
                client.vanish(CloseReason::PeerClosed);
            }
            assert!(worker.ended().await.is_ok());
        }
        let mut distinct = ids.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!((ids.len(), distinct.len()), (3, 3), "no id comes twice: {ids:?}");
    });
}
