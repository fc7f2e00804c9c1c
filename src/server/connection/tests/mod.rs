//! The driver against a client without sockets and services answered by hand.

mod deadlines;
mod draining;
mod fake;
mod frames;
mod writing;

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
use crate::bans::{Ban, BanSubject, Bans};
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
    bans: Arc<Bans>,
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
        let (pressure, bans) = (Pressure::none(), Arc::<Bans>::default());
        let gate = Gate {
            pressure: pressure.clone(),
            accounts: Arc::new(RateLimiter::new(0, 1)),
            bans: Arc::clone(&bans),
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
            closes: RecentCloses::default(),
            handler: Handler::new(dispatch, verifier, gate, ids, Instant::now()),
            limits: LiveLimits::new(limits),
            wall_clock,
        });
        test(Worker { harness, shared, pressure, bans, tasks: JoinSet::new() }).await;
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

/// What became of a sign-in with this token.
async fn refused(client: &Client, token: String) -> (CloseReason, Bytes) {
    let login = pb::LoginReq { token, ..pb::LoginReq::default() };
    client.send(LOGIN, frame_of(&packet(SIGNIN, 1, login.encode_to_vec())));
    let reason = client.until_closed().await.0;
    assert_eq!(answers(client, LOGIN), [(1, 105)]);
    (reason, client.packets(LOGIN)[0].body.clone())
}

#[test]
fn f17_who_is_banned_cannot_be_found_out_with_a_token_that_nobody_signed() {
    run(no_rates(), async |mut worker| {
        let subject = BanSubject::Account { app: "x_im".to_owned(), account: "alice".to_owned() };
        worker.bans.ban(Ban { subject, until: None, reason: String::new() }, Instant::now()).unwrap();
        let mut told = Vec::new();
        for (secret, account) in [(SECRET, "alice"), (b"of nobody", "alice"), (b"of nobody", "bob")] {
            let client = worker.connect();
            told.push(refused(&client, mint(secret, account, "x_im", Duration::from_secs(60))).await);
            worker.ended().await.unwrap();
        }
        assert_eq!(told[0].0, CloseReason::Unauthenticated);
        assert!(told.iter().all(|answer| *answer == told[0]), "{told:?}");
        assert_eq!(worker.harness.test_metrics.rejects(Reject::Banned), 2);
        assert!(worker.harness.take_all("l1").is_empty());
    });
}

#[test]
fn f17_who_came_before_its_address_was_banned_does_not_sign_in_behind_it() {
    run(no_rates(), async |mut worker| {
        let alice = worker.sign_in("alice").await;
        let newcomer = worker.connect();
        worker.quiet().await;
        let subject = BanSubject::Network("127.0.0.0/8".parse().unwrap());
        worker.bans.ban(Ban { subject, until: None, reason: String::new() }, Instant::now()).unwrap();
        let token = mint(SECRET, "bob", "x_im", Duration::from_secs(60));
        assert_eq!(refused(&newcomer, token).await.0, CloseReason::Kicked);
        assert_eq!(worker.harness.test_metrics.rejects(Reject::Banned), 1);
        assert_eq!(alice.client.closed(), None, "who is here stays");
    });
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
