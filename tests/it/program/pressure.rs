//! A gateway that is given more than it can hold (rows E19, F11): it stops reading the services, it turns clients away,
//! and goes on as before when it is over.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use gateway::wire::pb;
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::memory_group::MemoryGroup;
use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::fake_logic::{LogicEvent, push_header};
use crate::support::raw::Options;
use crate::support::soon;

const MIB: usize = 1 << 20;

/// A client that cannot keep anything for a user who does not read.
const NARROW: Options = Options {
    dialect: Dialect::XIm,
    receive_buffer: Some(16 * 1024),
    refuses_push_stream: false,
    preface: b"",
    headers: "",
    from: None,
};

/// Signs in a client that does not read from then on.
async fn deaf(kind: Kind, target: &Target, account: &str) -> (Raw, String) {
    let mut client = Raw::connect_with(kind, target, NARROW).await;
    let channel = client.login(account).await;
    client.stop_reading();
    (client, channel)
}

/// Somebody who asks one thing after the other, and gets every answer.
pub(super) struct Asking {
    stop: watch::Sender<bool>,
    answered: watch::Receiver<usize>,
    task: JoinHandle<Vec<Duration>>,
}

impl Asking {
    pub(super) fn start(mut client: Raw, command: &'static str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (answers, answered) = watch::channel(0);
        let task = tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !*stopped.borrow() {
                let asked = Instant::now();
                let sequence = client.request(command, "somebody", b"anything").await;
                let answer = client.response(sequence).await;
                assert_eq!(answer.header.status, 0, "{answer:?}");
                latencies.push(asked.elapsed());
                answers.send_replace(latencies.len());
            }
            latencies
        });
        Self { stop, answered, task }
    }

    /// Answers so far.
    fn answered(&self) -> usize {
        *self.answered.borrow()
    }

    /// Shows what was answered beside a load, all of it with success, and returns the 99th percentile. How large it is
    /// depends on what else the machine does, so it is judged only by proofs that run alone.
    pub(super) async fn served(self, load: &str) -> Duration {
        let latencies = self.latencies().await;
        let p99 = latencies[latencies.len() * 99 / 100];
        println!(
            "{load}; meanwhile {} answers, p99 {p99:?}, longest {:?}",
            latencies.len(),
            latencies.last()
        );
        p99
    }

    /// How long each answer took, from the shortest to the longest.
    pub(super) async fn latencies(self) -> Vec<Duration> {
        self.stop.send_replace(true);
        let mut latencies = soon("the last answer", self.task).await.unwrap();
        latencies.sort_unstable();
        latencies
    }
}

/// What was seen of a pause.
struct Stood {
    paused: Duration,
    /// Bytes the sockets of the flooding service had taken.
    sent: u64,
    /// Answers of another service.
    answered: usize,
}

/// Watches a pause that has begun: for so long the flooding service gets nothing away but the trickle. None if the
/// pause is over before.
async fn stand_still(
    serve: &mut Serve,
    chat: &FakeLogic,
    long: Duration,
    asking: &Asking,
    lines: &mut Vec<String>,
) -> Option<Stood> {
    /// What a link may be read meanwhile, as the sockets round it, bytes. The flood comes a thousand times as fast.
    const TRICKLE: u64 = 256 * 1024;
    let begun = Instant::now();
    let before = asking.answered();
    // What the sockets take on the way is not looked at.
    let mut stands = (chat.sent(), Instant::now());
    loop {
        let line = tokio::time::timeout(Duration::from_millis(10), serve.log.recv()).await;
        lines.extend(line.map(|line| line.expect("it runs")));
        let resumed = lines.last().is_some_and(|line| line.contains("event=\"backends_resumed\""));
        if stands.1.elapsed() >= long {
            let (answered, sent) = (asking.answered() - before, stands.0);
            if !resumed {
                lines.push(serve.line("event=\"backends_resumed\"").await);
            }
            return Some(Stood { paused: begun.elapsed(), sent, answered });
        }
        if resumed {
            return None;
        }
        if chat.sent() > stands.0 + TRICKLE {
            stands = (chat.sent(), Instant::now());
        }
    }
}

/// The services flood clients that do not read. Some of these are told to go with their queues full: what is queued for
/// them cannot be shed, and waits for its second of grace, so that the pause is long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e19_a_flood_stops_the_reading_of_services_which_are_not_lost_for_it_and_then_goes_on() {
    /// On a machine that is late a pause may be a short one: there is more than one.
    const WAVES: usize = 5;
    const LEAVING: usize = 5;
    const SLOW: usize = 8;
    const ROUNDS: u32 = 520;
    const SILENCE: Duration = Duration::from_millis(400);
    let limits = [
        ("GATEWAY__LIMITS__QUEUED_BYTES", "524288"),
        ("GATEWAY__LIMITS__MAX_QUEUED_BYTES", "524288"),
        ("GATEWAY__LIMITS__BACKEND_PING", "100ms"),
        ("GATEWAY__LIMITS__BACKEND_MISSES", "4"),
        ("GATEWAY__LIMITS__LOGIN_DEADLINE", "60s"),
    ];
    let (place, login, chat, config) = home();
    let orders = FakeLogic::start(Dialect::XIm);
    let text = fs::read_to_string(place.0.join(&config)).unwrap();
    let instance = format!("service = \"order\"\nid = \"order01\"\naddress = \"{}\"\n", orders.address);
    fs::write(place.0.join(&config), format!("{text}[[discovery.instances]]\n{instance}zone = \"zone_a\"\n"))
        .unwrap();
    let mut serve = Serve::start(&place, &config, 1, &limits).await;
    orders.handshake(0).await;
    let target = serve.target();

    let (mut bob, bobs) = sign_in(Kind::Tcp, &target, "bob", &login).await;
    let (carol, _) = sign_in(Kind::QuicOne, &target, "carol", &login).await;
    let (mut leaving, mut slow) = (Vec::new(), Vec::new());
    for n in 0..WAVES * LEAVING {
        leaving.push(deaf(Kind::QuicOne, &target, &format!("leaving{n}")).await);
    }
    for (n, kind) in Kind::ALL.into_iter().cycle().take(SLOW).enumerate() {
        slow.push((kind, deaf(kind, &target, &format!("slow{n}")).await));
    }
    // The newest are closed while it is at its worst: these are there for it.
    let mut newest = Vec::new();
    for _ in 0..100 {
        newest.push(Raw::connect(Kind::Tcp, &target).await);
    }

    let asking = Asking::start(carol, "order.list");
    orders.packet("order.list", 20).await;
    let mut flood = 0;
    let mut send = |frame: Bytes| {
        flood += frame.len() as u64;
        chat.send(frame);
    };
    let body = vec![b'x'; 64 * 1024];
    for round in 0..ROUNDS {
        let (wave, begins) = (round as usize * WAVES / ROUNDS as usize, round % (ROUNDS / WAVES as u32) == 0);
        let leaving = if begins { &leaving[wave * LEAVING..][..LEAVING] } else { &[] };
        for (_, channel) in leaving {
            let frame = |header, body: &[u8]| chat.push_frame("gate01", &[channel], header, body);
            send(frame(push_header("chat.user.talk", 0), &[b'x'; 448 * 1024]));
            let kick = pb::KickOutNotify { channel_id: channel.clone() }.encode_to_vec();
            send(frame(push_header("login.signin", 0), &kick));
        }
        for (_, (_, channel)) in &slow {
            send(chat.push_frame("gate01", &[channel], push_header("chat.user.talk", round), &body));
        }
        send(chat.push_frame("gate01", &[&bobs], push_header("chat.user.talk", round), b"for bob"));
    }

    let mut lines = Vec::new();
    let stood = loop {
        lines.push(serve.line("event=\"backends_paused\"").await);
        if let Some(stood) = stand_still(&mut serve, &chat, SILENCE, &asking, &mut lines).await {
            break stood;
        }
    };
    assert!(stood.sent < flood, "the flood is larger than what the sockets take");
    // The one that was under way when it began is no proof.
    assert!(stood.answered > 1, "nobody else is served while a flood is not read");

    for round in 0..ROUNDS {
        let push = bob.push().await;
        assert_eq!(push.header.sequence, round, "in order, and none lost");
    }
    let latencies = asking.latencies().await;
    println!(
        "a pause of {:?} at {} of {flood} bytes; {} of {} answers of another service meanwhile, median {:?}, longest {:?}",
        stood.paused,
        stood.sent,
        stood.answered,
        latencies.len(),
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1]
    );

    for (kind, (mut client, channel)) in slow {
        assert_eq!(login.signout(&channel).await.meta("reason"), "slow_consumer");
        // A client that takes nothing is not waited for: only QUIC has a place for the code, in a packet that can be lost.
        client.read_on();
        let code = client.farewell().await.code;
        assert!(code.is_none() || (!kind.is_tcp() && code == Some(3002)), "{channel}: {code:?}");
    }
    for service in [&login, &chat, &orders] {
        let ended = |event: &LogicEvent| matches!(event, LogicEvent::Ended { .. });
        assert!(!service.events().iter().any(ended), "a link that the gateway paused is not lost");
    }
    lines.extend(std::iter::from_fn(|| serve.log.try_recv().ok()));
    let lost = |line: &&String| line.contains("to=\"broken\"") || line.contains("to=\"ejected\"");
    assert_eq!(lines.iter().find(lost), None);
}

/// Kilobytes of a field of the process's status, such as `VmRSS`.
pub(super) fn status(serve: &Serve, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", serve.child.id())).expect("the process lives");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// The beginning of the largest frame there may be, all of it but its last byte (row A15).
fn nearly_a_frame() -> Bytes {
    let mut frame =
        BytesMut::from(&gateway::wire::frame::head(gateway::wire::frame::Opcode::Binary, MIB)[..]);
    frame.resize(frame.len() + MIB - 1, b'x');
    frame.freeze()
}

/// Attackers of the memory, all signed in: each of the first begins a frame, each of the second one on every stream it
/// may have, and each of the third is sent small pushes that it does not read.
struct Attack {
    tasks: JoinSet<()>,
    slow: Vec<(Raw, String)>,
}

impl Attack {
    const FRAMES: usize = 400;
    const STREAMS: usize = 40;
    const SLOW: usize = 80;

    /// The newest are closed first, and those who are slow are not among these.
    async fn sign_in(target: &Target) -> (Vec<Raw>, Vec<Raw>, Vec<(Raw, String)>) {
        let (mut frames, mut streams, mut slow) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..Self::SLOW {
            slow.push(deaf(Kind::QuicOne, target, &format!("slow{n}")).await);
        }
        for n in 0..Self::FRAMES {
            let mut client = Raw::connect([Kind::Tcp, Kind::Ws][n % 2], target).await;
            client.login(&format!("frame{n}")).await;
            frames.push(client);
        }
        for n in 0..Self::STREAMS {
            let mut client = Raw::connect(Kind::QuicOne, target).await;
            client.login(&format!("streams{n}")).await;
            streams.push(client);
        }
        (frames, streams, slow)
    }

    /// All at once.
    async fn begin(target: &Target) -> Self {
        let (frames, streams, slow) = Self::sign_in(target).await;
        let frame = nearly_a_frame();
        let mut tasks = JoinSet::new();
        for mut client in frames {
            let frame = frame.clone();
            // It is closed, or stopped with the attack.
            tasks.spawn(async move {
                client.write(&frame).await;
                client.farewell().await;
            });
        }
        for mut client in streams {
            client.open(7).await;
            let frame = frame.clone();
            tasks.spawn(async move {
                let (_, connection) = client.quic();
                let connection = connection.clone();
                let mut parts = frame.chunks(PART);
                while let Some(part) = parts.next()
                    && connection.close_reason().is_none()
                {
                    for stream in 1..8 {
                        // Without credit for a stream the next one has its turn.
                        let written = client.quic_stream(stream).write_all(part);
                        let _no_credit = tokio::time::timeout(Duration::from_millis(100), written).await;
                    }
                }
                connection.closed().await;
            });
        }
        Self { tasks, slow }
    }

    /// A small push for each slow client, each in a read of the gateway that is full of others.
    fn push(&self, chat: &FakeLogic, round: u32) {
        let header = push_header("chat.user.talk", round);
        for (_, channel) in &self.slow {
            chat.send(chat.push_frame("gate01", &[channel], header.clone(), &[b'x'; PART / 64]));
            chat.send(chat.push_frame("gate01", &["nobody"], header.clone(), &[b'x'; PART]));
        }
    }

    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The largest read of the gateway, bytes.
const PART: usize = 16 * 1024;

/// A line of the log that says a level of overload: which one.
fn level(line: &str) -> Option<&str> {
    line.contains("event=\"overload_level\"").then_some(())?;
    line.split("level=\"").nth(1)?.split('"').next()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a15_c6_c8_in_a_small_memory_group_logins_are_refused_nobody_is_killed_and_it_passes() {
    const LIMIT: u64 = 256 << 20;
    const FOR: Duration = Duration::from_secs(8);
    /// From the end of overload: a few looks at the memory.
    const GIVEN_BACK: Duration = Duration::from_secs(6);
    let group = match MemoryGroup::of(LIMIT) {
        Ok(group) => group,
        Err(why) => return println!("skipped: no memory group can be made here ({why})"),
    };
    let (place, login, chat, config) = home();
    let command = group.confine(&place.gateway(&["serve", "--config", &config]));
    // What waits for a slow client waits in the gateway, and not in its QUIC.
    let limits = [("GATEWAY__LIMITS__MAX_FRAME", "1048576"), ("GATEWAY__LIMITS__QUIC_SEND_WINDOW", "16384")];
    let mut serve = Serve::run(command, 1, &limits).await;
    let budget = LIMIT / 100 * 80 + LIMIT % 100 * 80 / 100;
    let expected = format!("limits.memory is {budget} (80 % of the cgroup's limit)");
    assert!(serve.early.contains(&expected), "{expected}: {}", serve.early);
    let target = serve.target();
    let (alice, _) = sign_in(Kind::Tcp, &target, "alice", &login).await;
    let (bob, _) = sign_in(Kind::QuicOne, &target, "bob", &login).await;
    let at_rest = status(&serve, "VmRSS");

    let attack = Attack::begin(&target).await;
    let begun = Instant::now();
    let asking = [Asking::start(alice, "chat.user.list"), Asking::start(bob, "chat.user.list")];
    let (mut round, mut peak, mut refused, mut now) = (0, 0, 0, "normal".to_owned());
    // On a machine that is late it takes longer until everybody slow was sent too much.
    while begun.elapsed() < FOR || (shed(&login) < Attack::SLOW && begun.elapsed() < 2 * FOR) {
        // As fast as it is read, and not faster.
        chat.packet("chat.user.list", chat.packets("chat.user.list").len()).await;
        attack.push(&chat, round);
        round += 1;
        peak = peak.max(status(&serve, "VmRSS"));
        while let Ok(line) = serve.log.try_recv() {
            now = level(&line).map_or(now, str::to_owned);
        }
        refused += u32::from(now != "normal" && is_refused(&target).await);
    }
    assert!(refused > 0, "no login was refused");
    attack.end().await;
    let ended = Instant::now();
    while now != "normal" {
        let line = serve.line("event=\"overload_level\"").await;
        now = level(&line).expect("a level").to_owned();
    }
    let recovered = ended.elapsed();
    sign_in(Kind::Tcp, &target, "welcome", &login).await;

    // While it has little work, of which alone the allocator gives nothing back.
    let back = tokio::time::timeout(GIVEN_BACK, async {
        loop {
            let resident = status(&serve, "VmRSS");
            if resident < at_rest + (peak - at_rest) / 2 {
                return resident;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let back = back.await.expect("the memory is given back");
    let returned = ended.elapsed();
    let answers = asking.map(|asking| tokio::spawn(asking.latencies()));
    for (who, answers) in ["alice", "bob"].into_iter().zip(answers) {
        let latencies = answers.await.unwrap();
        let (median, longest) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
        println!("{who} had {} answers, median {median:?}, longest {longest:?}", latencies.len());
    }
    println!(
        "resident {at_rest} kB at rest, {peak} kB at most, {back} kB {returned:?} after the attack, of {} kB; {refused} logins \
         refused; normal after {recovered:?}",
        LIMIT >> 10
    );
    assert_eq!(shed(&login), Attack::SLOW);
    assert_eq!(group.oom_kills(), 0);
}

/// How many clients were closed because they did not take what they got.
fn shed(login: &FakeLogic) -> usize {
    let signouts = login.packets("login.signout");
    signouts.iter().filter(|signout| signout.meta("reason") == "slow_consumer").count()
}

/// Returns `true` if a newcomer is told to come again later. It may be over in this very moment, or the newcomer the
/// newest.
async fn is_refused(target: &Target) -> bool {
    let mut newcomer = Raw::connect(Kind::Tcp, target).await;
    let sequence = newcomer.signin(&identity::token("newcomer")).await;
    let answer = newcomer.next().await;
    let told = answer.and_then(|seen| seen.message()).filter(|answer| answer.header.sequence == sequence);
    let Some(answer) = told else { return false };
    if answer.header.status == 0 {
        return false;
    }
    assert_eq!(answer.header.status, pb::Status::SystemException as i32);
    newcomer.closed_with(3003).await;
    true
}
