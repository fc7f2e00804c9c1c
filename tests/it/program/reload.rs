//! Reloads as an operator asks for them: SIGHUP, `gateway ctl reload`, `gateway check --against-running`.

use serde_json::Value;

use super::restart::{Serve, home, sign_in};
use super::*;

const SOCKET: (&str, &str) = ("GATEWAY__ADMIN__SOCKET", "admin.sock");

/// Replaces a text of a file that holds it.
fn edit(place: &Place, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(place.0.join(file)).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(place.0.join(file), text.replace(from, to)).unwrap();
}

/// Exit code and output; warnings of files that others can read come beside it.
fn ctl(place: &Place, more: &[&str]) -> (i32, String, String) {
    tokio::task::block_in_place(|| {
        place.run(&[&["ctl", "reload", "--socket", "admin.sock"], more].concat(), "")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_sighup_and_ctl_reload_while_a_client_stays() {
    let (place, login, _chat, config) = home();
    // Or her close comes anywhere in twenty seconds.
    edit(&place, &config, "[tls]", "[drain]\nwindow = \"0s\"\n[tls]");
    let mut serve = Serve::start(&place, &config, 2, &[SOCKET]).await;
    let (mut alice, _) = sign_in(Kind::QuicMany, &serve.target(), "alice", &login).await;

    let (code, out, _) = ctl(&place, &[]);
    assert_eq!((code, &*out), (0, "nothing differs from what runs\n"));
    edit(&place, &config, "[tls]", "[limits]\nmax_pending = 7\n[tls]");
    let (code, out, _) = tokio::task::block_in_place(|| {
        place.run(&["check", "--config", &config, "--against-running", "--socket", "admin.sock"], "")
    });
    assert_eq!((code, &*out), (0, "limits.max_pending: 256 → 7\n"));
    let (code, out, _) = ctl(&place, &[]);
    assert_eq!((code, &*out), (0, "limits.max_pending: 256 → 7\n"));
    assert!(serve.line("event=\"reloaded\"").await.contains("nothing"));
    assert!(serve.line("event=\"reloaded\"").await.contains("max_pending: 256 → 7"));

    // With a level that shows nothing, nothing is shown, and with another one what was not before.
    edit(&place, &config, "[tls]", "[log]\nlevel = \"debug\"\n[tls]");
    edit(&place, &config, "id = \"gate01\"", "id = \"gate02\"");
    serve.signal(Signal::SIGHUP);
    serve.line("event=\"signal\"").await;
    let line = serve.line("event=\"reloaded\"").await;
    assert!(line.contains("log.level: \"info\" → \"debug\"; needs a restart: gateway.id"), "{line}");
    Raw::connect(Kind::Tcp, &serve.target()).await.write(b"\x16\x03 nothing that is known").await;
    let (code, out, _) = ctl(&place, &["--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(answer["needs_restart"], serde_json::json!(["gateway.id"]));
    assert_eq!((&answer["changed"], &answer["pending"]), (&serde_json::json!([]), &false.into()));

    let sequence = alice.talk("bob", "still here").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
    serve.signal(Signal::SIGTERM);
    alice.closed_with(3000).await;
    assert_eq!(serve.end().await, Some(0));
    assert!(!place.0.join("admin.sock").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f6_what_is_refused_is_told_by_text_and_exit_code() {
    let (place, _login, _chat, config) = home();
    let mut serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    edit(&place, "route.json", "zone_a", "zone_b");
    let (code, out, told) = ctl(&place, &[]);
    assert_eq!((code, &*out), (64, ""));
    assert!(told.contains("zone"), "{told}");
    let (code, out, _) = ctl(&place, &["--json"]);
    assert_eq!(code, 64);
    assert!(serde_json::from_str::<Value>(&out).unwrap()["error"].as_str().unwrap().contains("zone"));
    // Each refusal has its line, also while the event of the first one holds.
    edit(&place, &config, "id = \"gate01\"", "id = \"gate 01\"");
    serve.signal(Signal::SIGHUP);
    let line = serve.line("gateway.id: ").await;
    assert!(line.contains("event=\"reload_failed\""), "{line}");
    edit(&place, &config, "id = \"gate 01\"", "id = \"gate01\"");
    // The configuration itself does not name the socket.
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| place.run(arguments, ""));
    let (code, _, told) = run(&["ctl", "reload", "--config", &config]);
    assert_eq!(code, 64);
    assert!(told.contains("admin.socket is not set"), "{told}");
    drop(serve);
    let (code, _, told) = ctl(&place, &[]);
    assert_eq!(code, 1);
    assert!(told.contains("is the gateway running"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f17_a_second_gateway_does_not_take_the_socket_of_the_first() {
    let (place, _login, _chat, config) = home();
    let _serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    let second = place.gateway(&["serve", "--config", &config]).env(SOCKET.0, SOCKET.1).spawn().unwrap();
    let output = tokio::task::block_in_place(|| finish(second));
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("admin.socket: another process listens on"), "{told}");
}

/// The commands of docs/tokens-and-tls.md, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b11_f17_a_key_of_tokens_is_replaced_step_by_step() {
    let (place, _login, _chat, config) = home();
    let key = |year| {
        format!(
            "[[auth.keys]]\nid = \"{year}\"\nalgorithm = \"HS256\"\nsecret_file = \"jwt-{year}.secret\"\n"
        )
    };
    for year in ["2026", "2027"] {
        fs::write(place.0.join(format!("jwt-{year}.secret")), format!("the secret of {year}, {:->32}", ""))
            .unwrap();
    }
    let (old, new) = (key("2026"), key("2027"));
    edit(&place, &config, "secret_file = \"jwt.secret\"\n", &old);
    let serve = Serve::start(&place, &config, 1, &[SOCKET]).await;
    let run = |arguments: &[&str]| tokio::task::block_in_place(|| place.run(arguments, ""));
    let token = |kid: &str| run(&["token", "--account", "alice", "--config", &config, "--kid", kid]).1;
    let joined = async |token: &str| {
        let mut client = Raw::connect(Kind::Tcp, &serve.target()).await;
        let sequence = client.signin(token.trim()).await;
        let status = client.response(sequence).await.header.status;
        (status, client)
    };
    let of_2026 = token("2026");
    let (status, mut alice) = joined(&of_2026).await;
    assert_eq!(status, 0);

    edit(&place, &config, &old, &format!("{old}{new}"));
    let (code, _, told) = run(&["check", "--config", &config]);
    assert_eq!(code, 0, "{told}");
    let (code, out, _) = ctl(&place, &[]);
    assert_eq!((code, &*out), (0, "auth: keys: new 2027\n"));
    let of_2027 = token("2027");
    assert_eq!(joined(&of_2026).await.0, 0);
    assert_eq!(joined(&of_2027).await.0, 0);

    edit(&place, &config, &old, "");
    let (code, out, _) = ctl(&place, &[]);
    assert_eq!((code, &*out), (0, "auth: keys: gone 2026\n"));
    assert_eq!(joined(&of_2026).await.0, 105);
    assert_eq!(joined(&of_2027).await.0, 0);
    let sequence = alice.talk("bob", "still here").await;
    assert_eq!(alice.response(sequence).await.header.status, 0);
}
