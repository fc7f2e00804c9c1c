//! What a connection and a message cost a gateway over each transport, as the system counts it. It wants a release build, and
//! nobody else's work: `just costs`.

use gateway::wire::frame::{Opcode, encode};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::pressure::status;
use super::restart::{Serve, home};
use super::*;
use crate::support::stream::Seen;

/// Clients that are there before anything is counted: what is made once is made for them.
const FIRST: usize = 100;

/// Clients that do nothing.
const IDLE: usize = 1000;

/// Clients that each ask one thing after the other.
const ASKING: usize = 20;

/// What each asks in one round.
const EACH: usize = 250;

/// Rounds; the best counts, because others can only make it worse.
const ROUNDS: usize = 7;

/// Between two looks at a memory that still changes.
const LOOK: Duration = Duration::from_millis(500);

/// No limits that slow anybody down, and no pages of 2 MiB, of which a thousand clients would fill one or two.
const LIMITS: [(&str, &str); 5] = [
    ("MIMALLOC_ALLOW_THP", "0"),
    ("GATEWAY__LIMITS__LOGIN_DEADLINE", "60s"),
    ("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__FRAMES_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__BYTES_PER_SECOND", "0"),
];

async fn sign_in(serve: &Serve, kind: Kind, prefix: &str, count: usize) -> Vec<Raw> {
    let mut clients = connect(serve, kind, count).await;
    for (n, client) in clients.iter_mut().enumerate() {
        client.login(&format!("{prefix}{n}")).await;
    }
    clients
}

/// Clients of whom one ping has been answered.
async fn connect(serve: &Serve, kind: Kind, count: usize) -> Vec<Raw> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Raw::connect(kind, &serve.target()).await;
        client.write(encode(Opcode::Ping, b"")).await;
        client.take("a pong", |seen| matches!(seen, Seen::Frame(..)).then_some(())).await;
        clients.push(client);
    }
    clients
}

/// Kilobytes, once they no longer change.
async fn resident(serve: &Serve) -> u64 {
    let mut before = 0;
    loop {
        let now = status(serve, "VmRSS");
        if now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// Bytes of a client that does nothing: before it signs in, and behind it.
async fn of_an_idle_one(kind: Kind) -> [u64; 2] {
    let mut bytes = [0; 2];
    for (bytes, signed_in) in bytes.iter_mut().zip([false, true]) {
        let (place, _login, _chat, config) = home();
        let serve = Serve::start(&place, &config, 1, &LIMITS).await;
        let _first = sign_in(&serve, kind, "first", FIRST).await;
        let before = resident(&serve).await;
        let _idle = if signed_in {
            sign_in(&serve, kind, "idle", IDLE).await
        } else {
            connect(&serve, kind, IDLE).await
        };
        *bytes = (resident(&serve).await - before) * 1024 / IDLE as u64;
    }
    bytes
}

/// How long the processors worked for a process, all of its threads.
fn worked(serve: &Serve) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", serve.child.id())).unwrap();
    let of_task = |task: std::io::Result<fs::DirEntry>| {
        // One that has ended meanwhile is missed in both looks.
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(of_task).sum())
}

/// Each asks and waits for the answer, so often; gives the clients back.
async fn round(clients: Vec<Raw>) -> Vec<Raw> {
    let mut asking = JoinSet::new();
    for mut client in clients {
        asking.spawn(async move {
            for _ in 0..EACH {
                let sequence =
                    client.talk("bob", "a message as people write them, neither long nor short").await;
                assert_eq!(client.response(sequence).await.header.status, 0);
            }
            client
        });
    }
    asking.join_all().await
}

/// What a request and its answer cost, of these kinds in turn.
async fn of_a_message(kinds: [Kind; 6]) -> [Duration; 6] {
    let (place, _login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &LIMITS).await;
    let mut best = [Duration::MAX; 6];
    let mut crowds = Vec::new();
    for kind in kinds {
        crowds.push(sign_in(&serve, kind, &format!("{kind:?}"), ASKING).await);
    }
    for _ in 0..ROUNDS {
        for (best, crowd) in best.iter_mut().zip(&mut crowds) {
            let before = worked(&serve);
            *crowd = round(std::mem::take(crowd)).await;
            *best = (*best).min((worked(&serve) - before) / (ASKING * EACH) as u32);
        }
    }
    best
}

/// `just costs`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and runs alone in a release build"]
async fn a_websocket_costs_little_more_than_plain_tcp() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let messages = of_a_message(Kind::ALL).await;
    let mut idle = [[0; 2]; 6];
    for (idle, kind) in idle.iter_mut().zip(Kind::ALL) {
        *idle = of_an_idle_one(kind).await;
    }
    for ((kind, [stranger, idle]), message) in Kind::ALL.into_iter().zip(idle).zip(messages) {
        println!(
            "{kind:?}: {stranger} bytes before sign-in, {idle} idle behind it; {message:?} a request and its answer"
        );
    }
    let [tcp, tls, ws, wss, ..] = idle.map(|[_, idle]| idle);
    assert!(ws * 2 <= tcp * 3 && wss * 2 <= tls * 3, "1.5 times");
    let [tcp, tls, ws, wss, ..] = messages;
    assert!(ws * 100 <= tcp * 135 && wss * 100 <= tls * 135, "1.35 times");
}
