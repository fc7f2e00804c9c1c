//! The chat against a scripted chat service: what it shows, and when it acknowledges.

use prost::Message as _;

use gateway::wire::command::{
    CHAT_OFFLINE_CONTENT, CHAT_OFFLINE_INDEX, CHAT_TALK_ACK, CHAT_USER_TALK, LOGIN_SIGNIN,
};
use gateway::wire::packet::{Packet, encode_message};
use gateway::wire::pb;

use super::*;
use crate::support::fake_logic::LogicEvent;

/// A gateway between two scripted services, and bob's chat.
struct ChatScene {
    chat: FakeLogic,
    login: FakeLogic,
    /// The channel of bob.
    channel: String,
    bob: Option<Child>,
    stdout: Option<BufReader<ChildStdout>>,
    gateway: Dev,
    tcp: SocketAddr,
    place: Place,
}

impl ChatScene {
    async fn start(script: impl FnOnce(&FakeLogic), arguments: &[&str]) -> Self {
        let place = Place::new();
        let (login, chat) = (FakeLogic::start(Dialect::XIm), FakeLogic::start(Dialect::XIm));
        script(&chat);
        serve_config(&place, login.address, chat.address);
        let (gateway, tcp) = serve(&place, "127.0.0.1:0");
        let server = tcp.to_string();
        let mut all = vec!["chat", "--account", "bob", "--transport", "tcp", "--server", &server];
        all.extend(["--secret-file", "jwt.secret"]);
        all.extend(arguments);
        let mut bob = place.gateway(&all).spawn().unwrap();
        let stdout = Some(BufReader::new(bob.stdout.take().unwrap()));
        let channel = login.signin("bob").await.header.channel_id;
        Self { chat, login, channel, bob: Some(bob), stdout, gateway, tcp, place }
    }

    fn kill(&mut self) {
        let child = self.gateway.child.as_mut().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.gateway = serve(&self.place, &self.tcp.to_string()).0;
    }

    /// Alice's message, pushed to bob.
    async fn push(&self, id: i64) {
        let message = pb::MessagePush {
            message_id: id,
            sender: "alice".to_owned(),
            body: format!("m{id}"),
            ..Default::default()
        };
        self.chat.push(&[&self.channel], 0, &message.encode_to_vec()).await;
    }

    /// Reads bob's events up to this one, which is returned.
    async fn event(&mut self, start: &str) -> String {
        let (mut stdout, start) = (self.stdout.take().unwrap(), start.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            while !line.starts_with(&start) {
                line.clear();
                assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "no {start}");
            }
            (stdout, line)
        });
        let (stdout, line) = tokio::time::timeout(PATIENCE, read).await.expect("an event").unwrap();
        self.stdout = Some(stdout);
        line
    }

    /// Ends bob's input and awaits his end; the exit code.
    async fn end(&mut self) -> i32 {
        let mut bob = self.bob.take().unwrap();
        drop(bob.stdin.take());
        tokio::task::spawn_blocking(|| finish(bob)).await.unwrap().status.code().unwrap()
    }

    /// The commands the chat service got, and the ids of those that acknowledge.
    fn commands(&self) -> Vec<String> {
        let of_event = |event| match event {
            LogicEvent::Packet(packet) if packet.header.command == CHAT_TALK_ACK => {
                Some(format!("ack {}", pb::MessageAckReq::decode(packet.body).unwrap().message_id))
            }
            LogicEvent::Packet(packet) => Some(packet.header.command),
            _ => None,
        };
        self.chat.events().into_iter().filter_map(of_event).collect()
    }
}

impl Drop for ChatScene {
    fn drop(&mut self) {
        if let Some(bob) = &mut self.bob {
            let _gone = bob.kill();
            let _gone = bob.wait();
        }
    }
}

/// A gateway of its own process that listens here.
fn serve(place: &Place, listen: &str) -> (Dev, SocketAddr) {
    let mut command = place.gateway(&["serve", "--config", "gateway.toml"]);
    let mut child = command.env("GATEWAY__TCP__LISTEN", listen).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let gateway = Dev { child: Some(child), _stdout: stdout, page: String::new() };
    let tcp = started(&mut log);
    // A log that nobody reads must not stop it.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    (gateway, tcp)
}

/// From now on these messages of alice are listed and their texts are there.
fn list(chat: &FakeLogic, ids: &[i64]) {
    let index = |id: &i64| pb::MessageIndex {
        message_id: *id,
        direction: 0,
        account_b: "alice".to_owned(),
        ..Default::default()
    };
    let content =
        |id: &i64| pb::MessageContent { message_id: *id, body: format!("m{id}"), ..Default::default() };
    let contents = pb::MessageContentResp { contents: ids.iter().map(content).collect() };
    chat.answer_with(CHAT_OFFLINE_CONTENT, 0, contents.encode_to_vec());
    let indexes = pb::MessageIndexResp { indexes: ids.iter().map(index).collect() };
    chat.answer_with(CHAT_OFFLINE_INDEX, 0, indexes.encode_to_vec());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_what_was_missed_was_shown() {
    let refuse = |chat: &FakeLogic| chat.answer_with(CHAT_OFFLINE_INDEX, 300, Vec::new());
    let mut scene = ChatScene::start(refuse, &["--expect", "2", "--wait", "25"]).await;
    scene.chat.packet(CHAT_OFFLINE_INDEX, 0).await;
    scene.push(55).await;
    let pushed = scene.event("message").await;
    assert!(pushed.contains("id=55") && pushed.contains("via=push"), "{pushed}");
    // It is tried again, and still refused.
    let refused = scene.chat.packets(CHAT_OFFLINE_INDEX).len();
    scene.chat.packet(CHAT_OFFLINE_INDEX, refused).await;
    assert_eq!(scene.chat.packets(CHAT_TALK_ACK).len(), 0);

    // 55 is listed too, and is not shown again.
    list(&scene.chat, &[54, 55]);
    let missed = scene.event("message").await;
    assert!(missed.contains("id=54") && missed.contains("via=offline text=m54"), "{missed}");
    assert_eq!(scene.end().await, 0);
    assert!(scene.event("done").await.contains("received=2"));
    let commands = scene.commands();
    assert_eq!(commands[commands.len() - 2..], [CHAT_OFFLINE_CONTENT, "ack 55"], "{commands:?}");
    assert_eq!(scene.chat.packets(CHAT_TALK_ACK).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_never_got_what_was_missed_says_so_by_its_exit_code() {
    let refuse = |chat: &FakeLogic| chat.answer_with(CHAT_OFFLINE_INDEX, 300, Vec::new());
    let mut scene = ChatScene::start(refuse, &["--wait", "0"]).await;
    scene.chat.packet(CHAT_OFFLINE_INDEX, 0).await;
    scene.push(55).await;
    scene.event("message").await;
    assert_eq!(scene.end().await, 1);
    assert_eq!(scene.chat.packets(CHAT_TALK_ACK).len(), 0);
}

/// The push of 10 was lost with the link of its instance; 11 comes from another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_a_push_is_acknowledged_only_when_nothing_below_it_is_unseen() {
    let hold = |chat: &FakeLogic| chat.hold(CHAT_OFFLINE_INDEX);
    let mut scene = ChatScene::start(hold, &["--expect", "2", "--wait", "25"]).await;
    let nothing_missed = scene.chat.packet(CHAT_OFFLINE_INDEX, 0).await;
    scene.chat.unhold(CHAT_OFFLINE_INDEX);
    scene.chat.answer(&nothing_missed, 0, &[]);
    list(&scene.chat, &[10, 11]);
    scene.push(11).await;
    let first = scene.event("message").await;
    assert!(first.contains("id=11") && first.contains("via=push"), "{first}");
    let second = scene.event("message").await;
    assert!(second.contains("id=10") && second.contains("via=offline text=m10"), "{second}");
    assert_eq!(scene.end().await, 0);
    assert!(scene.event("done").await.contains("received=2"));
    let expected = [CHAT_OFFLINE_INDEX, CHAT_OFFLINE_INDEX, CHAT_OFFLINE_CONTENT, "ack 11"];
    assert_eq!(scene.commands(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_with_a_line_unanswered_ends_a_chat_with_1() {
    for (held, code) in [(true, 1), (false, 0)] {
        let script = |chat: &FakeLogic| {
            if held {
                chat.hold(CHAT_USER_TALK);
            }
        };
        let mut scene = ChatScene::start(script, &["--to", "alice"]).await;
        let bob = scene.bob.as_mut().unwrap();
        bob.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
        scene.chat.packet(CHAT_USER_TALK, 0).await;
        if !held {
            scene.event("stored").await;
        }
        let mut bob = scene.bob.take().unwrap();
        kill(Pid::from_raw(i32::try_from(bob.id()).unwrap()), Signal::SIGINT).unwrap();
        let input = bob.stdin.take();
        let ended = tokio::task::spawn_blocking(|| finish(bob)).await.unwrap();
        drop(input);
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_chat_comes_back_with_what_was_missed_and_what_was_written_meanwhile() {
    let mut scene = ChatScene::start(|_| {}, &["--to", "alice", "--expect", "1", "--wait", "25"]).await;
    scene.event("online account=bob").await;
    scene.chat.packet(CHAT_OFFLINE_INDEX, 0).await;
    scene.kill();
    let away = scene.event("reconnecting").await;
    assert!(away.starts_with("reconnecting reason=peer_closed attempt=1 after="), "{away}");
    let stdin = scene.bob.as_mut().unwrap().stdin.as_mut().unwrap();
    stdin.write_all(b"written meanwhile\n").unwrap();
    list(&scene.chat, &[54]);
    scene.restart();
    let online = scene.event("online").await;
    assert!(!online.contains(&scene.channel), "a new channel: {online}");
    // The two come in any order.
    scene.chat.packet(CHAT_USER_TALK, 0).await;
    scene.chat.packet(CHAT_TALK_ACK, 0).await;
    assert_eq!(scene.end().await, 0);
    assert!(scene.event("done").await.contains("sent=1 stored=1 received=1"));
    assert_eq!(scene.chat.packets(CHAT_USER_TALK).len(), 1);
    assert_eq!(scene.login.packets("login.signin").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_is_told_once_ends_with_its_connection() {
    let mut scene = ChatScene::start(|_| {}, &["--once"]).await;
    scene.event("online account=bob").await;
    scene.kill();
    assert_eq!(scene.event("closed").await, "closed reason=peer_closed\n");
    assert_eq!(scene.end().await, 1);
}

/// A kick is no accident: the chat says so and stays away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_was_kicked_stays_away_and_ends_with_1() {
    let mut scene = ChatScene::start(|_| {}, &[]).await;
    scene.event("online account=bob").await;
    scene.login.kick(&scene.channel).await;
    assert_eq!(scene.event("closed").await, "closed reason=kicked\n");
    assert_eq!(scene.end().await, 1);
    assert_eq!(scene.login.packets("login.signin").len(), 1);
}

/// The header of the next packet.
fn header_of(client: &mut std::net::TcpStream) -> pb::Header {
    use std::io::Read as _;
    let mut head = [0; 5];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
    client.read_exact(&mut payload).unwrap();
    let Packet::Logic(packet) = Packet::decode(&payload.into()).unwrap() else { panic!("a LogicPkt") };
    pb::Header::decode(packet.header).unwrap()
}

/// A gateway that pushes the notice of a kick, with the login's answer or behind a request, and then goes without a word.
/// Takes one client; the number of those who come after it.
fn kick_without_a_close(listener: &TcpListener, at_once: bool) -> usize {
    let (mut client, _) = listener.accept().unwrap();
    let login = header_of(&mut client);
    let (channel_id, account) = ("gate01_bob_1".to_owned(), "bob".to_owned());
    let answer = pb::Header { flag: pb::Flag::Response as i32, ..login };
    let opened = pb::LoginResp { channel_id: channel_id.clone(), account }.encode_to_vec();
    let (command, flag) = (LOGIN_SIGNIN.to_owned(), pb::Flag::Push as i32);
    let notice = pb::Header { command, flag, ..Default::default() };
    let kick = pb::KickOutNotify { channel_id }.encode_to_vec();
    let [answer, kick] = [(answer, opened), (notice, kick)]
        .map(|(header, body)| encode_message(Dialect::XIm, &header, body).to_bytes());
    if at_once {
        client.write_all(&[answer, kick].concat()).unwrap();
    } else {
        client.write_all(&answer).unwrap();
        assert_eq!(header_of(&mut client).command, CHAT_OFFLINE_INDEX);
        client.write_all(&kick).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // Until the chat is gone; had it come back before that, it would wait here.
    let _ = std::io::copy(&mut client, &mut std::io::sink());
    listener.set_nonblocking(true).unwrap();
    listener.incoming().take_while(Result::is_ok).count()
}

#[rstest::rstest]
#[case::during_the_chat(false)]
#[case::with_the_login(true)]
fn h3_a_chat_is_told_of_its_kick_although_the_close_was_lost(#[case] at_once: bool) {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let chat = ["chat", "--account", "bob", "--token", "x", "--transport", "tcp", "--server", &server];
    let mut chat = place.gateway(&chat).spawn().unwrap();
    // Its input does not end.
    let _stdin = chat.stdin.take();
    let gateway = std::thread::spawn(move || (kick_without_a_close(&listener, at_once), listener));
    let output = finish(chat);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // At once, it may be over before the chat has seen that it began.
    let has_begun = stdout.contains("online account=bob");
    assert!(has_begun || at_once, "{stdout}");
    assert_eq!(stdout.contains("closed reason=kicked\n"), has_begun, "{stdout}");
    assert!(stderr.contains("bob signed in somewhere else"), "{stderr}");
    assert_eq!(output.status.code(), Some(if has_begun { 1 } else { 2 }));
    let (others, listener) = gateway.join().unwrap();
    assert_eq!((others, listener.incoming().take_while(Result::is_ok).count()), (0, 0), "it came back");
}
