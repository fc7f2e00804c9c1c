//! `gateway ctl trace`: an operator watches each packet of an account.

use serde_json::Value;
use tokio::sync::mpsc as events;

use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::soon;

const SOCKET: (&str, &str) = ("GATEWAY__ADMIN__SOCKET", "admin.sock");

/// Lines a trace may be ahead of its test.
const LINES_AHEAD: usize = 1000;

/// A running `gateway ctl trace --json`, killed at the end of its test.
struct Trace {
    child: Child,
    lines: events::Receiver<String>,
}

impl Trace {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let arguments = [&["ctl", "trace"], arguments, &["--socket", "admin.sock", "--json"]].concat();
        let mut child =
            place.gateway(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = events::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line))
        });
        Self { child, lines }
    }

    /// The next line of this kind, and those before it.
    async fn until(&mut self, kind: &str, before: &mut Vec<String>) -> Value {
        loop {
            let line = soon(format!("a line of kind {kind}"), self.lines.recv()).await;
            let line = line.unwrap_or_else(|| panic!("it ended without {kind}: {before:?}"));
            before.push(line.clone());
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["kind"] == kind {
                return line;
            }
        }
    }

    /// Its first sign of life, which follows what it was told of those who were there.
    async fn begun(&mut self) -> Value {
        let line = soon("the first line", self.lines.recv()).await.expect("it ended");
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_watches_each_packet_of_an_account_and_of_nobody_else() {
    let (place, login, chat, config) = home();
    let serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let (mut bob, _) = sign_in(Kind::Tcp, &serve.target(), "bob", &login).await;
    let (mut alice, channel) = sign_in(Kind::QuicMany, &serve.target(), "alice", &login).await;
    let mut trace = Trace::start(&place, &["alice", "--app", "x_im"]);
    let mut all = Vec::new();
    let connected = trace.until("connected", &mut all).await;
    assert_eq!((&connected["channel"], &connected["transport"]), (&channel.clone().into(), &"quic".into()));
    assert_eq!((&connected["outcome"], &connected["direction"]), (&"open".into(), &Value::Null));

    let sequence = bob.talk("alice", "nobody watches bob").await;
    bob.response(sequence).await;
    let sequence = alice.talk("bob", "what alice says").await;
    alice.response(sequence).await;
    let asked = trace.until("request", &mut all).await;
    assert_eq!(
        (&asked["command"], &asked["sequence"]),
        (&"chat.user.talk".into(), &sequence.into()),
        "{asked}"
    );
    assert_eq!((&asked["direction"], &asked["instance"]), (&"in".into(), &"chat01".into()), "{asked}");
    assert_eq!((&asked["outcome"], &asked["account"]), (&"forwarded".into(), &"alice".into()), "{asked}");
    assert!(asked["bytes"].as_u64() > asked["body_bytes"].as_u64(), "{asked}");
    let answered = trace.until("answer", &mut all).await;
    assert_eq!((&answered["status"], &answered["sequence"]), (&0.into(), &sequence.into()), "{answered}");
    assert_eq!(
        (&answered["direction"], &answered["instance"]),
        (&"out".into(), &"chat01".into()),
        "{answered}"
    );
    for time in ["queue_seconds", "service_seconds"] {
        assert!(answered[time].as_f64().is_some_and(|time| (0.0..10.0).contains(&time)), "{answered}");
    }

    let refused = alice.request("nobody.knows", "", b"what nobody gets").await;
    alice.response(refused).await;
    let answered = trace.until("answer", &mut all).await;
    assert_eq!(
        (&answered["status"], &answered["outcome"]),
        (&103.into(), &"no such service".into()),
        "{answered}"
    );
    assert_eq!(answered["instance"], Value::Null, "{answered}");
    let gate = login.signin("alice").await.session().gate_id;
    chat.push_to(&gate, &[&channel], 77, b"what is pushed");
    let pushed = trace.until("push", &mut all).await;
    assert_eq!((&pushed["sequence"], &pushed["body_bytes"]), (&77.into(), &14.into()), "{pushed}");
    alice.heartbeat(true).await;
    trace.until("heartbeat", &mut all).await;

    // She comes again, on any worker; a token that is none of hers is shown as well.
    let (again, channel) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    let came = trace.until("login", &mut all).await;
    assert_eq!((&came["channel"], &came["transport"]), (&channel.clone().into(), &"tcp".into()), "{came}");
    assert_eq!((&came["address"], &came["instance"]), (&"127.0.0.1".into(), &"login01".into()), "{came}");
    let answered = trace.until("answer", &mut all).await;
    assert_eq!(
        (&answered["channel"], &answered["status"]),
        (&channel.clone().into(), &0.into()),
        "{answered}"
    );
    drop(again);
    let closed = trace.until("closed", &mut all).await;
    assert_eq!(
        (&closed["channel"], &closed["outcome"]),
        (&channel.into(), &"peer_closed".into()),
        "{closed}"
    );
    let mut thief = Raw::connect(Kind::Tcp, &serve.target()).await;
    let forged = identity::signed(
        &identity::claims("alice"),
        jsonwebtoken::Algorithm::HS256,
        b"a key that nobody else has, of 32 bytes",
    );
    thief.signin(&forged).await;
    let refused = trace.until("login", &mut all).await;
    assert_eq!(
        (&refused["channel"], &refused["outcome"]),
        (&Value::Null, &"jwt_signature".into()),
        "{refused}"
    );

    let all = all.join("\n");
    for secret in ["bob\"", "what ", "eyJ", &forged] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_traces_are_few_and_end_with_their_readers_and_their_time() {
    let (place, login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    let mut traces: Vec<_> = (0..4).map(|_| Trace::start(&place, &["alice"])).collect();
    for trace in &mut traces {
        assert_eq!(trace.begun().await["dropped"], 0);
    }
    let ask = |arguments: &[&str]| {
        let all = [&["ctl", "trace"], arguments, &["--socket", "admin.sock"]].concat();
        tokio::task::block_in_place(|| place.run(&all, ""))
    };
    let (code, _, told) = ask(&["alice"]);
    assert!(code == 1 && told.contains("4 accounts are watched already"), "{told}");
    let line = serve.line("what=\"trace\"").await;
    assert!(line.contains("alice") && line.contains("result=\"done\""), "{line}");
    // Whoever watches no more makes room, although nothing happens.
    drop(traces.pop());
    let (code, out, told) = loop {
        let (code, out, told) = ask(&["alice", "--seconds", "1"]);
        if !told.contains("are watched already") {
            break (code, out, told);
        }
    };
    assert!(
        code == 0 && out.starts_with("TIME") && told.starts_with("the time is over; 0 lines"),
        "{out}{told}"
    );
    let (alice, _) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    for trace in &mut traces {
        assert_eq!(trace.until("login", &mut Vec::new()).await["outcome"], "forwarded");
    }
    drop(alice);
    for (arguments, text) in [
        (&[""][..], "account: is empty or too long"),
        (&["alice", "--seconds", "61"], "seconds: is 61; allowed is 1 to 60"),
    ] {
        let (code, _, told) = ask(arguments);
        assert!(code == 1 && told.contains(text), "{told}");
    }
}
