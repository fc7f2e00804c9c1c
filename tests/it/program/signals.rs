//! What signals do to a running program (row H16).

use std::time::SystemTime;

use rstest::rstest;

use super::logic::Running;
use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::fake_consul::{ConsulMood, FakeConsul};
use crate::support::identity::token;
use crate::support::raw::Options;
use crate::support::soon;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_a_second_sigterm_changes_nothing() {
    let (place, login, chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[("GATEWAY__DRAIN__WINDOW", "0s")]).await;
    chat.hold("chat.user.talk");
    let (mut client, channel) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    let sequence = client.request("chat.user.talk", "bob", b"").await;
    let request = chat.packet("chat.user.talk", 0).await;
    serve.signal(Signal::SIGTERM);
    serve.line("it ends in order").await;
    for _ in 0..2 {
        serve.signal(Signal::SIGTERM);
        serve.line("it is ending already").await;
    }
    // One SIGINT is not two.
    serve.signal(Signal::SIGINT);
    serve.line("it is ending already").await;
    chat.answer_default(&request);
    assert_eq!(client.response(sequence).await.header.status, 0, "the last answer is waited for");
    client.closed_with(3000).await;
    login.signout(&channel).await;
    assert_eq!(serve.end().await, Some(0));
}

/// Of a client that asks, one whose login is not answered, and one that takes nothing.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_sigint_twice_waits_for_nothing_but_close_frames_and_sign_outs(
    #[values(Kind::Tcp, Kind::Tls, Kind::Ws, Kind::Wss, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let (place, login, chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[]).await;
    chat.hold("chat.user.talk");
    let target = serve.target();
    let (mut asking, asking_id) = sign_in(kind, &target, "alice", &login).await;
    let _never_answered = asking.request("chat.user.talk", "bob", b"").await;
    chat.packet("chat.user.talk", 0).await;
    let narrow = Options {
        dialect: Dialect::XIm,
        receive_buffer: Some(4096),
        refuses_push_stream: false,
        preface: b"",
        headers: "",
        from: None,
    };
    let mut deaf = Raw::connect_with(kind, &target, narrow).await;
    let deaf_id = deaf.login("bob").await;
    deaf.stop_reading();
    let text = vec![b'x'; 200 * 1024];
    chat.push(&[&deaf_id], 1, &text).await;
    // What came over the link behind the push.
    let sequence = asking.request("chat.user.offline", "", b"").await;
    asking.response(sequence).await;
    login.hold("login.signin");
    let mut opening = Raw::connect(kind, &target).await;
    opening.signin(&token("carol")).await;
    let opening_id = login.signin("carol").await.header.channel_id;

    serve.signal(Signal::SIGINT);
    serve.line("it ends in order").await;
    let hurry = Hurry::begin(&mut serve).await;
    asking.closed_with(3000).await;
    opening.closed_with(3000).await;
    for channel in [asking_id, deaf_id, opening_id] {
        let signout = login.signout(&channel).await;
        assert_eq!(signout.meta("reason"), "draining", "{channel}");
    }
    hurry.ends(serve).await;
}

/// Consul hears of the drain first, and does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_sigint_twice_does_not_wait_for_a_consul_that_hangs() {
    let consul = FakeConsul::start().await;
    let (place, login, chat, config) = home();
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let address = consul.address.to_string();
    let overrides = [
        ("GATEWAY__DISCOVERY__KIND", "consul"),
        ("GATEWAY__DISCOVERY__INSTANCES", "[]"),
        ("GATEWAY__DISCOVERY__SERVICES", "[\"login\", \"chat\"]"),
        ("GATEWAY__DISCOVERY__CONSUL__ADDRESS", &address),
        ("GATEWAY__GATEWAY__ADVERTISE", "gate.example.org"),
    ];
    let mut serve = Serve::start(&place, &config, 1, &overrides).await;
    consul.request("PUT /v1/agent/service/register", 0).await;
    let target = serve.target();
    let mut clients = Vec::new();
    for kind in Kind::ALL {
        clients.push(sign_in(kind, &target, &format!("{kind:?}"), &login).await);
    }
    consul.mood_for("/agent/", ConsulMood::Hanging);

    serve.signal(Signal::SIGINT);
    consul.request("PUT /v1/agent/service/deregister", 0).await;
    let hurry = Hurry::begin(&mut serve).await;
    for (mut client, channel) in clients {
        client.closed_with(3000).await;
        assert_eq!(login.signout(&channel).await.meta("reason"), "draining", "{channel}");
    }
    hurry.ends(serve).await;
}

/// What is blocked in a worker does not hold up the end.
#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_sigint_twice_ends_a_process_whose_worker_is_blocked() {
    use std::time::Instant;

    use gateway::limits::DRAIN_HARD_STOP;

    let (place, _login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[]).await;
    let mut client = Raw::connect(Kind::Tcp, &serve.target()).await;
    client.signin(&token(gateway::faults::BLOCK_WORKER)).await;
    serve.line("the worker is blocked").await;
    serve.signal(Signal::SIGINT);
    serve.line("it ends in order").await;
    serve.signal(Signal::SIGINT);
    serve.line("the second SIGINT").await;
    let hurried = Instant::now();
    assert_eq!(serve.end().await, Some(130));
    // No limit of the whole drain is a tenth of it.
    assert!(hurried.elapsed() < DRAIN_HARD_STOP / 2, "{:?}", hurried.elapsed());
}

/// A second SIGINT that the program has seen.
struct Hurry {
    at: SystemTime,
}

impl Hurry {
    async fn begin(serve: &mut Serve) -> Self {
        serve.signal(Signal::SIGINT);
        Self { at: logged_at(&serve.line("the second SIGINT").await) }
    }

    /// It ends with everything done, within its second by its own clock: what others do to the machine before this
    /// test hears of it does not count.
    async fn ends(self, mut serve: Serve) {
        let stopped = serve.line("event=\"stopped\"").await;
        assert!(stopped.contains("orderly=true hurried=true"), "{stopped}");
        let took = logged_at(&stopped).duration_since(self.at).unwrap();
        assert!(took <= Duration::from_secs(1), "{took:?}");
        println!("ended after {took:?}");
        assert_eq!(serve.end().await, Some(130));
    }
}

/// When this line of the log was written.
fn logged_at(line: &str) -> SystemTime {
    humantime::parse_rfc3339(line.split(' ').next().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[rstest]
#[case::serve("serve")]
#[case::dev("dev")]
#[case::logic("logic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_f2_signals_that_mean_nothing_end_nothing(#[case] command: &str) {
    let (place, _login, _chat, config) = home();
    let arguments = match command {
        "serve" => vec!["serve", "--config", &config],
        "dev" => vec!["dev", "--port", "0"],
        _ => vec!["logic", "--serve", "chat@zone_a=127.0.0.1:0"],
    };
    tokio::task::block_in_place(|| {
        let mut running = Running::by_log(place.gateway(&arguments));
        running.line(if command == "logic" { "event=\"listening\"" } else { "event=\"worker_started\"" });
        running.line(if command == "logic" { "event=\"listening\"" } else { "to=\"healthy\"" });
        for signal in [
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGHUP,
            Signal::SIGALRM,
            Signal::SIGVTALRM,
            Signal::SIGPROF,
            Signal::SIGIO,
            Signal::SIGXFSZ,
            Signal::SIGPIPE,
        ] {
            running.signal(signal);
            if signal == Signal::SIGHUP && command == "serve" {
                running.await_line("event=\"reloaded\"");
            } else if signal != Signal::SIGPIPE {
                let line = running.await_line("ignored");
                assert!(line.contains(signal.as_str()), "{line}");
            }
        }
        running.signal(Signal::SIGTERM);
        running.await_line("stopped");
        assert_eq!(running.code().unwrap(), 0);
    });
}

/// A reload that waits for a file holds up neither the drain nor the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h16_f17_sigterm_is_seen_while_a_reload_waits_and_sighup_is_ignored_from_then_on() {
    let (place, login, chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[("GATEWAY__DRAIN__WINDOW", "0s")]).await;
    chat.hold("chat.user.talk");
    let (mut client, _) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    let sequence = client.request("chat.user.talk", "bob", b"").await;
    let request = chat.packet("chat.user.talk", 0).await;
    let path = place.0.join("route.json");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // From now on it waits, for as long as this is held.
    serve.signal(Signal::SIGHUP);
    let pipe = tokio::task::spawn_blocking(move || fs::File::options().write(true).open(path).unwrap());
    let pipe = soon("the reload to open the pipe", pipe).await.unwrap();
    serve.signal(Signal::SIGTERM);
    let mut line = serve.line("event=").await;
    while !line.contains("it ends in order") {
        assert!(!line.contains("reload_failed"), "the reload came first: {line}");
        line = serve.line("event=").await;
    }
    serve.signal(Signal::SIGHUP);
    assert!(serve.line("ignored").await.contains("SIGHUP"));
    chat.answer_default(&request);
    assert_eq!(client.response(sequence).await.header.status, 0);
    assert_eq!(serve.end().await, Some(0));
    drop(pipe);
}
