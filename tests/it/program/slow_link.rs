//! A chat behind a slow link fetches what it missed while new lines come (row H1).

use super::*;
use crate::support::shaped::{Shape, ShapedLink};

const MISSED: usize = 200;
const LIVE: usize = 10;

/// 300 kB/s with a round trip of 40 ms.
const SHAPE: Shape = Shape { rate: 300_000, delay: Duration::from_millis(20), queue: 64 * 1024 };

fn seen(bob: &str, of: &str) -> usize {
    bob.lines().filter(|line| line.starts_with("message from=alice") && line.contains(of)).count()
}

#[rstest::rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h1_two_hundred_missed_messages_arrive_behind_a_slow_link_while_two_lines_a_second_come(
    #[values("tcp", "tls", "ws", "wss", "quic")] transport: &'static str,
) {
    let place = Place::new();
    let dev = Dev::start(&place);
    let [tcp, tls, ws, wss, quic]: [SocketAddr; 5] =
        ["tcp", "tls", "ws", "wss", "quic"].map(|what| dev.address(what).parse().unwrap());
    let missed: String = (0..MISSED).map(|n| format!("missed {n} {}\n", "x".repeat(3900))).collect();
    let fast = quic.to_string();
    let alice = ["chat", "--account", "alice", "--server", &fast, "--to", "bob"];
    // By a thread, because what it prints is to be read meanwhile.
    let mut writer = place.gateway(&alice).spawn().unwrap();
    let mut stdin = writer.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(missed.as_bytes()).unwrap());
    let sent = finish(writer);
    writing.join().unwrap();
    assert_eq!(sent.status.code(), Some(0), "{}", String::from_utf8_lossy(&sent.stderr));

    let link = ShapedLink::to(&Target { tcp, tls, ws, wss, quic }, SHAPE).await;
    let Target { tcp, tls, ws, wss, quic } = *link.target();
    let slow = match transport {
        "tcp" => tcp,
        "tls" => tls,
        "ws" => ws,
        "wss" => wss,
        _ => quic,
    };
    let mut bob = place.chat("bob", transport, &slow.to_string());
    let mut writer = place.gateway(&alice).spawn().unwrap();
    let talking = std::thread::spawn(move || {
        for n in 0..LIVE {
            writeln!(writer.stdin.as_mut().unwrap(), "live {n}").unwrap();
            std::thread::sleep(Duration::from_millis(500));
        }
        finish(writer)
    });
    let all = (MISSED + LIVE).to_string();
    let bob = bob.args(["--expect", &all, "--wait", "25"]).spawn().unwrap();
    let bob = tokio::task::spawn_blocking(move || finish(bob)).await.unwrap();
    let shown = String::from_utf8(bob.stdout).unwrap();
    let counts = (seen(&shown, "text=missed "), seen(&shown, "text=live "));
    println!("{transport}: {counts:?} shown");
    assert_eq!(counts, (MISSED, LIVE), "{}", String::from_utf8_lossy(&bob.stderr));
    assert_eq!(shown.lines().filter(|line| line.starts_with("online")).count(), 1, "one session");
    assert_eq!(bob.status.code(), Some(0));
    assert_eq!(talking.join().unwrap().status.code(), Some(0));
}
