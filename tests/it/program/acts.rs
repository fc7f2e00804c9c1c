//! What an operator does to instances of logic services and to the gateway itself, seen from clients and services.

use gateway_client::{ConnectOptions, Event, ResilientClient, ResilientOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use super::restart::{Serve, home, sign_in};
use super::*;
use crate::support::fake_consul::FakeConsul;
use crate::support::soon;

const SOCKET: (&str, &str) = ("GATEWAY__ADMIN__SOCKET", "admin.sock");

/// Exit code, output and complaints of one command.
fn ctl(place: &Place, arguments: &[&str]) -> (i32, String, String) {
    let all = [&["ctl"], arguments, &["--socket", "admin.sock"]].concat();
    tokio::task::block_in_place(|| place.run(&all, ""))
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    let (code, out, told) = ctl(place, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{told}");
    serde_json::from_str(&out).unwrap()
}

/// A second instance of chat, in the same zone.
fn second_chat(place: &Place, config: &str) -> FakeLogic {
    let chat = FakeLogic::start(Dialect::XIm);
    let instance = format!(
        "\n[[discovery.instances]]\nservice = \"chat\"\nid = \"chat02\"\naddress = \"{}\"\nzone = \"zone_a\"\n",
        chat.address
    );
    let path = place.0.join(config);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, text + &instance).unwrap();
    chat
}

/// The row of an instance once it is as it should be.
async fn link(place: &Place, instance: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let links = json(place, &["links"]);
            let found = links["links"].as_array().unwrap().iter().find(|row| row["instance"] == instance);
            match found.filter(|row| is_so(row)) {
                Some(row) => return row.clone(),
                // There is no event for it across the socket.
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    soon(format!("the link of {instance}"), looking).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_f17_an_operator_ejects_an_instance_and_returns_it() {
    let (place, login, chat, config) = home();
    let other = second_chat(&place, &config);
    let mut serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    for instance in ["chat01", "chat02"] {
        link(&place, instance, |row| row["serves"] == true).await;
    }
    let goes_to = |account: &str| {
        let explained = json(&place, &["explain", "--app", "x_im", "--account", account]);
        let services = explained["services"].as_array().unwrap();
        services.iter().find(|of| of["service"] == "chat").unwrap()["instance"].as_str().unwrap().to_owned()
    };
    let account = (0..50).map(|n| format!("u{n}")).find(|account| goes_to(account) == "chat01").unwrap();
    let (mut client, _) = sign_in(Kind::Tcp, &serve.target(), &account, &login).await;
    let sequence = client.talk("bob", "one").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    assert_eq!((chat.packets("chat.user.talk").len(), other.packets("chat.user.talk").len()), (1, 0));

    let (code, out, told) = ctl(&place, &["eject", "chat01"]);
    assert_eq!((code, &*told), (0, ""));
    assert_eq!(out, "chat01 of chat is ejected until it is returned; requests moved: 0\n");
    let line = serve.line("event=\"admin\"").await;
    assert!(line.contains("what=\"eject\"") && line.contains("result=\"done\""), "{line}");
    let row = link(&place, "chat01", |row| row["state"] == "ejected").await;
    assert_eq!((&row["why"], &row["serves"]), (&"by an operator".into(), &false.into()), "{row}");
    let (_, out, _) = ctl(&place, &["explain", "--app", "x_im", "--account", &account]);
    assert!(out.contains("ejected by an operator: chat01 of chat"), "{out}");
    // It outlasts a connection.
    chat.reset_link();
    link(&place, "chat01", |row| row["connected_times"] == 2 && row["state"] == "ejected").await;
    let sequence = client.talk("bob", "two").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    assert_eq!((chat.packets("chat.user.talk").len(), other.packets("chat.user.talk").len()), (1, 1));

    let (code, _, told) = ctl(&place, &["eject", "chat02"]);
    assert!(code == 1 && told.contains("no other instance of chat serves"), "{told}");
    let (code, _, told) = ctl(&place, &["eject", "chat02", "--force"]);
    assert!(code == 0 && told.contains("warning: no other instance of chat serves"), "{told}");
    let sequence = client.talk("bob", "three").await;
    assert_eq!(client.response(sequence).await.header.status, 300);

    assert_eq!(json(&place, &["return", "chat01"])["services"], serde_json::json!(["chat"]));
    assert_eq!(goes_to(&account), "chat01");
    let sequence = client.talk("bob", "four").await;
    assert_eq!(client.response(sequence).await.header.status, 0);
    assert_eq!((chat.packets("chat.user.talk").len(), other.packets("chat.user.talk").len()), (2, 1));
    let (code, _, told) = ctl(&place, &["return", "chat01"]);
    assert!(code == 1 && told.contains("no operator has ejected chat01"), "{told}");
    let (code, _, told) = ctl(&place, &["eject", "chat03"]);
    assert!(code == 1 && told.contains("no instance chat03; known are: chat01, chat02, login01"), "{told}");
}

/// What `ctl status` says once it is so.
async fn status(place: &Place, is_so: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let status = json(place, &["status"]);
            if is_so(&status) {
                return status;
            }
            // There is no event for it across the socket.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the status", looking).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_f17_an_operator_drains_to_another_gateway_and_undoes_it() {
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let other = Serve::start(&place, &config, 1, &[("GATEWAY__GATEWAY__ID", "gate02")]).await;
    let (mut bob, _) = sign_in(Kind::Tcp, &serve.target(), "bob", &login).await;

    let drained = json(&place, &["drain", "--window", "1h"]);
    assert_eq!(
        (&drained["connections"], &drained["window_seconds"]),
        (&1.into(), &3600.0.into()),
        "{drained}"
    );
    Raw::connect(Kind::Tcp, &serve.target()).await.closed_with(3000).await;
    Raw::connect(Kind::Wss, &serve.target()).await.closed_with(3000).await;
    let told = json(&place, &["status"]);
    assert_eq!(
        (&told["ready"], &told["operator_drain"]["drained"]),
        (&false.into(), &false.into()),
        "{told}"
    );
    assert!(told["reasons"][0].as_str().unwrap().contains("ctl undrain"), "{told}");
    let sequence = bob.talk("alice", "still served").await;
    assert_eq!(bob.response(sequence).await.header.status, 0);
    assert_eq!(json(&place, &["undrain"])["connections"], 1);
    let told = json(&place, &["status"]);
    assert_eq!((&told["ready"], &told["operator_drain"]), (&true.into(), &Value::Null), "{told}");
    let sequence = bob.talk("alice", "I stayed").await;
    assert_eq!(bob.response(sequence).await.header.status, 0);
    drop(bob);
    let (code, _, told) = ctl(&place, &["undrain"]);
    assert!(code == 1 && told.contains("there is nothing to undo"), "{told}");

    // Her list has one gateway.
    let options = ResilientOptions::new(ConnectOptions::tcp(serve.target().tcp.to_string()));
    let (_alice, _pushes, mut events) = ResilientClient::start(options, identity::token("alice"));
    let mut online = async || {
        loop {
            if let Event::Connected(online) = soon("an event", events.recv()).await.expect("an event") {
                return online.server.clone();
            }
        }
    };
    assert_eq!(online().await, serve.target().tcp.to_string());
    let to = other.target().tcp.to_string();
    let (code, out, told) = ctl(&place, &["drain", "--window", "2s", "--to", &to]);
    assert_eq!((code, &*told), (0, ""));
    assert!(out.contains(&format!("go within 2 s, to {to}; `ctl undrain` ends it")), "{out}");
    assert_eq!(online().await, to, "she goes where she was told to");
    assert_eq!(login.packets("login.signin").last().unwrap().session().gate_id, "gate02");
    status(&place, |status| status["operator_drain"]["drained"] == true).await;
    let (_, out, _) = ctl(&place, &["status"]);
    assert!(out.contains("drained, waiting for undrain or stop"), "{out}");

    // Nobody is left, and it runs.
    json(&place, &["undrain"]);
    let (carol, _) = sign_in(Kind::QuicMany, &serve.target(), "carol", &login).await;
    json(&place, &["drain", "--window", "1h"]);
    drop(carol);
    serve.signal(Signal::SIGTERM);
    assert_eq!(serve.end().await, Some(0), "a signal ends it all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_f17_a_drain_of_an_operator_takes_the_entry_out_of_consul_and_its_end_makes_it_again() {
    let (place, login, chat, config) = home();
    let consul = FakeConsul::start().await;
    consul.instances("login", &[("login01", login.address)]);
    consul.instances("chat", &[("chat01", chat.address)]);
    let path = place.0.join(&config);
    let text = fs::read_to_string(&path).unwrap();
    let (head, tail) = text.split_once("[[discovery.instances]]").unwrap();
    let tail = &tail[tail.find("[tls]").unwrap()..];
    let head = head.replace("[gateway]\n", "[gateway]\nadvertise = \"gate.example.org\"\n");
    let discovery = format!(
        "[discovery]\nkind = \"consul\"\nservices = [\"login\", \"chat\"]\n\
         [discovery.consul]\naddress = \"{}\"\nwait = \"2s\"\n[discovery.register]\n",
        consul.address
    );
    fs::write(path, format!("{head}{discovery}{tail}")).unwrap();
    let _serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    let register = "PUT /v1/agent/service/register";
    consul.request(register, 0).await;
    json(&place, &["drain"]);
    consul.request("PUT /v1/agent/service/deregister/gate01", 0).await;
    assert_eq!(consul.registered("gate01"), None);
    json(&place, &["undrain"]);
    consul.request(register, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_pushes_a_notice_to_whom_it_is_for() {
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let (mut alice, _) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;
    let (mut bob, channel) = sign_in(Kind::QuicMany, &serve.target(), "bob", &login).await;
    let queued =
        |arguments: &[&str]| json(&place, &[&["notice"], arguments].concat())["queued"].as_u64().unwrap();

    assert_eq!(queued(&["--app", "x_im", "--account", "alice", "at ten, for an hour"]), 1);
    let push = alice.push().await;
    assert_eq!(
        (&*push.header.command, push.header.flag, &*push.body),
        ("chat.notice", 2, &b"at ten, for an hour"[..])
    );
    fs::write(place.0.join("notice"), [0, 159, 146, 150]).unwrap();
    assert_eq!(queued(&["--all", "--file", "notice", "--command", "group.word"]), 2);
    for client in [&mut alice, &mut bob] {
        let push = client.push().await;
        assert_eq!(
            (&*push.header.command, &*push.body),
            ("group.word", &[0, 159, 146, 150][..]),
            "bob has not seen the first"
        );
    }
    assert_eq!(queued(&["--channel", &channel, "x"]), 1);
    assert_eq!(&*bob.push().await.body, b"x");
    assert_eq!(queued(&["--app", "kim", "x"]), 0);
    let metrics =
        tokio::task::block_in_place(|| place.run(&["ctl", "status", "--json", "--socket", "admin.sock"], ""))
            .1;
    let status: Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(status["pushes_received"], 4, "they count as pushes");
    let (code, _, told) = ctl(&place, &["notice", "x"]);
    assert!(code == 1 && told.contains("nobody is named"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_gives_a_zone_another_share_of_the_accounts() {
    let (place, _login, _chat, config) = home();
    let zones = r#"{"zones": [{"id": "zone_a", "weight": 50}, {"id": "zone_b", "weight": 50}]}"#;
    fs::write(place.0.join("route.json"), zones).unwrap();
    let _serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let in_b = || {
        let zone =
            |n| json(&place, &["explain", "--app", "x_im", "--account", &format!("u{n}")])["zone"].clone();
        (0..20).filter(|n| zone(*n) == "zone_b").collect::<Vec<u32>>()
    };
    let before = in_b();
    let shift = &["weight", "--zone", "zone_b", "--percent", "20"];
    let (code, out, told) = ctl(&place, shift);
    assert_eq!((code, &*told), (0, ""));
    assert_eq!(
        out,
        "zone_a 50 → 80, zone_b 50 → 20, 30 % of accounts move\nnothing is changed; --apply does it\n"
    );
    assert_eq!(in_b(), before);
    let applied = json(&place, &[&shift[..], &["--apply"]].concat());
    assert_eq!((&applied["applied"], &applied["moved_percent"]), (&true.into(), &30.0.into()), "{applied}");
    assert_eq!(
        (&applied["weights"]["zone_a"], &applied["pending"]),
        (&80.into(), &false.into()),
        "{applied}"
    );
    let after = in_b();
    assert!(
        after.len() < before.len() && after.iter().all(|account| before.contains(account)),
        "{before:?} {after:?}"
    );
    let (_, out, _) = ctl(&place, shift);
    assert_eq!(out, "the zone has that share already\n");
    // The file says something else.
    let (code, out, _) = ctl(&place, &["reload"]);
    assert_eq!((code, &*out), (0, "route: zone_a 80 → 50, zone_b 20 → 50, 30 % of accounts move\n"));
    let (code, _, told) = ctl(&place, &["weight", "--zone", "zone_c", "--percent", "20"]);
    assert!(code == 1 && told.contains("allowed are \"zone_a\", \"zone_b\""), "{told}");
}

/// What a terminal shows next. Nothing for a while fails the test, which holds the other end open itself.
fn read_some(master: &mut fs::File, seen: &str) -> String {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    let mut polled = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut polled, PollTimeout::from(20_000_u16)),
        Ok(1),
        "nothing more is shown after {seen:?}"
    );
    let mut bytes = [0; 4096];
    let count = master.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_watches_a_gateway_and_has_the_terminal_back() {
    let (place, _login, _chat, config) = home();
    let _serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let (code, out, told) = tokio::task::block_in_place(|| place.run(&["top", "--socket", "admin.sock"], ""));
    assert_eq!((code, &*told), (0, ""));
    assert!(out.starts_with("gate01 ") && out.contains("chat01") && !out.contains('\u{1b}'), "once: {out}");
    assert!(out.lines().count() <= 24 && out.lines().all(|line| line.chars().count() <= 80), "{out}");

    let pty = nix::pty::openpty(None, None).unwrap();
    let before = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = place.gateway(&["top", "--socket", "admin.sock"]);
    let child = command.stdin(end()).stdout(end()).spawn().unwrap();
    let mut master = fs::File::from(pty.master);
    tokio::task::block_in_place(|| {
        let mut seen = String::new();
        // Two pages: only the second has rates.
        while !(seen.contains("\u{1b}[?1049h") && seen.contains("requests     0.0/s")) {
            seen.push_str(&read_some(&mut master, &seen));
        }
        master.write_all(b"q").unwrap();
        while !seen.contains("\u{1b}[?1049l") {
            seen.push_str(&read_some(&mut master, &seen));
        }
        assert!(finish(child).status.success());
    });
    assert_eq!(nix::sys::termios::tcgetattr(&pty.slave).unwrap().local_flags, before.local_flags);
}
