//! The resolver and its threads.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::testing::{Barrier, both, silent_and_listening};
use super::*;
use crate::limits::LOOKUP_FAILURE_KEPT;

/// Far above anything a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(15);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn there(host: u8) -> Vec<SocketAddr> {
    vec![SocketAddr::from(([10, 0, 0, host], 0))]
}

#[tokio::test]
async fn h14_at_most_one_look_up_of_a_name_is_under_way_whoever_asks() {
    let (open, barrier) = Barrier::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver = Resolver::new(move |host: &str| {
        assert_eq!(host, "gate.example.org");
        counted.fetch_add(1, SeqCst);
        barrier.pass();
        Ok(there(1))
    });
    let mut askers = JoinSet::new();
    for port in 1..=50 {
        let resolver = resolver.clone();
        askers.spawn(async move { resolver.resolve("gate.example.org", port, soon()).await });
    }
    // Some give up; their look-up stays the one that is under way.
    let now = Instant::now();
    let late = resolver.resolve("gate.example.org", 1, now).await.unwrap_err();
    assert!(matches!(late, ResolveError::Late { .. }), "{late}");
    assert_eq!((resolver.counts().under_way, resolver.counts().late), (1, 1));
    drop(open);
    let answers: Vec<_> = askers.join_all().await.into_iter().map(Result::unwrap).collect();
    assert!(answers.iter().all(|answer| answer.len() == 1 && answer[0].ip() == there(1)[0].ip()));
    assert_eq!(answers.iter().map(|answer| usize::from(answer[0].port())).sum::<usize>(), 50 * 51 / 2);
    assert_eq!((asked.load(SeqCst), resolver.counts().under_way), (1, 0));
}

#[test]
fn h14_a_resolver_that_hangs_holds_no_runtime_and_no_more_than_its_threads() {
    let (_never, barrier) = Barrier::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&inside);
    let (entered, entries) = std::sync::mpsc::channel();
    let resolver = Resolver::new(move |_: &str| {
        counted.fetch_add(1, SeqCst);
        entered.send(std::thread::current().name().map(str::to_owned)).unwrap();
        barrier.pass();
        Ok(there(1))
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names = 3 * LOOKUP_THREADS;
    runtime.block_on(async {
        for _again in 0..3 {
            for n in 0..names {
                let late = resolver.resolve(&format!("host{n}"), 1, Instant::now()).await.unwrap_err();
                assert!(late.to_string().contains("the resolver does not answer"), "{late}");
            }
        }
    });
    // Does not return while something blocks in it.
    drop(runtime);
    for _ in 0..LOOKUP_THREADS {
        assert_eq!(entries.recv_timeout(PATIENCE).unwrap().as_deref(), Some("resolve"));
    }
    assert_eq!((inside.load(SeqCst), resolver.counts().under_way), (LOOKUP_THREADS, names));
    assert_eq!(resolver.counts().late, 3 * names as u64);
}

#[tokio::test]
async fn e10_while_look_ups_fail_the_last_good_answer_is_used_and_failures_are_counted_and_kept() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver = Resolver::new(move |host: &str| match (host, counted.fetch_add(1, SeqCst)) {
        ("panics", _) => panic!("a test asked for it"),
        ("empty", _) => Ok(Vec::new()),
        _ => Err(io::Error::other("no such luck")),
    });
    for (host, reason) in [("a", "no such luck"), ("empty", "no address"), ("panics", "panicked")] {
        for _ in 0..20 {
            let error = resolver.resolve(host, 1, soon()).await.unwrap_err();
            assert!(error.to_string().contains(reason) && error.to_string().contains(host), "{error}");
        }
    }
    let began = std::time::Instant::now();
    let asked = asked.load(SeqCst);
    assert!(asked == 3 || began.elapsed() >= LOOKUP_FAILURE_KEPT, "{asked} look-ups");
    assert_eq!(resolver.counts().failed, asked as u64);
    // Known from better times.
    let long_ago = began.checked_sub(crate::limits::LOOKUP_KEPT).unwrap();
    resolver.names().ask("a", long_ago);
    resolver.names().ended("a", Ok(there(7)), long_ago);
    let answer = resolver.resolve("a", 80, soon()).await.unwrap();
    assert_eq!(answer, ["10.0.0.7:80".parse().unwrap()]);
    assert_eq!(resolver.counts().failed, asked as u64 + 1);
}

#[tokio::test]
async fn e10_while_the_resolver_hangs_the_last_good_answer_is_used_after_a_share_of_the_time() {
    let (_never, barrier) = Barrier::new();
    let resolver = Resolver::new(move |_: &str| {
        barrier.pass();
        Ok(there(1))
    });
    let long_ago = std::time::Instant::now().checked_sub(crate::limits::LOOKUP_KEPT).unwrap();
    resolver.names().ask("a", long_ago);
    resolver.names().ended("a", Ok(there(7)), long_ago);
    let began = Instant::now();
    let answer = resolver.resolve("a", 80, began + Duration::from_secs(4)).await.unwrap();
    assert_eq!(answer, ["10.0.0.7:80".parse().unwrap()]);
    assert!((LOOKUP_PATIENCE..LOOKUP_PATIENCE * 5).contains(&began.elapsed()), "{:?}", began.elapsed());
    let began = Instant::now();
    resolver.resolve("a", 80, began + Duration::from_millis(40)).await.unwrap();
    assert!(began.elapsed() < LOOKUP_PATIENCE, "{:?}", began.elapsed());
    assert_eq!(resolver.counts().late, 2);
}

#[tokio::test]
async fn h14_a_connection_comes_about_over_the_second_address_when_the_first_is_silent() {
    let (silent, listener) = silent_and_listening();
    let listener = TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolver = Resolver::new(|_: &str| Ok(both()));
    let began = Instant::now();
    let stream = resolver.connect("a", port, began + Duration::from_secs(20)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    // One that was of no use is tried last from then on.
    resolver.avoid("a", listener.local_addr().unwrap());
    let order = resolver.resolve("a", port, soon()).await.unwrap();
    assert_eq!(order, [silent.listener.local_addr().unwrap(), listener.local_addr().unwrap()]);
    resolver.avoid("a", silent.listener.local_addr().unwrap());
    let order = resolver.resolve("a", port, soon()).await.unwrap();
    assert_eq!(order[0], listener.local_addr().unwrap());
    // Nobody at all.
    drop(listener);
    let deadline = Instant::now() + Duration::from_millis(100);
    let nobody = resolver.connect("a", port, deadline).await.unwrap_err();
    assert!(matches!(nobody, TcpConnectError::Timeout), "the silent one may still answer: {nobody}");
    drop(silent);
    let nobody = resolver.connect("a", port, soon()).await.unwrap_err();
    assert!(
        matches!(&nobody, TcpConnectError::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused),
        "{nobody}"
    );
}

#[tokio::test]
async fn an_ip_address_is_no_name_and_nobody_is_asked() {
    let resolver = Resolver::new(|host: &str| panic!("asked for {host}"));
    for host in ["127.0.0.1", "::1"] {
        let answer = resolver.resolve(host, 7, Instant::now()).await.unwrap();
        assert_eq!(answer, [SocketAddr::new(host.parse().unwrap(), 7)]);
        resolver.avoid(host, answer[0]);
    }
    assert_eq!(resolver.counts(), ResolverCounts { failed: 0, late: 0, full: 0, under_way: 0 });
}

#[tokio::test]
async fn the_system_knows_this_machine_and_no_invalid_name() {
    let resolver = Resolver::default();
    let here = resolver.resolve("localhost", 7, soon()).await.unwrap();
    assert!(here.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{here:?}");
    let none = resolver.resolve("a name with blanks", 7, soon()).await.unwrap_err();
    assert!(matches!(none, ResolveError::Failed { .. }), "{none}");
}

#[test]
fn a_host_and_its_port() {
    assert_eq!(host_and_port("chat:9000").unwrap(), ("chat", 9000));
    assert_eq!(host_and_port("[::1]:1").unwrap(), ("::1", 1));
    for bad in ["", "chat", "chat:", "chat:x", "chat:70000", ":1"] {
        assert_eq!(host_and_port(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
    }
}
