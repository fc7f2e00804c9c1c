//! What signals do to a running program (row H16).

use std::time::Instant;

use rstest::rstest;

use super::logic::Running;
use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::identity::token;
use crate::support::raw::Options;

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
    #[values(Kind::Tcp, Kind::QuicOne, Kind::QuicMany)] kind: Kind,
) {
    let (place, login, chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[]).await;
    chat.hold("chat.user.talk");
    let target = serve.target();
    let (mut asking, asking_id) = sign_in(kind, &target, "alice", &login).await;
    let _never_answered = asking.request("chat.user.talk", "bob", b"").await;
    chat.packet("chat.user.talk", 0).await;
    let narrow = Options { dialect: Dialect::XIm, receive_buffer: Some(4096), refuses_push_stream: false };
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
    let begun = Instant::now();
    serve.signal(Signal::SIGINT);
    asking.closed_with(3000).await;
    opening.closed_with(3000).await;
    for channel in [asking_id, deaf_id, opening_id] {
        let signout = login.signout(&channel).await;
        assert_eq!(signout.meta("reason"), "draining", "{channel}");
    }
    assert_eq!(serve.end().await, Some(130));
    // One second, and half of one for a machine that builds beside.
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
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
        running.line(if command == "logic" { "event=\"listening\"" } else { "to=\"adult\"" });
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
            if signal != Signal::SIGPIPE {
                let line = running.await_line("ignored");
                assert!(line.contains(signal.as_str()), "{line}");
            }
        }
        running.signal(Signal::SIGTERM);
        running.await_line("stopped");
        assert_eq!(running.code().unwrap(), 0);
    });
}
