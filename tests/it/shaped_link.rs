//! Clients that read at once, behind a slow link (rows H1, H2): everything arrives and nobody is closed; and clients that
//! really are slow (row C8).

use std::time::{Duration, Instant};

use gateway::limits::Limits;
use gateway::wire::pb;
use rstest::rstest;

use crate::support::fake_logic::{Received, push_header};
use crate::support::harness::{GATE, TestGateway};
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Purpose, Raw, request};
use crate::support::shaped::{Shape, ShapedLink};

const KB: usize = 1000;

/// Longer than a transfer takes, shorter than nothing at all.
const TRANSFER: Duration = Duration::from_secs(30);

const fn shape(rate: usize, rtt_ms: u64) -> Shape {
    Shape { rate: rate as u32, delay: Duration::from_millis(rtt_ms / 2), queue: 64 * 1024 }
}

/// A gateway, the link to it, and a client on the link.
struct Scene {
    harness: TestGateway,
    link: ShapedLink,
    client: Raw,
    channel: String,
}

impl Scene {
    async fn of(kind: Kind, shape: Shape) -> Self {
        let harness = TestGateway::start().await;
        let link = ShapedLink::to(&harness.target, shape).await;
        let mut client = Raw::connect(kind, link.target()).await;
        let channel = client.login("alice").await;
        Self { harness, link, client, channel }
    }

    /// Asks on a stream, or where messages go; the request as the chat service has it.
    async fn ask(&mut self, stream: Option<usize>, command: &str) -> Received {
        self.harness.chat.hold(command);
        let sequence = self.client.next_sequence();
        let header = request(command, sequence, "");
        let stream = stream.unwrap_or_else(|| self.client.stream_for(Purpose::Messages));
        self.client.send_on(stream, &header, b"?").await;
        self.harness.chat.packet(command, 0).await
    }

    async fn push(&self, sequence: u32, bytes: usize) {
        self.harness.chat.push(&[&self.channel], sequence, &vec![b'p'; bytes]).await;
    }

    /// Awaits so many packets, in whatever order streams bring them: sequences of responses, and of pushes.
    async fn everything(&mut self, count: usize) -> (Vec<u32>, Vec<u32>) {
        let (mut responses, mut pushes) = (Vec::new(), Vec::new());
        let all = async {
            while responses.len() + pushes.len() < count {
                let Some(seen) = self.client.next().await else {
                    panic!("closed after {} responses and {} pushes", responses.len(), pushes.len())
                };
                let Some(message) = seen.message() else { continue };
                let is_response = message.header.flag == pb::Flag::Response as i32;
                if is_response { &mut responses } else { &mut pushes }.push(message.header.sequence);
            }
        };
        tokio::time::timeout(TRANSFER, all).await.expect("everything arrives in time");
        responses.sort_unstable();
        (responses, pushes)
    }

    /// Nobody was closed, and the client is served as before.
    async fn check_served(mut self) {
        let sequence = self.client.talk("", "still there?").await;
        self.client.response(sequence).await;
        assert_eq!(self.harness.metric("gateway_closes_total", &["slow_consumer"]).await, 0.0);
        drop(self.link);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_small_push_beside_a_large_answer_makes_nobody_slow(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut scene = Scene::of(kind, shape(1000 * KB, 40)).await;
    let asked = scene.ask(None, "chat.large").await;
    scene.harness.chat.answer(&asked, 0, &vec![b'a'; 600 * KB]);
    // One at once, the others while it is on its way.
    for n in 0..5 {
        scene.push(n, 22).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (responses, pushes) = scene.everything(6).await;
    assert_eq!((responses.len(), pushes), (1, vec![0, 1, 2, 3, 4]));
    scene.check_served().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_ten_large_answers_in_a_row_all_arrive(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut scene = Scene::of(kind, shape(10_000 * KB, 40)).await;
    scene.harness.chat.answer_with("chat.large", 0, vec![b'a'; 200 * KB]);
    let mut asked = Vec::new();
    for _ in 0..10 {
        asked.push(scene.client.request("chat.large", "", b"?").await);
    }
    let (responses, _) = scene.everything(10).await;
    assert_eq!(responses, asked);
    scene.check_served().await;
}

#[rstest]
#[case::many_small(600, KB, 20_000 * KB)]
#[case::some_larger(12, 60 * KB, 10_000 * KB)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_a_burst_of_pushes_arrives_in_order(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[case] count: u32,
    #[case] bytes: usize,
    #[case] rate: usize,
) {
    let mut scene = Scene::of(kind, shape(rate, 40)).await;
    let frames: Vec<_> = (0..count)
        .map(|n| {
            let header = push_header("chat.user.talk", n);
            scene.harness.chat.push_frame(GATE, &[&scene.channel], header, &vec![b'p'; bytes])
        })
        .collect();
    scene.harness.chat.send(frames.concat());
    let (_, pushes) = scene.everything(count as usize).await;
    assert_eq!(pushes, (0..count).collect::<Vec<_>>());
    scene.check_served().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_a_very_large_answer_that_is_read_steadily_and_a_push_arrive(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut scene = Scene::of(kind, shape(2000 * KB, 20)).await;
    let asked = scene.ask(None, "chat.large").await;
    scene.harness.chat.answer(&asked, 0, &vec![b'a'; 8000 * KB]);
    // More than may wait for long; on one stream the answer is ahead of them for four seconds.
    for n in 0..300 {
        scene.push(n, 22).await;
    }
    let (responses, pushes) = scene.everything(301).await;
    assert_eq!((responses.len(), pushes), (1, (0..300).collect()));
    scene.check_served().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_a_large_push_and_answers_on_other_streams_do_not_hurt_each_other() {
    let mut scene = Scene::of(QuicMany, shape(1000 * KB, 40)).await;
    let one = scene.ask(Some(2), "chat.one").await;
    let other = scene.ask(Some(3), "chat.other").await;
    scene.push(1, 900 * KB).await;
    scene.harness.chat.answer(&one, 0, b"small");
    scene.harness.chat.answer(&other, 0, b"small");
    scene.push(2, 22).await;
    let (responses, pushes) = scene.everything(4).await;
    assert_eq!((responses.len(), pushes), (2, vec![1, 2]));
    scene.check_served().await;
}

/// What an acknowledgement makes room for is shared: an answer that takes twelve seconds keeps pushes from nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_pushes_go_on_beside_an_answer_that_takes_longer_than_a_stall() {
    let mut scene = Scene::of(QuicMany, shape(100 * KB, 40)).await;
    let asked = scene.ask(None, "chat.large").await;
    scene.harness.chat.answer(&asked, 0, &vec![b'a'; 1200 * KB]);
    for n in 0..6 {
        scene.push(n, 22).await;
        let push = scene.client.push().await;
        assert_eq!(push.header.sequence, n, "before the next is sent, and long before the answer is there");
    }
    let (responses, _) = scene.everything(1).await;
    assert_eq!(responses.len(), 1);
    scene.check_served().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_the_largest_push_is_delivered_over_a_slow_link_and_a_larger_one_is_told(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut scene = Scene::of(kind, shape(200 * KB, 40)).await;
    let max = Limits::default().max_push;
    let frame = |sequence, bytes| {
        let header = push_header("chat.user.talk", sequence);
        scene.harness.chat.push_frame(GATE, &[&scene.channel], header, &vec![b'p'; bytes])
    };
    let overhead = frame(1, 0).len();
    for (sequence, bytes) in [(1, max - overhead), (2, max - overhead + 200), (3, 10)] {
        scene.harness.chat.send(frame(sequence, bytes));
    }
    let (_, pushes) = scene.everything(2).await;
    assert_eq!(pushes, [1, 3]);
    scene.harness.metric_is("gateway_push_drops_total", &["too_large"], 1.0).await;
    scene.harness.metric_is("gateway_events_active", &["push_too_large"], 1.0).await;
    scene.harness.chat.finish_link();
    scene.harness.metric_is("gateway_events_active", &["push_too_large"], 0.0).await;
    drop(scene.link);
}

/// The figure of the limits as shipped.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_h1_a_client_that_takes_nothing_is_closed_within_ten_and_a_half_seconds(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let harness = TestGateway::start().await;
    let options = Options { receive_buffer: Some(16 * 1024), ..Options::default() };
    let mut client = harness.connect_with(kind, options).await;
    let channel = client.login("alice").await;
    client.stop_reading();
    // The answer fills whatever the kernel takes; neither bound of the pushes is reached.
    harness.chat.hold("chat.large");
    client.request("chat.large", "", b"?").await;
    let asked = harness.chat.packet("chat.large", 0).await;
    let begun = Instant::now();
    harness.chat.answer(&asked, 0, &vec![b'a'; 12_000 * KB]);
    harness.chat.push(&[&channel], 1, b"small").await;
    let signout = tokio::time::timeout(TRANSFER, harness.login.signout(&channel)).await.expect("a sign-out");
    let took = begun.elapsed();
    assert_eq!(signout.meta("reason"), "slow_consumer");
    println!("{kind:?}: closed after {took:?}");
    assert!((Duration::from_secs(10)..Duration::from_millis(10_900)).contains(&took), "{took:?}");
}

/// 50 kB/s come in pushes of 200 bytes, and 1 kB/s gets through: the soft bound of 256 messages is reached after a second,
/// and three seconds later it is over; in half of the time the hard one would not be.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_h1_a_client_that_takes_a_fiftieth_is_closed_within_five_seconds(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let scene = Scene::of(kind, Shape { queue: 2 * 1024, ..shape(100 * KB, 10) }).await;
    scene.link.set_rate(1000);
    // What the kernel and QUIC's window take is no queue of the gateway's: they are full before it begins.
    scene.push(0, 600 * KB).await;
    let begun = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(20));
    let feeding = async {
        for n in 1.. {
            every.tick().await;
            for _ in 0..5 {
                scene.push(n, 140).await;
            }
        }
    };
    let signout = tokio::select! {
        signout = scene.harness.login.signout(&scene.channel) => signout,
        () = feeding => unreachable!(),
    };
    let took = begun.elapsed();
    assert_eq!(signout.meta("reason"), "slow_consumer");
    println!("{kind:?}: closed after {took:?}");
    assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

/// A second, an acknowledgement that lets the close go, and the way through the queue of a 100 kB/s link. On TCP what the
/// kernel has, and the frame that has begun, is ahead of the close frame and cannot be taken back.
fn close_in_time(kind: Kind) -> Duration {
    Duration::from_millis(if kind.is_tcp() { 4000 } else { 2500 })
}

/// How a close comes about while 200 kB are on their way to a client over 100 kB/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Kick,
    Drain,
    /// More pushes than may wait.
    Flood,
    /// A kick of a channel that drains.
    KickWhileDraining,
    /// A kick of a channel that has as many pushes as it may.
    KickWhileFull,
}

/// Without the cure neither the push nor the code arrived in 20 s.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_h4_whoever_is_closed_behind_pending_data_learns_why(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
    #[values(Cause::Kick, Cause::Drain, Cause::Flood, Cause::KickWhileDraining, Cause::KickWhileFull)]
    cause: Cause,
) {
    if cause == Cause::Flood && kind.is_tcp() {
        // It is reset, so that the kernel throws away what it does not take (row D4).
        return;
    }
    let mut scene = Scene::of(kind, shape(100 * KB, 40)).await;
    let messages = if cause == Cause::KickWhileFull { Limits::default().max_queued_messages_hard } else { 1 };
    let large = [200 * KB].into_iter().chain(std::iter::repeat_n(22, messages - 1));
    for (sequence, bytes) in (0..).zip(large) {
        scene.push(sequence, bytes).await;
    }
    // Some of it is on its way.
    scene.harness.metric_is("gateway_pushes_received_total", &[], messages as f64).await;
    let begun = Instant::now();
    match cause {
        Cause::Kick | Cause::KickWhileFull => scene.harness.login.kick(&scene.channel).await,
        Cause::Drain => scene.harness.drain(),
        Cause::Flood => {
            for n in 0..3000 {
                scene.push(n, 22).await;
            }
        }
        Cause::KickWhileDraining => {
            // Its answer is awaited, so the channel does not end by itself.
            scene.ask(None, "chat.unanswered").await;
            scene.harness.drain();
            scene.harness.ready_is(503).await;
            scene.harness.login.kick(&scene.channel).await;
        }
    }
    let (code, reason) = match cause {
        Cause::Kick | Cause::KickWhileDraining | Cause::KickWhileFull => (3501, "kicked"),
        Cause::Drain => (3000, "draining"),
        Cause::Flood => (3002, "slow_consumer"),
    };
    scene.client.closed_with(code).await;
    let took = begun.elapsed();
    println!("{kind:?}, {cause:?}: {code} after {took:?}");
    assert!(took <= close_in_time(kind), "{took:?}");
    scene.harness.metric_is("gateway_closes_total", &[reason], 1.0).await;
    if reason == "kicked" {
        let signouts = scene.harness.login.packets("login.signout");
        assert!(signouts.is_empty(), "the sign-out rule of a kick: {signouts:?}");
    }
}
