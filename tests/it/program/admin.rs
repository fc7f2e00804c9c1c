//! `gateway ctl` against a running gateway: who is there, and why.

use serde_json::Value;

use super::restart::{Serve, home, sign_in};
use super::*;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_finds_a_user_and_sees_why_she_left() {
    let (place, login, _chat, config) = home();
    let serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let mut kept = Vec::new();
    for number in 0..5 {
        kept.push(sign_in(Kind::Tcp, &serve.target(), &format!("user{number}"), &login).await.0);
    }
    let (mut alice, channel) = sign_in(Kind::QuicMany, &serve.target(), "alice", &login).await;
    let sequence = alice.talk("bob", "hello").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);

    let status = json(&place, &["status"]);
    assert_eq!((&status["ready"], &status["connections"]), (&true.into(), &6.into()), "{status}");
    assert_eq!(
        (&status["by_transport"]["quic"], &status["logins"]["ok"]),
        (&1.into(), &6.into()),
        "{status}"
    );
    let (code, out, _) = ctl(&place, &["status"]);
    assert!(code == 0 && out.contains("6 of ") && out.contains(": ready"), "{out}");

    let found = json(&place, &["connections", "--account", "alice"]);
    let row = &found["connections"][0];
    assert_eq!((&found["matched"], &row["channel"]), (&1.into(), &Value::from(channel.clone())), "{found}");
    assert_eq!((&row["transport"], &row["state"]), (&"quic".into(), &"open".into()), "{found}");
    assert_eq!((&row["address"], &row["pending"]), (&"127.0.0.1".into(), &0.into()), "{found}");
    let first = json(&place, &["connections", "--transport", "tcp", "--sort", "account", "--limit", "3"]);
    let cursor = first["cursor"].as_str().unwrap();
    let second =
        json(&place, &["connections", "--transport", "tcp", "--sort", "account", "--cursor", cursor]);
    let accounts = [first, second.clone()]
        .iter()
        .flat_map(|page| page["connections"].as_array().unwrap().clone())
        .map(|row| row["account"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(accounts, ["user0", "user1", "user2", "user3", "user4"]);
    assert_eq!(second["cursor"], Value::Null);

    let seen = json(&place, &["connection", &channel]);
    assert_eq!((&seen["account"], &seen["dialect"]), (&"alice".into(), &"x_im".into()), "{seen}");
    assert!(seen["round_trip_seconds"].as_f64().unwrap() > 0.0, "{seen}");
    assert!(seen["frames_received"].as_u64().unwrap() >= 2, "{seen}");
    let by_number = json(&place, &["connection", row["connection"].as_str().unwrap()]);
    assert_eq!(by_number["channel"], seen["channel"]);

    drop(alice);
    let last = loop {
        let closes = json(&place, &["closes"]);
        match closes["closes"].as_array().unwrap().first() {
            Some(last) => break last.clone(),
            // There is no event for it across the socket, so it asks again and again.
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!((&last["account"], &last["channel"]), (&"alice".into(), &Value::from(channel.clone())));
    let busiest = &json(&place, &["activity"])["busiest"][0];
    assert_eq!((&busiest["account"], &busiest["messages"]), (&"alice".into(), &1.into()), "{busiest}");
    let (code, out, _) = ctl(&place, &["activity"]);
    assert!(code == 0 && out.starts_with("ACTIVE ACCOUNTS") && out.contains("alice"), "{out}");
    let (code, _, told) = ctl(&place, &["connection", &channel]);
    assert!(code == 1 && told.contains("it has ended, or another gateway has it"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_sees_links_routes_limits_and_events() {
    let (place, login, chat, config) = home();
    let _serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let links = json(&place, &["links"]);
    let links = links["links"].as_array().unwrap();
    assert_eq!(links.len(), 4, "one of each worker to each instance: {links:?}");
    assert!(links.iter().all(|link| link["state"] == "healthy" && link["serves"] == true), "{links:?}");
    assert_eq!(links[0]["service"], "chat");
    let explained = json(&place, &["explain", "--app", "x_im", "--account", "alice"]);
    assert_eq!(explained["zone"], "zone_a", "{explained}");
    let instances = explained["services"].as_array().unwrap();
    assert_eq!(
        instances.iter().map(|of| of["instance"].as_str().unwrap()).collect::<Vec<_>>(),
        ["chat01", "login01"]
    );
    assert_eq!(json(&place, &["limits"])["max_pending"], 256);
    assert_eq!(json(&place, &["events"])["events"], Value::Array(Vec::new()));

    drop(chat);
    let lost = loop {
        let events = json(&place, &["events"]);
        if let Some(last) =
            events["events"].as_array().unwrap().iter().find(|event| event["event"] == "instance_lost")
        {
            break last.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&lost["instance"], &lost["state"]), (&"chat01".into(), &"raised".into()), "{lost}");
    let links = json(&place, &["links"]);
    let chat = links["links"].as_array().unwrap().iter().find(|link| link["service"] == "chat").unwrap();
    assert_eq!(chat["serves"], false, "{chat}");
    assert!(chat["last_trouble"].is_string(), "{chat}");
    let (code, out, _) = ctl(&place, &["links"]);
    assert!(code == 0 && out.starts_with("SERVICE") && out.contains("login01"), "{out}");
    drop(login);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_what_is_asked_wrongly_is_told_with_what_is_allowed() {
    let (place, _login, _chat, config) = home();
    let _serve = Serve::start(&place, &config, 1, &[SOCKET, ("RUST_LOG", "info")]).await;
    for (arguments, text) in [
        (
            &["connections", "--address", "10.0.0"][..],
            "allowed is an address, or a network such as 10.0.0.0/8",
        ),
        (&["connections", "--limit", "0"], "limit: is \"0\"; allowed is 1 to 1000"),
        (&["connection", ""], "id: is missing"),
        (&["log-level", "debug"], "RUST_LOG is set"),
    ] {
        let (code, out, told) = ctl(&place, arguments);
        assert_eq!((code, &*out), (1, ""), "{arguments:?}");
        assert!(told.contains(text), "{arguments:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_operator_kicks_and_bans_and_the_ban_outlives_the_process() {
    let (place, login, _chat, config) = home();
    let overrides = [SOCKET, ("GATEWAY__ADMIN__BANS_FILE", "bans")];
    let mut serve = Serve::start(&place, &config, 2, &overrides).await;
    let (mut alice, channel) = sign_in(Kind::QuicMany, &serve.target(), "alice", &login).await;
    let (mut bob, _) = sign_in(Kind::Tcp, &serve.target(), "bob", &login).await;

    let kicked =
        json(&place, &["kick", "--app", "x_im", "--account", "alice", "--ban", "1h", "--reason", "spam"]);
    assert_eq!((&kicked["kicked"], &kicked["banned"]["account"]), (&1.into(), &"alice".into()), "{kicked}");
    alice.closed_with(3501).await;
    soon("her sign-out", async {
        while !login.packets("login.signout").iter().any(|packet| packet.header.channel_id == channel) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let line = serve.line("event=\"admin\"").await;
    for part in ["what=\"kick\"", "who=\"socket, uid ", "result=\"done\"", "spam"] {
        assert!(line.contains(part), "{line}");
    }
    let sequence = bob.talk("alice", "are you there?").await;
    assert_eq!(bob.response(sequence).await.header.status, 0, "others stay");
    refused(&serve, 105).await;

    let (code, out, _) = ctl(&place, &["bans"]);
    assert!(code == 0 && out.contains("alice") && out.contains("spam") && out.ends_with("1 of 1\n"), "{out}");
    let (code, out, _) = ctl(&place, &["bans", "--from", "1", "--limit", "1"]);
    assert!(code == 0 && !out.contains("alice") && out.ends_with("0 of 1\n"), "{out}");
    serve.signal(Signal::SIGTERM);
    drop((alice, bob));
    serve.end().await;

    let serve = Serve::start(&place, &config, 1, &overrides).await;
    refused(&serve, 105).await;
    let (code, out, _) = ctl(&place, &["unban", "--app", "x_im", "--account", "alice"]);
    assert_eq!((code, &*out), (0, "done\n"));
    let (code, _, told) = ctl(&place, &["unban", "--app", "x_im", "--account", "alice"]);
    assert!(code == 1 && told.contains("there is no such ban"), "{told}");
    let (mut alice, _) = sign_in(Kind::Tcp, &serve.target(), "alice", &login).await;

    let banned = json(&place, &["ban", "--address", "127.0.0.1", "--for", "1h"]);
    assert_eq!(banned["address"], "127.0.0.1/32");
    let sequence = alice.talk("bob", "I stay").await;
    assert_eq!(alice.response(sequence).await.header.status, 0, "who is here stays");
    Raw::connect(Kind::Tcp, &serve.target()).await.closed_with(3501).await;
    let kicked = json(&place, &["kick", "--address", "127.0.0.0/8"]);
    assert_eq!(kicked["kicked"], 1);
    alice.closed_with(3501).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_file_of_bans_that_is_damaged_is_refused_by_check_and_start() {
    let (place, _login, _chat, config) = home();
    fs::write(place.0.join("bans"), "{\"acount\": \"alice\"}\n").unwrap();
    for command in ["check", "serve"] {
        let mut command = place.gateway(&[command, "--config", &config]);
        command.env("GATEWAY__ADMIN__BANS_FILE", "bans");
        let (code, out, told) = run(command, "");
        assert_eq!((code, &*out), (64, ""), "{told}");
        assert!(told.contains("line 1: unknown field `acount`"), "{told}");
    }
}

/// Alice may not sign in: the answer to a bad token, and a close after which she does not come back.
async fn refused(serve: &Serve, status: i32) {
    let mut alice = Raw::connect(Kind::Tcp, &serve.target()).await;
    let sequence = alice.signin(&identity::token("alice")).await;
    assert_eq!(alice.response(sequence).await.header.status, status);
    alice.closed_with(3500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_an_order_that_names_nobody_is_refused_and_told() {
    let (place, _login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    for (arguments, text) in [
        (&["kick"][..], "nobody is named; allowed are channel, account, app and address"),
        (&["kick", "--account", "alice", "--ban", "1h"], "an account without its app"),
        (&["kick", "--address", "10.0.0"], "address: is \"10.0.0\""),
        (&["kick", "--app", ""], "app: is empty or too long; allowed is 1 to 1024 bytes"),
        (&["ban"], "neither an app nor an address"),
        (&["ban", "--app", "x_im", "--for", "long"], "the time \"long\" is none"),
        (&["log-level", "loud"], "allowed is error, warn, info, debug or trace"),
    ] {
        let (code, out, told) = ctl(&place, arguments);
        assert_eq!((code, &*out), (1, ""), "{arguments:?}");
        assert!(told.contains(text), "{arguments:?}: {told}");
        assert!(serve.line("event=\"admin\"").await.contains("result=\"refused\""));
    }
    let (code, out, told) = ctl(&place, &["log-level", "debug"]);
    assert!(code == 0 && out.contains("debug"), "{out}{told}");
    Raw::connect(Kind::Tcp, &serve.target()).await.write(b"\x16\x03 nothing that is known").await;
    serve.line("event=\"close\"").await;
}
