//! A hundred clients that stop reading at once, beside fifty that do not (rows C8, D4, E17; issue figures with a
//! shortened stall).

use std::time::{Duration, Instant};

use gateway::limits::Limits;
use rstest::rstest;

use crate::support::harness::TestGateway;
use crate::support::raw::Kind::{self, QuicMany, QuicOne, Tcp, Tls, Ws, Wss};
use crate::support::raw::{Options, Raw};

const SLOW: usize = 100;
const FAST: usize = 50;

/// In place of 10 s, so that a client is closed within a second and a half in place of 10.5 s.
const STALL: Duration = Duration::from_secs(1);

/// What a slow client gets in each round, bytes.
const BODY: usize = 16 * 1024;

/// More than any kernel takes for a client that does not read.
const LARGE_BODY: usize = 8 * 1024 * 1024;

/// From the end of a stall to the last sign-out. The figure is half a second; here the kernel's buffers are filled
/// meanwhile, and other tests run.
const IN_TIME: Duration = Duration::from_millis(2500);

/// Rounds before anybody is slow: the slow ones get as much, and read it.
const QUIET_ROUNDS: usize = 20;

/// What the fast ones may be later at most beside slow ones. The figure is 1.5 times or 2 ms, on a machine of its own;
/// here other tests run beside this one. A gateway that waited for a slow client would be later by its stall.
const LATER: Duration = Duration::from_millis(100);

struct Crowd {
    harness: TestGateway,
    fast: Vec<(Raw, String)>,
    slow: Vec<(Raw, String)>,
    round: u32,
}

impl Crowd {
    async fn of(kind: Kind, change: impl FnOnce(&mut Limits)) -> Self {
        let harness = TestGateway::with_limits(|limits| {
            limits.write_stall = STALL;
            change(limits);
        })
        .await;
        let (mut fast, mut slow) = (Vec::new(), Vec::new());
        for n in 0..FAST {
            fast.push(harness.client(kind, &format!("fast{n}")).await);
        }
        let options = Options { receive_buffer: Some(BODY as u32), ..Options::default() };
        for n in 0..SLOW {
            let mut client = harness.connect_with(kind, options).await;
            let channel = client.login(&format!("slow{n}")).await;
            slow.push((client, channel));
        }
        Self { harness, fast, slow, round: 0 }
    }

    /// One push to all fast ones; how long it took each of them to see it.
    async fn round(&mut self, latencies: &mut Vec<Duration>) {
        let channels: Vec<_> = self.fast.iter().map(|(_, channel)| channel.as_str()).collect();
        let pushed = Instant::now();
        self.harness.chat.push(&channels, self.round, b"to the fast ones").await;
        for (client, _) in &mut self.fast {
            assert_eq!(client.push().await.header.sequence, self.round, "in order, and none lost");
            latencies.push(pushed.elapsed());
        }
        self.round += 1;
    }

    async fn feed_slow(&self, bytes: usize) {
        let channels: Vec<_> = self.slow.iter().map(|(_, channel)| channel.as_str()).collect();
        self.harness.chat.push(&channels, self.round, &vec![b'x'; bytes]).await;
    }

    /// The moment at which each of the slow ones was signed out, and the fast ones' latencies until then.
    async fn until_all_are_closed(&mut self, feed: bool) -> (Vec<Duration>, Vec<Duration>) {
        for (client, _) in &self.slow {
            client.stop_reading();
        }
        let (mut closed, mut latencies, begun) = (Vec::new(), Vec::new(), Instant::now());
        if !feed {
            self.feed_slow(LARGE_BODY).await;
        }
        while closed.len() < SLOW {
            if feed {
                self.feed_slow(BODY).await;
            }
            self.round(&mut latencies).await;
            closed.resize(self.signed_out(), begun.elapsed());
            assert!(begun.elapsed() < STALL * 10, "{} of {SLOW} were closed", closed.len());
        }
        let signouts = self.harness.login.packets("login.signout");
        assert!(signouts.iter().all(|signout| signout.meta("reason") == "slow_consumer"));
        self.harness.metric_is("gateway_closes_total", &["slow_consumer"], SLOW as f64).await;
        self.harness.metric_is("gateway_queued_bytes", &[], 0.0).await;
        (closed, latencies)
    }

    fn signed_out(&self) -> usize {
        self.harness.login.packets("login.signout").len()
    }
}

fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

#[rstest]
#[tokio::test]
async fn c8_d4_e17_a_hundred_slow_clients_are_closed_in_time_and_the_fast_ones_notice_little(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let mut crowd = Crowd::of(kind, |_| {}).await;
    let mut quiet = Vec::new();
    for _ in 0..QUIET_ROUNDS {
        crowd.feed_slow(BODY).await;
        crowd.round(&mut quiet).await;
    }
    let (closed, mut loaded) = crowd.until_all_are_closed(true).await;
    let (quiet, loaded) = (p99(&mut quiet), p99(&mut loaded));
    println!(
        "{kind:?}: {SLOW} closed within {:?}; push p99 {quiet:?}, beside them {loaded:?}",
        closed[SLOW - 1]
    );
    assert!(loaded <= quiet * 3 / 2 + LATER, "{loaded:?} and not {quiet:?}");
}

/// Their queues have room for everything, so it is the stall that ends them.
#[rstest]
#[tokio::test]
async fn c8_d4_a_hundred_stalled_clients_are_each_closed_when_the_stall_is_over(
    #[values(Tcp, Tls, Ws, Wss, QuicOne, QuicMany)] kind: Kind,
) {
    let large = |limits: &mut Limits| {
        limits.max_push = 2 * LARGE_BODY;
        limits.queued_bytes = usize::MAX;
    };
    let mut crowd = Crowd::of(kind, large).await;
    let (closed, _) = crowd.until_all_are_closed(false).await;
    println!("{kind:?}: {SLOW} closed from {:?} to {:?} after the push", closed[0], closed[SLOW - 1]);
    assert!(closed[0] >= STALL, "not before its time");
    assert!(closed[SLOW - 1] <= STALL + IN_TIME, "{:?}", closed[SLOW - 1]);
}
