//! What an operator does to instances of logic services, seen from clients and services.

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
