//! What a connection and a message cost a gateway over each transport, as the system counts it. It wants a release build, and
//! nobody else's work: `just costs`.

use tokio::task::JoinSet;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::pressure::status;
use super::restart::{Serve, home};
use super::*;

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

/// One worker, and no limits that slow anybody down.
const LIMITS: [(&str, &str); 3] = [
    ("GATEWAY__LIMITS__CONNECTIONS_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__FRAMES_PER_SECOND", "0"),
    ("GATEWAY__LIMITS__BYTES_PER_SECOND", "0"),
];

async fn sign_in(serve: &Serve, kind: Kind, prefix: &str, count: usize) -> Vec<Raw> {
    let mut clients = Vec::with_capacity(count);
    for n in 0..count {
        let mut client = Raw::connect(kind, &serve.target()).await;
        client.login(&format!("{prefix}{n}")).await;
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

/// Bytes of a client that has signed in and does nothing.
async fn of_an_idle_one(kind: Kind) -> u64 {
    let (place, _login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 1, &LIMITS).await;
    let _first = sign_in(&serve, kind, "first", FIRST).await;
    let before = resident(&serve).await;
    let _idle = sign_in(&serve, kind, "idle", IDLE).await;
    (resident(&serve).await - before) * 1024 / IDLE as u64
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
    let mut idle = [0; 6];
    for (idle, kind) in idle.iter_mut().zip(Kind::ALL) {
        *idle = of_an_idle_one(kind).await;
    }
    for ((kind, idle), message) in Kind::ALL.into_iter().zip(idle).zip(messages) {
        println!(
            "{kind:?}: {idle} bytes of an idle connection, {message:?} of the processor for a request and its answer"
        );
    }
    let [tcp, tls, ws, wss, ..] = idle;
    assert!(ws * 2 <= tcp * 3 && wss * 2 <= tls * 3, "1.5 times");
    let [tcp, tls, ws, wss, ..] = messages;
    assert!(ws * 100 <= tcp * 135 && wss * 100 <= tls * 135, "1.35 times");
}
